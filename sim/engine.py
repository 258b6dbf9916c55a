"""The bits of `sim.reference`, fast: one product a projection over all steps and samples, then
one compiled pass a population over time.

`plan(net)` says which arithmetic each projection was given and why (the table stands in
`product.py`). The pass over time needs no choice: its int32 arithmetic wraps as Lava's own does.
Samples are independent, so large batches run in blocks whose intermediate values fit
`BLOCK_BYTES`; block size never changes a bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import DECAY_ONE, DU_OFFSET, STATE_SHIFT, wrap_int32
from spikeport.sim.kernel import run_population
from spikeport.sim.net import FixedNet, Population
from spikeport.sim.product import Product, prepare
from spikeport.sim.reference import delivered, refuse_overflow
from spikeport.sim.synapse import lowered
from spikeport.sim.trace import PopulationTrace, Trace

BLOCK_BYTES = 8 << 20  # intermediate values of one block of samples


@dataclass(frozen=True, kw_only=True)
class Step:
    """How the sums of one projection are computed: in `product` arithmetic ("float32", "float64"
    or "int64"), because no partial sum exceeds `bound`; with `events`, by adding the weights of
    spiking inputs in int32 while spikes are rare. The kernel behind it is always "int32"."""

    source: str
    target: str
    product: str
    bound: int
    events: bool
    kernel: str = "int32"

    def __str__(self) -> str:
        events = " or by events" if self.events else ""
        return (
            f"{self.source} -> {self.target}: sums up to {self.bound} in {self.product}{events},"
            f" neurons in {self.kernel}"
        )


def plan(net: FixedNet) -> tuple[Step, ...]:
    """One step a projection, in the order of execution."""
    return tuple(
        Step(
            source=p.source,
            target=layer.name,
            product=p.arithmetic,
            bound=p.bound,
            events=p.events is not None,
        )
        for layer in Engine(net).layers
        for p in layer.products
    )


def run(net: FixedNet, x: Any, *, record: bool = False, strict: bool = False) -> Trace:
    """Run `net` on integers `x` [T, B, *input.shape]; the same bits as `sim.reference.run`.

    u and v of every step are kept only with `record`. With `strict`, a wrap of u or a clip of v
    raises OverflowError with the population's name and the count. Raises ValueError for input of
    wrong shape or range. For many runs of one net, keep an `Engine`.
    """
    return Engine(net).run(x, record=record, strict=strict)


class Engine:
    """A net made ready: weights laid out in the arithmetic that their sums allow."""

    def __init__(self, net: FixedNet) -> None:
        self.net = net
        self.layers = tuple(_Layer.of(net, population) for population in net.populations)

    def run(self, x: Any, *, record: bool = False, strict: bool = False) -> Trace:
        """As the function `run`."""
        x = self.net.input.shaped(x)
        steps, batch = x.shape[:2]
        narrow = np.uint8 if self.net.input.largest == 1 else np.float32
        results = {
            layer.name: _Result.empty(steps, batch, layer.size, record=record)
            for layer in self.layers
        }
        for samples in self._blocks(steps, batch):
            values = {"input": self.net.input.check(x[:, samples], dtype=narrow)}
            for layer in self.layers:
                values[layer.name] = layer.run(values, results[layer.name], first=samples.start)
        if strict:
            for name, result in results.items():
                refuse_overflow(name, wraps=result.wraps, clips=result.clips)
        return Trace(
            populations={name: result.trace() for name, result in results.items()},
            wraps={name: result.wraps for name, result in results.items()},
            clips={name: result.clips for name, result in results.items()},
        )

    def _blocks(self, steps: int, batch: int) -> Iterator[slice]:
        """Slices of samples whose inputs, sums and spikes fit `BLOCK_BYTES` as float32."""
        values = self.net.input.size + sum(layer.size for layer in self.layers)
        block = max(1, BLOCK_BYTES // (4 * steps * values))
        for first in range(0, batch, block):
            yield slice(first, min(first + block, batch))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layer:
    """A population with everything that flows into it. Parameters are int32 [n]."""

    name: str
    size: int
    products: tuple[Product, ...]
    keep_u: NDArray[np.int32]
    keep_v: NDArray[np.int32]
    threshold: NDArray[np.int32]
    bias: NDArray[np.int32]
    v_init: NDArray[np.int32]
    subtract: bool

    @classmethod
    def of(cls, net: FixedNet, population: Population) -> _Layer:
        def each(value: Any) -> NDArray[np.int32]:
            return np.array(np.broadcast_to(value, (population.size,)), np.int32)

        return cls(
            name=population.name,
            size=population.size,
            products=tuple(
                prepare(
                    p.source,
                    lowered(p.synapse, net.shape_of(p.source)),
                    shape=net.shape_of(p.source),
                    largest=net.input.largest if p.source == "input" else 1,
                )
                for p in net.incoming(population.name)
            ),
            keep_u=each(DECAY_ONE - DU_OFFSET - population.du),
            keep_v=each(DECAY_ONE - population.dv),
            threshold=each(population.v_th << STATE_SHIFT),
            bias=each(population.bias_shifted),
            v_init=each(population.v_init),
            subtract=population.reset == "subtract",
        )

    def run(self, values: dict[str, NDArray[Any]], result: _Result, *, first: int) -> NDArray[Any]:
        """Spikes [T, b, n] of one block of samples, as numbers of any type."""
        a, w_exp = self._sums(values)
        run_population(
            a, w_exp, self.keep_u, self.keep_v, self.threshold, self.bias, self.v_init,
            self.subtract, first, result.spikes, result.v_last, result.u, result.v, result.counts,
        )  # fmt: skip
        return a

    def _sums(self, values: dict[str, NDArray[Any]]) -> tuple[NDArray[Any], int]:
        """Synaptic sums [T, b, n], float32 or int32, and the shift that the kernel must apply."""
        only = self.products[0]
        if len(self.products) == 1 and only.plain:
            return only(values[only.source]), only.w_exp
        arrived = [delivered(p.part, p(values[p.source]).astype(np.int64)) for p in self.products]
        return wrap_int32(np.sum(arrived, axis=0)).astype(np.int32), 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Result:
    """The arrays of one population that the kernel fills, block by block."""

    spikes: NDArray[np.uint8]
    v_last: NDArray[np.int32]
    u: NDArray[np.int32]
    v: NDArray[np.int32]
    counts: NDArray[np.int64]  # [B, 2]: wraps of u, clips of v

    @classmethod
    def empty(cls, steps: int, batch: int, size: int, *, record: bool) -> _Result:
        every_step = (steps, batch, size) if record else (0, 0, 0)
        return cls(
            spikes=np.empty((steps, batch, size), np.uint8),
            v_last=np.empty((batch, size), np.int32),
            u=np.empty(every_step, np.int32),
            v=np.empty(every_step, np.int32),
            counts=np.empty((batch, 2), np.int64),
        )

    @property
    def wraps(self) -> int:
        return int(self.counts[:, 0].sum())

    @property
    def clips(self) -> int:
        return int(self.counts[:, 1].sum())

    def trace(self) -> PopulationTrace:
        states = (self.u, self.v) if self.u.size else (None, None)
        return PopulationTrace(spikes=self.spikes, v_last=self.v_last, u=states[0], v=states[1])
