"""What an adversary may change: the legal images around an image, and the distance to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeport.sim import checks

GRID_SLACK = 1e-3
"""How far, in grid steps, a float pixel may lie from its grid point (float32 needs 1e-4)."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The L-infinity ball of radius `eps` on [0, 1], and the grid that images live on.

    eps: 0..1 in pixel units (8/255, not 8). levels: images are k / levels with whole k in
    0..levels, and an adversarial k differs from the original by at most floor(eps * levels);
    255 for 8-bit pixels, None for no grid (distances then hold to one float rounding).
    """

    eps: float
    norm: str = "linf"
    levels: int | None = 255

    def __post_init__(self) -> None:
        if not 0 <= self.eps <= 1:
            raise ValueError(
                f"budget: eps is {self.eps}; allowed are 0..1, in pixels of [0, 1] (8/255, not 8)"
            )
        checks.choice(self.norm, ("linf",), where="budget: norm")
        if self.levels is not None:
            checks.whole(self.levels, where="budget: levels", low=1, high=1 << 16)

    @property
    def steps(self) -> int:
        """Grid steps that a pixel may move; needs a grid."""
        if self.levels is None:
            raise ValueError("budget: levels is None; grid steps need a grid, use radius instead")
        # 8/255*255 may come out as 7.999...; no honest eps lies within 1e-9 below a whole step.
        return math.floor(self.eps * self.levels + 1e-9)

    @property
    def radius(self) -> float:
        """Largest change of a pixel: eps, or the whole grid steps that fit into it."""
        return self.eps if self.levels is None else self.steps / self.levels

    def clip(self, x: Tensor, x0: Tensor) -> Tensor:
        """`x` moved into the ball around `x0` and into [0, 1]; same shape, not yet on the grid."""
        return x.clamp(x0 - self.radius, x0 + self.radius).clamp(0, 1)

    def legal(self, x: Tensor, x0: Tensor) -> Tensor:
        """The legal image nearest to `x`; a pixel that ends where it started keeps x0's bits."""
        if self.levels is None:
            return self.clip(x, x0)
        k0 = self._on_grid(x0)
        k = self._on_grid(x).clamp(k0 - self.steps, k0 + self.steps).clamp(0, self.levels)
        return torch.where(k == k0, x0, k / self.levels)

    def measure(self, x: Tensor, x0: Tensor) -> Tensor:
        """Largest pixel change of each sample, float64 [B]; whole steps / levels on a grid."""
        if self.levels is None:
            return (x.double() - x0.double()).abs().flatten(1).amax(1)
        moved = (self._on_grid(x) - self._on_grid(x0)).abs().flatten(1).amax(1)
        return moved.double() / self.levels

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless `x` holds legal originals: finite, in [0, 1], on the grid."""
        if not torch.isfinite(x).all():
            raise ValueError("attack: x holds NaN or infinity; repair the images first")
        if x.min() < 0 or x.max() > 1:
            raise ValueError(
                f"attack: x spans {x.min():.4g}..{x.max():.4g}; allowed are pixels in [0, 1], "
                f"with any normalisation inside the model"
            )
        if self.levels is None:
            return
        off = float((x * self.levels - self._on_grid(x)).abs().max())
        if off > GRID_SLACK:
            raise ValueError(
                f"attack: a pixel of x lies {off:.3g} steps off the grid k/{self.levels}; "
                f"round the images first, or use levels=None"
            )

    def _on_grid(self, x: Tensor) -> Tensor:
        """Whole grid coordinates of `x`, as floats."""
        assert self.levels is not None
        return (x * self.levels).round()
