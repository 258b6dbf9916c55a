"""Well-known mistakes, each as a variation of one population's rule, parameters or input.

Choices that a kind of mistake leaves open cost bits, so that among explanations that fit equally
the least contrived comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import log2

from spikeport.sim.arith import DECAY_MAX, DECAY_ONE, shift_sum
from spikeport.sim.divergence.encodings import encodings
from spikeport.sim.divergence.forced import (
    STATE_BITS,
    Case,
    Ints,
    Rule,
    arrival,
    arrivals,
    limited,
    raw_sum,
    shifted,
)
from spikeport.sim.divergence.layouts import layouts
from spikeport.sim.divergence.variant import Variant
from spikeport.sim.net import Projection
from spikeport.sim.synapse import Dense

NARROW = range(15, STATE_BITS)  # bits of states narrower than the chip's


def variants(case: Case, *, input_bits: float) -> Iterator[Variant]:
    """Every well-known mistake that this population could hold. input_bits: what a change of the
    network's input costs (more where another population shows that it is unlikely)."""
    yield Variant(
        cause="tie", text="a potential equal to the threshold fires (>= instead of >)", bits=1.0,
        rule=replace(case.rule, ties=True),
    )  # fmt: skip
    unrounded = "the same parameters, but u and v are not rounded to integers"
    exact = replace(case.rule, exact=True)
    yield Variant(cause="float", text=unrounded, bits=0.5, rule=exact)
    yield Variant(
        cause="float", text=f"{unrounded} and not limited", bits=2.5,
        rule=replace(exact, u=("none", 0), v=("none", 0)),
    )  # fmt: skip
    if case.size[0] > 1:
        yield Variant(
            cause="start", text="samples start with the u and v that the one before has left",
            bits=2.0, rule=case.rule, kept=True,
        )  # fmt: skip
    yield from _resets(case)
    yield from _delays(case)
    yield from _decays(case)
    yield from _overflows(case)
    yield from _inputs(case, bits=input_bits)
    yield from _weights(case)


def _resets(case: Case) -> Iterator[Variant]:
    own = case.rule
    names = {
        "zero": "a spike empties the potential (reset to zero)",
        "subtract": "a spike takes the threshold off the potential (reset by subtraction)",
        "none": "a spike leaves the potential as it is (no reset)",
    }
    for reset, text in names.items():
        late = f"{text}, one step late"
        if reset != own.reset:
            yield Variant(cause="reset", text=text, bits=2.0, rule=Rule(reset=reset))
        if reset != "none":
            bits = 2.0 if reset == own.reset else 3.0
            yield Variant(cause="reset", text=late, bits=bits, rule=Rule(reset=reset, late=True))
    for text, rule in (
        ("a spike empties the current u too", replace(own, clears_u=True)),
        ("v is recorded before the reset", replace(own, before=True)),
    ):
        yield Variant(cause="reset", text=text, bits=3.0, rule=rule)


def _delays(case: Case) -> Iterator[Variant]:
    choices = 1.0 + log2(len(case.sources) + 2)
    for at, (p, _) in enumerate(case.sources):
        for change in (-1, 1, 2, 3, -2, -3):
            text = f"the projection {p.source!r} -> {p.target!r} has delay {p.delay + change}"
            # A negative delay is a source whose steps are counted from another start.
            bits = choices + abs(change) - 1 + (1 if p.delay + change < 0 else 0)
            yield Variant(
                cause="delay", text=f"{text} instead of {p.delay}", bits=bits, rule=case.rule,
                arrive=_delayed(case, {at: change}), unknown=max(0, -(p.delay + change)),
                numbers={"delay": p.delay + change, "was": p.delay},
            )  # fmt: skip
    for change in (1, -1, 2, -2, 3, -3):
        direction = "late" if change > 0 else "early"
        bits = choices + abs(change) - 1 + (1 if change < 0 else 0)
        by = f"{abs(change)} step{'s' * (abs(change) > 1)} {direction}"
        text = f"its output comes {by}"
        yield Variant(
            cause="delay", text=text, bits=bits, rule=case.rule, shift=change,
            unknown=max(0, -change), numbers={"steps": change},
        )  # fmt: skip
        if len(case.sources) > 1:
            every = dict.fromkeys(range(len(case.sources)), change)
            earliest = min(p.delay for p, _ in case.sources) + change
            yield Variant(
                cause="delay", text=f"all that it receives comes {by}",
                bits=bits, rule=case.rule, arrive=_delayed(case, every),
                unknown=max(0, -earliest), numbers={"steps": change},
            )  # fmt: skip


def _delayed(case: Case, change: dict[int, int]) -> Callable[[], Ints]:
    def parts() -> list[Ints]:
        return [
            arrival(p, s, delay=p.delay + change.get(i, 0)) for i, (p, s) in enumerate(case.sources)
        ]

    return lambda: _total(case, parts())


def _total(case: Case, parts: list[Ints]) -> Ints:
    return arrivals(parts, steps=len(case.s), columns=case.s.shape[1])


def _decays(case: Case) -> Iterator[Variant]:
    """Mistakes with a name; other values are searched for by `spikeport.sim.divergence.solve`."""
    c = case.columns
    for text, bits, changed in (
        ("u keeps (4096 - du) / 4096: the chip's hidden +1 is missing", 2.0, {"du": c.du - 1}),
        ("u keeps (4094 - du) / 4096: the chip's hidden +1 is there twice", 4.0, {"du": c.du + 1}),
        ("v keeps (4095 - dv) / 4096: a hidden +1 that only du has", 3.0, {"dv": c.dv + 1}),
        ("du and dv are swapped", 3.0, {"du": c.dv, "dv": c.du}),
        ("du is the kept share, not the lost one", 4.0, {"du": DECAY_MAX - c.du}),
        ("dv is the kept share, not the lost one", 4.0, {"dv": DECAY_ONE - c.dv}),
        ("u does not decay", 4.0, {"du": 0 * c.du - 1}),
        ("v does not decay", 4.0, {"dv": 0 * c.dv}),
        ("the current is not kept (du 4095)", 4.0, {"du": 0 * c.du + DECAY_MAX}),
        ("the potential is not kept (dv 4096)", 4.0, {"dv": 0 * c.dv + DECAY_ONE}),
    ):
        if any((getattr(c, name) != value).any() for name, value in changed.items()):
            columns = replace(c, **changed)
            yield Variant(cause="decay", text=text, bits=bits, rule=case.rule, columns=columns)


def _overflows(case: Case) -> Iterator[Variant]:
    full, own = STATE_BITS, case.rule
    clip, wrap, none = ("clip", full), ("wrap", full), ("none", full)
    for text, rule in (
        ("u is clipped where the chip wraps it", replace(own, u=clip)),
        ("u neither wraps nor clips", replace(own, u=none)),
        ("v wraps where the chip clips it", replace(own, v=wrap)),
        ("v is not clipped", replace(own, v=none)),
        ("neither u nor v is limited", replace(own, u=none, v=none)),
    ):
        yield Variant(cause="overflow", text=text, bits=2.0, rule=rule)
    for bits in NARROW:
        for text, rule in (
            ("u wraps", replace(own, u=("wrap", bits))),
            ("u is clipped", replace(own, u=("clip", bits))),
            ("v wraps", replace(own, v=("wrap", bits))),
            ("v is clipped", replace(own, v=("clip", bits))),
        ):
            text += f" at {bits} bits and sign, not at {full}"
            yield Variant(cause="overflow", text=text, bits=5.0, rule=rule, numbers={"bits": bits})
    for at, (p, s) in enumerate(case.sources):
        for text, cost, sums in _sums(p, s):
            yield Variant(
                cause="overflow", text=f"the sum of {p.source!r} -> {p.target!r} {text}",
                bits=cost + log2(len(case.sources)), rule=own, arrive=_replaced(case, at, sums),
            )  # fmt: skip


def _sums(p: Projection, s: Ints) -> Iterator[tuple[str, float, Callable[[], Ints]]]:
    """Other widths of the sum that projection `p` adds up of source values `s`."""
    if not isinstance(p.synapse, Dense):
        yield "does not wrap at 24 bits", 2.0, partial(_sum, p, s, ("none", STATE_BITS))
        yield "is clipped at 24 bits", 3.0, partial(_sum, p, s, ("clip", STATE_BITS))
        return
    yield "wraps at 24 bits", 3.0, partial(_sum, p, s, ("wrap", STATE_BITS))
    for bits in (15, 21):
        yield f"is clipped at {bits} bits and sign", 5.0, partial(_sum, p, s, ("clip", bits))


def _sum(p: Projection, s: Ints, limit: tuple[str, int]) -> Ints:
    total = raw_sum(p.synapse, s)
    if isinstance(p.synapse, Dense):
        total = shift_sum(total, p.synapse.w_exp)
    return limited(total, limit)


def _replaced(case: Case, at: int, sums: Callable[[], Ints]) -> Callable[[], Ints]:
    """Arrivals with the sums of projection `at` made by `sums`."""

    def total() -> Ints:
        parts = [
            shifted(sums(), p.delay) if i == at else arrival(p, s)
            for i, (p, s) in enumerate(case.sources)
        ]
        return _total(case, parts)

    return total


def _inputs(case: Case, *, bits: float) -> Iterator[Variant]:
    fed = [i for i, (p, _) in enumerate(case.sources) if p.source == "input"]
    if not fed:
        return
    for text, cost, unknown, change in encodings(case.sources[fed[0]][1]):
        yield Variant(
            cause="input", text=text, bits=cost + bits, rule=case.rule, unknown=unknown,
            arrive=partial(_encoded, case, change),
        )  # fmt: skip


def _encoded(case: Case, change: Callable[[Ints], Ints]) -> Ints:
    """Arrivals with the network's input changed."""
    parts = [arrival(p, change(s) if p.source == "input" else s) for p, s in case.sources]
    return _total(case, parts)


def _weights(case: Case) -> Iterator[Variant]:
    for at, (p, s) in enumerate(case.sources):
        for text, bits, synapse_sums in layouts(p, s):
            yield Variant(
                cause="weight", text=f"projection {p.source!r} -> {p.target!r}: {text}",
                bits=bits + log2(len(case.sources)), rule=case.rule,
                arrive=_replaced(case, at, synapse_sums),
            )  # fmt: skip
