"""Attacks that flip cells: where the gradient promises most, or at random."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack.events.budget import FlipBudget
from spikeport.sim.attack.losses import LOSSES
from spikeport.sim.attack.norms import rows
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.spec import Attack

TINY = 1e-30


@dataclass(frozen=True, kw_only=True)
class Flips(Attack):
    """Greedy flips. Each of `steps` rounds takes the gradient where the last one ended and chooses
    anew, among all cells, those whose change promises most to first order.

    memory: share of the older gradients in the one that is followed, 0..1. noise: the first round
    is exact, and finds the optimum of a linear model; in later ones the logarithm of every gain has
    Gumbel noise of this size added, so that the search does not circle: integer networks have
    plateaus, on which the same gradient comes back. 0 for none.
    """

    name = "flips"
    norms = ("flips",)
    steps: int = 100
    memory: float = 0.5
    noise: float = 0.3
    loss: str = "margin"

    def __post_init__(self) -> None:
        checks.whole(self.steps, where="flips: steps", low=1, high=1 << 20)
        checks.choice(self.loss, tuple(LOSSES), where="flips: loss")
        if not 0 <= self.memory < 1:
            raise ValueError(f"flips: memory is {self.memory}; allowed are 0..1, below 1")
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"flips: noise is {self.noise}; allowed are numbers from 0")

    def run(self, oracle: Oracle) -> None:
        """Climb from the original; round i is the same however many follow it."""
        oracle.restart()
        x, past = oracle.x0, torch.zeros_like(oracle.x0)
        for i in range(self.steps):
            if oracle.done:
                return
            gradient = oracle.gradient(x, LOSSES[self.loss])
            scale = gradient.abs().flatten(1).mean(1).clamp_min(TINY)
            past = self.memory * past + gradient / rows(scale, x)
            luck = oracle.streams.uniform(*x.shape[1:]) if i and self.noise else None
            x = best_flips(past, oracle.x0, oracle.budget, luck=luck, noise=self.noise)
        oracle.ask(x)


@dataclass(frozen=True, kw_only=True)
class RandomFlips(Attack):
    """`draws` trains with random flips, as many as the budget allows: the baseline that every
    attack must beat, and one that runs on a chip. keep: chance of each flip of the best train so
    far to be made again, 0 for draws that know nothing of one another, above for a random search
    (after Sparse-RS, Croce et al. 2022); a sample's best is the last with the smallest margin.
    """

    name = "random-flips"
    blind = True
    norms = ("flips",)
    draws: int = 100
    keep: float = 0.0

    def __post_init__(self) -> None:
        checks.whole(self.draws, where="random-flips: draws", low=1, high=1 << 20)
        if not 0 <= self.keep < 1:
            raise ValueError(f"random-flips: keep is {self.keep}; allowed are 0..1, below 1")

    def run(self, oracle: Oracle) -> None:
        """Try the draws one after the other; draw i is the same however many follow it."""
        best, least = oracle.x0, oracle.margin.clone()
        for _ in range(self.draws):
            if oracle.done:
                return
            x = flipped_at_random(oracle, around=best, keep=self.keep)
            margin = oracle.ask(x)
            better = margin <= least
            least = torch.where(better, margin, least)
            best = torch.where(rows(better, x), x, best)


def best_flips(
    gradient: Tensor, x0: Tensor, budget: FlipBudget, *, luck: Tensor | None, noise: float
) -> Tensor:
    """The train within the budget that raises a function of this `gradient` [B, T, ...] most if it
    is linear; with `luck`, uniform in [0, 1), gains are first multiplied by exp(noise * Gumbel)."""
    target = budget.aimed(gradient, x0)
    gain = gradient * (target - x0)
    gain = torch.where(gain > 0, gain.clamp_min(TINY).log(), -math.inf)
    if luck is not None:
        gain = gain - noise * (-luck.clamp(TINY, 1 - 1e-7).log()).log()
    return torch.where(budget.chosen(gain), target, x0)


def flipped_at_random(oracle: Oracle, *, around: Tensor, keep: float) -> Tensor:
    """The originals with random flips, as many as the budget allows; each flip of `around` is
    among them with chance `keep`."""
    budget: FlipBudget = oracle.budget
    x0, shape = oracle.x0, oracle.x0.shape[1:]
    rank, side = oracle.streams.uniform(*shape), oracle.streams.signs(*shape)
    target = budget.aimed(side, x0)
    target = torch.where(target == x0, budget.toggled(x0), target)
    if keep:
        kept = (around != x0) & (oracle.streams.uniform(*shape) < keep)
        target, rank = torch.where(kept, around, target), rank + kept
    return torch.where(budget.chosen(torch.where(target == x0, -math.inf, rank)), target, x0)
