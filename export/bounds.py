"""Proof that the state of a FixedNet stays inside 24 bits, or the neuron that can leave it.

Interval arithmetic over integers, step by step through the whole net: every quantity below is a
monotone function of the synaptic sum and of the state before it, so pushing the two ends of an
interval through one tick gives the two ends after it. Whether a neuron may or must fire follows
from its threshold and decides what its targets receive, after the projections' delays; loops need
nothing more, because a step depends on earlier ones only. All legal inputs are covered, for
`net.steps` steps.

A proof (no risk anywhere) holds by induction over the steps. Where one population overflows, the
bounds of those behind it are only indicative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport.export.intervals import Emission, Interval, Ints, Wire
from spikeport.sim.arith import STATE_SHIFT, U_LIMIT, V_LIMIT, shift_to_zero
from spikeport.sim.chip import Chip
from spikeport.sim.net import FixedNet, Population

INT32 = (1 << 31) - 1
FAR = 1 << 40  # the proof has failed long before; products with a decay still fit 64 bits


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Bounds of one population over all steps. `a`: sum of all projections. `raw`: largest
    magnitude of one projection's sum before its weight exponent, with `raw_limit`. `u`: current.
    `v`: potential after leak, current and bias, before clip and reset. `spikes`: what it may send
    in each step."""

    a: Interval
    raw: Ints
    raw_limit: int
    u: Interval
    v: Interval
    spikes: Emission

    @property
    def dead(self) -> NDArray[np.bool_]:
        """bool [n]: neurons that no legal input makes fire."""
        can = [sent.high for sent in self.spikes.values]
        return np.asarray(~np.any(can, axis=0))


@dataclass(frozen=True, kw_only=True)
class Risk:
    """One quantity that a legal input may drive past its limit; the worst neuron stands for all.

    `spikeport.export.witness.worst_input` looks for an input that really does.
    """

    population: str
    neuron: int
    quantity: str  # "a", "sum", "u", "drive" (u and bias), "v" or "readout"
    bound: int
    limit: int
    neurons: int  # how many neurons of the population are concerned

    @property
    def factor(self) -> float:
        """By how much the scale is too large; of a limit of 0, the bound."""
        return abs(self.bound) / max(self.limit, 1)

    def __str__(self) -> str:
        event = {
            "a": "the synaptic sum can wrap",
            "sum": "what arrives in one step can wrap",
            "u": "u can wrap",
            "drive": "u and bias together can wrap",
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
    sent = {"input": Emission.always(net.input.size, largest=net.input.largest)}
    sent |= {p.name: Emission(size=p.size) for p in net.populations}
    courses = {
        p.name: Course(
            p,
            [
                Wire(q, shape=net.shape_of(q.source), emission=sent[q.source])
                for q in net.incoming(p.name)
            ],
            emission=sent[p.name],
        )
        for p in net.populations
    }
    for step in range(net.steps):
        for course in courses.values():
            course.advance(step)
    return {name: course.bound() for name, course in courses.items()}


def prove(net: FixedNet) -> list[Risk]:
    """Risks of `net` on its chip; an empty list is a proof that no sum and no u wraps, without its
    bias and with it, no v clips and no readout of potentials fires, whatever the input."""
    return risks_of(net, bounds(net))


def risks_of(net: FixedNet, found_bounds: Mapping[str, Bound]) -> list[Risk]:
    """What `prove` says, from the bounds of `net`."""
    found = []
    for name, bound in found_bounds.items():
        population = net.population(name)
        read = net.readout.of_potentials and net.readout.population == name
        silent = read and bool((population.v_th == net.chip.v_th_max).all())
        found += risks(population, bound, chip=net.chip, silent=silent)
    return found


def population_bound(
    population: Population, wires: Iterable[Wire], *, steps: int, emission: Emission
) -> Bound:
    """Bounds of one population whose sources' emissions are known; `emission` becomes its own and
    may feed one of the wires."""
    course = Course(population, list(wires), emission=emission)
    for step in range(steps):
        course.advance(step)
    return course.bound()


class Course:
    """One population's intervals, step by step, with the hulls of all steps so far."""

    def __init__(self, population: Population, wires: list[Wire], *, emission: Emission) -> None:
        p, self.zero = population, np.zeros(population.size, np.int64)
        self.wires, self.emission, self.reset = wires, emission, p.reset
        self.keep_u, self.keep_v = p.keep_u, p.keep_v
        self.threshold = p.v_th.astype(np.int64) << STATE_SHIFT
        self.bias = Interval(low=self.zero + p.bias_shifted, high=self.zero + p.bias_shifted)
        self.u = Interval(low=self.zero, high=self.zero)
        self.v = Interval(low=self.zero + p.v_init, high=self.zero + p.v_init)
        self.hulls: tuple[Interval, Interval, Interval] | None = None  # of a, u and v
        self.raw = self.zero
        self._arrived: list[Interval] | None = None
        self._still = False

    def advance(self, step: int) -> None:
        """One step; free when nothing has changed since the one before."""
        arrived = [wire.at(step) for wire in self.wires]
        before = self._arrived or []
        unchanged = len(before) == len(arrived) and all(
            x is y for x, y in zip(arrived, before, strict=True)
        )
        if unchanged and self._still:
            return
        if not unchanged or self._arrived is None:
            self._arrived = arrived
            self.a = Interval(low=self.zero, high=self.zero)
            for wire, part in zip(self.wires, arrived, strict=True):
                self.a += part
                self.raw = np.maximum(self.raw, wire.raw.largest)
        u = _near(_leak(self.u, self.keep_u) + (self.a << STATE_SHIFT))
        fired = _near(_leak(self.v, self.keep_v) + u + self.bias)
        found = self.a, u, fired
        hulls = self.hulls or found
        self.hulls = hulls[0].join(self.a), hulls[1].join(u), hulls[2].join(fired)
        must, can = fired.low > self.threshold, fired.high > self.threshold
        self.emission.extend(step, Interval(low=must.astype(np.int64), high=can.astype(np.int64)))
        v = _after_reset(fired, self.threshold, must=must, can=can, reset=self.reset)
        self._still = self.u.same(u) and self.v.same(v)
        self.u, self.v = u, v

    def bound(self) -> Bound:
        """The hulls of the steps so far, one or more."""
        assert self.hulls is not None  # a net has at least one step
        limits = [INT32]
        for wire in self.wires:
            # A convolution's sum wraps at 24 bits; a dense one at 32, before and after its shift.
            limits.append(INT32 >> max(wire.w_exp, 0) if wire.exponent else U_LIMIT - 1)
        a, u, v = self.hulls
        return Bound(a=a, raw=self.raw, raw_limit=min(limits), u=u, v=v, spikes=self.emission)


def _near(x: Interval) -> Interval:
    if x.low.min() > -FAR and x.high.max() < FAR:
        return x
    return Interval(low=x.low.clip(-FAR, FAR), high=x.high.clip(-FAR, FAR))


def _leak(x: Interval, keep: Ints) -> Interval:
    if not keep.any():
        return Interval(low=np.zeros_like(x.low), high=np.zeros_like(x.high))
    return Interval(low=shift_to_zero(x.low, keep), high=shift_to_zero(x.high, keep))


def _after_reset(
    fired: Interval,
    threshold: Ints,
    *,
    must: NDArray[np.bool_],
    can: NDArray[np.bool_],
    reset: str,
) -> Interval:
    """A neuron that does not fire stays at or below its threshold; one that does drops to zero,
    or by its threshold, which leaves it above zero."""
    low, high = fired.low, np.minimum(fired.high, threshold)
    if reset == "subtract":
        high = np.where(can, np.maximum(high, fired.high - threshold), high)
        low = np.where(can, np.minimum(low, 1), low)
        low = np.where(must, fired.low - threshold, low)
        return Interval(low=low, high=np.where(must, fired.high - threshold, high))
    low = np.where(must, 0, np.where(can, np.minimum(low, 0), low))
    return Interval(low=low, high=np.where(must, 0, high))


def risks(population: Population, bound: Bound, *, chip: Chip, silent: bool) -> list[Risk]:
    """What can go wrong in one population on `chip`. silent: it is read as a potential and must not
    fire."""
    bias = Interval(low=population.bias_shifted, high=population.bias_shifted)
    checks = [
        ("a", bound.raw, bound.raw_limit),
        ("sum", _signed(bound.a), chip.sum_max),
        ("u", _signed(bound.u), U_LIMIT - 1),
        ("drive", _signed(bound.u + bias), chip.drive_max),
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
