"""APGD: projected gradient steps with momentum, whose length each sample earns for itself.

Croce and Hein 2020 (arXiv 2003.01690), L-infinity and L2, with the step of twice the radius that
AutoAttack begins with. Nothing is left to tune but how long it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack.budget import Budget
from spikeport.sim.attack.losses import LOSSES, TARGETED, Loss, TargetedLoss
from spikeport.sim.attack.norms import rows
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.spec import Attack

MOMENTUM = 0.75
"""Share of the new step in a move; the rest repeats the last move."""


@dataclass(frozen=True, kw_only=True)
class Apgd(Attack):
    """`steps` moves from each of `restarts` random points. loss: "ce" or "dlr". rho: share of the
    moves since the last checkpoint that must have raised the loss, 0..1, or the step is halved."""

    name = "apgd"
    norms = ("linf", "l2")
    steps: int = 100
    restarts: int = 1
    loss: str = "ce"
    rho: float = 0.75

    def __post_init__(self) -> None:
        _check(self.name, self.steps, self.restarts, self.rho)
        checks.choice(self.loss, tuple(LOSSES), where="apgd: loss")

    def run(self, oracle: Oracle) -> None:
        """Climb from random points on the ball's hull; restart r draws the same point however many
        follow it. Every point on the way is judged by the oracle."""
        for _ in range(self.restarts):
            if oracle.done:
                return
            loss = LOSSES[self.loss]
            _climb(oracle, on_the_hull(oracle), loss, steps=self.steps, rho=self.rho)

    def resolved(self, budget: Budget) -> dict[str, Any]:
        """The length of the first step."""
        return {"first_step": first_step(budget.radius)}


@dataclass(frozen=True, kw_only=True)
class ApgdTargeted(Attack):
    """APGD towards one class after the other: the `targets` other classes with the largest logits
    at the original, or all of them if there are fewer. In every restart each gets a random point
    and `steps` moves. loss: "dlr", the published one, for 4 classes or more, or "ce". rho: as in
    Apgd."""

    name = "apgd-t"
    norms = ("linf", "l2")
    steps: int = 100
    restarts: int = 1
    targets: int = 9
    loss: str = "dlr"
    rho: float = 0.75

    def __post_init__(self) -> None:
        _check(self.name, self.steps, self.restarts, self.rho)
        checks.whole(self.targets, where="apgd-t: targets", low=1, high=1 << 20)
        checks.choice(self.loss, tuple(TARGETED), where="apgd-t: loss")

    def run(self, oracle: Oracle) -> None:
        """Climb towards the runner-up first; samples that are lost leave the later climbs."""
        ranked = runners_up(oracle.clean_logits, oracle.y)[:, : self.targets]
        for _ in range(self.restarts):
            for target in ranked.unbind(1):
                if oracle.done:
                    return
                loss = _towards(target, oracle, TARGETED[self.loss])
                _climb(oracle, on_the_hull(oracle), loss, steps=self.steps, rho=self.rho)

    def resolved(self, budget: Budget) -> dict[str, Any]:
        """The length of the first step."""
        return {"first_step": first_step(budget.radius)}


def runners_up(logits: Tensor, y: Tensor) -> Tensor:
    """int64 [B, K - 1]: the classes other than y, those of larger logits first, ties by number."""
    others = logits.scatter(1, y[:, None], float("-inf"))
    return others.argsort(dim=1, descending=True, stable=True)[:, :-1]


def _towards(target: Tensor, oracle: Oracle, loss: TargetedLoss) -> Loss:
    """The loss that leads each sample of the batch to its `target`, int64 [B]."""
    return lambda logits, y: loss(logits, y, target[oracle.alive])


def _check(name: str, steps: int, restarts: int, rho: float) -> None:
    checks.whole(steps, where=f"{name}: steps", low=1, high=1 << 20)
    checks.whole(restarts, where=f"{name}: restarts", low=1, high=1 << 20)
    if not 0 <= rho <= 1:
        raise ValueError(f"{name}: rho is {rho}; allowed are 0..1, a share of the moves")


def on_the_hull(oracle: Oracle) -> Tensor:
    """Random points [B, ...] as far away as the budget allows."""
    noise = 2 * oracle.streams.uniform(*oracle.x0.shape[1:]) - 1
    start: Tensor = oracle.budget.hull(noise, oracle.x0)
    return start


def first_step(radius: float) -> float:
    """Length of the first step, in units of the radius' norm."""
    return 2 * radius


def checkpoints(steps: int) -> tuple[int, ...]:
    """Moves after which step lengths are judged, growing; gaps shrink from 22 % to 6 % of all."""
    gap, shrink, least = (max(share * steps // 100, 1) for share in (22, 3, 6))
    found, at = [], gap
    while at <= steps:
        found.append(at)
        gap = max(gap - shrink, least)
        at += gap
    return tuple(found)


def to_halve(
    losses: Tensor, *, best: Tensor, best_before: Tensor, halved: Tensor, rho: float
) -> Tensor:
    """bool [B], at a checkpoint: the step is too long.

    losses [moves + 1, B]: since the last checkpoint, that one included. best, best_before [B]:
    highest loss so far, now and then. halved bool [B]: then. Either too few moves rose, or the step
    was left alone last time and brought nothing better.
    """
    rises = (losses[1:] > losses[:-1]).sum(0)
    return (rises <= rho * (len(losses) - 1)) | (~halved & (best <= best_before))


def _climb(oracle: Oracle, x: Tensor, loss: Loss, *, steps: int, rho: float) -> None:
    """All moves of one climb from `x`; a halved sample goes on from its best point."""
    oracle.restart()
    budget, x0 = oracle.budget, oracle.x0
    clip = budget.clip
    length = torch.full_like(oracle.margin, first_step(oracle.budget.radius))
    gradient, before = oracle.gradient(x, loss), x
    losses = [oracle.path[-1]]
    best_x, best_gradient, best = x, gradient, losses[0]
    # At the first checkpoint no earlier one says that the step was left alone.
    halved, best_before = torch.ones_like(best, dtype=torch.bool), best
    judged = checkpoints(steps)
    for move in range(1, steps + 1):
        if oracle.done:
            return
        ahead = clip(x + rows(length, x) * budget.ascent(gradient), x0)
        if move > 1:
            ahead = clip(x + MOMENTUM * (ahead - x) + (1 - MOMENTUM) * (x - before), x0)
        before, x = x, ahead
        if move == steps:
            oracle.ask(x)
            return
        gradient = oracle.gradient(x, loss)
        losses.append(oracle.path[-1])
        better = losses[-1] > best  # never where NaN: lost samples stay as they are
        best = torch.where(better, losses[-1], best)
        best_x = torch.where(rows(better, x), x, best_x)
        best_gradient = torch.where(rows(better, x), gradient, best_gradient)
        if move in judged:
            since = torch.stack(losses)
            halved = to_halve(since, best=best, best_before=best_before, halved=halved, rho=rho)
            length = torch.where(halved, length / 2, length)
            x = torch.where(rows(halved, x), best_x, x)
            gradient = torch.where(rows(halved, x), best_gradient, gradient)
            best_before, losses = best, losses[-1:]
