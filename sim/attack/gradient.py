"""Attacks that climb the gradient of a loss: one loop, four ways to start and to step.

FGSM: Goodfellow et al. 2015. R+FGSM: Tramer et al. 2018. BIM: Kurakin et al. 2017. PGD: Madry et
al. 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack.budget import Budget
from spikeport.sim.attack.losses import LOSSES, Loss
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.spec import Attack


@dataclass(frozen=True, kw_only=True)
class Fgsm(Attack):
    """One step of the whole radius up the gradient. loss: "ce" or "dlr"."""

    name = "fgsm"
    loss: str = "ce"

    def __post_init__(self) -> None:
        checks.choice(self.loss, tuple(LOSSES), where="fgsm: loss")

    def run(self, oracle: Oracle) -> None:
        """Try x0 + radius times the direction of the gradient at x0."""
        climb(oracle, oracle.x0, LOSSES[self.loss], steps=1, length=oracle.budget.radius)

    def resolved(self, budget: Budget) -> dict[str, Any]:
        """The length of the step, pixel units."""
        return {"step_size": budget.radius}


@dataclass(frozen=True, kw_only=True)
class Rfgsm(Attack):
    """FGSM that first leaves the original, where a defence may have flattened the loss: half the
    radius at random signs (those of normal noise), half up the gradient. loss: "ce" or "dlr"."""

    name = "rfgsm"
    norms = ("linf",)
    loss: str = "ce"

    def __post_init__(self) -> None:
        checks.choice(self.loss, tuple(LOSSES), where="rfgsm: loss")

    def run(self, oracle: Oracle) -> None:
        """Try the random point and the one reached from it."""
        half = oracle.budget.radius / 2
        noise = half * oracle.streams.signs(*oracle.x0.shape[1:])
        start = oracle.budget.clip(oracle.x0 + noise, oracle.x0)
        climb(oracle, start, LOSSES[self.loss], steps=1, length=half)

    def resolved(self, budget: Budget) -> dict[str, Any]:
        """The length of the random move and of the step, pixel units."""
        return {"step_size": budget.radius / 2}


@dataclass(frozen=True, kw_only=True)
class Bim(Attack):
    """`steps` steps from the original. step_size: in units of the radius' norm, None = 2.5 radius /
    steps, in l0 3."""

    name = "bim"
    steps: int = 10
    step_size: float | None = None
    loss: str = "ce"

    def __post_init__(self) -> None:
        check_steps(self.name, self.steps, self.step_size, loss=self.loss)

    def run(self, oracle: Oracle) -> None:
        """Climb from the original."""
        length = step_length(self.steps, self.step_size, oracle.budget)
        climb(oracle, oracle.x0, LOSSES[self.loss], steps=self.steps, length=length)

    def resolved(self, budget: Budget) -> dict[str, Any]:
        """The length of one step."""
        return {"step_size": step_length(self.steps, self.step_size, budget)}


@dataclass(frozen=True, kw_only=True)
class Pgd(Attack):
    """BIM from `restarts` random points of the ball; the worst of all iterates counts."""

    name = "pgd"
    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    loss: str = "ce"

    def __post_init__(self) -> None:
        check_steps(self.name, self.steps, self.step_size, loss=self.loss)
        checks.whole(self.restarts, where="pgd: restarts", low=1, high=1 << 20)

    def run(self, oracle: Oracle) -> None:
        """Climb from random points; restart r draws the same point however many follow it."""
        length = step_length(self.steps, self.step_size, oracle.budget)
        for _ in range(self.restarts):
            if oracle.done:
                return
            noise = 2 * oracle.streams.uniform(*oracle.x0.shape[1:]) - 1
            start = oracle.budget.clip(oracle.x0 + oracle.budget.radius * noise, oracle.x0)
            climb(oracle, start, LOSSES[self.loss], steps=self.steps, length=length)

    def resolved(self, budget: Budget) -> dict[str, Any]:
        """The length of one step."""
        return {"step_size": step_length(self.steps, self.step_size, budget)}


def step_length(steps: int, length: float | None, budget: Budget, *, reach: float = 2.5) -> float:
    """`length`, or if None so much that `steps` of it could go `reach` times from rim to middle. In
    l0 three times the range of a pixel: after shorter ones, hardly any pixel takes the place of
    another."""
    if length is not None:
        return length
    return 3 * budget.radius if budget.norm == "l0" else reach * budget.radius / steps


def climb(
    oracle: Oracle,
    x: Tensor,
    loss: Loss,
    *,
    steps: int,
    length: float,
    uphill: Callable[[Tensor], Tensor] = lambda gradient: gradient,
) -> None:
    """`steps` projected steps from `x`; the oracle judges every point on the way, and models whose
    gradients remember begin anew. uphill: makes of each gradient in turn what is climbed."""
    oracle.restart()
    budget = oracle.budget
    for _ in range(steps):
        if oracle.done:
            return
        ahead = budget.ascent(uphill(oracle.gradient(x, loss)))
        x = budget.clip(x + length * ahead, oracle.x0)
    oracle.ask(x)


def check_steps(name: str, steps: int, length: float | None, *, loss: str) -> None:
    """Raise ValueError unless an iterative attack can run with these."""
    checks.whole(steps, where=f"{name}: steps", low=1, high=1 << 20)
    if length is not None and not length > 0:
        raise ValueError(f"{name}: step_size is {length}; it must be above 0, or None to derive it")
    checks.choice(loss, tuple(LOSSES), where=f"{name}: loss")
