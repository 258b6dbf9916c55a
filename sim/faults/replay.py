"""Runs with faults that redo only what the faults change; the same bits as `inject.run`.

A `Replay` keeps the sums and spikes of one run without faults. A fault touches some neurons of some
samples; those live again, and where their spikes differ the differences spread, population by
population, until nothing differs any more. It is meant for many faults on some hundred samples;
`bytes_of` says what those cost.

Networks with loops are run by `inject.run` itself: there a difference comes back to where it began.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim import engine
from spikeport.sim.arith import STATE_SHIFT
from spikeport.sim.faults import inject
from spikeport.sim.faults.fault import SPIKE, STATE, Cores, Fault, resolved
from spikeport.sim.faults.kernel import live, touch
from spikeport.sim.faults.links import Changes, Link, Touched, in_rows
from spikeport.sim.faults.stored import flipped_thresholds, flipped_weights
from spikeport.sim.net import FixedNet
from spikeport.sim.neurons import Neurons
from spikeport.sim.topology import blocks, is_loop
from spikeport.sim.trace import PopulationTrace, Trace


class Replay:
    """Runs of `net` on x [T, B, *input.shape] with one set of faults after another.

    first: number of the first sample, which decides what spike faults hit; for images shown in
    portions. One thread at a time. Raises ValueError for input of wrong shape or range.
    """

    def __init__(self, net: FixedNet, x: Any, *, first: int = 0) -> None:
        self.net, self.first = net, first
        self.x = net.input.check(x, dtype=np.int32)
        self.steps, self.batch = self.x.shape[:2]
        self.baseline = engine.run(net, self.x, record=False)
        order = blocks(net)
        self.loops = any(is_loop(net, block) for block in order)
        self._layers = () if self.loops else tuple(self._layer(name) for (name,) in order)

    def _layer(self, name: str) -> _Layer:
        values = {"input": self.x} | {
            p.name: self.baseline[p.name].spikes.astype(np.int32) for p in self.net.populations
        }
        size = self.net.population(name).size
        return _Layer(
            name=name,
            size=size,
            links=tuple(
                Link.of(self.net, number, values[p.source], first=self.first)
                for number, p in enumerate(self.net.projections)
                if p.target == name
            ),
            neurons=Neurons.of(self.net.population(name)),
            spikes=in_rows(values[name]).astype(np.uint8),
            touched=Touched.empty(self.batch * size),
        )

    def logits(self, faults: Iterable[Fault], *, cores: Cores | None = None) -> NDArray[Any]:
        """What the readout gives under `faults`, [B, n], as `Trace.logits` of `inject.run`."""
        readout = self.net.readout
        return self._run(faults, cores, kept=(readout.population,)).logits(readout)

    def trace(self, faults: Iterable[Fault], *, cores: Cores | None = None) -> Trace:
        """Spikes and last v of every population under `faults`, and the sum of v where the readout
        needs it. What does not differ is shared with `baseline`: read, do not write."""
        return self._run(faults, cores, kept=tuple(p.name for p in self.net.populations))

    def _run(self, faults: Iterable[Fault], cores: Cores | None, *, kept: tuple[str, ...]) -> Trace:
        found = resolved(self.net, faults, steps=self.steps, cores=cores)
        if self.loops:
            return inject.run(self.net, self.x, found, first=self.first)
        weights, thresholds = flipped_weights(self.net, found), flipped_thresholds(self.net, found)
        parts = {name: self.baseline[name] for name in kept}
        changes: dict[str, Changes] = {}
        for layer in self._layers:
            layer.hear(changes, found, weights)
            own = tuple(f for f in found if f.part == layer.name)
            redone = layer.redo(own, thresholds.get(layer.name))
            if redone is not None and layer.name in kept:
                parts[layer.name] = redone.merged(parts[layer.name], size=layer.size)
            if redone is not None and redone.differs.any():
                changes[layer.name] = redone.changes(layer.spikes)
        return Trace(populations=parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Redone:
    """Neurons that lived again: rows int64 [m], spikes uint8 [m, T], v_last int32 [m], v_sum int64
    [m], differs bool [m]."""

    rows: NDArray[np.int64]
    spikes: NDArray[np.uint8]
    v_last: NDArray[np.int32]
    v_sum: NDArray[np.int64]
    differs: NDArray[np.bool_]

    def changes(self, before: NDArray[np.uint8]) -> Changes:
        """Those whose spikes differ from `before`, uint8 [B * n, T]."""
        rows = self.rows[self.differs]
        return Changes(rows=rows, deltas=self.spikes[self.differs].astype(np.int32) - before[rows])

    def merged(self, part: PopulationTrace, *, size: int) -> PopulationTrace:
        """`part`, of `size` neurons, with these neurons in place of its own."""
        samples, neurons = self.rows // size, self.rows % size
        spikes, v_last, v_sum = part.spikes, part.v_last.copy(), part.v_sum
        if self.differs.any():
            spikes = spikes.copy()
            spikes[:, samples, neurons] = self.spikes.T
        v_last[samples, neurons] = self.v_last
        if v_sum is not None:
            v_sum = v_sum.copy()
            v_sum[samples, neurons] = self.v_sum
        return PopulationTrace(spikes=spikes, v_last=v_last, v_sum=v_sum)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layer:
    """A population with what flows into it; spikes uint8 [B * n, T] without faults."""

    name: str
    size: int
    links: tuple[Link, ...]
    neurons: Neurons
    spikes: NDArray[np.uint8]
    touched: Touched

    def hear(
        self,
        changes: Mapping[str, Changes],
        faults: Sequence[Fault],
        weights: Mapping[int, NDArray[np.int64]],
    ) -> None:
        """Add up what arrives differently, and touch the neurons where it does."""
        for link in self.links:
            own = tuple(f for f in faults if f.kind in SPIKE and f.part == link.number)
            sent = link.sent(changes.get(link.source), own)
            link.add(sent, weights.get(link.number), self.touched)

    def redo(
        self, faults: Sequence[Fault], v_th: NDArray[np.int32] | None
    ) -> _Redone | None:  # fmt: skip
        """The touched neurons under `faults` of this population, with thresholds `v_th` where they
        differ; None when there are none."""
        rows = self._rows(faults)
        if not len(rows):
            return None
        steps = self.spikes.shape[1]
        a = np.zeros((len(rows), steps), np.int32)
        for link in self.links:
            link.arrive(rows, a)
        threshold = self.neurons.threshold
        if v_th is not None:
            threshold = np.array(np.broadcast_to(v_th << STATE_SHIFT, threshold.shape))
        spikes, differs = np.empty(a.shape, np.uint8), np.zeros(len(rows), np.uint8)
        v_last, v_sum = np.empty(len(rows), np.int32), np.empty(len(rows), np.int64)
        n = self.neurons
        live(
            a, rows, n.keep_u, n.keep_v, threshold, n.bias, n.v_init, n.subtract,
            self._held(faults), _strikes(faults), self.spikes, spikes, v_last, v_sum, differs,
        )  # fmt: skip
        return _Redone(
            rows=rows, spikes=spikes, v_last=v_last, v_sum=v_sum, differs=differs.astype(np.bool_)
        )

    def _rows(self, faults: Sequence[Fault]) -> NDArray[np.int64]:
        """Rows touched by what arrives and by `faults`."""
        touched = self.touched
        for fault in faults:
            # The threshold may be one register for all neurons.
            own = fault.kind != "threshold" and fault.index is not None
            first, apart = (fault.index or 0, self.size) if own else (0, 1)
            rows = np.arange(first, len(self.spikes), apart)
            touched.count = touch(rows, touched.mark, touched.rows, touched.count)
        return touched.taken()

    def _held(self, faults: Sequence[Fault]) -> NDArray[np.int8]:
        held = np.full(self.size, -1, np.int8)
        for kind, value in (("stuck", 1), ("dead", 0)):
            held[[f.index for f in faults if f.kind == kind]] = value
        return held


def bytes_of(net: FixedNet) -> int:
    """Memory of a replay for each sample and step, in bytes: of every projection the values of its
    source, the sums of its target and their changes, and the spikes."""
    sizes = {"input": net.input.size, **{p.name: p.size for p in net.populations}}
    links = sum(sizes[p.source] + 2 * sizes[p.target] for p in net.projections)
    return 4 * links + 6 * sum(sizes.values())


def _strikes(faults: Sequence[Fault]) -> NDArray[np.int64]:
    found = [(f.index, f.step, f.bit, f.kind == "u") for f in faults if f.kind in STATE]
    return np.array(found, np.int64).reshape(-1, 4)
