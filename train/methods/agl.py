"""LSG and MPD-AGL: rectangular windows as wide as the potential is expected to spread.

Half the width is one predicted deviation of U, with keep_v the learned leak (not differentiated
here) and lam the gain of the norm in front in thresholds:

    LSG      kappa    = 2 sqrt(1 + keep_v^2) v_th                            (IJCAI 2023)
    MPD-AGL  kappa(t) = 2 sqrt(1 + keep_v^2) lam v_th, without the root in the first step
                                                              (arXiv 2505.11863, IJCAI 2025)

lam v_th is the mean weight of our norm, which starts at alpha v_th (`spikeport.train.norm`). The
leak is that of a parametric LIF. The published code lets gradients through the reset:
`model.detach_reset` chooses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from spikeport.sim.surrogate import Surrogate
from spikeport.train.blocks import Recurrent
from spikeport.train.methods import learned
from spikeport.train.methods.base import Method
from spikeport.train.methods.wiring import populations
from spikeport.train.neuron import Lif
from spikeport.train.window import Fixed

if TYPE_CHECKING:
    from spikeport.train.model import SpikingNet

LEAST_GAIN = 0.05
"""Of the norm, in thresholds: learned gains may pass zero, widths may not."""
UNKNOWN = 1.0
"""Width, membrane units, where no norm tells how far the current spreads."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """A rectangle whose width follows the leak of `lif` and, if `norms` stand in front, their
    gains; without any (None, not empty) the current is taken to spread by one threshold."""

    lif: Lif
    norms: tuple[_BatchNorm, ...] | None = None
    form: str = "rectangle"
    relative: bool = False

    def kappas(self, v_th: float) -> tuple[float, float]:
        """Width in the first step and in the later ones, membrane units."""
        memory = math.sqrt(1 + self.lif.keep_v**2)
        if self.norms is None:
            return 2 * memory * v_th, 2 * memory * v_th
        if not self.norms:
            return UNKNOWN, UNKNOWN
        # Variances of branches that are added up add up.
        spread = math.hypot(*(float(norm.weight.detach().mean()) for norm in self.norms))
        first = 2 * max(spread, LEAST_GAIN * v_th)
        return first, memory * first

    def widths(self, steps: int, v_th: Tensor) -> Tensor:
        """See `spikeport.train.window.Window`."""
        first, later = self.kappas(float(v_th))
        return torch.tensor([first] + (steps - 1) * [later], dtype=v_th.dtype, device=v_th.device)

    def surrogate(self, v_th: float) -> Surrogate:
        """The window of the later steps, see `spikeport.train.window.Window`."""
        return Surrogate(self.form, self.kappas(v_th)[1])


class Lsg(Method):
    """keep_v: share of the potential that leaks start to be learned from, in place of model's."""

    claims: ClassVar[frozenset[str]] = frozenset({"surrogate window", "leak"})

    keep_v: float = Field(default=0.2, gt=0, lt=1)

    def prepare(self, net: SpikingNet) -> None:
        """Learn the leak, under the window that it predicts."""
        for p in populations(net):
            learned.learn_leak(p.lif, self.keep_v, f"methods.lsg, layer {p.name!r}")
            p.lif.window = Predicted(p.lif)

    def settle(self, net: SpikingNet) -> None:
        """Keep leak and window as they are now."""
        for p in populations(net):
            p.lif.window = Fixed(p.lif.surrogate)
            learned.settle(p.lif)


class MpdAgl(Lsg):
    """keep_v as in `Lsg`."""

    def prepare(self, net: SpikingNet) -> None:
        """Learn the leak, under the window that it and the norm in front predict."""
        for p in populations(net):
            if isinstance(p.whole, Recurrent):
                raise ValueError(
                    f"methods.mpd_agl: layer {p.name!r} is recurrent and runs one step at a time,"
                    " where the first cannot have a window of its own; use methods.lsg"
                )
        super().prepare(net)
        for p in populations(net):
            norms = [layer for layer in p.before if isinstance(layer, _BatchNorm) and layer.affine]
            every = len(norms) == len(p.before)
            p.lif.window = Predicted(p.lif, tuple(norms) if every else ())
