"""Surrogate windows: where, and how strongly, a spike lets gradients through.

`Fixed` is one `Surrogate` for all steps, in membrane units or relative to the threshold; training
methods bring windows of their own, such as one whose width follows the norm in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spikeport.sim.surrogate import SURROGATES, Surrogate


class Window(Protocol):
    """What a `Lif` asks of its window."""

    @property
    def form(self) -> str:
        """A key of `SURROGATES`."""

    @property
    def relative(self) -> bool:
        """Whether the window scales with the threshold: then distances and widths count in
        thresholds, and the gradient of v_th is that of a spike in U / v_th."""

    def widths(self, steps: int, v_th: Tensor) -> Tensor:
        """The form's width (or slope) in each step, [T], without gradient."""

    def surrogate(self, v_th: float) -> Surrogate:
        """The one derivative, in membrane units, that stands for the window where the training
        method has done its work: on the chip's integers, and in the exported network's twin."""


@dataclass(frozen=True)
class Fixed:
    """`of` U - v_th, or with `relative` of U / v_th - 1, its width then in thresholds.

    Relative, a rectangle of width 1 is TrSG's window (arXiv 2511.08708).
    """

    of: Surrogate
    relative: bool = False

    @property
    def form(self) -> str:
        """See `Window`."""
        return self.of.name

    def widths(self, steps: int, v_th: Tensor) -> Tensor:
        """The same in every step."""
        return torch.full((steps,), self.of.width, dtype=v_th.dtype, device=v_th.device)

    def surrogate(self, v_th: float) -> Surrogate:
        """In membrane units."""
        return self.of.in_units_of(1 / v_th) if self.relative else self.of


def slope(window: Window, membrane: Tensor, v_th: Tensor) -> Tensor:
    """ds/dU of `window` at potentials `membrane` [T, B, ...], membrane units, of the same shape."""
    unit = v_th if window.relative else torch.ones_like(v_th)
    d = (membrane - v_th) / unit
    widths = window.widths(len(d), v_th).to(d)
    h = SURROGATES[window.form]
    each = [h(d_t, float(width)) for d_t, width in zip(d, widths, strict=True)]
    return torch.stack(each) / unit
