"""MP-Init: every window starts from where potentials usually end.

Source: arXiv 2511.08708 (WACV 2026) and its published code. One number m a layer, without
gradient: V(0) = m, and after every forward pass in training

    m <- 0.9 m + 0.1 mbar,   mbar = mean of V(T) over the neurons that fired in the window

V(T) after the reset, 0 where no neuron fired. The code updates at the start of the next batch,
which is the same, and loses m when a network is saved; here it is `Lif.v_init`, kept with the
weights, and its mean is over all ranks. With the chip's reset to zero, neurons that fired last
count as 0; the code's reset by subtraction is `model.reset`, for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from spikeport.train.blocks import Recurrent
from spikeport.train.methods.base import Method
from spikeport.train.methods.ranks import summed
from spikeport.train.methods.wiring import populations

if TYPE_CHECKING:
    from spikeport.train.model import SpikingNet


class MpInit(Method):
    """momentum: weight of the newest mean."""

    claims: ClassVar[frozenset[str]] = frozenset({"initial potential"})

    momentum: float = Field(default=0.1, gt=0, le=1)

    def prepare(self, net: SpikingNet) -> None:
        """Keep v_init with the weights, and let it follow."""
        for p in populations(net):
            p.lif.register_buffer("v_init", p.lif.v_init.detach().clone(), persistent=True)
            p.whole.register_forward_hook(Follow(self.momentum))

    def settle(self, net: SpikingNet) -> None:
        """Keep v_init as it is now."""
        for p in populations(net):
            hooks = p.whole._forward_hooks
            for key in [key for key, hook in hooks.items() if isinstance(hook, Follow)]:
                del hooks[key]


@dataclass(frozen=True)
class Follow:
    """The hook that moves v_init after a window in training."""

    momentum: float

    @torch.no_grad()
    def __call__(self, module: nn.Module, _: tuple[Any, ...], spikes: Tensor) -> None:
        """spikes: [T, B, ...] of the window; see the module for the formula."""
        if not module.training:
            return
        lif: Any = module.lif if isinstance(module, Recurrent) else module
        u, fires = lif.membrane[-1].double(), spikes[-1] > 0
        after = u - lif.v_th if lif.reset_mechanism == "subtract" else torch.zeros_like(u)
        fired = (spikes > 0).any(0)
        found = torch.where(fires, after, u)[fired].sum()
        total, count = summed(torch.stack([found, fired.sum().to(found)]))
        # A new tensor: the graph of this window still needs the old one.
        lif.v_init = torch.lerp(
            lif.v_init, (total / count.clamp(min=1)).to(lif.v_init), self.momentum
        )
