"""The spike as torch sees it: exact step forward, surrogate derivative backward.

snnTorch 1.0 ships two derivatives that must not be used: `surrogate.triangular` is no triangle
(constant, negative above threshold) and `surrogate.sigmoid` is NaN far below it. Ours are the
formulas of `spikeport.sim.surrogate`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikeport.sim.surrogate import Surrogate


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, d: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(d)
        ctx.surrogate = surrogate
        return (d > 0).to(d.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (d,) = ctx.saved_tensors
        return gradients[0] * ctx.surrogate(d), None


def spike_function(surrogate: Surrogate) -> Callable[[Tensor], Tensor]:
    """A `spike_grad` for snnTorch neurons: d -> (d > 0) as float of d's shape, backward h(d).

    d is the distance of the potential to the threshold in membrane units; exactly at the
    threshold (d = 0) there is no spike, as on the chip.
    """

    def spike(d: Tensor) -> Tensor:
        fired: Tensor = _Spike.apply(d, surrogate)
        return fired

    return spike
