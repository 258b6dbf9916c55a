"""A population changed in one respect, and whether that explains its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.divergence.forced import EQUAL, Case, Columns, Ints, Rule, in_a_row, play


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A population changed in one respect. arrive: makes its arrivals [T, C], None for the case's
    own. shift: steps by which its output comes later. unknown: last steps that cannot be told.
    kept: samples start with what the one before has left behind."""

    cause: str
    text: str
    bits: float
    rule: Rule
    columns: Columns | None = None
    arrive: Callable[[], Ints] | None = None
    shift: int = 0
    unknown: int = 0
    kept: bool = False
    numbers: dict[str, Any] = field(default_factory=dict)


def unchanged(case: Case) -> Variant:
    """The population as it is."""
    return Variant(cause="", text="", bits=0.0, rule=case.rule)


def prepared(case: Case, variant: Variant) -> tuple[Ints, Columns]:
    """Arrivals and parameters under `variant`, for all columns."""
    a = case.a if variant.arrive is None else variant.arrive()
    return a, case.columns if variant.columns is None else variant.columns


def wrong(
    case: Case, variant: Variant, a: Ints, *, p: Columns, stop: bool = False
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which entries [T, C] differ from the record in their spike, and in spike, u or v; with
    `stop` the steps behind the first difference are not looked at."""
    spikes, any_of = np.zeros((2, *case.s.shape), bool)
    if variant.shift > 0:
        spikes[: variant.shift] = any_of[: variant.shift] = case.s[: variant.shift]
    end = len(a) - variant.unknown
    for step, new in enumerate(play(a, p, variant.rule)):
        t = step + variant.shift
        if not 0 <= t < end:
            continue
        spikes[t] = new.s != case.s[t]
        any_of[t] = spikes[t]
        v = new.v_fired if variant.rule.before else new.v
        for mine, record in ((new.u, case.u), (v, case.v)):
            if record is not None:
                any_of[t] |= np.abs(mine - record[t]) > EQUAL
        if stop and any_of[t].any():
            break
    return spikes, any_of


def fits(case: Case, variant: Variant, *, probe: Ints) -> bool:
    """Whether `variant` reproduces the whole record. probe: columns to look at first."""
    if variant.kept:
        return not mismatches(case, variant)
    a, p = prepared(case, variant)
    few = case.at(probe)
    if wrong(few, variant, a[:, probe], p=p.at(probe), stop=True)[1].any():
        return False
    return not wrong(case, variant, a, p=p, stop=True)[1].any()


def mismatches(case: Case, variant: Variant) -> int:
    """Entries that differ from the record under `variant`."""
    if variant.kept:
        case = in_a_row(case)
    a, p = prepared(case, variant)
    return int(wrong(case, variant, a, p=p)[1].sum())
