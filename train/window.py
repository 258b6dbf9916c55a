"""Surrogate windows: where, and how strongly, a spike lets gradients through.

A window answers for whole stretches of potentials. `Fixed` is one `Surrogate` for all steps, in
membrane units or relative to the threshold; training methods bring windows of their own, such as
one whose width follows the norm in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from spikeport.sim.surrogate import Surrogate


class Window(Protocol):
    """What a `Lif` asks of its window."""

    @property
    def relative(self) -> bool:
        """Whether the window scales with the threshold: then the gradient of the threshold is that
        of a spike in U / v_th, otherwise that of one in U - v_th."""

    def slope(self, membrane: Tensor, v_th: Tensor) -> Tensor:
        """ds/dU for potentials `membrane` [T, B, ...] in membrane units, of the same shape."""

    def surrogate(self, v_th: float) -> Surrogate:
        """The one derivative, in membrane units, that stands for the window where the training
        method has done its work: on the chip's integers, and in the exported network's twin."""


@dataclass(frozen=True)
class Fixed:
    """`form` of U - v_th, or with `relative` of U / v_th - 1, its width then in thresholds.

    Relative, a rectangle of width 1 is TrSG's window (arXiv 2511.08708).
    """

    form: Surrogate
    relative: bool = False

    def slope(self, membrane: Tensor, v_th: Tensor) -> Tensor:
        """ds/dU, see `Window`."""
        if self.relative:
            return self.form(membrane / v_th - 1) / v_th
        return self.form(membrane - v_th)

    def surrogate(self, v_th: float) -> Surrogate:
        """The form in membrane units, see `Window`."""
        return self.form.in_units_of(1 / v_th) if self.relative else self.form
