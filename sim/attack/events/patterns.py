"""Patterns of added events that need no gradient: a frame, a corner, a dash.

After DVS-Attacks (Marchisio et al. 2021, arXiv 2107.00415). They take maps [B, T, C, H, W], C
polarities, and only add: cells that hold events keep them. Where a pattern needs more cells than
the budget allows, those shown are the first in the order of T, C, H, W.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack.events.budget import flips_of
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.spec import Attack


@dataclass(frozen=True, kw_only=True)
class Pattern(Attack):
    """Base of the patterns: a subclass says which it tries, in turn, until the sample is fooled."""

    blind = True
    norms = ("flips",)

    def check(self, budget: Any) -> None:
        """Raise ValueError where nothing may be added."""
        super().check(budget)
        if not flips_of(budget, self.name).add:
            raise ValueError(
                f"{self.name}: the budget forbids to add events and this attack only adds; set"
                f" add=True"
            )

    def run(self, oracle: Oracle) -> None:
        """Show one pattern after the other."""
        if oracle.x0.ndim != 5:
            raise ValueError(
                f"{self.name}: trains have shape {tuple(oracle.x0.shape)}; needed are maps"
                f" [B, T, C, H, W]"
            )
        for pattern in self.patterns(oracle.x0[0]):
            if oracle.done:
                return
            oracle.ask(torch.maximum(oracle.x0, pattern.to(oracle.x0)))

    def patterns(self, like: Tensor) -> Iterator[Tensor]:
        """bool, each of the shape of the sample `like` [T, C, H, W]: which cells are on."""
        raise NotImplementedError(f"pattern {self.name!r} has no patterns; write some, see Pattern")


@dataclass(frozen=True, kw_only=True)
class Frame(Pattern):
    """All pixels of the border on, in every polarity and step; first a border of one pixel, then,
    up to `width`, of more."""

    name = "frame"
    width: int = 1

    def __post_init__(self) -> None:
        checks.whole(self.width, where="frame: width", low=1, high=1 << 16)

    def patterns(self, like: Tensor) -> Iterator[Tensor]:
        """Borders of growing width."""
        for width in range(1, self.width + 1):
            on = torch.ones_like(like, dtype=torch.bool)
            on[..., width:-width, width:-width] = False
            yield on


@dataclass(frozen=True, kw_only=True)
class Corner(Pattern):
    """Two adjacent pixels in a corner on, in every polarity and step: each corner in turn, then
    each with patches of 2 x 3, 3 x 4, .. pixels, up to `size` rows."""

    name = "corner"
    size: int = 3

    def __post_init__(self) -> None:
        checks.whole(self.size, where="corner: size", low=1, high=1 << 16)

    def patterns(self, like: Tensor) -> Iterator[Tensor]:
        """Patches of growing size, clockwise from the top left."""
        for size in range(1, self.size + 1):
            for flipped in ((), (3,), (2, 3), (2,)):
                on = torch.zeros_like(like, dtype=torch.bool)
                on[..., :size, : size + 1] = True
                yield on.flip(flipped)


@dataclass(frozen=True, kw_only=True)
class Dash(Pattern):
    """Two adjacent pixels that are on for `hold` steps and then move on by two, row by row: in the
    left half with the first polarity, in the right half with the last. Started in each of the
    first `starts` rows in turn (at most those there are). With `hold` below what a filter tells hot
    pixels by, this is the dash that such a mask filter does not see.
    """

    name = "dash"
    hold: int = 1
    starts: int = 8

    def __post_init__(self) -> None:
        checks.whole(self.hold, where="dash: hold", low=1, high=1 << 16)
        checks.whole(self.starts, where="dash: starts", low=1, high=1 << 16)

    def patterns(self, like: Tensor) -> Iterator[Tensor]:
        """One path for each starting row."""
        steps, polarities, height, width = like.shape
        for start in range(min(self.starts, height)):
            on = torch.zeros_like(like, dtype=torch.bool)
            for t in range(steps):
                row, column = divmod(2 * (t // self.hold), width + width % 2)
                side = 0 if 2 * column < width else polarities - 1
                on[t, side, (start + row) % height, column : column + 2] = True
            yield on
