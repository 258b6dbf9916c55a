"""Proof that the state of a FixedNet stays inside 24 bits, or the neuron that can leave it.

Interval arithmetic over integers: every quantity below is a monotone function of the synaptic sum
and of the state before it, so pushing the two ends of an interval through one tick gives the two
ends after it. Borders of a convolution are ignored (each neuron is credited with the whole
kernel), which can only widen the interval. All legal inputs are covered, for `net.steps` steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import DECAY_ONE, DU_OFFSET, STATE_SHIFT, U_LIMIT, V_LIMIT, shift_to_zero
from spikeport.sim.floating import conv_adjoint
from spikeport.sim.net import FixedNet, Population, Projection
from spikeport.sim.synapse import Dense, FloatConv2d, Shape, lowered

Ints = NDArray[np.int64]

INT32 = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Lowest and highest value a neuron, int64 [n], both attainable or beyond what is."""

    low: Ints
    high: Ints

    def join(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(low=np.minimum(self.low, other.low), high=np.maximum(self.high, other.high))

    def __add__(self, other: Interval) -> Interval:
        return Interval(low=self.low + other.low, high=self.high + other.high)

    @property
    def largest(self) -> Ints:
        """Largest magnitude a neuron."""
        return np.maximum(abs(self.low), abs(self.high))


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Bounds of one population over all steps. `a`: sum of all projections. `raw`: largest
    magnitude of one projection's sum before its weight exponent, with `raw_limit`. `u`: current.
    `v`: potential after leak, current and bias, before clip and reset."""

    a: Interval
    raw: Ints
    raw_limit: int
    u: Interval
    v: Interval


@dataclass(frozen=True, kw_only=True)
class Risk:
    """One quantity that a legal input may drive past its limit; the worst neuron stands for all."""

    population: str
    neuron: int
    quantity: str  # "a", "u", "v" or "readout"
    bound: int
    limit: int
    neurons: int  # how many neurons of the population are concerned

    @property
    def factor(self) -> float:
        """By how much the scale is too large."""
        return abs(self.bound) / self.limit

    def __str__(self) -> str:
        event = {
            "a": "the synaptic sum can wrap",
            "u": "u can wrap",
            "v": "v can clip",
            "readout": "the readout can reach its threshold",
        }[self.quantity]
        return (
            f"population {self.population!r}: {event} in neuron {self.neuron}"
            f" ({self.neurons} in all): it may reach {self.bound}, the limit is {self.limit};"
            f" lower the scale of its weights by {self.factor:.3g} or run fewer steps"
        )


def bounds(net: FixedNet) -> dict[str, Bound]:
    """Sound bounds of every population of `net` over `net.steps` steps of any legal input."""
    result = {}
    for population in net.populations:
        sources = [
            (p, net.shape_of(p.source), net.input.largest if p.source == "input" else 1)
            for p in net.incoming(population.name)
        ]
        result[population.name] = population_bound(population, sources, steps=net.steps)
    return result


def prove(net: FixedNet) -> list[Risk]:
    """Risks of `net`; an empty list is a proof that no u wraps, no v clips, no last_v readout
    fires, whatever the input."""
    found = []
    for name, bound in bounds(net).items():
        population = net.population(name)
        read = net.readout.kind == "last_v" and net.readout.population == name
        silent = read and bool((population.v_th == net.chip.v_th_max).all())
        found += risks(population, bound, silent=silent)
    return found


def population_bound(
    population: Population, sources: Iterable[tuple[Projection, Shape, int]], *, steps: int
) -> Bound:
    """Bounds of one population from its projections, each with its source's shape and largest
    value in one step (smallest is 0)."""
    zero = np.zeros(population.size, np.int64)
    a, raw, raw_limit = Interval(low=zero, high=zero), zero, INT32
    for projection, shape, largest in sources:
        total = _sum_interval(projection, shape, largest)
        raw = np.maximum(raw, total.largest)
        w_exp = projection.synapse.w_exp if isinstance(projection.synapse, Dense) else None
        if w_exp is None:
            raw_limit = min(raw_limit, U_LIMIT - 1)
        elif w_exp > 0:
            raw_limit = min(raw_limit, INT32 >> w_exp)
        a = a + _shifted(total, w_exp or 0)
    u, v = _state(population, a, steps=steps)
    return Bound(a=a, raw=raw, raw_limit=raw_limit, u=u, v=v)


def _sum_interval(projection: Projection, source: Shape, largest: int) -> Interval:
    synapse = lowered(projection.synapse, source)
    if isinstance(synapse, Dense):
        w, each = synapse.w_chip, 1
    else:
        w = synapse.w.astype(np.int64).reshape(len(synapse.w), -1)
        each = int(np.prod(synapse.output_shape(source)[1:]))
    return Interval(
        low=np.repeat(np.minimum(w, 0).sum(1) * largest, each),
        high=np.repeat(np.maximum(w, 0).sum(1) * largest, each),
    )


def _shifted(total: Interval, w_exp: int) -> Interval:
    if w_exp >= 0:
        return Interval(low=total.low << w_exp, high=total.high << w_exp)
    return Interval(low=total.low >> -w_exp, high=total.high >> -w_exp)


def _state(population: Population, a: Interval, *, steps: int) -> tuple[Interval, Interval]:
    """Hulls of u and of v before the reset, stepping the interval until it stands still."""
    p, zero = population, np.zeros(population.size, np.int64)
    keep_u = DECAY_ONE - DU_OFFSET - p.du.astype(np.int64)
    keep_v = DECAY_ONE - p.dv.astype(np.int64)
    threshold = p.v_th.astype(np.int64) << STATE_SHIFT
    drive = Interval(low=a.low << STATE_SHIFT, high=a.high << STATE_SHIFT)
    bias = Interval(low=zero + p.bias_shifted, high=zero + p.bias_shifted)
    u = u_hull = Interval(low=zero, high=zero)
    v = Interval(low=zero + p.v_init, high=zero + p.v_init)
    v_hull: Interval | None = None
    for _ in range(steps):
        before = (u, v)
        u = _leak(u, keep_u) + drive
        fired = _leak(v, keep_v) + u + bias
        u_hull = u_hull.join(u)
        v_hull = fired if v_hull is None else v_hull.join(fired)
        v = _after_reset(fired, threshold, reset=p.reset)
        if all(_same(x, y) for x, y in zip(before, (u, v), strict=True)):
            break
        # Past the 24 bits the proof has failed already; stop before 64 bits are not enough.
        if max(u.largest.max(), fired.largest.max()) >> 40:
            break
    assert v_hull is not None  # a net has at least one step
    return u_hull, v_hull


def _leak(x: Interval, keep: Ints) -> Interval:
    return Interval(low=shift_to_zero(x.low, keep), high=shift_to_zero(x.high, keep))


def _after_reset(fired: Interval, threshold: Ints, *, reset: str) -> Interval:
    """A neuron that does not fire stays at or below its threshold; one that does drops to zero,
    or by its threshold."""
    can_fire = fired.high > threshold
    high = np.minimum(fired.high, threshold)
    if reset == "subtract":
        high = np.maximum(high, fired.high - threshold)
    low = np.where(can_fire, np.minimum(fired.low, 0), fired.low)
    return Interval(low=low, high=np.where(can_fire, high, fired.high))


def _same(x: Interval, y: Interval) -> bool:
    return np.array_equal(x.low, y.low) and np.array_equal(x.high, y.high)


def risks(population: Population, bound: Bound, *, silent: bool) -> list[Risk]:
    """What can go wrong in one population. silent: it is read as a potential and must not fire."""
    checks = [
        ("a", bound.raw, bound.raw_limit),
        ("u", _signed(bound.u), U_LIMIT - 1),
        ("v", _signed(bound.v), V_LIMIT),
    ]
    if silent:
        threshold = int(population.v_th.min()) << STATE_SHIFT
        checks.append(("readout", bound.v.high, max(threshold, 1)))
    found = []
    for quantity, value, limit in checks:
        over = abs(value) > limit if quantity != "readout" else value > limit
        if over.any():
            worst = int(np.argmax(np.where(over, abs(value), -1)))
            found.append(
                Risk(
                    population=population.name, neuron=worst, quantity=quantity,
                    bound=int(value[worst]), limit=limit, neurons=int(over.sum()),
                )
            )  # fmt: skip
    return found


def _signed(interval: Interval) -> Ints:
    """The end of larger magnitude, with its sign."""
    return np.where(abs(interval.low) > abs(interval.high), interval.low, interval.high)


def worst_input(net: FixedNet, risk: Risk) -> Ints:
    """An input [steps, 1, *input.shape] that drives the neuron of `risk` furthest.

    Raises ValueError when the population is not fed by the input alone: what its sources can be
    made to emit together is not known.
    """
    incoming = net.incoming(risk.population)
    if len(incoming) != 1 or incoming[0].source != "input":
        raise ValueError(
            f"population {risk.population!r} is not fed by the input alone; a worst input is known"
            " for first layers only"
        )
    shape = net.input.shape
    synapse = lowered(incoming[0].synapse, shape)
    if isinstance(synapse, Dense):
        row = synapse.w_chip[risk.neuron].astype(np.float64)
    else:
        unit = np.zeros((1, *synapse.output_shape(shape)))
        unit.flat[risk.neuron] = 1.0
        conv = FloatConv2d(w=synapse.w.astype(np.float64), geometry=synapse.geometry)
        row = conv_adjoint(conv, unit, shape)[0]
    wanted = row > 0 if risk.bound > 0 else row < 0
    x = wanted.reshape(shape).astype(np.int64) * net.input.largest
    return np.broadcast_to(x, (net.steps, 1, *shape)).copy()
