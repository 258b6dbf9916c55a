"""Bounds on everything a FixedNet can do for any input in a box: u, v and spikes of every step.

Sums of a box are two products: positive weights meet the ends as they are, negative ones crosswise.
Both are exact, as `product.py` proves. What arrives may wrap; an interval without a jump of the
wrap inside moves as a whole, any other becomes all that the wrap can give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import U_LIMIT, wrap_int24, wrap_int32
from spikeport.sim.certify_kernel import INT32_HIGH, INT32_LOW, bound_steps, sweep
from spikeport.sim.net import READOUTS, FixedNet, Population
from spikeport.sim.neurons import Neurons
from spikeport.sim.product import Product, prepare
from spikeport.sim.synapse import Conv2d
from spikeport.sim.topology import blocks, is_loop
from spikeport.sim.trace import PopulationTrace, Trace

Interval = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Where a run must stay. low, high: traces of the least and the largest values, spikes 1 in
    `low` where a neuron must fire and in `high` where it may. logits: int64 [B, n], low and high.
    sources: values that projections see, low and high, by name; the input's have one step if it is
    static. loose: bool [B, n] by population, whether u may wrap or v may be clipped.
    """

    low: Trace
    high: Trace
    logits: Interval
    sources: Mapping[str, Interval]
    loose: Mapping[str, NDArray[np.bool_]]


def bounds(
    net: FixedNet, low: NDArray[Any], high: NDArray[Any], *, steps: int, cells: int
) -> Bounds:
    """Bounds of all runs of `net` over `steps` steps on inputs between `low` and `high`, int64
    [T, B, *shape], or [1, B, *shape] for one unknown image shown in every step.

    Populations that only such an image drives, without delay, are swept over their sum, `cells`
    cells a neuron or, if that is 1, not at all; then bounds of a single neuron are exact for all
    integers the sum may lie among.
    Loops are stepped. Values must be legal inputs; `certify` sees to it.
    """
    static = len(low) == 1
    run = _Run(net=net, steps=steps, batch=low.shape[1], sources={"input": (low, high)})
    for names in blocks(net):
        if is_loop(net, names):
            run.step(names)
        else:
            (name,) = names
            incoming = net.incoming(name)
            alone = all(p.source == "input" and not p.delay for p in incoming)
            run.pass_over(name, cells=cells if static and alone else 1)
    return run.result()


class _Run:
    """Boxes of the populations, filled in block by block."""

    def __init__(
        self, *, net: FixedNet, steps: int, batch: int, sources: dict[str, Interval]
    ) -> None:
        self.net, self.steps, self.batch, self.sources = net, steps, batch, sources
        self.boxes = {
            p.name: _Box(p, steps=steps, batch=batch, readout=net.readout.kind)
            for p in net.populations
        }
        self.ways = {
            p.name: [_Way.of(net, projection) for projection in net.incoming(p.name)]
            for p in net.populations
        }

    def pass_over(self, name: str, *, cells: int) -> None:
        """All steps of a population whose sources are known; swept in 2 `cells` or more."""
        low, high = self.sums(name, range(self.steps), [*self.sources])
        if cells > 1:
            self.boxes[name].sweep(_arriving(low[0], high[0]), cells=cells)
        else:
            self.boxes[name].advance(_arriving(low, high), range(self.steps))
        self.sources[name] = self.boxes[name].spikes

    def step(self, names: tuple[str, ...]) -> None:
        """The populations of a loop, step by step; only what the loop sends waits for the step."""
        known = [*self.sources]
        outside = {name: self.sums(name, range(self.steps), known) for name in names}
        self.sources |= {name: self.boxes[name].spikes for name in names}
        for t in range(self.steps):
            for name in names:
                low, high = self.sums(name, range(t, t + 1), [*names])
                low, high = low + outside[name][0][t], high + outside[name][1][t]
                self.boxes[name].advance(_arriving(low, high), range(t, t + 1))

    def sums(self, name: str, steps: range, sources: list[str]) -> Interval:
        """What arrives at population `name` from `sources` in `steps`, before the last wrap; int64
        [steps, B, n], low and high."""
        size = (len(steps), self.batch, self.net.population(name).size)
        low, high = np.zeros(size, np.int64), np.zeros(size, np.int64)
        for way in self.ways[name]:
            first = max(way.delay, steps.start)
            if way.source in sources and first < steps.stop:
                values = self.sources[way.source]
                if len(values[0]) > 1:
                    part = slice(first - way.delay, steps.stop - way.delay)
                    values = values[0][part], values[1][part]
                more = way.delivered(values)
                low[first - steps.start :] += more[0]
                high[first - steps.start :] += more[1]
        return low, high

    def result(self) -> Bounds:
        """The bounds, once every block is done."""
        traces = [
            Trace(populations={name: box.trace(side) for name, box in self.boxes.items()})
            for side in (0, 1)
        ]
        scores = self.boxes[self.net.readout.population].scores
        if scores is None:
            scores = traces[0].logits(self.net.readout), traces[1].logits(self.net.readout)
        return Bounds(
            low=traces[0],
            high=traces[1],
            logits=(scores[0].astype(np.int64), scores[1].astype(np.int64)),
            sources=self.sources,
            loose={name: box.loose for name, box in self.boxes.items()},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Way:
    """A projection, prepared: its positive and its negative weights."""

    source: str
    delay: int
    positive: Product
    negative: Product

    @classmethod
    def of(cls, net: FixedNet, projection: Any) -> _Way:
        shape = net.shape_of(projection.source)
        largest = net.input.largest if projection.source == "input" else 1
        product = replace(prepare(projection, shape=shape, largest=largest), spikes=False)
        # Split as laid out, as the core holds them: a matrix of one sign alone is held otherwise.
        return cls(
            source=projection.source,
            delay=projection.delay,
            positive=replace(product, w=product.w.clip(min=0)),
            negative=replace(product, w=product.w.clip(max=0)),
        )

    def delivered(self, values: Interval) -> Interval:
        """What arrives, int64 [T, B, n], of source values [T, B, ...]; low and high of each."""
        low, high = values
        least, most = (
            self.positive(a).astype(np.int64) + self.negative(b).astype(np.int64)
            for a, b in ((low, high), (high, low))
        )
        least, most = _arriving(least, most)
        if isinstance(self.positive.part, Conv2d):
            return _moved(least, most, wrap_int24, (-U_LIMIT, U_LIMIT - 1))
        w_exp = self.positive.w_exp
        if w_exp < 0:
            return least >> -w_exp, most >> -w_exp
        return _arriving(least << w_exp, most << w_exp)


def _arriving(low: NDArray[Any], high: NDArray[Any]) -> Interval:
    """Sums as int32 arrays of Lava hold them."""
    return _moved(low, high, wrap_int32, (INT32_LOW, INT32_HIGH))


def _moved(
    low: NDArray[Any], high: NDArray[Any], wrap: Callable[[Any], Any], ends: tuple[int, int]
) -> Interval:
    """The interval behind `wrap`, the identity with downward jumps between numbers of `ends`: it
    keeps its length exactly if there is no jump in it."""
    first, last = wrap(low), wrap(high)
    whole = last - first == high - low
    return np.where(whole, first, ends[0]), np.where(whole, last, ends[1])


class _Box:
    """Intervals of one population over all steps, [T, B, n]."""

    def __init__(self, population: Population, *, steps: int, batch: int, readout: str) -> None:
        size = (steps, batch, population.size)
        self.neurons = Neurons.of(population)
        self.spikes: Interval = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        self.u, self.v = (
            (np.zeros(size, np.int32), np.zeros(size, np.int32)) for _ in range(2)
        )  # fmt: skip
        self.loose = np.zeros(size[1:], np.bool_)
        self.scores: Interval | None = None
        self.readout = READOUTS.index(readout)

    def advance(self, a: Interval, steps: range) -> None:
        """Live through `steps` with sums [steps, B, n]."""
        n = self.neurons
        bound_steps(
            *a, n.keep_u, n.keep_v, n.threshold, n.bias, n.v_init, n.subtract, steps.start,
            steps.stop, *self.spikes, *self.u, *self.v, self.loose,
        )  # fmt: skip

    def sweep(self, a: Interval, *, cells: int) -> None:
        """Live through all steps with one sum [B, n] in each."""
        n = self.neurons
        self.scores = np.zeros(a[0].shape, np.int64), np.zeros(a[0].shape, np.int64)
        sweep(
            *a, n.keep_u, n.keep_v, n.threshold, n.bias, n.v_init, n.subtract, cells,
            self.readout, *self.spikes, *self.u, *self.v, self.loose, *self.scores,
        )  # fmt: skip

    def trace(self, side: int) -> PopulationTrace:
        """The lows (0) or the highs (1)."""
        v = self.v[side]
        return PopulationTrace(spikes=self.spikes[side], u=self.u[side], v=v, v_last=v[-1].copy())
