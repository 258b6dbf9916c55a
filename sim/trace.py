"""What a run leaves behind, and the first place where two runs differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.net import Readout


@dataclass(frozen=True, kw_only=True)
class PopulationTrace:
    """One population over a run, steps relative to its own window.

    spikes: uint8 [T, B, n]. u, v: int32 (float64 for a FloatNet) [T, B, n] after each step's
    reset, or None when not recorded. v_last: [B, n], v after the last step, always there. v_sum:
    [B, n], int64 or float64, the sum of v over all steps; follows from v where v is recorded.
    """

    spikes: NDArray[np.uint8]
    v_last: NDArray[Any]
    u: NDArray[Any] | None = None
    v: NDArray[Any] | None = None
    v_sum: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.v_sum is None and self.v is not None:
            wide = np.float64 if self.v.dtype.kind == "f" else np.int64
            object.__setattr__(self, "v_sum", self.v.sum(0, dtype=wide))


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A run of T steps and B samples. `wraps` and `clips` count, per population, the neuron-steps
    in which u left 24 bits or v hit its limit (empty for float runs and for Lava)."""

    populations: Mapping[str, PopulationTrace]
    wraps: Mapping[str, int] = field(default_factory=dict)
    clips: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> PopulationTrace:
        return self.populations[name]

    def logits(self, readout: Readout) -> NDArray[Any]:
        """[B, n] scores: spike counts, last or summed potentials, or T minus the first spike's
        step. Raises ValueError for a sum of potentials in a trace that kept neither it nor v."""
        part = self.populations[readout.population]
        if readout.kind == "last_v":
            return part.v_last
        if readout.kind == "sum_v":
            if part.v_sum is None:
                raise ValueError(
                    f"the trace holds no sum of potentials of population {readout.population!r};"
                    " run it again with record=True"
                )
            return part.v_sum
        if readout.kind == "count":
            return np.asarray(part.spikes.sum(0, dtype=np.int64))
        steps = len(part.spikes)
        first = np.where(part.spikes.any(0), part.spikes.argmax(0), steps)
        return np.asarray(steps - first, np.int64)

    def spike_total(self) -> int:
        """Spikes of all populations together."""
        return sum(int(p.spikes.sum(dtype=np.int64)) for p in self.populations.values())


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first differing entry of two traces and how many entries differ in all."""

    population: str
    quantity: str  # "spikes", "u" or "v"
    step: int
    sample: int
    neuron: int
    left: float
    right: float
    count: int

    def __str__(self) -> str:
        return (
            f"population {self.population!r}: {self.quantity} of neuron {self.neuron}, sample"
            f" {self.sample}, first differs at step {self.step}: {self.left:g} against"
            f" {self.right:g} ({self.count} entries differ in all)"
        )


def compared(left: Trace, right: Trace) -> int:
    """How many spike values (neuron-steps) two traces of the same net have in common."""
    return sum(p.spikes.size for name, p in left.populations.items() if name in right.populations)


def differing_spikes(left: Trace, right: Trace) -> int:
    """How many of them differ."""
    return sum(
        int((p.spikes != right[name].spikes).sum())
        for name, p in left.populations.items()
        if name in right.populations
    )


def first_difference(
    left: Trace, right: Trace, *, quantities: tuple[str, ...] = ("spikes", "u", "v")
) -> Difference | None:
    """The earliest difference: smallest step, then the earliest population, then quantity order.

    Quantities that one side did not record are skipped. Raises ValueError when the traces are not
    of the same populations and shapes.
    """
    if list(left.populations) != list(right.populations):
        raise ValueError(
            f"traces hold different populations: {list(left.populations)} and"
            f" {list(right.populations)}"
        )
    found: list[tuple[int, int, int, NDArray[Any], NDArray[Any], NDArray[Any], str, str]] = []
    for order, name in enumerate(left.populations):
        for rank, quantity in enumerate(quantities):
            a, b = getattr(left[name], quantity), getattr(right[name], quantity)
            if a is None or b is None:
                continue
            if a.shape != b.shape:
                raise ValueError(f"traces of {name!r} have shapes {a.shape} and {b.shape}")
            where = np.argwhere(a != b)
            if len(where):
                found.append((int(where[0, 0]), order, rank, where, a, b, name, quantity))
    if not found:
        return None
    step, _, _, where, a, b, name, quantity = min(found, key=lambda item: item[:3])
    at = tuple(where[0])
    return Difference(
        population=name, quantity=quantity, step=step, sample=int(at[1]), neuron=int(at[2]),
        left=float(a[at]), right=float(b[at]), count=len(where),
    )  # fmt: skip
