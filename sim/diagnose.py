"""Why does somebody's run of a net differ from ours? The first-divergence report.

Each population is driven with the *recorded* spikes of its sources, so errors before it do not
count; the first one that then differs from its own record is the culprit. Changes of its rule, its
parameters and its input are tried (`hypotheses`, `solve`, `weights`), and those that reproduce the
whole record are ranked by simplicity.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.diagnosis import Diagnosis, Explanation
from spikeport.sim.forced import EQUAL, Case, Ints, case_of, play
from spikeport.sim.hypotheses import Variant, fits, mismatches, unchanged, variants, wrong
from spikeport.sim.net import FixedNet
from spikeport.sim.solve import parameters
from spikeport.sim.trace import Trace
from spikeport.sim.weights import single_weights

PROBE = 32  # columns on which an explanation is tried before it is tried on all
RUNNERS_UP = 3


def diagnose(net: FixedNet, x: Any, observed: Trace) -> Diagnosis | None:
    """Where and why `observed` differs from what `net` does on integers `x` [T, B, *shape].

    observed: recorded spikes of all populations, u and v [T, B, n] in chip units where recorded.
    None when nothing differs. Raises ValueError for input of wrong shape or range and for a trace
    of another net.
    """
    x = net.input.check(x)
    check(net, x, observed)
    record: dict[str, NDArray[Any]] = {"input": x}
    record |= {p.name: observed[p.name].spikes for p in net.populations}
    cases = {p.name: case_of(net, p.name, record, own=observed[p.name]) for p in net.populations}
    differing = {name: wrong(c, unchanged(c), c.a, p=c.columns) for name, c in cases.items()}
    culprits = [name for name, (_, any_of) in differing.items() if any_of.any()]
    if not culprits:
        return None
    first = culprits[0]
    also = tuple(culprits[1:])
    spikes, any_of = differing[first]
    beside = [p.target for p in net.projections if p.source == "input" and p.target != first]
    right = any(name not in culprits for name in beside)
    found = explanations(cases[first], any_of, input_bits=6.0 if right else 0.0)
    return _report(cases[first], found, also=also, spikes=spikes, any_of=any_of)


def check(net: FixedNet, x: NDArray[Any], observed: Trace) -> None:
    """Raise ValueError unless `observed` is a run of `net` on input of the shape of `x`."""
    names = [p.name for p in net.populations]
    missing = [name for name in names if name not in observed.populations]
    extra = [name for name in observed.populations if name not in names]
    if missing or extra:
        raise ValueError(
            f"the record is not of this network: it lacks {missing} and holds {extra};"
            f" it must hold the spikes of {names}"
        )
    for p in net.populations:
        part, wanted = observed[p.name], (*x.shape[:2], p.size)
        for quantity in ("spikes", "u", "v"):
            value = getattr(part, quantity)
            if value is not None and value.shape != wanted:
                raise ValueError(
                    f"the record's {quantity} of population {p.name!r} have shape {value.shape};"
                    f" needed is [T, B, n] = {wanted}"
                )
        if not np.isin(part.spikes, (0, 1)).all():
            raise ValueError(
                f"the record's spikes of population {p.name!r} hold values other than 0 and 1;"
                " record whether a neuron spiked, not a payload"
            )


def explanations(
    case: Case, any_of: NDArray[np.bool_], *, input_bits: float
) -> list[tuple[Variant, int]]:
    """Variations with the entries that still differ, best first. any_of: entries that differ."""
    probe = _probe(any_of)
    neurons = np.unique(case.neuron[any_of.any(0)])
    good = [
        v for v in _candidates(case, neurons, input_bits=input_bits) if fits(case, v, probe=probe)
    ]
    if good:
        return [(v, 0) for v in sorted(good, key=lambda v: v.bits)]
    tried = [(v, mismatches(case, v)) for v in variants(case, input_bits=input_bits)]
    return sorted(tried, key=lambda pair: (pair[1], pair[0].bits))


def _candidates(case: Case, neurons: Ints, *, input_bits: float) -> Iterator[Variant]:
    yield from variants(case, input_bits=input_bits)
    yield from parameters(case, neurons)
    yield from single_weights(case, neurons)


def _probe(any_of: NDArray[np.bool_]) -> Ints:
    """Columns that differ, and as many others."""
    bad = any_of.any(0)
    chosen = [np.flatnonzero(bad), np.flatnonzero(~bad)]
    some = [c[np.linspace(0, len(c) - 1, min(len(c), PROBE // 2)).astype(int)] for c in chosen]
    return np.concatenate(some)


def _report(
    case: Case, found: list[tuple[Variant, int]], *, also: tuple[str, ...],
    spikes: NDArray[np.bool_], any_of: NDArray[np.bool_],
) -> Diagnosis:  # fmt: skip
    step, column = (int(i) for i in np.argwhere(any_of)[0])
    single = case.at(np.array([column]))
    new = list(play(single.a, single.columns, case.rule))[step]
    pairs = (("spikes", new.s, single.s), ("u", new.u, single.u), ("v", new.v, single.v))
    quantity, left, right = next(
        (name, float(ours[0]), float(record[step, 0]))
        for name, ours, record in pairs
        if record is not None and abs(float(ours[0]) - float(record[step, 0])) > EQUAL
    )
    told = [
        Explanation(cause=v.cause, text=v.text, bits=v.bits, numbers=v.numbers, differing=rest)
        for v, rest in found[: RUNNERS_UP + 1]
    ]
    best = told[0]
    if best.differing:
        best = Explanation(
            cause="unknown", text=f"{best.text} leaves {best.differing} entries differing",
            bits=best.bits, numbers=best.numbers, differing=best.differing,
        )  # fmt: skip
    # Behind a reset to zero the record does not tell the potential that fired.
    theirs = None
    if single.v is not None and not single.s[step, 0]:
        theirs = float(single.v[step, 0])
    return Diagnosis(
        population=case.population.name, quantity=quantity, step=step,
        sample=column // case.size[1], neuron=column % case.size[1],
        left=left, right=right,
        v_left=float(new.v_fired[0]), v_right=theirs,
        v_th=float(single.columns.v_th[0]), differing=int(any_of.sum()), spikes=int(spikes.sum()),
        neurons=len(np.unique(case.neuron[any_of.any(0)])), best=best, others=tuple(told[1:]),
        also=also,
    )  # fmt: skip
