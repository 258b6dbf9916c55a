"""What an adversary may change: the legal images around an image, and the distance to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack import norms

GRID_SLACK = 1e-3
"""How far, in grid steps, a float pixel may lie from its grid point (float32 needs 1e-4)."""

SHRINKS = (1.0, 0.99, 0.98, 0.96, 0.92)
"""By what an l2 step is shortened until its rounded form fits; else it is rounded towards 0."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The ball of size `eps` on [0, 1], and the grid that images live on.

    norm: see `norms`. eps: for linf 0..1 in pixel units (8/255, not 8), for l2 from 0 in pixel
    units, for l0 a whole number of pixels. levels: images are k / levels with whole k in
    0..levels; an adversarial k differs from the original by at most floor(eps * levels) in linf.
    255 for 8-bit pixels, None for no grid (distances then hold to one float rounding).
    """

    eps: float
    norm: str = "linf"
    levels: int | None = 255

    def __post_init__(self) -> None:
        checks.choice(self.norm, norms.NORMS, where="budget: norm")
        if self.norm == "linf" and not 0 <= self.eps <= 1:
            raise ValueError(
                f"budget: eps is {self.eps}; allowed are 0..1, in pixels of [0, 1] (8/255, not 8)"
            )
        if self.norm == "l2" and not 0 <= self.eps < math.inf:
            raise ValueError(f"budget: eps is {self.eps}; in l2 allowed are numbers from 0")
        if self.norm == "l0":
            checks.whole(self.eps, where="budget: eps in l0 (pixels)", low=0, high=1 << 30)
        if self.levels is not None:
            checks.whole(self.levels, where="budget: levels", low=1, high=1 << 16)

    @property
    def steps(self) -> int:
        """Grid steps that a pixel may move in linf; needs a grid."""
        if self.levels is None:
            raise ValueError("budget: levels is None; grid steps need a grid, use radius instead")
        # 8/255*255 may come out as 7.999...; no honest eps lies within 1e-9 below a whole step.
        return math.floor(self.eps * self.levels + 1e-9)

    @property
    def radius(self) -> float:
        """The longest step that makes sense, and 0 where nothing may change: in linf eps, or the
        whole grid steps that fit into it; in l2 eps; in l0 the range of a pixel."""
        if self.norm == "l0":
            return float(self.eps > 0)
        return self.eps if self.levels is None or self.norm == "l2" else self.steps / self.levels

    def clip(self, x: Tensor, x0: Tensor) -> Tensor:
        """`x` moved into the ball around `x0` and into [0, 1]; same shape, not yet on the grid."""
        if self.norm == "linf":
            return x.clamp(x0 - self.radius, x0 + self.radius).clamp(0, 1)
        inside = x.clamp(0, 1) - x0
        return (x0 + norms.within(self.norm, x - x0, inside, self.eps)).clamp(0, 1)

    def ascent(self, gradient: Tensor) -> Tensor:
        """The step of size 1 that raises a linear function most; times a length up to `radius`."""
        return norms.ascent(self.norm, gradient)

    def hull(self, direction: Tensor, x0: Tensor) -> Tensor:
        """The point of the ball's hull (within [0, 1]) that lies from `x0` in `direction`."""
        return self.clip(x0 + self.radius * norms.unit(self.norm, direction), x0)

    def legal(self, x: Tensor, x0: Tensor) -> Tensor:
        """The legal image nearest to `x` (in l2: near it); a pixel that ends where it started keeps
        x0's bits."""
        if self.levels is None:
            return self.clip(x, x0)
        k0 = self._on_grid(x0)
        if self.norm == "linf":
            k = self._on_grid(x).clamp(k0 - self.steps, k0 + self.steps).clamp(0, self.levels)
        elif self.norm == "l0":
            inside = self._on_grid(x).clamp(0, self.levels) - k0
            k = k0 + norms.within("l0", x * self.levels - k0, inside, self.eps)
        else:
            k = k0 + self._shortened((self.clip(x, x0) - x0) * self.levels)
        return torch.where(k == k0, x0, k / self.levels)

    def measure(self, x: Tensor, x0: Tensor) -> Tensor:
        """Size of each sample's change, float64 [B]; from whole grid steps if there is a grid."""
        if self.levels is None:
            return norms.size(self.norm, x.double() - x0.double())
        found = norms.size(self.norm, self._on_grid(x) - self._on_grid(x0))
        return found if self.norm == "l0" else found / self.levels

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

    def _shortened(self, delta: Tensor) -> Tensor:
        """Whole grid steps near `delta` whose l2 size, in pixels, is at most eps."""
        assert self.levels is not None
        found = delta.trunc()  # never longer than delta
        for share in reversed(SHRINKS):
            near = (share * delta).round()
            fits = norms.size("l2", near) <= self.eps * self.levels
            found = torch.where(norms.rows(fits, near), near, found)
        return found

    def _on_grid(self, x: Tensor) -> Tensor:
        """Whole grid coordinates of `x`, as floats."""
        assert self.levels is not None
        return (x * self.levels).round()
