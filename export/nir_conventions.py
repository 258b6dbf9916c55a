"""What a NIR file does not say and its reader must know: step length, rule, reset, start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.net import RESETS

Floats = NDArray[np.float64]

RULES = ("euler", "exact")
STARTS = ("zero", "leak")
WHOLE = 1e-6  # steps that a delay may be away from a whole number of them
LONGEST = 1 << 20  # steps of a delay, and of a sample


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """How the numbers in a file are meant.

    dt_s: seconds per step, None if unknown. rule: "euler" (a step loses dt/tau of a state) or
    "exact" (it loses 1 - exp(-dt/tau)). reset: "zero", "subtract" or None for what our metadata
    say, else "zero". start: potentials begin at "zero" or at "leak", their v_leak. round_delays:
    whether a delay may be rounded to whole steps. Raises ValueError for anything else.
    """

    dt_s: float | None
    rule: str = "euler"
    reset: str | None = None
    start: str = "zero"
    round_delays: bool = False

    def __post_init__(self) -> None:
        chosen("rule", self.rule, RULES)
        chosen("reset", self.reset, (None, *RESETS))
        chosen("start", self.start, STARTS)

    @property
    def step_s(self) -> float:
        """Seconds per step; ValueError (without file and node) if unknown or not positive."""
        if self.dt_s is None:
            raise ValueError("does not say how long a step is; give dt_s in seconds")
        if not 0 < self.dt_s < float("inf"):
            raise ValueError(f"a step of {self.dt_s} s was asked for; it must be positive")
        return self.dt_s

    def steps(self, seconds: Floats) -> NDArray[np.int64]:
        """Delays in steps; ValueError (without file and node) if they are none."""
        exact = seconds / self.step_s
        whole = np.rint(exact)
        if exact.min() < 0:
            raise ValueError(f"a delay is {seconds.min():g} s; delays must not be negative")
        if exact.max() > LONGEST:
            raise ValueError(
                f"a delay of {seconds.max():g} s is {exact.max():g} steps of {self.step_s:g} s;"
                f" {LONGEST} are the most, see whether dt_s is right"
            )
        off = np.abs(exact - whole)
        if off.max() > WHOLE and not self.round_delays:
            worst = seconds.reshape(-1)[off.argmax()]
            raise ValueError(
                f"a delay of {worst:g} s is {worst / self.step_s:g} steps of {self.step_s:g} s;"
                " choose dt_s so that all delays are whole steps, or allow rounding with"
                " round_delays=True"
            )
        steps: NDArray[np.int64] = whole.astype(np.int64)
        return steps


def lost(dt: float | Floats, tau: Floats, *, rule: str) -> Floats:
    """The share of a state that a step loses: by "euler" in one forward Euler step, by "exact" in
    the equation's solution for an input that is constant meanwhile."""
    with np.errstate(over="ignore", under="ignore"):
        rate = dt / tau
        return np.asarray(rate if rule == "euler" else -np.expm1(-rate))


def steps_long(share: Floats, *, rule: str) -> Floats:
    """The time constant, in steps, of a state of which a step loses `share`; undoes `lost`."""
    return np.asarray(1 / share if rule == "euler" else -1 / np.log1p(-share))


def chosen(name: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    """Raise ValueError unless `value` of argument `name` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed are {', '.join(map(repr, allowed))}")
