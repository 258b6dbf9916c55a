"""Square attack: random search with squares of shrinking size, no gradients.

Andriushchenko et al. 2020 (arXiv 1912.00049), untargeted: in L-infinity with the projected update
of AutoAttack's version, in L2 with `bumps`. It asks for logits alone, so it also runs on a chip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack import bumps
from spikeport.sim.attack.norms import rows
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.spec import Attack
from spikeport.sim.attack.streams import sign_of

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries of 10 000 after which the share of changed pixels is halved; from the paper's code."""


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """`queries` images a sample, the original not counted. share: of the pixels, in the first
    squares, in (0, 1]. sideways: also keep squares that leave the margin as it is, which lets the
    search cross the plateaus of integer logits; False is the published rule. A sample leaves as
    soon as it is fooled.
    """

    name = "square"
    blind = True
    norms = ("linf", "l2")
    queries: int = 1000
    share: float = 0.8
    sideways: bool = True

    def __post_init__(self) -> None:
        checks.whole(self.queries, where="square: queries", low=1, high=1 << 20)
        if not 0 < self.share <= 1:
            raise ValueError(f"square: share is {self.share}; allowed are 0..1, above 0")

    def run(self, oracle: Oracle) -> None:
        """Start from random vertical stripes (in L2: bumps side by side), then keep each square
        that does not raise the margin.

        Vectors [B, n] are searched as maps of one channel and one row.
        """
        shape, budget = oracle.x0.shape, oracle.budget
        maps = shape if len(shape) == 4 else torch.Size((shape[0], 1, 1, shape[1]))
        channels, height, width = maps[1:]
        bumpy = budget.norm == "l2"
        if bumpy:
            begun = bumps.first(oracle.streams, maps)
        else:
            begun = oracle.streams.signs(channels, 1, width).expand(maps)
        x = budget.clip(oracle.x0 + budget.radius * begun.reshape(shape), oracle.x0)
        best = oracle.ask(x)
        # All squares of a sample are drawn at once: its stream is the same whoever leaves.
        numbers = channels + (bumps.DRAWS if bumpy else 2)
        draws = oracle.streams.uniform(self.queries, numbers).unbind(1)
        for query in range(1, self.queries):
            if oracle.done:
                return
            size = window(share_at(query, self), height=height, width=width)
            if bumpy:
                size = bumps.odd(size, height=height, width=width)
                change = (x - oracle.x0).reshape(maps)
                change = bumps.moved(change, draws[query], size=size, eps=budget.eps)
                trial = budget.clip(oracle.x0 + change.reshape(shape), oracle.x0)
            else:
                change = 2 * budget.radius * _square(draws[query], size, height, width)
                trial = budget.clip(x + change.reshape(shape), oracle.x0)
            margin = oracle.ask(trial)
            better = margin <= best if self.sideways else margin < best
            best = torch.where(better, margin, best)
            x = torch.where(rows(better, x), trial, x)


def share_at(query: int, spec: Square) -> float:
    """Share of the pixels that query 0 .. queries - 1 changes; `spec.share` halved on the way."""
    progress = 10_000 * query // spec.queries
    return spec.share / 2.0 ** sum(progress > h for h in HALVINGS)


def window(share: float, *, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of the square that holds `share` of a map; a stretch if it has one row."""
    if height == 1:
        return 1, min(max(1, round(share * width)), width)
    side = min(max(1, round(math.sqrt(share * height * width))), height, width)
    return side, side


def _square(u: Tensor, size: tuple[int, int], height: int, width: int) -> Tensor:
    """[B, C, height, width]: a window of `size` filled with 1 or -1 in each channel, 0 elsewhere;
    place and signs drawn by u [B, 2 + C] in [0, 1)."""
    above, beside = _span(u[:, 0], size[0], height), _span(u[:, 1], size[1], width)
    inside = above[:, None, :, None] & beside[:, None, None, :]
    return sign_of(u[:, 2:])[:, :, None, None] * inside


def _span(u: Tensor, length: int, size: int) -> Tensor:
    """bool [B, size]: a stretch of `length` places, its start drawn by u in [0, 1)."""
    start = bumps.start(u, length, size)[:, None]
    place = torch.arange(size, device=u.device)
    return (place >= start) & (place < start + length)
