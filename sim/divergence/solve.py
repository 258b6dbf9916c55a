"""Parameter values that would explain a record, found by search instead of from a list.

With the resets forced at the recorded spikes, the potential is monotone in a bias, a weight (source
values are not negative) and a negated threshold, so all consistent values form an interval whose
ends are found by bisection, for many neurons or weights at a time. Decays are searched over all
4096 values. The bits of a change d count a share 1/|d| of all changes: small ones are likelier, and
a wide interval is simpler than a narrow one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf, log, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import DECAY_MAX, STATE_SHIFT, V_LIMIT, V_TH_MAX
from spikeport.sim.divergence.forced import EQUAL, Case, Columns, Ints, play
from spikeport.sim.divergence.variant import Variant

GRID = 12  # values tried at a time between two bounds
FEW = 8  # neurons with a cause of their own that one report names
BIAS_MAX = 4096 << 7
# parameter: (cause, largest change, bits that it costs)
OFFSETS = {
    "v_th": ("threshold", V_TH_MAX, 1.0),
    "bias": ("bias", BIAS_MAX, 1.0),
    "v_init": ("start", V_LIMIT, 3.0),
}
SHARED = 3.0  # bits of a single neuron leaving a parameter that it shares with its population
BLOCKS = (1, 8, 64, 512)  # columns on which decays are tried, one after the other
LARGE = 1 << 21  # values of one variation block


@dataclass(frozen=True, kw_only=True)
class Items:
    """Unknowns, each with columns of its own. start: first column of each item. apply: arrivals
    and parameters [K, C] under changes [K, C]. low, high: range of each item's change."""

    start: Ints
    apply: Callable[[Ints], tuple[Ints, Columns]]
    low: Ints
    high: Ints


def interval(case: Case, items: Items) -> tuple[Ints, Ints]:
    """Lowest and highest change of each item that agrees with the record (low > high: none)."""
    low = np.stack([items.low, items.high + 1])  # (least that may do, least known to do)
    high = np.stack([items.high, items.low - 1])  # (most that may do, most known to do)
    sizes = np.diff(np.append(items.start, case.s.shape[1]))
    steps = np.arange(GRID)[:, None]
    while (low[0] != low[1]).any() or (high[0] != high[1]).any():
        tries = [end[0] + (end[1] - end[0]) * steps // GRID for end in (low, -high)]
        tries[1] *= -1
        changes = np.repeat(np.concatenate(tries), sizes, axis=1)
        enough, little = _bounds(case, items, changes)
        low = _narrowed(low, tries[0], enough[:GRID], step=1)
        high = _narrowed(high, tries[1], little[GRID:], step=-1)
    return low[1], high[1]


def _narrowed(end: Ints, tries: Ints, holds: NDArray[np.bool_], *, step: int) -> Ints:
    """An end of an interval, (open, known), after `tries` [K, items] from the open side on."""
    first = np.where(holds.any(0), holds.argmax(0), len(tries))
    item = np.arange(tries.shape[1])
    known = np.where(first < len(tries), tries[np.minimum(first, len(tries) - 1), item], end[1])
    passed = np.where(first > 0, tries[first - 1, item] + step, end[0])
    return np.where(end[0] == end[1], end, np.stack([passed, known]))


def _bounds(case: Case, items: Items, changes: Ints) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For changes [K, C]: is each item's change large enough, and small enough? [K, items]."""
    a, p = items.apply(changes)
    enough, little = np.ones((2, *changes.shape), bool)
    for t, new in enumerate(play(a, p, case.rule, forced=case.s)):
        enough &= new.s | ~case.s[t]
        little &= ~new.s | case.s[t]
        if case.v is not None:
            off = new.v - case.v[t]
            enough &= off >= -EQUAL
            little &= off <= EQUAL
    return (
        np.logical_and.reduceat(enough, items.start, axis=1),
        np.logical_and.reduceat(little, items.start, axis=1),
    )


def change_bits(low: int, high: int, *, top: int) -> float:
    """Bits of a change in low..high (0 is none) where +-top are possible."""
    if low > high:
        return inf
    mass = _share(max(low, 1), high) + _share(max(-high, 1), -low)
    return -log2(mass / (2 * log(2 * top + 1))) if mass > 0 else inf


def _share(low: int, high: int) -> float:
    return log((high + 0.5) / (low - 0.5)) if high >= low else 0.0


def parameters(case: Case, differing: Ints) -> Iterator[Variant]:
    """Thresholds, biases, initial potentials and decays that explain the record. differing: neurons
    that differ."""
    for name in OFFSETS:
        yield from _offsets(case, differing, name=name)
    for name in ("du", "dv"):
        yield from _decay(case, differing, name=name)


def _grouped(case: Case, neurons: Ints) -> tuple[Ints, Ints]:
    """Columns of `neurons`, sorted by neuron, and where each neuron's start."""
    columns = np.flatnonzero(np.isin(case.neuron, neurons))
    columns = columns[np.argsort(case.neuron[columns], kind="stable")]
    return columns, np.flatnonzero(np.diff(case.neuron[columns], prepend=-1))


def _offsets(case: Case, differing: Ints, *, name: str) -> Iterator[Variant]:
    """One change of a parameter for all neurons, or one for each that differs."""
    columns, start = _grouped(case, differing[:FEW])
    few = case.at(columns)
    low, high = interval(few, _offset_items(few, start, name=name))
    if (low > high).any():
        return
    together = max(low), min(high)
    if together[0] <= together[1]:
        every = _offset_items(case, np.zeros(1, int), name=name)
        every = replace(every, low=np.array([together[0]]), high=np.array([together[1]]))
        (least,), (most,) = interval(case, every)
        if least <= most:
            yield _offset(case, name, int(least), high=int(most))
    if len(differing) <= FEW:
        yield _own_offsets(case, differing, (low, high), name=name)


def _offset_items(case: Case, start: Ints, *, name: str) -> Items:
    """Changes of the bias or v_init in units of v, or of the negated threshold in mantissas."""
    c, top = case.columns, OFFSETS[name][1]

    def apply(change: Ints) -> tuple[Ints, Columns]:
        if name == "v_th":
            return case.a[:, None], replace(c, v_th=c.v_th - (change << STATE_SHIFT))
        return case.a[:, None], replace(c, **{name: getattr(c, name) + change})

    if name != "v_th":
        low = -top - np.minimum.reduceat(getattr(c, name), start)
        high = top - np.maximum.reduceat(getattr(c, name), start)
        return Items(start=start, apply=apply, low=low, high=high)
    v_th = c.v_th >> STATE_SHIFT
    low = np.maximum.reduceat(v_th, start) - V_TH_MAX
    return Items(start=start, apply=apply, low=low, high=np.minimum.reduceat(v_th, start))


def _values(case: Case, name: str, low: int, *, high: int, at: int) -> tuple[str, dict[str, Any]]:
    """The parameter's interval at column `at` in words and numbers."""
    if name != "v_th":
        was, unit = int(getattr(case.columns, name)[at]), f"{name} (in units of v)"
        ends = was + low, was + high
    else:
        was = int(case.columns.v_th[at]) >> STATE_SHIFT
        ends, unit = (was - high, was - low), "v_th"
    span = str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}..{ends[1]}"
    return f"{unit} is {span} instead of {was}", {"low": ends[0], "high": ends[1], "was": was}


def _offset(case: Case, name: str, low: int, *, high: int) -> Variant:
    """The same change for every neuron; nearest to no change is tried."""
    values = getattr(case.columns, name)
    text, numbers = _values(case, name, low, high=high, at=0)
    if (values != values[0]).any():
        text = f"in every neuron, as in neuron 0: {text}"
    cause, top, bits = OFFSETS[name]
    middle = (low + high) // 2
    return Variant(
        cause=cause, text=text, bits=bits + change_bits(low, high, top=top), rule=case.rule,
        columns=_changed(case, name, np.array(middle)), numbers=numbers,
    )  # fmt: skip


def _changed(case: Case, name: str, change: Ints) -> Columns:
    return _offset_items(case, np.zeros(1, int), name=name).apply(change)[1]


def _own_offsets(case: Case, neurons: Ints, found: tuple[Ints, Ints], *, name: str) -> Variant:
    low, high = found
    cause, top, bits = OFFSETS[name]
    change = np.zeros(case.size[1], np.int64)
    change[neurons] = (low + high) // 2
    texts, numbers = [], []
    if name != "bias" and getattr(case.population, name).ndim == 0:
        bits += SHARED
    for neuron, least, most in zip(neurons, low, high, strict=True):
        text, values = _values(case, name, int(least), high=int(most), at=int(neuron))
        texts.append(f"neuron {neuron}: {text}")
        numbers.append({"neuron": int(neuron), **values})
        bits += log2(case.size[1]) + change_bits(int(least), int(most), top=top)
    return Variant(
        cause=cause, text="; ".join(texts), bits=bits, rule=case.rule,
        columns=_changed(case, name, change[case.neuron]), numbers={"neurons": numbers},
    )  # fmt: skip


def _decay(case: Case, differing: Ints, *, name: str) -> Iterator[Variant]:
    """One value for all neurons, one change for all, or another value in a single neuron."""
    own = getattr(case.columns, name)
    tried: list[tuple[str, NDArray[np.bool_], bool]] = [("", np.ones(len(own), bool), False)]
    if (own != own[0]).any():
        tried.append(("in every neuron ", np.ones(len(own), bool), True))
    if len(differing) == 1:
        mine = case.neuron == differing[0]
        tried.append((f"of neuron {differing[0]} ", mine, False))
    for where, chosen, relative in tried:
        values = np.arange(-DECAY_MAX if relative else 0, DECAY_MAX + 1)

        def columns(k: Ints, chosen: NDArray[np.bool_] = chosen, add: bool = relative) -> Columns:
            new = (own + k[:, None]).clip(0, DECAY_MAX) if add else k[:, None] + 0 * own
            return replace(case.columns, **{name: np.where(chosen, new, own)})

        left = surviving(case, columns, values, differing=differing)
        change = left if relative else left - int(own[chosen][0])
        mass = float((1 / np.abs(change[change != 0])).sum()) / (2 * log(DECAY_MAX))
        if mass <= 0:
            continue
        bits = 1.0 - log2(mass)
        if where.startswith("of"):
            bits += SHARED + log2(case.size[1])
        nearest = left[np.abs(change).argmin()]
        was = 0 if relative else int(own[chosen][0])
        ends = f"{left.min()}..{left.max()}" if len(left) > 1 else str(left[0])
        verb = "is changed by" if relative else "is"
        text = f"{name} {where}{verb} {ends}" + ("" if relative else f" instead of {was}")
        numbers: dict[str, Any] = {"low": int(left.min()), "high": int(left.max()), "was": was}
        p = columns(np.array([nearest]))
        p = replace(p, **{name: getattr(p, name)[0]})
        yield Variant(
            cause="decay", text=text, bits=bits, rule=case.rule, columns=p, numbers=numbers
        )


def surviving(
    case: Case, columns: Callable[[Ints], Columns], values: Ints, *, differing: Ints
) -> Ints:
    """Those of `values` under which the record is reproduced; looks at few columns first, and at
    a sample of the values where too many are left for all columns."""
    order = np.argsort(~np.isin(case.neuron, differing), kind="stable")
    done = 0
    for size in (*BLOCKS, len(order)):
        at = order[done : done + size]
        done += size
        if not len(at) or not len(values):
            break
        most = max(2, LARGE // len(at))
        if len(values) > most:
            values = values[np.linspace(0, len(values) - 1, most).astype(int)]
        values = values[_reproduces(case.at(at), columns(values).at(at))]
    return values


def _reproduces(case: Case, p: Columns) -> NDArray[np.bool_]:
    """[K]: whether parameters [K, C] give the record."""
    alive = np.ones(np.broadcast_shapes(p.du.shape, p.dv.shape), bool)
    for t, new in enumerate(play(case.a[:, None], p, case.rule, forced=case.s)):
        alive &= new.s == case.s[t]
        for mine, record in ((new.u, case.u), (new.v, case.v)):
            if record is not None:
                alive &= np.abs(mine - record[t]) <= EQUAL
        if not alive.all(1).any():
            break
    return np.asarray(alive.all(1))
