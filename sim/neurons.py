"""One population as the compiled kernel takes it, and the record that it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import STATE_SHIFT
from spikeport.sim.kernel import run_population
from spikeport.sim.net import Population
from spikeport.sim.trace import PopulationTrace


@dataclass(frozen=True, kw_only=True, eq=False)
class Neurons:
    """A population as the kernel takes it. Parameters are int32 [n]."""

    keep_u: NDArray[np.int32]
    keep_v: NDArray[np.int32]
    threshold: NDArray[np.int32]
    bias: NDArray[np.int32]
    v_init: NDArray[np.int32]
    subtract: bool

    @classmethod
    def of(cls, population: Population) -> Neurons:
        """The parameters of `population`, one each."""

        def each(value: Any) -> NDArray[np.int32]:
            return np.array(np.broadcast_to(value, (population.size,)), np.int32)

        return cls(
            keep_u=each(population.keep_u),
            keep_v=each(population.keep_v),
            threshold=each(population.v_th << STATE_SHIFT),
            bias=each(population.bias_shifted),
            v_init=each(population.v_init),
            subtract=population.reset == "subtract",
        )

    def advance(
        self, a: NDArray[Any], w_exp: int, record: Record, *, first: int, steps: range
    ) -> None:
        """Live through `steps` with sums a [T, b, n] of the samples from `first` on, shifted by
        `w_exp`; `record` gets what comes of it."""
        run_population(
            a, w_exp, self.keep_u, self.keep_v, self.threshold, self.bias, self.v_init,
            self.subtract, first, steps.start, steps.stop, record.spikes, record.u_last,
            record.v_last, record.v_sum, record.u, record.v, record.counts,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """The arrays of one population that the kernel fills, portion by portion."""

    spikes: NDArray[np.uint8]
    u_last: NDArray[np.int32]
    v_last: NDArray[np.int32]
    v_sum: NDArray[np.int64]
    u: NDArray[np.int32]
    v: NDArray[np.int32]
    counts: NDArray[np.int64]  # [B, 2]: wraps of u, clips of v

    @classmethod
    def empty(
        cls, steps: int, batch: int, size: int, *, record: bool, carry: bool, summed: bool
    ) -> Record:
        """Nothing yet, of `size` neurons. record: keep u and v of every step; carry: be filled in
        several calls; summed: add v up over the steps."""
        every_step = (steps, batch, size) if record else (0, 0, 0)
        return cls(
            spikes=np.empty((steps, batch, size), np.uint8),
            u_last=np.empty((batch, size) if carry else (0, 0), np.int32),
            v_last=np.empty((batch, size), np.int32),
            v_sum=np.empty((batch, size) if summed else (0, 0), np.int64),
            u=np.empty(every_step, np.int32),
            v=np.empty(every_step, np.int32),
            counts=np.empty((batch, 2), np.int64),
        )

    @property
    def wraps(self) -> int:
        """How often u left 24 bits."""
        return int(self.counts[:, 0].sum())

    @property
    def clips(self) -> int:
        """How often v met its limit."""
        return int(self.counts[:, 1].sum())

    def trace(self) -> PopulationTrace:
        """What was recorded, None for what was not."""

        def kept(states: NDArray[Any]) -> NDArray[Any] | None:
            return states if states.size else None

        return PopulationTrace(
            spikes=self.spikes, v_last=self.v_last, v_sum=kept(self.v_sum), u=kept(self.u),
            v=kept(self.v),
        )  # fmt: skip
