"""What a tensor in a module's forward is made of, in terms of inputs, spikes and layers.

Expressions say in which step each value arose. The same rule in every step means that the
expressions of all steps are one, shifted in time: `relative` and `at` shift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Union

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Value:
    """What "input", or the neurons of layer `source`, give in `step`; None: in every step."""

    source: str
    step: int | None


@dataclass(frozen=True)
class State:
    """A state of the neurons of `layer` after `step`: key "mem" or "syn"."""

    layer: str
    key: str
    step: int


@dataclass(frozen=True)
class Applied:
    """What layer `layer`, one without state, makes of `to`."""

    layer: str
    to: Expression


@dataclass(frozen=True)
class Times:
    """`to` times a number."""

    factor: float
    to: Expression


@dataclass(frozen=True)
class Total:
    """A sum; without terms: zeros."""

    terms: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class Reshaped:
    """`to` with its values, in C order, in a tensor of `shape`."""

    shape: tuple[int, ...]
    to: Expression


@dataclass(frozen=True)
class Window:
    """Expressions stacked over time, along dimension `axis` of their own."""

    items: tuple[Expression, ...]
    axis: int = 0


Expression = Union[Value, State, Applied, Times, Total, Reshaped, Window]  # noqa: UP007
ZERO = Total()
Layers = Mapping[str, nn.Module]


def total(*terms: Expression) -> Expression:
    """The sum of `terms`, sums within it opened."""
    flat = [t for term in terms for t in (term.terms if isinstance(term, Total) else (term,))]
    return flat[0] if len(flat) == 1 else Total(tuple(flat))


def applied(layer: str, to: Expression, *, layers: Layers) -> Expression:
    """`Applied`, or zero where a layer without bias sees zeros."""
    module = layers[layer]
    shifts = isinstance(module, _BatchNorm) or getattr(module, "bias", None) is not None
    return ZERO if to == ZERO and not shifts else Applied(layer, to)


def mapped(
    expression: Expression, leaf: Callable[[Value | State], Expression], *, layers: Layers
) -> Expression:
    """`expression` with every value and state replaced."""
    e = expression
    if isinstance(e, (Value, State)):
        return leaf(e)
    if isinstance(e, Window):
        return Window(tuple(mapped(item, leaf, layers=layers) for item in e.items), e.axis)
    if isinstance(e, Total):
        return total(*(mapped(term, leaf, layers=layers) for term in e.terms))
    inner = mapped(e.to, leaf, layers=layers)
    if isinstance(e, Applied):
        return applied(e.layer, inner, layers=layers)
    if inner == ZERO:
        return ZERO
    return Times(e.factor, inner) if isinstance(e, Times) else Reshaped(e.shape, inner)


def relative(expression: Expression, step: int, *, layers: Layers) -> Expression:
    """`expression` with its steps counted from `step`, which becomes 0."""
    return mapped(expression, lambda leaf: _shifted(leaf, -step), layers=layers)


def at(expression: Expression, step: int, *, layers: Layers) -> Expression:
    """A relative `expression` as it is in `step`; what lies before the first step is zero."""

    def placed(leaf: Value | State) -> Expression:
        there = _shifted(leaf, step)
        return ZERO if there.step is not None and there.step < 0 else there

    return mapped(expression, placed, layers=layers)


def _shifted(leaf: Value | State, by: int) -> Value | State:
    if leaf.step is None:
        return leaf
    if isinstance(leaf, State):
        return State(leaf.layer, leaf.key, leaf.step + by)
    return Value(leaf.source, leaf.step + by)


def described(expression: Expression) -> str:
    """What a message calls `expression`."""
    e = expression
    if isinstance(e, Value):
        return "the input" if e.source == "input" else f"the spikes of layer {e.source!r}"
    if isinstance(e, State):
        return f"the {'membrane' if e.key == 'mem' else 'current'} of layer {e.layer!r}"
    if isinstance(e, Applied):
        return f"the output of layer {e.layer!r}"
    if isinstance(e, Total):
        return "a sum of " + described(e.terms[0]) if e.terms else "zeros"
    if isinstance(e, Window):
        return described(e.items[0]) if e.items else "nothing"
    return described(e.to)
