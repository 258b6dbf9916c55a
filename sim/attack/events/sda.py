"""SDA, the sparse dynamic attack: few flips, each of them tried, the needless taken back.

PDSG-SDA (CVPR 2025, arXiv 2503.03272), whose code this follows, and reduction by binary search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack.events.budget import FlipBudget
from spikeport.sim.attack.losses import lost_margin
from spikeport.sim.attack.norms import rows
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.spec import Attack

FIRST = 10
"""Cells that the first round tries, in the paper."""


@dataclass(frozen=True, kw_only=True)
class Sda(Attack):
    """In round n = 0, 1, .. the first * (n + 1) cells of largest gradient are flipped one at a time
    to measure by how much each alone lowers the margin; those that do not raise it stay flipped.

    Fooled samples then take back the longest run of flips, weakest first, that they can spare. So
    x_adv is the lightest train found here, not the one of smallest margin. Where more cells are
    flipped than the budget allows, those that lowered the margin most are shown. A single flip that
    fools ends a round; the paper's ends with all of its flips. steps: rounds, 500 in the paper;
    they cost first * steps * (steps + 1) / 2 queries.
    """

    name = "sda"
    norms = ("flips",)
    steps: int = 30
    first: int = FIRST

    def __post_init__(self) -> None:
        checks.whole(self.steps, where="sda: steps", low=1, high=1 << 16)
        checks.whole(self.first, where="sda: first", low=1, high=1 << 20)

    def run(self, oracle: Oracle) -> None:
        """Flip until fooled, then take back."""
        oracle.restart()
        x, change = oracle.x0, torch.full_like(oracle.x0, math.inf)
        for n in range(self.steps):
            if oracle.done:
                break
            cells = self._candidates(oracle, x, change, count=self.first * (n + 1))
            change = _tried(oracle, change, cells)
            x = _flipped(oracle, change)
            oracle.ask(x)
        reduce(oracle, change)

    def _candidates(self, oracle: Oracle, x: Tensor, change: Tensor, *, count: int) -> Tensor:
        """int64 [B, k]: flat indices of the cells to try, most promising first. Cells whose
        gradient speaks against a flip, or is 0, have random ranks below all others."""
        gradient = -oracle.gradient(x, lost_margin).flatten(1)
        x0 = oracle.x0.flatten(1)
        useful = (_target(oracle).flatten(1) - x0) * gradient < 0
        rank = torch.where(useful, gradient.abs(), math.inf)
        least = rank.amin(1, keepdim=True)
        least = torch.where(least == math.inf, 1.0, least)
        noise = oracle.streams.uniform(*oracle.x0.shape[1:]).flatten(1)
        rank = torch.where(useful, rank, noise * least)
        barred = (change.flatten(1) < math.inf) | (_target(oracle).flatten(1) == x0)
        rank = torch.where(barred, -math.inf, rank)
        return rank.argsort(dim=1, descending=True, stable=True)[:, :count]


def rounds_within(queries: int) -> int:
    """Rounds of `Sda`, one at least, in which no more than so many flips are tried."""
    return max(1, (math.isqrt(1 + 8 * (queries // FIRST)) - 1) // 2)


def _target(oracle: Oracle) -> Tensor:
    budget: FlipBudget = oracle.budget
    return budget.toggled(oracle.x0)


def _flipped(oracle: Oracle, change: Tensor) -> Tensor:
    """The originals with every cell flipped whose `change` is known, those that lower the margin
    most if the budget does not allow all."""
    return torch.where(oracle.budget.chosen(-change), _target(oracle), oracle.x0)


def _tried(oracle: Oracle, change: Tensor, cells: Tensor) -> Tensor:
    """`change` [B, T, ...] of the flips made, infinite elsewhere, with those of `cells` [B, k]
    that, flipped alone on top of them, do not raise the margin; of a sample that one of them fools,
    with that one alone. Where the budget is used up, a cell is tried in the weakest flip's place.
    """
    base = -oracle.path[-1]  # the gradient has just been taken at these flips
    able, old = (_target(oracle) != oracle.x0).flatten(1), change.flatten(1)
    tried, last = old.clone(), old.clone()
    for cell in cells.T[:, :, None]:
        known = old.gather(1, cell)
        free = (oracle.margin > 0)[:, None] & (known == math.inf) & able.gather(1, cell)
        trial = old.scatter(1, cell, torch.where(free, -math.inf, known))
        shown = _flipped(oracle, trial.reshape(change.shape))
        found = (oracle.ask(shown).clamp_min(0) - base)[:, None]
        tried.scatter_(1, cell, torch.where(free, found, tried.gather(1, cell)))
        fooled = free & (oracle.margin <= 0)[:, None]
        last = torch.where(fooled, old.scatter(1, cell, found), last)
    kept = torch.where(tried > 0, math.inf, tried)
    return torch.where((oracle.margin > 0)[:, None], kept, last).reshape(change.shape)


def reduce(oracle: Oracle, change: Tensor) -> None:
    """Take flips of the fooled samples back, in the order of the size of their `change`
    [B, T, ...], for as long as they stay fooled: binary search for where to stop."""
    found, x0 = oracle.x_adv.clone(), oracle.x0
    made = (found != x0).flatten(1)
    weak = torch.where(made, change.flatten(1).abs(), math.inf)
    rank = weak.argsort(dim=1, stable=True).argsort(dim=1).reshape(x0.shape)
    low = torch.zeros_like(oracle.queries)
    high = torch.where(oracle.margin > 0, 0, made.sum(1)) - 1
    while (low <= high).any():
        middle, open_ = (low + high) // 2, low <= high
        back = rank <= rows(middle, x0)
        spared = oracle.spare(torch.where(back, x0, found), open_)
        low = torch.where(open_ & spared, middle + 1, low)
        high = torch.where(open_ & ~spared, middle - 1, high)
