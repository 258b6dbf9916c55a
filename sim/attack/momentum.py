"""Attacks that climb what they remember of earlier gradients, not the last one alone.

MI-FGSM: Dong et al. 2018 (arXiv 1710.06081). SA-PGD: arXiv 2512.22522, made for gradients that
`sim.twin_rules.Assg` sharpens; it runs on any model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack.apgd import checkpoints, on_the_hull
from spikeport.sim.attack.budget import Budget
from spikeport.sim.attack.gradient import check_steps, climb, step_length
from spikeport.sim.attack.losses import LOSSES, Loss
from spikeport.sim.attack.norms import rows
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.spec import Attack

KEPT, KEPT_SQUARES = 0.5, 0.8
"""What SA-PGD's sums of gradients and of their squares keep from move to move."""


@dataclass(frozen=True, kw_only=True)
class MiFgsm(Attack):
    """BIM up a decaying sum of gradients, each scaled to a mean size of 1. mu: share of the sum
    that is kept, from 0. step_size: in units of the radius' norm, None = radius / steps, in l0 3.
    """

    name = "mi-fgsm"
    steps: int = 10
    step_size: float | None = None
    mu: float = 1.0
    loss: str = "ce"

    def __post_init__(self) -> None:
        check_steps(self.name, self.steps, self.step_size, loss=self.loss)
        if not 0 <= self.mu < float("inf"):
            raise ValueError(f"mi-fgsm: mu is {self.mu}; allowed are numbers from 0, 1 keeps all")

    def run(self, oracle: Oracle) -> None:
        """Climb from the original."""
        total = torch.zeros_like(oracle.x0)

        def summed(gradient: Tensor) -> Tensor:
            nonlocal total
            total = self.mu * total + in_means(gradient)
            return total

        loss, length = LOSSES[self.loss], self._length(oracle.budget)
        climb(oracle, oracle.x0, loss, steps=self.steps, length=length, uphill=summed)

    def resolved(self, budget: Budget) -> dict[str, Any]:
        """The length of one step."""
        return {"step_size": self._length(budget)}

    def _length(self, budget: Budget) -> float:
        return step_length(self.steps, self.step_size, budget, reach=1.0)


@dataclass(frozen=True, kw_only=True)
class SaPgd(Attack):
    """`steps` moves from each of `restarts` random points up a decaying sum of gradients, pixel by
    pixel in units of what the gradient's size there has been. The longest move is the radius at
    first and half as long after each checkpoint of APGD. loss: "ce" or "dlr"."""

    name = "sa-pgd"
    norms = ("linf",)
    steps: int = 100
    restarts: int = 1
    loss: str = "ce"

    def __post_init__(self) -> None:
        check_steps(self.name, self.steps, None, loss=self.loss)
        checks.whole(self.restarts, where="sa-pgd: restarts", low=1, high=1 << 20)

    def run(self, oracle: Oracle) -> None:
        """Climb from random points on the ball's hull; restart r draws the same point however many
        follow it."""
        for _ in range(self.restarts):
            if oracle.done:
                return
            _climb(oracle, on_the_hull(oracle), LOSSES[self.loss], steps=self.steps)

    def resolved(self, budget: Budget) -> dict[str, Any]:
        """The longest first move."""
        return {"first_step": budget.radius}


def _climb(oracle: Oracle, x: Tensor, loss: Loss, *, steps: int) -> None:
    """All moves of one restart. Where no gradient comes, memory alone moves on."""
    oracle.restart()
    longest, judged = oracle.budget.radius, checkpoints(steps)
    total = squares = torch.zeros_like(x)
    for move in range(1, steps + 1):
        if oracle.done:
            return
        scaled = in_means(oracle.gradient(x, loss))
        total = KEPT * total + scaled
        squares = KEPT_SQUARES * squares + in_means(scaled.square())
        ahead = longest * total / (squares.sqrt() + 1e-12)
        x = oracle.budget.clip(x + ahead.clamp(-longest, longest), oracle.x0)
        if move in judged:
            longest /= 2
    oracle.ask(x)


def in_means(gradient: Tensor) -> Tensor:
    """`gradient` [B, ...] in units of each sample's mean |entry|; zero where all of it is zero."""
    largest = gradient.abs().flatten(1).amax(1)
    # First in units of the largest entry: the square of a small float32 would be lost.
    scaled = gradient / rows(torch.where(largest > 0, largest, 1), gradient)
    mean = scaled.abs().flatten(1).mean(1)
    return scaled / rows(torch.where(mean > 0, mean, 1), gradient)
