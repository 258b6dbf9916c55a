"""The bits of `sim.reference`, fast: one product a projection over all steps and samples, then
one compiled pass a population over time. Populations that feed themselves or one another are
stepped instead, by the same kernel: only what the loop itself sends waits for the step.

`plan(net)` says which arithmetic each projection was given and why (the table stands in
`product.py`). The pass over time needs no choice: its int32 arithmetic wraps as Lava's own does.
Samples are independent, so large batches run in portions whose intermediate values fit
`PORTION_BYTES`; their size never changes a bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.memory import keep_freed
from spikeport.sim.net import FixedNet, FloatNet, Population
from spikeport.sim.neurons import Neurons, Record
from spikeport.sim.product import Product, prepare
from spikeport.sim.reference import refuse_overflow
from spikeport.sim.topology import blocks, is_loop
from spikeport.sim.trace import Trace

# Intermediate values of one portion of the samples. Measured: larger ones leave the caches; loops,
# which pay for every call a step, gain more from fewer calls.
PORTION_BYTES, LOOP_PORTIONS = 8 << 20, 2


def samples_in(room: int, net: FixedNet | FloatNet, *, steps: int) -> int:
    """How many samples have inputs, sums and spikes of all `steps` that fit `room` bytes, as
    float32."""
    values = net.input.size + sum(p.size for p in net.populations)
    return room // (4 * steps * values)


@dataclass(frozen=True, kw_only=True)
class Step:
    """How the sums of one projection are computed: in `product` arithmetic ("float32", "float64"
    or "int64"), because no partial sum exceeds `bound`; with `events`, by adding the weights of
    spiking inputs in int32 while spikes are rare; by the product of torch that `torch` names, if
    any, where there is more than a little to compute; all steps at once unless it is `stepped`,
    being part of a loop. The kernel behind it is always "int32"."""

    source: str
    target: str
    product: str
    bound: int
    events: bool
    torch: str
    stepped: bool
    kernel: str = "int32"

    def __str__(self) -> str:
        ways = [self.product, *[f"torch's {self.torch}"] * bool(self.torch)]
        ways += ["by events"] * self.events
        stepped = ", step by step" if self.stepped else ""
        return (
            f"{self.source} -> {self.target}: sums up to {self.bound} in"
            f" {' or '.join(ways)}{stepped}, neurons in {self.kernel}"
        )


def plan(net: FixedNet) -> tuple[Step, ...]:
    """One step a projection, in the order of execution."""
    return tuple(
        Step(
            source=p.source,
            target=layer.name,
            product=p.arithmetic,
            bound=p.bound,
            events=p.events,
            torch=p.torch,
            stepped=p.source in {member.name for member in block.layers},
        )
        for block in Engine(net).blocks
        for layer in block.layers
        for p in layer.products
    )


def run(net: FixedNet, x: Any, *, record: bool = False, strict: bool = False) -> Trace:
    """Run `net` on integers `x` [T, B, *input.shape]; the same bits as `sim.reference.run`.

    u and v of every step are kept only with `record`; the sum of v with it, or where it is read.
    With `strict`, a wrap of u or a clip of v raises OverflowError with the population's name and
    the count. Raises ValueError for input of wrong shape or range. For many runs of one net, keep
    an `Engine`.
    """
    return Engine(net).run(x, record=record, strict=strict)


class Engine:
    """A net made ready: weights laid out in the arithmetic that their sums allow. From the first
    one on, the process keeps the memory that runs free and take again (`sim.memory`)."""

    def __init__(self, net: FixedNet) -> None:
        keep_freed()
        self.net = net
        self.blocks = tuple(
            _Block(
                layers=tuple(_Layer.of(net, net.population(name)) for name in names),
                loop=is_loop(net, names),
            )
            for names in blocks(net)
        )

    def run(self, x: Any, *, record: bool = False, strict: bool = False) -> Trace:
        """As the function `run`."""
        x = self.net.input.shaped(x)
        narrow = np.uint8 if self.net.input.largest == 1 else np.float32
        results = self._results(*x.shape[:2], record=record)
        for samples in self._portions(*x.shape[:2]):
            values = {"input": self.net.input.check(x[:, samples], dtype=narrow)}
            for block in self.blocks:
                block.run(values, results, first=samples.start)
        if strict:
            for name, result in results.items():
                refuse_overflow(name, wraps=result.wraps, clips=result.clips)
        return Trace(
            populations={name: result.trace() for name, result in results.items()},
            wraps={name: result.wraps for name, result in results.items()},
            clips={name: result.clips for name, result in results.items()},
        )

    def _results(self, steps: int, batch: int, *, record: bool) -> dict[str, Record]:
        """Empty results, in the order of the net's populations."""
        looped = {layer.name for block in self.blocks if block.loop for layer in block.layers}
        readout = self.net.readout
        summed = {readout.population} if readout.kind == "sum_v" else set()
        return {
            p.name: Record.empty(
                steps, batch, p.size, record=record, carry=p.name in looped,
                summed=p.name in summed,
            )
            for p in self.net.populations
        }  # fmt: skip

    def _portions(self, steps: int, batch: int) -> Iterator[slice]:
        """Slices of samples that fit `PORTION_BYTES`, or a few times that where the net has
        loops."""
        room = PORTION_BYTES * (LOOP_PORTIONS if any(b.loop for b in self.blocks) else 1)
        portion = max(1, samples_in(room, self.net, steps=steps))
        for first in range(0, batch, portion):
            yield slice(first, min(first + portion, batch))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """Populations that must run together: one alone, or a `loop`."""

    layers: tuple[_Layer, ...]
    loop: bool

    def run(
        self, values: dict[str, NDArray[Any]], results: Mapping[str, Record], *, first: int
    ) -> None:
        """Fill in `results` of the samples from `first` on, and add the populations' spikes
        uint8 [T, b, n] to `values`, which holds those of earlier blocks."""
        if self.loop:
            self._step(values, results, first=first)
            return
        (layer,) = self.layers
        a, w_exp = layer.sums(values)
        record = results[layer.name]
        layer.neurons.advance(a, w_exp, record, first=first, steps=range(len(a)))
        values[layer.name] = record.spikes[:, first : first + a.shape[1]]

    def _step(
        self, values: dict[str, NDArray[Any]], results: Mapping[str, Record], *, first: int
    ) -> None:
        # Sums of what comes from outside the loop; the spikes inside it are written step by step.
        totals = {layer.name: layer.total(values) for layer in self.layers}
        samples = slice(first, first + values["input"].shape[1])
        values |= {name: results[name].spikes[:, samples] for name in totals}
        inside = [[p for p in layer.products if p.source in totals] for layer in self.layers]
        for t in range(len(values["input"])):
            for layer, products in zip(self.layers, inside, strict=True):
                a = totals[layer.name]
                for p in products:
                    if t >= p.delay:
                        s = values[p.source][t - p.delay : t - p.delay + 1]
                        a[t : t + 1] += p.delivered(s)
                layer.neurons.advance(a, 0, results[layer.name], first=first, steps=range(t, t + 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layer:
    """A population with everything that flows into it."""

    name: str
    size: int
    products: tuple[Product, ...]
    neurons: Neurons

    @classmethod
    def of(cls, net: FixedNet, population: Population) -> _Layer:
        return cls(
            name=population.name,
            size=population.size,
            products=tuple(
                prepare(
                    p,
                    shape=net.shape_of(p.source),
                    largest=net.input.largest if p.source == "input" else 1,
                )
                for p in net.incoming(population.name)
            ),
            neurons=Neurons.of(population),
        )

    def sums(self, values: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], int]:
        """Synaptic sums [T, b, n], float32 or int32, and the shift that the kernel must apply."""
        if len(self.products) == 1:
            (only,) = self.products
            if only.plain and not only.delay:
                return only(values[only.source]), only.w_exp
        return self.total(values), 0

    def total(self, values: Mapping[str, NDArray[Any]]) -> NDArray[np.int32]:
        """Synaptic sums int32 [T, b, n] from those sources whose `values` are known."""
        steps, batch = values["input"].shape[:2]
        total = np.zeros((steps, batch, self.size), np.int32)  # wraps as the sums of Lava do
        for p in self.products:
            if p.source in values and p.delay < steps:
                total[p.delay :] += p.delivered(values[p.source][: steps - p.delay])
        return total
