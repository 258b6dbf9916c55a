"""The spike as torch sees it: exact step forward, surrogate derivative backward.

snnTorch 1.0 ships two derivatives that must not be used: `surrogate.triangular` is no triangle
(constant, negative above threshold) and `surrogate.sigmoid` is NaN far below it. Ours are the
formulas of `spikeport.sim.surrogate`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from spikeport.sim.surrogate import Surrogate, spike


def spike_function(surrogate: Surrogate) -> Callable[[Tensor], Tensor]:
    """A `spike_grad` for snnTorch neurons: d -> (d > 0) as float of d's shape, backward h(d).

    d is the distance of the potential to the threshold in membrane units; exactly at the
    threshold (d = 0) there is no spike, as on the chip.
    """
    return partial(spike, surrogate=surrogate)
