"""Attacks on any `model(x) -> logits`, first of all on the differentiable twin of the chip.

    result = attack(model, x, y, Pgd(steps=40), budget=Budget(eps=8 / 255), seed=0)

A result is the worst case over the images that the given attacks tried: an upper bound on the
robust accuracy, never a certificate. `evaluate` sets several attacks and models side by side,
`masking` looks for signs that an attack failed for want of gradients. Needs torch.
"""

from spikeport.sim.attack.apgd import Apgd, ApgdTargeted
from spikeport.sim.attack.budget import Budget
from spikeport.sim.attack.eot import Averaged, PoissonCoding
from spikeport.sim.attack.evaluate import Evaluation, evaluate
from spikeport.sim.attack.gradient import Bim, Fgsm, Pgd, Rfgsm
from spikeport.sim.attack.masking import Check
from spikeport.sim.attack.momentum import MiFgsm, SaPgd
from spikeport.sim.attack.noise import Noise
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.probe import Effort, run_checks
from spikeport.sim.attack.run import ATTACKS, Result, Sweep, attack, sweep
from spikeport.sim.attack.sparse import SparseRs
from spikeport.sim.attack.spec import Attack
from spikeport.sim.attack.sponge import Sponge
from spikeport.sim.attack.square import Square
from spikeport.sim.attack.standard import standard, standard_views

__all__ = [
    "ATTACKS",
    "Apgd",
    "ApgdTargeted",
    "Attack",
    "Averaged",
    "Bim",
    "Budget",
    "Check",
    "Effort",
    "Evaluation",
    "Fgsm",
    "MiFgsm",
    "Noise",
    "Oracle",
    "Pgd",
    "PoissonCoding",
    "Result",
    "Rfgsm",
    "SaPgd",
    "SparseRs",
    "Sponge",
    "Square",
    "Sweep",
    "attack",
    "evaluate",
    "run_checks",
    "standard",
    "standard_views",
    "sweep",
]
