"""Users' modules as parts: layers wired as ours are, and modules whose forward loops over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport.export.assembly import Assembly, check_name
from spikeport.export.expressions import (
    Applied,
    Expression,
    State,
    Value,
    at,
    mapped,
    relative,
    total,
)
from spikeport.export.layers import SKIPPED
from spikeport.export.neurons import NEURONS, STATES, Unsupported
from spikeport.export.parts import Parts, ours
from spikeport.export.readouts import readout_of
from spikeport.export.samples import input_of
from spikeport.export.tracing import Traced, trace
from spikeport.sim.net import Input
from spikeport.train.blocks import Recurrent, named_layers, through

CHECKED = 8
"""Samples of a batch whose spikes are compared with the module's."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a module did with some samples: input x [T, B, *shape], spikes (0 or 1) and potentials
    of its layers of neurons [T, B, n], all float64."""

    x: NDArray[np.float64]
    spikes: Mapping[str, NDArray[np.float64]]
    potentials: Mapping[str, NDArray[np.float64]]


def wired(layers: nn.Sequential, input: Input, *, steps: int, readout: str) -> Parts:
    """The parts of `layers`, a chain that may hold blocks (`train.blocks`). Raises Unsupported
    naming the first layer that has none."""
    named = dict(named_layers(layers._modules))
    assembly = Assembly(named, input, shapes={})
    seen: dict[int, str] = {}

    def visit(name: str, layer: nn.Module, x: Expression) -> Expression:
        if isinstance(layer, SKIPPED):
            return x
        if isinstance(layer, Recurrent):
            name, back = f"{name}.lif", Applied(f"{name}.loop", Value(f"{name}.lif", -1))
            assembly.shapes[name] = (layer.loop.in_features,)
            x, layer = total(x, back), layer.lif
        check_name(name, layer)
        if type(layer) not in NEURONS:
            return Applied(name, x)
        if id(layer) in seen:
            raise Unsupported(
                name, layer,
                f"it is the same object as layer {seen[id(layer)]!r} and would share its state;"
                " create one layer of neurons for each place",
            )  # fmt: skip
        seen[id(layer)] = name
        assembly.add_neurons(name, x)
        return Value(name, 0)

    start: Expression = Value("input", 0)
    last = through(layers._modules, start, visit=visit, add=total)
    if not isinstance(last, Value) or last.source == "input":
        assembly.check(last)
        raise ValueError(
            f"the network ends with {_named(last)}, which has no neurons; end it with spiking"
            " neurons (readout 'count') or an Integrator (readout 'last_v')"
        )
    return assembly.finish(last.source, readout=readout, steps=steps)


def _named(e: Expression) -> str:
    if isinstance(e, Applied):
        return f"layer {e.layer!r}"
    return "the input" if isinstance(e, Value) else "a sum"


def looped(
    module: nn.Module,
    sample: Any,
    *,
    input: Input | None,
    steps: int | None,
    readout: str | None,
) -> tuple[Parts, Recorded]:
    """The parts of a module with a forward of its own, and what it did with `sample`, which is
    what forward takes: [B, ...] for every step, [T, B, ...], or [B, T, ...].

    Raises ValueError naming the layer or function that no chip has.
    """
    x = _tensor(module, sample)
    traced = trace(module, x)
    if steps is not None and steps > 1 and _steps(traced) == 1:
        traced = trace(module, x, calls=steps)
    count = _steps(traced)
    if steps not in (None, count):
        raise ValueError(
            f"steps is {steps}, but forward runs {count} steps; leave the argument out"
        )
    rules = {name: _rule(name, traced) for name in traced.received}
    timed = _timed(traced)
    if input is None:
        input = input_of(sample, leading=2 if timed else 1)
    assembly = Assembly(traced.layers, input, shapes=_shapes(traced))
    for name, rule in rules.items():
        assembly.add_neurons(name, rule)
    _no_idle_neurons(traced)
    output, kind = readout_of(traced, rules, steps=count, wanted=readout)
    parts = assembly.finish(output, readout=kind, steps=count)
    if timed:
        x = x.movedim(max(traced.axes), 0)
    every = x[:count] if timed else x.expand(count, *x.shape)
    some = every[:, :CHECKED].double().numpy()
    return parts, Recorded(
        x=some.reshape(*some.shape[:2], *input.shape),
        spikes={name: s[:, :CHECKED].flatten(2).numpy() for name, s in traced.spikes.items()},
        potentials={
            name: v[:, :CHECKED].flatten(2).numpy() for name, v in traced.potentials.items()
        },
    )


def _tensor(module: nn.Module, sample: Any) -> Tensor:
    kind = type(module).__name__
    if sample is None:
        raise ValueError(
            f"a {kind} has a forward of its own; give the sample that it takes, [B, ...] or"
            " [T, B, ...]"
        )
    tensor = sample.detach().cpu() if isinstance(sample, Tensor) else torch.as_tensor(sample)
    if tensor.ndim < 2 or not tensor.numel():
        raise ValueError(
            f"the sample has shape {tuple(tensor.shape)}; a {kind} needs what its forward takes,"
            " [B, ...] or [T, B, ...]"
        )
    return tensor


def _steps(traced: Traced) -> int:
    """Steps of the window: how often every layer of neurons is called."""
    counts = {name: len(received) for name, received in traced.received.items()}
    if not counts:
        raise ValueError("forward calls no layer of spiking neurons; there is nothing to compile")
    for name, count in counts.items():
        if count != max(counts.values()):
            raise Unsupported(
                name, traced.layers[name],
                f"it is called {count} times in a window of {max(counts.values())} steps; call"
                " every layer of neurons once a step",
            )  # fmt: skip
    return max(counts.values())


def _rule(name: str, traced: Traced) -> Expression:
    """What neurons receive, relative to their step; Unsupported if it is not always the same."""
    received, layers = traced.received[name], traced.layers
    rule = relative(received[-1], len(received) - 1, layers=layers)
    mapped(rule, lambda leaf: _past(leaf, name=name, layer=layers[name]), layers=layers)
    for step, found in enumerate(received):
        if at(rule, step, layers=layers) != found:
            raise Unsupported(
                name, layers[name],
                f"in step {step} forward feeds it in another way than in the last step; chips do"
                " the same in every step",
            )  # fmt: skip
    return rule


def _past(leaf: Value | State, *, name: str, layer: nn.Module) -> Value | State:
    if leaf.step is not None and leaf.step > 0:
        raise Unsupported(
            name, layer,
            f"in step 0 it is fed by step {leaf.step} of the sample, but chips see every step as it"
            " comes; give a sample that begins with the first step that is used",
        )  # fmt: skip
    return leaf


def _timed(traced: Traced) -> bool:
    """Whether the sample has a step for every step of the window."""
    steps: set[bool] = set()

    def seen(leaf: Any) -> Any:
        if isinstance(leaf, Value) and leaf.source == "input":
            steps.add(leaf.step is not None)
        return leaf

    for received in traced.received.values():
        for expression in received:
            mapped(expression, seen, layers=traced.layers)
    if len(steps) == 2 or len(traced.axes) > 1:
        raise ValueError(
            "forward uses the sample in several ways; use it as a whole in every step, or step by"
            " step along one dimension"
        )
    return steps == {True}


def _shapes(traced: Traced) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for name, spikes in traced.spikes.items():
        try:
            shapes[name] = ours(tuple(spikes.shape[2:]))
        except ValueError as error:
            raise Unsupported(name, traced.layers[name], str(error)) from None
    return shapes


def _no_idle_neurons(traced: Traced) -> None:
    for name, layer in traced.layers.items():
        if type(layer) in STATES and name not in traced.received:
            raise Unsupported(name, layer, "forward never calls it; remove it")
