"""Single weights whose change would explain a record.

A weight w of a projection adds d to the sums in the steps in which its source was active. To first
order the potential answers linearly; that bounds d for all weights of a neuron (or of an output
channel of a convolution) in one pass, with room for rounding. The few that remain are searched for
exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf, log2

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import DECAY_ONE, DU_OFFSET, STATE_SHIFT, WEIGHT_LIMIT, wrap_int32
from spikeport.sim.divergence.forced import (
    EQUAL,
    Case,
    Columns,
    Ints,
    arrival,
    play,
    raw_sum,
    shifted,
)
from spikeport.sim.divergence.solve import FEW, Items, change_bits, interval
from spikeport.sim.divergence.variant import Variant
from spikeport.sim.reference import delivered
from spikeport.sim.synapse import Conv2d, Dense, SumPool2d, lowered

Floats = NDArray[np.float64]
CANDIDATES = 24  # weights of a neuron that are searched for exactly
SEARCHED = 1 << 13  # columns of all of them together


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Weight `index` of projection `at` changed by low..high; the arrivals [T, c] with the middle
    of it in `columns`; bits over all weights that would do; `rivals` of them."""

    at: int
    index: tuple[int, ...]
    was: int
    low: int
    high: int
    a: Ints
    columns: Ints
    bits: float
    rivals: int


def single_weights(case: Case, differing: Ints) -> Iterator[Variant]:
    """One changed weight for every neuron (dense) or output channel (conv) that differs."""
    area = int(np.prod(case.population.shape[1:]))
    is_conv = any(isinstance(p.synapse, Conv2d) for p, _ in case.sources)
    per_group = area if is_conv else 1
    groups = np.unique(differing // per_group)
    if len(groups) > FEW:
        return
    a, found = case.a.copy(), []
    for group in groups:
        columns = np.flatnonzero(case.neuron // per_group == group)
        mine = differing[differing // per_group == group]
        options = [
            option
            for at in range(len(case.sources))
            if (option := _of_projection(case, mine, at, columns=columns)) is not None
        ]
        if not options:
            return
        best = min(options, key=lambda option: option.bits)
        a[:, best.columns] = best.a
        found.append(best)
    bits = sum(f.bits for f in found) + 1.0 + len(found) * log2(case.size[1] / per_group)
    yield Variant(
        cause="weight", text="; ".join(_text(case, f) for f in found), bits=bits, rule=case.rule,
        arrive=lambda: a, numbers={"weights": [_numbers(case, f) for f in found]},
    )  # fmt: skip


def _numbers(case: Case, f: _Found) -> dict[str, object]:
    p = case.sources[f.at][0]
    return {"source": p.source, "index": list(f.index), "was": f.was, "low": f.was + f.low,
            "high": f.was + f.high, "alternatives": f.rivals}  # fmt: skip


def _text(case: Case, f: _Found) -> str:
    p = case.sources[f.at][0]
    span = str(f.was + f.low) if f.low == f.high else f"{f.was + f.low}..{f.was + f.high}"
    rivals = f" (or one of {f.rivals} other weights)" if f.rivals else ""
    where = f"weight {list(f.index)} of {p.source!r} -> {p.target!r}"
    return f"{where} is {span} instead of {f.was}{rivals}"


def _of_projection(case: Case, neurons: Ints, at: int, *, columns: Ints) -> _Found | None:
    """The best single weight of projection `at` that explains the differing `neurons`; a weight of
    a convolution must leave all `columns` of its channel right."""
    p, s = case.sources[at]
    if isinstance(p.synapse, SumPool2d):
        return None  # its one weight is in the list of known mistakes
    if isinstance(p.synapse, Dense):
        if len(neurons) > 1:
            return None
        columns = columns[case.neuron[columns] == neurons[0]]
    rows = np.unique(case.neuron[columns])
    area = int(np.prod(case.population.shape[1:]))  # 1 for a flat population
    few, weights = case.at(columns), _row(p.synapse, int(rows[0]), area=area)
    active = shifted(_activity(p.synapse, s, rows=rows, area=area), p.delay)  # [T, c, K]
    low, high = _linear(few, active, unit=2.0 ** getattr(p.synapse, "w_exp", 0))
    low = np.maximum(low, -WEIGHT_LIMIT - weights)
    high = np.minimum(high, WEIGHT_LIMIT - 1 - weights)
    tried = max(3, min(CANDIDATES, SEARCHED // len(columns)))
    possible = np.flatnonzero((low <= high) & ~((low > -0.5) & (high < 0.5)))
    possible = possible[np.argsort(low[possible] - high[possible], kind="stable")][:tried]
    if not len(possible):
        # Where v was clipped it does not answer linearly; a small neuron is searched whole.
        possible = np.arange(len(weights))[:tried]
        low, high = (np.float64(end) - weights for end in (-WEIGHT_LIMIT, WEIGHT_LIMIT - 1))
    size = len(columns)
    own = np.tile(np.arange(size), len(possible))
    items = Items(
        start=np.arange(len(possible)) * size,
        apply=_Change(case, columns, at, active=active[:, :, possible]),
        low=np.floor(low[possible]).astype(np.int64), high=np.ceil(high[possible]).astype(np.int64),
    )  # fmt: skip
    least, most = interval(few.at(own), items)
    bits = np.array([
        change_bits(int(x), int(y), top=2 * WEIGHT_LIMIT) for x, y in zip(least, most, strict=True)
    ])  # fmt: skip
    if not np.isfinite(bits).any():
        return None
    best = int(bits.argmin())
    middle = (least[best] + most[best]) // 2
    a, _ = items.apply(np.full((1, len(own)), middle))
    k = int(possible[best])
    return _Found(
        at=at, index=_index(p.synapse, k, row=int(rows[0]), area=area), was=int(weights[k]),
        low=int(least[best]), high=int(most[best]), a=a[:, 0, best * size : (best + 1) * size],
        columns=columns,
        bits=float(-np.log2((2.0**-bits).sum()) + log2(len(weights) * len(case.sources))),
        rivals=int(np.isfinite(bits).sum()) - 1,
    )  # fmt: skip


class _Change:
    """Arrivals [T, K, items * c] when each weight changes; active: [T, c, items]."""

    def __init__(self, case: Case, columns: Ints, at: int, *, active: Ints) -> None:
        steps, count = len(case.s), active.shape[2]
        p, s = case.sources[at]

        def flat(x: Ints) -> Ints:
            return np.tile(x.reshape(steps, -1)[:, columns], count)[:, None]

        others = case.a - arrival(p, s).reshape(steps, -1)
        self.others, self.total = flat(others), flat(shifted(raw_sum(p.synapse, s), p.delay))
        self.active = active.transpose(0, 2, 1).reshape(steps, 1, -1)
        self.part = lowered(p.synapse, s.shape[2:])
        self.columns = case.columns.at(np.tile(columns, count))

    def __call__(self, change: Ints) -> tuple[Ints, Columns]:
        new = delivered(self.part, self.total + change * self.active)
        return np.asarray(wrap_int32(self.others + new)), self.columns


def _linear(case: Case, active: Ints, *, unit: float) -> tuple[Floats, Floats]:
    """Bounds [K] of each weight's change, to first order and with room for rounding."""
    p, count = case.columns, active.shape[2]
    keep_u, keep_v = (DECAY_ONE - DU_OFFSET - p.du) / DECAY_ONE, (DECAY_ONE - p.dv) / DECAY_ONE
    ru, rv = np.zeros((2, case.s.shape[1], count))
    eu, ev = np.zeros((2, case.s.shape[1]))
    low, high = np.full(count, -inf), np.full(count, inf)
    rounding = 1 + (1 << STATE_SHIFT) * (unit < 1)
    subtract = case.rule.reset == "subtract"
    for t, new in enumerate(play(case.a, p, case.rule, forced=case.s)):
        ru = ru * keep_u[:, None] + active[t] * (unit * (1 << STATE_SHIFT))
        rv = rv * keep_v[:, None] + ru
        eu = eu * keep_u + rounding
        ev = ev * keep_v + eu + 1
        gap, fired = p.v_th - new.v_fired, case.s[t]
        least, most = np.where(fired, gap - ev, -inf), np.where(fired, inf, gap + ev)
        if case.v is not None:
            off = case.v[t] - new.v
            known = subtract | ~fired
            least = np.where(known, np.maximum(least, off - ev), least)
            most = np.where(known, np.minimum(most, off + ev), most)
        # What a weight has not touched must be right as it is.
        wrong = (gap >= 0) & fired | (gap < 0) & ~fired
        if case.v is not None:
            wrong |= np.abs(case.v[t] - new.v) > EQUAL
        low, high = _tightened((low, high), rv, least, most=most, wrong=wrong)
        if not subtract:
            rv, ev = rv * ~fired[:, None], ev * ~fired
    return low, high


def _tightened(
    bounds: tuple[Floats, Floats], r: Floats, least: Floats, *, most: Floats,
    wrong: NDArray[np.bool_],
) -> tuple[Floats, Floats]:  # fmt: skip
    """`bounds` [K] with least <= change * r <= most [c] for responses r [c, K]."""
    low, high = bounds
    touched = r > 0
    safe = np.where(touched, r, 1.0)
    low = np.maximum(low, np.where(touched, least[:, None] / safe, -inf).max(0))
    high = np.minimum(high, np.where(touched, most[:, None] / safe, inf).min(0))
    hopeless = (wrong[:, None] & ~touched).any(0)
    return np.where(hopeless, inf, low), np.where(hopeless, -inf, high)


def _row(synapse: Dense | Conv2d, row: int, *, area: int) -> Ints:
    """The weights [K] of neuron `row`, or of its output channel."""
    w = synapse.w_chip[row] if isinstance(synapse, Dense) else synapse.w[row // area]
    return np.asarray(w, np.int64).ravel()


def _index(synapse: Dense | Conv2d, k: int, *, row: int, area: int) -> tuple[int, ...]:
    if isinstance(synapse, Dense):
        return row, k
    inner = np.unravel_index(k, synapse.w.shape[1:])
    return row // area, *(int(i) for i in inner)


def _activity(synapse: Dense | Conv2d, s: Ints, *, rows: Ints, area: int) -> Ints:
    """What each weight of a neuron or channel is multiplied with: [T, samples * rows, K]."""
    steps, batch = s.shape[:2]
    if isinstance(synapse, Dense):
        return s.reshape(steps, batch, -1)
    taps = []
    for k in range(synapse.w[0].size):
        w = np.zeros(synapse.w.shape, np.int64)
        w[rows[0] // area].flat[k] = 1
        sums = raw_sum(replace(synapse, w=w), s)
        taps.append(sums[:, :, rows].reshape(steps, -1))
    return np.stack(taps, axis=-1)
