"""Attacks that climb the gradient of a loss: one loop, three ways to start and to step.

FGSM: Goodfellow et al. 2015. BIM: Kurakin et al. 2017. PGD: Madry et al. 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack.budget import Budget
from spikeport.sim.attack.losses import LOSSES, Loss
from spikeport.sim.attack.oracle import Oracle


@dataclass(frozen=True, kw_only=True)
class Fgsm:
    """One step of the whole radius along the sign of the gradient. loss: "ce" or "dlr"."""

    loss: str = "ce"

    def __post_init__(self) -> None:
        checks.choice(self.loss, tuple(LOSSES), where="fgsm: loss")


@dataclass(frozen=True, kw_only=True)
class Bim:
    """`steps` sign steps from the original. step_size: pixel units, None = 2.5 radius / steps."""

    steps: int = 10
    step_size: float | None = None
    loss: str = "ce"

    def __post_init__(self) -> None:
        _check_steps("bim", self.steps, self.step_size, loss=self.loss)


@dataclass(frozen=True, kw_only=True)
class Pgd:
    """BIM from `restarts` uniform random points of the ball; the worst of all iterates counts."""

    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    loss: str = "ce"

    def __post_init__(self) -> None:
        _check_steps("pgd", self.steps, self.step_size, loss=self.loss)
        checks.whole(self.restarts, where="pgd: restarts", low=1, high=1 << 20)


def step_size(spec: Fgsm | Bim | Pgd, budget: Budget) -> float:
    """Length of one step of `spec`, pixel units."""
    if isinstance(spec, Fgsm):
        return budget.radius
    return 2.5 * budget.radius / spec.steps if spec.step_size is None else spec.step_size


def run_fgsm(oracle: Oracle, spec: Fgsm) -> None:
    """Try x0 + radius sign(gradient at x0)."""
    length = step_size(spec, oracle.budget)
    _climb(oracle, oracle.x0, LOSSES[spec.loss], steps=1, length=length)


def run_bim(oracle: Oracle, spec: Bim) -> None:
    """Climb from the original."""
    length = step_size(spec, oracle.budget)
    _climb(oracle, oracle.x0, LOSSES[spec.loss], steps=spec.steps, length=length)


def run_pgd(oracle: Oracle, spec: Pgd) -> None:
    """Climb from random points; restart r draws the same point however many follow it."""
    length = step_size(spec, oracle.budget)
    for _ in range(spec.restarts):
        if oracle.done:
            return
        noise = 2 * oracle.streams.uniform(*oracle.x0.shape[1:]) - 1
        start = oracle.budget.clip(oracle.x0 + oracle.budget.radius * noise, oracle.x0)
        _climb(oracle, start, LOSSES[spec.loss], steps=spec.steps, length=length)


def _climb(oracle: Oracle, x: Tensor, loss: Loss, *, steps: int, length: float) -> None:
    """`steps` projected sign steps from `x`; every point on the way is judged by the oracle."""
    for _ in range(steps):
        if oracle.done:
            return
        x = oracle.budget.clip(x + length * oracle.gradient(x, loss).sign(), oracle.x0)
    oracle.ask(x)


def _check_steps(name: str, steps: int, length: float | None, *, loss: str) -> None:
    checks.whole(steps, where=f"{name}: steps", low=1, high=1 << 20)
    if length is not None and not 0 < length <= 1:
        raise ValueError(f"{name}: step_size is {length}; allowed are 0..1 pixel units, above 0")
    checks.choice(loss, tuple(LOSSES), where=f"{name}: loss")
