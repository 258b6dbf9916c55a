"""Training in the float world: snnTorch neurons, robust regularisers, quantisation-aware phase."""
