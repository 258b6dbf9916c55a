"""One population driven with recorded spikes, so that errors before it do not count.

A `Case` is a population with what arrives at it from the recorded spikes of its sources, and what
was recorded of itself. Neurons of different samples do not meet, hence everything is kept as
columns: one per sample and neuron, [T, C]. `play` runs columns, several variations at a time,
under the chip's rule (`spikeport.sim.lif`) or under another `Rule` that is often met by mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import (
    DECAY_ONE,
    DU_OFFSET,
    STATE_SHIFT,
    shift_to_zero,
    wrap_int32,
    wrap_u,
)
from spikeport.sim.lif import LifParameters, tick
from spikeport.sim.net import FixedNet, Population, Projection
from spikeport.sim.reference import conv_sum, delivered
from spikeport.sim.synapse import Dense, Synapse, lowered

Ints = NDArray[np.int64]
STATE_BITS = 23
EQUAL = 1e-3  # recorded u and v closer than this to ours are the same number


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a step is computed; the defaults are the chip's, but for the reset.

    ties: the comparison is >=. reset: "zero", "subtract" or "none". late: it acts on the next
    step's potential, after that step's input. clears_u: it empties the current too. before: v is
    recorded before the reset. u, v: what happens beyond 2**bits, as ("wrap", "clip" or "none",
    bits). exact: nothing is rounded.
    """

    ties: bool = False
    reset: str = "zero"
    late: bool = False
    clears_u: bool = False
    before: bool = False
    u: tuple[str, int] = ("wrap", STATE_BITS)
    v: tuple[str, int] = ("clip", STATE_BITS)
    exact: bool = False

    @property
    def chip_arithmetic(self) -> bool:
        return not self.exact and (self.u, self.v) == (Rule.u, Rule.v)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Parameters of columns, int64 broadcasting to [..., C]; v_th and v_init in units of v."""

    du: Ints
    dv: Ints
    v_th: Ints
    bias: Ints
    v_init: Ints

    def at(self, columns: Ints) -> Columns:
        """Those of `columns` only."""
        return Columns(**{f.name: getattr(self, f.name)[..., columns] for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Step:
    """State after one step, [..., C]: u, v, v_fired (before the reset), spikes s as bool."""

    u: NDArray[Any]
    v: NDArray[Any]
    v_fired: NDArray[Any]
    s: NDArray[np.bool_]


def play(
    a: Ints, p: Columns, rule: Rule, *, forced: NDArray[np.bool_] | None = None
) -> Iterator[Step]:
    """Every step of columns with arrivals a [T, ..., C]; with `forced` spikes [T, C] the resets
    are those of the record."""
    u: NDArray[Any] = np.zeros(a.shape[1:], np.int64)
    v = p.v_init + u
    fired = np.zeros(a.shape[1:], bool)
    for t in range(len(a)):
        u, v_fired = _advance(u, v, a[t], p, rule=rule)
        if rule.late:
            v_fired = _reset(v_fired, fired, p, rule=rule)
        s = v_fired >= p.v_th if rule.ties else v_fired > p.v_th
        fired = s if forced is None else forced[t]
        v = v_fired if rule.late else _reset(v_fired, fired, p, rule=rule)
        if rule.clears_u:
            u = u * ~fired
        yield Step(u=u, v=v, v_fired=v_fired, s=s)


def _reset(v: NDArray[Any], s: NDArray[np.bool_], p: Columns, *, rule: Rule) -> NDArray[Any]:
    if rule.reset == "zero":
        return v * ~s
    return v - s * p.v_th if rule.reset == "subtract" else v


def _advance(
    u: NDArray[Any], v: NDArray[Any], a: Ints, p: Columns, *, rule: Rule
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Current and potential before the comparison."""
    if rule.chip_arithmetic:
        new = tick(u, v, a, LifParameters(du=p.du, dv=p.dv, v_th=0, bias=p.bias))
        return new.u, new.v_fired
    keep_u, keep_v = DECAY_ONE - DU_OFFSET - p.du, DECAY_ONE - p.dv
    if rule.exact:
        kept_u, kept_v = u * keep_u / DECAY_ONE, v * keep_v / DECAY_ONE
    else:
        kept_u, kept_v = shift_to_zero(u, keep_u), shift_to_zero(v, keep_v)
    u = limited(kept_u + (a << STATE_SHIFT), rule.u)
    return u, limited(kept_v + u + p.bias, rule.v)


def limited(x: NDArray[Any], limit: tuple[str, int]) -> NDArray[Any]:
    """`x` wrapped into, clipped to, or left alone beyond +-2**bits, as `limit` says."""
    kind, bits = limit
    if kind == "none":
        return x
    top = 1 << bits
    if kind == "clip":
        return x.clip(1 - top, top - 1)
    return wrap_u(x) if bits == STATE_BITS else (x + top) % (2 * top) - top


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A population, the recorded values of its sources, and what was recorded of itself.

    sources: each projection with values int64 [T, B, *shape]. a: arrivals [T, C]. s, u, v: the
    record [T, C], u and v None where unknown. neuron: [C]. size: (samples, neurons).
    """

    population: Population
    sources: tuple[tuple[Projection, Ints], ...]
    a: Ints
    columns: Columns
    s: NDArray[np.bool_]
    u: NDArray[Any] | None
    v: NDArray[Any] | None
    neuron: Ints
    size: tuple[int, int]

    @property
    def rule(self) -> Rule:
        return Rule(reset=self.population.reset)

    def at(self, columns: Ints) -> Case:
        """Those of `columns` only."""
        u, v = (None if x is None else x[:, columns] for x in (self.u, self.v))
        return replace(
            self, a=self.a[:, columns], columns=self.columns.at(columns), s=self.s[:, columns],
            u=u, v=v, neuron=self.neuron[columns],
        )  # fmt: skip

    def of_samples(self, samples: Ints) -> Case:
        """Those of `samples` only."""
        n = self.size[1]
        part = self.at((samples[:, None] * n + np.arange(n)).ravel())
        sources = tuple((p, s[:, samples]) for p, s in self.sources)
        return replace(part, sources=sources, size=(len(samples), n))


def in_a_row(case: Case) -> Case:
    """The samples of `case` as one long sample [B * T, n], whose state is never reset."""
    batch, n = case.size

    def joined(x: Any) -> Any:
        return None if x is None else x.reshape(-1, batch, n).swapaxes(0, 1).reshape(-1, n)

    return replace(
        case, a=joined(case.a), s=joined(case.s), u=joined(case.u), v=joined(case.v),
        columns=case.columns.at(np.arange(n)), neuron=case.neuron[:n], size=(1, n),
    )  # fmt: skip


def case_of(net: FixedNet, name: str, record: dict[str, NDArray[Any]], *, own: Any) -> Case:
    """The case of population `name`. record: spikes [T, B, n] of all populations and the network
    input; own: the `PopulationTrace` to explain."""
    population = net.population(name)
    steps, batch = own.spikes.shape[:2]
    sources = tuple(
        (p, record[p.source].astype(np.int64).reshape(steps, batch, *net.shape_of(p.source)))
        for p in net.incoming(name)
    )
    size = (batch, population.size)

    def each(value: Any) -> Ints:
        return np.array(np.broadcast_to(value, size), np.int64).ravel()

    def flat(x: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if x is None else x.reshape(steps, -1)

    columns = Columns(
        du=each(population.du), dv=each(population.dv), bias=each(population.bias_shifted),
        v_th=each(population.v_th) << STATE_SHIFT, v_init=each(population.v_init),
    )  # fmt: skip
    return Case(
        population=population, sources=sources, columns=columns, size=size,
        a=arrivals([arrival(p, s) for p, s in sources], steps=steps, columns=batch * size[1]),
        s=own.spikes.reshape(steps, -1) != 0, u=flat(own.u), v=flat(own.v),
        neuron=np.tile(np.arange(size[1]), batch),
    )  # fmt: skip


def arrival(p: Projection, s: Ints, *, delay: int | None = None) -> Ints:
    """What projection `p` delivers [T, B, n] of source values, with its own or another delay."""
    sums = delivered(lowered(p.synapse, s.shape[2:]), raw_sum(p.synapse, s))
    return shifted(sums, p.delay if delay is None else delay)


def raw_sum(synapse: Synapse, s: Ints) -> Ints:
    """Sums [T, B, n] of weights and source values before any shift or wrap."""
    part = lowered(synapse, s.shape[2:])
    if isinstance(part, Dense):
        return product(part.w_chip, s)
    return conv_sum(part, s.reshape(-1, *s.shape[2:])).reshape(*s.shape[:2], -1)


def product(w: Ints, s: Ints) -> Ints:
    """Values [T, B, ...] times a matrix [n, m]. No sum reaches 2**53, where float64, whose products
    are fast, would no longer hold every integer."""
    flat = s.reshape(*s.shape[:2], -1).astype(np.float64)
    return np.asarray(flat @ w.T.astype(np.float64), np.int64)


def shifted(x: Ints, steps: int) -> Ints:
    """`x` [T, ...] that many steps later (earlier where negative), zeros where nothing is known."""
    out = np.zeros_like(x)
    late = min(max(steps, -len(x)), len(x))
    if late >= 0:
        out[late:] = x[: len(x) - late]
    else:
        out[:late] = x[-late:]
    return out


def arrivals(parts: list[Ints], *, steps: int, columns: int) -> Ints:
    """The sum [T, C] of what all projections deliver."""
    total = np.zeros((steps, columns), np.int64)
    for part in parts:
        total += part.reshape(steps, -1)
    return np.asarray(wrap_int32(total))
