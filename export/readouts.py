"""Which population a module reads, and how: seen from what its forward returns."""

from __future__ import annotations

from collections.abc import Mapping

from spikeport.export.expressions import (
    Applied,
    Expression,
    Reshaped,
    State,
    Times,
    Total,
    Value,
    Window,
    described,
    mapped,
)
from spikeport.export.tracing import Traced

POTENTIALS = ("last_v", "sum_v")


def readout_of(
    traced: Traced, rules: Mapping[str, Expression], *, steps: int, wanted: str | None
) -> tuple[str, str]:
    """Population and kind of the readout.

    Returned spikes, stacked, summed or averaged over time, mean "count"; a potential after the
    last step "last_v", summed or averaged potentials "sum_v". Spikes go before potentials unless
    `wanted` says otherwise; of several layers the one that feeds no other is read. rules: what
    each layer of neurons receives. Raises ValueError where that leaves a choice, or none.
    """
    read = [_reading(e, steps=steps) for e in _whole(traced)]
    spikes = [layer for layer, kind in filter(None, read) if kind == "spikes"]
    potentials = {layer: kind for layer, kind in filter(None, read) if kind != "spikes"}
    from_potentials = wanted in POTENTIALS or (wanted is None and not spikes)
    candidates = list(dict.fromkeys(potentials if from_potentials else spikes))
    feeding = _feeding(traced, rules)
    last = [layer for layer in candidates if layer not in feeding] or candidates
    if not last:
        raise ValueError(
            f"forward returns no {'membranes' if wanted in POTENTIALS else 'spikes'} of a layer of"
            " neurons; collect those of the last one in a list and return them stacked or summed"
        )
    if len(last) > 1:
        what = "membranes" if from_potentials else "spikes"
        told = ", ".join(map(repr, last))
        raise ValueError(
            f"forward returns the {what} of {told}; return those of the one layer that is read,"
            " stacked or summed over all steps"
        )
    if not from_potentials:
        return last[0], wanted or "count"
    kind = wanted or potentials[last[0]]
    if kind == "every":
        raise ValueError(
            f"forward returns the membrane of layer {last[0]!r} in every step; say which of it is"
            " read, readout='last_v' or readout='sum_v'"
        )
    return last[0], kind


def _whole(traced: Traced) -> list[Expression]:
    """What was returned; what each of several calls returned, as a window."""
    returned = traced.returned
    if traced.calls > 1:
        each = len(returned) // traced.calls
        calls = [returned[i::each] for i in range(each)]
        return [Window(tuple(e for e in found if e is not None)) for found in calls if any(found)]
    found = [e for e in returned if e is not None]
    return [*(e for e in found if not isinstance(e, (Value, State))), *_collected(found)]


def _collected(found: list[Expression]) -> list[Expression]:
    """Spikes and potentials that were returned step by step, as windows."""
    loose: dict[tuple[str, str], list[Expression]] = {}
    for e in found:
        if isinstance(e, Value):
            loose.setdefault((e.source, "spikes"), []).append(e)
        elif isinstance(e, State):
            loose.setdefault((e.layer, e.key), []).append(e)
    return [items[0] if len(items) == 1 else Window(tuple(items)) for items in loose.values()]


def _reading(e: Expression, *, steps: int) -> tuple[str, str] | None:
    """The layer that `e` reads, and what of it; None if it is neither spikes nor potentials."""
    while isinstance(e, Reshaped) or (isinstance(e, Times) and e.factor > 0):
        e = e.to
    terms = e.items if isinstance(e, Window) else e.terms if isinstance(e, Total) else (e,)
    terms = tuple(term.to if isinstance(term, Reshaped) else term for term in terms)
    _no_layer_behind(e, terms)
    leaves = [leaf for leaf in terms if isinstance(leaf, (Value, State))]
    if not leaves or len(leaves) < len(terms):
        return None
    first = leaves[0]
    name = first.source if isinstance(first, Value) else first.layer
    if name == "input" or (isinstance(first, State) and first.key != "mem"):
        return None
    if isinstance(first, State) and leaves == [State(name, "mem", steps - 1)]:
        return name, "last_v"
    same = [Value(name, t) if isinstance(first, Value) else State(name, "mem", t)
            for t in range(steps)]  # fmt: skip
    if sorted(leaves, key=lambda leaf: leaf.step or 0) != same:
        raise ValueError(
            f"forward returns {described(first)} of other steps than all {steps}; return them"
            " stacked or summed over all steps"
        )
    if isinstance(first, Value):
        return name, "spikes"
    return name, "sum_v" if isinstance(e, Total) else "every"


def _no_layer_behind(e: Expression, terms: tuple[Expression, ...]) -> None:
    for term in terms:
        while isinstance(term, Times):
            term = term.to
        if isinstance(term, Applied):
            raise ValueError(
                f"forward returns {described(term)}, which has no neurons; end with spiking neurons"
                ' (readout "count") or ones with reset_mechanism="none" (readout "last_v")'
            )


def _feeding(traced: Traced, rules: Mapping[str, Expression]) -> set[str]:
    """Layers of neurons that feed another one."""
    found: set[str] = set()
    for target, rule in rules.items():

        def note(leaf: Value | State, target: str = target) -> Expression:
            if isinstance(leaf, Value) and leaf.source != target:
                found.add(leaf.source)
            return leaf

        mapped(rule, note, layers=traced.layers)
    return found
