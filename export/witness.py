"""Looking for an input that makes an overflow happen which the bounds could not rule out.

Bounds are sound but may be pessimistic: an overflow they allow need not exist. A `Witness` settles
it when one is found. First layers are driven straight to their extreme; behind them the search
starts from inputs that the weights, followed backwards, say are worst, and climbs by mutation. All
runs are of `sim.reference`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport.export.bounds import Risk
from spikeport.sim import checks, reference
from spikeport.sim.arith import STATE_SHIFT, shift_to_zero
from spikeport.sim.floating import conv_adjoint
from spikeport.sim.net import FixedNet, Projection
from spikeport.sim.synapse import Dense, FloatConv2d, Shape, lowered
from spikeport.sim.trace import Trace

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BATCH = 16  # inputs tried at once


@dataclass(frozen=True, kw_only=True)
class Witness:
    """The input [steps, 1, *shape] that drives the neuron of `risk` furthest, of `tries` tried.
    reached: how far (as `risk.bound`), in `step`."""

    risk: Risk
    x: Ints
    reached: int
    step: int
    tries: int

    @property
    def happens(self) -> bool:
        """Whether the input really makes the overflow happen."""
        sign = 1 if self.risk.bound > 0 else -1
        return sign * self.reached > self.risk.limit

    def __str__(self) -> str:
        where = f"population {self.risk.population!r}, neuron {self.risk.neuron}:"
        name = {
            "a": "the synaptic sum", "sum": "what arrives", "drive": "u with its bias",
            "readout": "the potential",
        }.get(self.risk.quantity, self.risk.quantity)  # fmt: skip
        if self.happens:
            return (
                f"{where} {name} reaches {self.reached} in step {self.step}, beyond"
                f" {self.risk.limit}, for the input that this witness holds"
            )
        return (
            f"{where} no input was found that drives {name} beyond {self.risk.limit};"
            f" the furthest of {self.tries} tried reaches {self.reached}, the bound is"
            f" {self.risk.bound}"
        )


def worst_input(net: FixedNet, risk: Risk, *, tries: int = 256, seed: int = 0) -> Witness:
    """Look for an input of `net` that makes `risk` happen; at most about `tries` runs.

    Raises ValueError for tries below 1 or a population that `net` does not have.
    """
    checks.whole(tries, where="tries", low=1, high=1 << 30)
    if risk.population not in {p.name for p in net.populations}:
        raise ValueError(f"the risk is of population {risk.population!r}, which the network lacks")
    rng = np.random.default_rng(seed)
    sign = 1 if risk.bound > 0 else -1
    batch = _first_guesses(net, risk, sign, rng)[:, : min(BATCH, tries)]
    best, done = None, 0
    while True:
        reached = _course(net, risk, batch)  # [T, B]
        done += batch.shape[1]
        at = int((sign * reached).max(0).argmax())
        step = int((sign * reached[:, at]).argmax())
        if best is None or sign * int(reached[step, at]) > sign * best.reached:
            best = Witness(
                risk=risk, x=batch[:, at : at + 1].copy(), reached=int(reached[step, at]),
                step=step, tries=done,
            )  # fmt: skip
        best = Witness(risk=risk, x=best.x, reached=best.reached, step=best.step, tries=done)
        if best.happens or done >= tries:
            return best
        batch = _mutated(best.x, net.input.largest, min(BATCH, tries - done), rng)


def _course(net: FixedNet, risk: Risk, x: Ints) -> Ints:
    """int64 [T, B]: the quantity of `risk` in its neuron in every step, before wrap, clip and
    reset, of inputs [T, B, *shape]."""
    trace = reference.run(net, x)
    population, part = net.population(risk.population), trace[risk.population]
    sums = [
        (p.synapse, _plain_sum(p, net.shape_of(p.source), _sent(net, trace, x, p), risk.neuron))
        for p in net.incoming(risk.population)
    ]
    steps, samples = x.shape[:2]
    if risk.quantity == "a":
        every = np.stack([total for _, total in sums])
        return np.asarray(np.take_along_axis(every, abs(every).argmax(0)[None], 0)[0])
    a = np.zeros((steps, samples), np.int64)
    for synapse, total in sums:
        w_exp = synapse.w_exp if isinstance(synapse, Dense) else 0
        a += total << w_exp if w_exp >= 0 else total >> -w_exp
    if risk.quantity == "sum":
        return a
    keep_u, keep_v = (
        np.broadcast_to(keep, (population.size,))[risk.neuron]
        for keep in (population.keep_u, population.keep_v)
    )
    assert part.u is not None
    assert part.v is not None  # the reference records
    u, v = (state[:, :, risk.neuron].astype(np.int64) for state in (part.u, part.v))
    start = np.broadcast_to(population.v_init, (population.size,))[risk.neuron]
    u_before = np.concatenate([np.zeros((1, samples), np.int64), u[:-1]])
    u_raw = shift_to_zero(u_before, keep_u) + (a << STATE_SHIFT)
    if risk.quantity == "u":
        return np.asarray(u_raw)
    bias = np.broadcast_to(population.bias_shifted, (population.size,))[risk.neuron]
    if risk.quantity == "drive":
        return np.asarray(u + bias)
    v_before = np.concatenate([np.full((1, samples), start, np.int64), v[:-1]])
    return np.asarray(shift_to_zero(v_before, keep_v) + u + bias)


def _sent(net: FixedNet, trace: Trace, x: Ints, projection: Projection) -> Ints:
    """What arrives at `projection` [T, B, *shape], its delay applied."""
    source = projection.source
    values = x if source == "input" else trace[source].spikes.astype(np.int64)
    values = values.reshape(*x.shape[:2], *net.shape_of(source))
    late = np.zeros_like(values)
    kept = len(values) - projection.delay
    if kept > 0:
        late[projection.delay :] = values[:kept]
    return late


def _plain_sum(projection: Projection, shape: Shape, sent: Ints, neuron: int) -> Ints:
    """int64 [T, B]: the sum of one target neuron before any exponent or wrap."""
    row = _row(projection, shape, neuron).astype(np.int64)
    return np.asarray(sent.reshape(*sent.shape[:2], -1) @ row.reshape(-1))


def _row(projection: Projection, shape: Shape, neuron: int) -> Floats:
    """The weights [*shape] through which `neuron` of the target sees the source."""
    unit = np.zeros(int(np.prod(projection.synapse.output_shape(shape))))
    unit[neuron] = 1.0
    return _backwards(projection, shape, unit)


def _backwards(projection: Projection, shape: Shape, relevance: Floats) -> Floats:
    """Relevance [n_out] of target neurons carried to the source [*shape] by the weights."""
    part = lowered(projection.synapse, shape)
    if isinstance(part, Dense):
        found: Floats = relevance @ part.w_chip
        return found.reshape(shape)
    conv = FloatConv2d(w=part.w.astype(np.float64), geometry=part.geometry)
    rows = relevance.reshape(1, *conv.output_shape(shape))
    found = conv_adjoint(conv, rows, shape)[0]
    return found


def _first_guesses(net: FixedNet, risk: Risk, sign: int, rng: np.random.Generator) -> Ints:
    """Inputs [T, B, *shape]: what the weights ask for, everything, nothing, and noise."""
    wanted = _asked_for(net, risk, sign) > 0
    shape, largest = net.input.shape, net.input.largest
    guesses = np.zeros((net.steps, BATCH, *shape), np.int64)
    guesses[:, 0] = wanted * largest
    guesses[:, 1] = largest
    for i in range(3, BATCH):
        noise = rng.random((net.steps, *shape)) < rng.random()
        guesses[:, i] = (noise if i % 2 else noise ^ wanted) * largest
    return guesses


def _asked_for(net: FixedNet, risk: Risk, sign: int) -> Floats:
    """Relevance [*shape] of the inputs: the neuron's row carried back along every path."""
    relevance = {p.name: np.zeros(p.size) for p in net.populations}
    total = np.zeros(net.input.shape)
    relevance[risk.population][risk.neuron] = sign
    for population in reversed(net.populations):
        here = relevance[population.name]
        top = np.abs(here).max()
        if not top:
            continue
        for p in net.incoming(population.name):
            back = _backwards(p, net.shape_of(p.source), here / top)
            if p.source == "input":
                total += back
            else:
                relevance[p.source] += back.reshape(-1)
    return total


def _mutated(x: Ints, largest: int, count: int, rng: np.random.Generator) -> Ints:
    """`count` changed copies of x [T, 1, *shape]: entries, whole steps or whole inputs flipped."""
    batch = np.repeat(x, count, axis=1)
    for i in range(count):
        share = 10.0 ** rng.uniform(-3, -0.3)
        kind = i % 3
        shape = [x.shape, (len(x), *[1] * (x.ndim - 1)), (1, *x.shape[1:])][kind]
        flip = rng.random(shape) < share
        changed = np.where(flip, rng.choice([0, largest], shape), x)
        batch[:, i] = changed[:, 0]
    return batch
