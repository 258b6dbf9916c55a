"""The ladder of comparisons: who was compared with whom, over how many bits, and what differed.

A rung is exact when both sides claim to be the chip (reference, engine, twin, Lava, the
quantisation-aware torch model): one differing bit fails it. The two rungs below the chip (torch
against FloatNet, FloatNet against FixedNet) report their difference and fail nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spikeport.sim.net import Readout
from spikeport.sim.trace import (
    Difference,
    PopulationTrace,
    Trace,
    compared,
    differing_spikes,
    first_difference,
)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One comparison. samples, steps: its size. spikes: spike values compared; differing: how many
    of them differ. state: values of u and v compared; differing_state: how many of them differ.
    predictions: samples whose predicted class differs. first: the first difference or None."""

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

    @property
    def passed(self) -> bool:
        """False only for an exact rung with a difference."""
        return not self.exact or (self.differing == 0 and self.differing_state == 0)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {**asdict(self), "first": str(self.first) if self.first else None,
                "passed": self.passed}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FidelityReport:
    """All rungs of one check. `missing`: rungs that could not run, with the reason."""

    rungs: tuple[Rung, ...]
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def passed(self) -> bool:
        """True when every exact rung that ran has no difference."""
        return all(rung.passed for rung in self.rungs)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {
            "passed": self.passed,
            "rungs": [rung.to_json() for rung in self.rungs],
            "missing": [{"rung": name, "reason": reason} for name, reason in self.missing],
        }


def compare(
    left: tuple[str, Trace],
    right: tuple[str, Trace],
    readout: Readout,
    *,
    exact: bool = True,
    seconds: float = 0.0,
) -> Rung:
    """Compare two named traces of the same net on the same input, spikes and (when both recorded
    them) u and v. Potentials of float nets are compared only through spikes and predictions."""
    (left_name, a), (right_name, b) = left, right
    quantities = ("spikes", "u", "v") if exact else ("spikes",)
    state, differing_state = _state_differences(a, b) if exact else (0, 0)
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
        first=first_difference(a, b, quantities=quantities),
    )


def predict(trace: Trace, readout: Readout) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[B] predicted classes: the largest logit, the lowest index among equals."""
    return trace.logits(readout).argmax(1)


def _state_differences(a: Trace, b: Trace) -> tuple[int, int]:
    """(values compared, values differing) of u and v of every step, or of v_last alone when one
    side has recorded no more."""
    total = differing = 0
    for name, left in a.populations.items():
        right = b[name]
        pairs = [(left.u, right.u), (left.v, right.v), (left.v_last, right.v_last)]
        for x, y in pairs:
            if x is not None and y is not None:
                total, differing = total + x.size, differing + int((x != y).sum())
    return total, differing


def merge(traces: Sequence[Trace]) -> Trace:
    """Traces of consecutive batches of samples as one; u and v only when all have them."""
    parts = {}
    for name in traces[0].populations:
        runs = [trace[name] for trace in traces]
        parts[name] = PopulationTrace(
            spikes=np.concatenate([r.spikes for r in runs], axis=1),
            v_last=np.concatenate([r.v_last for r in runs]),
            u=_joined([r.u for r in runs]),
            v=_joined([r.v for r in runs]),
        )
    return Trace(
        populations=parts,
        wraps=_summed([t.wraps for t in traces]),
        clips=_summed([t.clips for t in traces]),
    )


def _joined(parts: list[Any]) -> Any:
    return None if any(p is None for p in parts) else np.concatenate(parts, axis=1)


def _summed(counts: list[Any]) -> dict[str, int]:
    return {name: sum(c[name] for c in counts) for name in counts[0]}
