"""Judging the integers of populations, and of whole networks, on calibration samples.

A `Calibration` knows what the float net does on the samples and what the integers chosen so far
do, so that each population is judged on what it will really receive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.export.grid import Floats, Part
from spikeport.sim import engine, floating
from spikeport.sim.arith import STATE_SHIFT, wrap_int32
from spikeport.sim.net import FixedNet, FloatNet, Population, Projection
from spikeport.sim.neurons import Neurons, Record
from spikeport.sim.product import Product, prepare
from spikeport.sim.trace import PopulationTrace, Trace

Ints = NDArray[np.int64]
Order = tuple[Ints, Floats]

PORTION = 32  # samples that the float net runs at once


class Calibration:
    """What the float net does on samples, and the integers so far."""

    def __init__(self, net: FloatNet, x: Ints) -> None:
        """x: integers [T, B, *shape] as the chip is shown them."""
        self.input = net.input
        self.read = "v_sum" if net.readout.kind == "sum_v" else "v_last"
        self.exact = _exact(net, x)
        self.sent: dict[str, NDArray[Any]] = {"input": x} | {
            p.name: _shaped(self.exact[p.name].spikes, p.shape) for p in net.populations
        }
        self._arrived: dict[bytes, Ints] = {}
        self._orders: dict[tuple[int, ...], Order] = {}

    def settle(self, part: Part, fixed: Population, synapses: list[Projection]) -> None:
        """From now on the population sends what these integers send."""
        spikes = self.response(part, fixed, synapses).spikes
        self.sent[fixed.name] = _shaped(spikes, fixed.shape)
        self._arrived, self._orders = {}, {}

    def loss(self, part: Part, fixed: Population, synapses: list[Projection]) -> float:
        """How far one population is from what it should do, behind the sources so far."""
        return self._distance(fixed, self.response(part, fixed, synapses), silent=part.silent)

    def disagreement(self, net: FixedNet) -> float:
        """How far the whole of `net` is from what it should do: the mean over its populations, and
        the share of samples on which it answers differently."""
        trace = engine.run(net, self.sent["input"])
        read, potentials = net.readout.population, net.readout.of_potentials
        far = [
            self._distance(p, trace[p.name], silent=potentials and p.name == read)
            for p in net.populations
        ]
        exact, found = (
            t.logits(net.readout).argmax(1) for t in (Trace(populations=self.exact), trace)
        )
        return float(np.mean(far) + (exact != found).mean())

    def _distance(self, fixed: Population, found: PopulationTrace, *, silent: bool) -> float:
        """Differing spikes over all spikes of both, so that silence is worst; of a population read
        as a potential the error of what is read (root mean square over its own)."""
        exact = self.exact[fixed.name]
        if not silent:
            spikes = int(exact.spikes.sum(dtype=np.int64) + found.spikes.sum(dtype=np.int64))
            return int((found.spikes != exact.spikes).sum()) / max(spikes, 1)
        wanted = getattr(exact, self.read)
        error = getattr(found, self.read) / (fixed.scale * (1 << STATE_SHIFT)) - wanted
        size = float(np.sqrt((wanted**2).mean()))
        return float(np.sqrt((error**2).mean())) / size if size else 0.0

    def response(
        self, part: Part, fixed: Population, synapses: list[Projection]
    ) -> PopulationTrace:
        """What these integers do behind the sources so far."""
        products = [
            prepare(p, shape=s.shape, largest=self.largest(p.source))
            for p, s in zip(synapses, part.sources, strict=True)
        ]
        arriving = self._arriving(part, synapses, products)
        loops = [
            (p.delay, product)
            for p, product, s in zip(synapses, products, part.sources, strict=True)
            if s.emission is None
        ]
        return _lived(fixed, arriving, loops)

    def largest(self, source: str) -> int:
        """The largest value that `source` sends."""
        return self.input.largest if source == "input" else 1

    def _arriving(self, part: Part, synapses: list[Projection], products: list[Product]) -> Ints:
        """[T, B, n]: what the other populations deliver; kept while the synapses are the same."""
        key = b"".join(_identity(p) for p in synapses)
        if key not in self._arrived:
            steps, batch = self.sent["input"].shape[:2]
            total = np.zeros((steps, batch, part.population.size), np.int64)
            for p, product, source in zip(synapses, products, part.sources, strict=True):
                if source.emission is not None and p.delay < steps:
                    total[p.delay :] += product.delivered(self.sent[p.source][: steps - p.delay])
            self._arrived = {key: total}
        return self._arrived[key]

    def order(self, group: tuple[int, ...], find: Callable[[], Order]) -> Order:
        """The order in which the weights of a group of sources are rounded, and how the
        error of each moves on; found once for each population."""
        if group not in self._orders:
            self._orders[group] = find()
        return self._orders[group]


def _exact(net: FloatNet, x: Ints) -> dict[str, PopulationTrace]:
    """What the float net does on samples: spikes, last and summed potentials."""
    parts = [
        floating.run(net, x[:, first : first + PORTION] / net.input.scale, record=False).populations
        for first in range(0, x.shape[1], PORTION)
    ]

    def joined(name: str, quantity: str, axis: int) -> Any:
        return np.concatenate([getattr(part[name], quantity) for part in parts], axis)

    return {
        p.name: PopulationTrace(
            spikes=joined(p.name, "spikes", 1), v_last=joined(p.name, "v_last", 0),
            v_sum=joined(p.name, "v_sum", 0),
        )
        for p in net.populations
    }  # fmt: skip


def _shaped(spikes: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return spikes.reshape(*spikes.shape[:2], *shape)


def _identity(projection: Projection) -> bytes:
    synapse = projection.synapse
    return np.asarray(synapse.w, np.int16).tobytes() + bytes([getattr(synapse, "w_exp", 0) + 8])


def _lived(fixed: Population, arriving: Ints, loops: list[tuple[int, Product]]) -> PopulationTrace:
    """A population that receives sums [T, B, n] and what it sends itself."""
    steps, batch, n = arriving.shape
    a = wrap_int32(arriving).astype(np.int32)
    neurons = Neurons.of(fixed)
    record = Record.empty(steps, batch, n, record=False, carry=True, summed=True)
    pieces = [range(t, t + 1) for t in range(steps)] if loops else [range(steps)]
    for piece in pieces:
        for delay, product in loops:
            if piece.start >= delay:
                late = slice(piece.start - delay, piece.stop - delay)
                # int32 wraps by itself
                a[piece.start : piece.stop] += product.delivered(
                    _shaped(record.spikes[late], fixed.shape)
                )
        neurons.advance(a, 0, record, first=0, steps=piece)
    return record.trace()
