"""The ladder of comparisons: who was compared with whom, over how many bits, and what differed.

A rung is exact when both sides claim to be the chip (reference, engine, twin, Lava, the
quantisation-aware torch model): one differing bit fails it. The two rungs below the chip (torch
against FloatNet, FloatNet against FixedNet) report their difference and fail nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.net import Readout
from spikeport.sim.trace import (
    Difference,
    Trace,
    compared,
    differing_spikes,
    first_difference,
)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One comparison. samples, steps: its size. spikes: spike values compared; differing: how many
    of them differ. state: values of u and v compared; differing_state: how many of them differ.
    predictions: samples whose predicted class differs. first: the first difference or None. cause:
    what `sim.divergence.diagnose` makes of it, where it was asked."""

    left: str
    right: str
    exact: bool
    samples: int
    steps: int
    spikes: int
    differing: int
    state: int
    differing_state: int
    predictions: int
    seconds: float
    first: Difference | None
    cause: str | None = None

    @property
    def passed(self) -> bool:
        """False only for an exact rung with a difference."""
        return not self.exact or not (self.differing or self.differing_state or self.predictions)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {**asdict(self), "first": str(self.first) if self.first else None,
                "passed": self.passed}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FidelityReport:
    """All rungs of one check. `missing`: rungs that could not run, with the reason. `accuracy`:
    share of samples predicted right by whatever ran on all of them, where labels are known."""

    rungs: tuple[Rung, ...]
    missing: tuple[tuple[str, str], ...] = ()
    accuracy: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True when every exact rung that ran has no difference."""
        return all(rung.passed for rung in self.rungs)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {
            "passed": self.passed,
            "accuracy": dict(self.accuracy),
            "rungs": [rung.to_json() for rung in self.rungs],
            "missing": [{"rung": name, "reason": reason} for name, reason in self.missing],
        }


def compare(
    left: tuple[str, Trace],
    right: tuple[str, Trace],
    readout: Readout,
    *,
    exact: bool = True,
    potentials: bool = True,
    seconds: float = 0.0,
) -> Rung:
    """Compare two named traces of the same net on the same input: spikes, predictions, and with
    `potentials` also u and v wherever both sides have recorded them (integers on both sides)."""
    (left_name, a), (right_name, b) = left, right
    quantities = ("spikes", "u", "v") if potentials else ("spikes",)
    first = first_difference(a, b, quantities=quantities)  # refuses traces of different nets
    state, differing_state = _state_differences(a, b) if potentials else (0, 0)
    part = next(iter(a.populations.values()))
    return Rung(
        left=left_name,
        right=right_name,
        exact=exact,
        samples=part.spikes.shape[1],
        steps=len(part.spikes),
        spikes=compared(a, b),
        differing=differing_spikes(a, b),
        state=state,
        differing_state=differing_state,
        predictions=int((predict(a, readout) != predict(b, readout)).sum()),
        seconds=seconds,
        first=first or (_last_difference(a, b) if potentials else None),
    )


def in_batches(rung_of: Callable[[slice], Rung], *, samples: int, batch: int) -> Rung:
    """One rung over all `samples`, compared `batch` at a time, so that memory stays bounded.

    rung_of: compares the samples of a slice. The first difference is that of the first batch with
    one, its sample counted from the start.
    """
    total: Rung | None = None
    for start in range(0, samples, batch):
        part = rung_of(slice(start, min(start + batch, samples)))
        if part.first:
            moved = replace(part.first, sample=part.first.sample + start)
            part = replace(part, first=moved)
        total = part if total is None else _added(total, part)
    if total is None:
        raise ValueError("there are no samples to compare")
    return total


def _added(a: Rung, b: Rung) -> Rung:
    counts = ("samples", "spikes", "differing", "state", "differing_state", "predictions")
    sums = {name: getattr(a, name) + getattr(b, name) for name in counts}
    return replace(a, **sums, seconds=a.seconds + b.seconds, first=a.first or b.first)


def predict(trace: Trace, readout: Readout) -> NDArray[np.int64]:
    """[B] predicted classes: the largest logit, the lowest index among equals."""
    return np.asarray(trace.logits(readout).argmax(1))


def _state_differences(a: Trace, b: Trace) -> tuple[int, int]:
    """(values compared, values differing) of u and v of every step, or of v_last alone when one
    side has recorded no more."""
    total = differing = 0
    for name, left in a.populations.items():
        right = b[name]
        pairs = [(left.u, right.u), (left.v, right.v)]
        if left.v is None or right.v is None:
            pairs += [(left.v_last, right.v_last), (left.v_sum, right.v_sum)]
        for x, y in pairs:
            if x is not None and y is not None:
                total, differing = total + x.size, differing + int((x != y).sum())
    return total, differing


def _last_difference(a: Trace, b: Trace) -> Difference | None:
    """The first difference of v_last, which runs without a record of v have too."""
    for name, left in a.populations.items():
        x, y = left.v_last, b[name].v_last
        where = np.argwhere(x != y)
        if len(where):
            sample, neuron = map(int, where[0])
            return Difference(
                population=name, quantity="v_last", step=len(left.spikes) - 1, sample=sample,
                neuron=neuron, left=float(x[sample, neuron]), right=float(y[sample, neuron]),
                count=len(where),
            )  # fmt: skip
    return None
