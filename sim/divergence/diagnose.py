"""Why does somebody's run of a net differ from ours? The first-divergence report.

Each population is driven with the *recorded* spikes of its sources, so errors before it do not
count; the first one that then differs from its own record is the culprit. Changes of its rule, its
parameters and its input are tried (`hypotheses`, `solve`, `weights`), and those that reproduce the
whole record are ranked by simplicity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.divergence.diagnosis import Diagnosis, Explanation
from spikeport.sim.divergence.forced import EQUAL, Case, Ints, case_of, play
from spikeport.sim.divergence.hypotheses import variants
from spikeport.sim.divergence.solve import parameters
from spikeport.sim.divergence.variant import Variant, fits, mismatches, unchanged, wrong
from spikeport.sim.divergence.weights import single_weights
from spikeport.sim.net import FixedNet
from spikeport.sim.synapse import Conv2d, Dense, Synapse
from spikeport.sim.trace import Trace

PROBE = 32  # columns on which an explanation is tried before it is tried on all
RUNNERS_UP = 3
LARGE = 1 << 22  # values that the search for a single weight may hold at a time


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
    case, samples = cases[first], _samples(cases[first], any_of)
    seen = any_of.reshape(len(x), *case.size)[:, samples].reshape(len(x), -1)
    found = explanations(case.of_samples(samples), seen, input_bits=6.0 if right else 0.0)
    searched = 0 if len(samples) == case.size[0] else len(samples)
    return replace(_report(case, spikes, any_of, told=_told(found)), also=also, searched=searched)


def _samples(case: Case, any_of: NDArray[np.bool_]) -> Ints:
    """The samples in which the cause is looked for: all, or those with the most differences as far
    as memory allows."""
    steps, (samples, neurons) = len(case.s), case.size
    fan_in = max((_weights_at_a_time(p.synapse, neurons) for p, _ in case.sources), default=1)
    most = max(1, LARGE // (steps * max(fan_in, 8 * neurons)))
    if samples <= most:
        return np.arange(samples)
    count = any_of.reshape(steps, samples, neurons).sum((0, 2))
    count[np.argwhere(any_of)[0, 1] // neurons] = any_of.size  # the first difference belongs in it
    return np.sort(np.argsort(-count, kind="stable")[:most])


def _weights_at_a_time(synapse: Synapse, neurons: int) -> int:
    """Values a step and sample when all weights of a neuron or channel are looked at."""
    if isinstance(synapse, Conv2d):
        return int(synapse.w[0].size * neurons // synapse.w.shape[0])
    return synapse.w.shape[1] if isinstance(synapse, Dense) else neurons


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


def _told(found: list[tuple[Variant, int]]) -> list[Explanation]:
    """The best of `found`, then the best of each other cause."""
    chosen: dict[str, Explanation] = {}
    for v, rest in found:
        explanation = Explanation(
            cause=v.cause, text=v.text, bits=v.bits, numbers=v.numbers, differing=rest
        )
        chosen.setdefault(v.cause, explanation)
    best, *others = chosen.values()
    if best.differing:
        text = f"{best.text} leaves {best.differing} entries differing"
        best = replace(best, cause="unknown", text=text)
    return [best, *others[:RUNNERS_UP]]


def _report(
    case: Case, spikes: NDArray[np.bool_], any_of: NDArray[np.bool_], *, told: list[Explanation]
) -> Diagnosis:
    step, column = (int(i) for i in np.argwhere(any_of)[0])
    single = case.at(np.array([column]))
    new = list(play(single.a, single.columns, case.rule))[step]
    pairs = (("spikes", new.s, single.s), ("u", new.u, single.u), ("v", new.v, single.v))
    quantity, left, right = next(
        (name, float(ours[0]), float(record[step, 0]))
        for name, ours, record in pairs
        if record is not None and abs(float(ours[0]) - float(record[step, 0])) > EQUAL
    )
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
        neurons=len(np.unique(case.neuron[any_of.any(0)])), best=told[0], others=tuple(told[1:]),
    )  # fmt: skip
