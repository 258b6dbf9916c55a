"""torch and snnTorch layers as exact parts: affine stages, flattenings, populations.

This file knows torch and no file format. Every layer is either expressed exactly or refused in one
sentence that names it. Dropout and Identity vanish, batch norm folds into the layer before it
(evaluation statistics), a spike amplitude folds into the layer behind it. Values are taken as they
are in memory: a float32 parameter becomes the float64 of equal value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikeport.export.neurons import NEURONS, Unsupported, amplitude, numbers, population
from spikeport.export.passes import Stage, scaled
from spikeport.sim.net import FloatPopulation
from spikeport.sim.synapse import ConvGeometry, FloatConv2d, FloatDense, FloatSumPool2d, Shape
from spikeport.train.norm import fold

Floats = NDArray[np.float64]

SUPPORTED = (
    "Linear, Conv2d, AvgPool2d, Flatten, BatchNorm1d, BatchNorm2d, Dropout, Identity, Leaky,"
    " Synaptic, Lif, Integrator"
)
SKIPPED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@dataclass(frozen=True, kw_only=True)
class Flat:
    """Flattening of a map in C order."""

    name: str
    source: Shape

    @property
    def target(self) -> Shape:
        return (int(np.prod(self.source)),)


Part = Union[Stage, Flat, FloatPopulation]  # noqa: UP007 (evaluated at run time)


def named_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers of a Sequential in order, nested ones opened ("block.lif"), repeated ones repeated."""
    for name, child in module._modules.items():
        if isinstance(child, nn.Sequential):
            yield from ((f"{name}.{inner}", layer) for inner, layer in named_layers(child))
        elif child is not None:
            yield name, child


def parts(module: nn.Sequential, source: Shape) -> list[Part]:
    """The parts of `module` for inputs of shape `source` (no time, no batch), in order.

    Raises Unsupported naming the first layer that cannot be expressed exactly.
    """
    result: list[Part] = []
    shape, factor = source, 1.0
    loud: tuple[str, nn.Module] = ("input", module)  # where the factor came from
    seen: dict[int, str] = {}
    for name, layer in named_layers(module):
        if isinstance(layer, SKIPPED):
            continue
        _check_name(name, layer, seen)
        if isinstance(layer, _BatchNorm):
            result.append(_folded(name, layer, result))
            continue
        part = _part(name, layer, shape)
        if isinstance(part, Stage) and not isinstance(part.synapse, FloatSumPool2d):
            part, factor = _amplified(part, factor), 1.0
        if isinstance(part, FloatPopulation):
            _no_amplitude_left(factor, *loud)
            factor, loud = amplitude(name, layer), (name, layer)
        result.append(part)
        shape = part.shape if isinstance(part, FloatPopulation) else part.target
    if not result or not isinstance(result[-1], FloatPopulation):
        last = result[-1].name if result else "none"
        raise ValueError(
            f"the network ends with layer {last!r}, which has no neurons; end it with spiking"
            " neurons (readout 'count') or an Integrator (readout 'last_v')"
        )
    _no_amplitude_left(factor, *loud)
    return result


def _check_name(name: str, layer: nn.Module, seen: dict[int, str]) -> None:
    if name in ("input", "output") or "/" in name:
        raise Unsupported(name, layer, "this name is reserved in network files; rename the layer")
    if isinstance(layer, NEURONS) and id(layer) in seen:
        raise Unsupported(
            name, layer,
            f"it is the same object as layer {seen[id(layer)]!r} and would share its state; create"
            " one layer of neurons for each place",
        )  # fmt: skip
    seen[id(layer)] = name


def _part(name: str, layer: nn.Module, shape: Shape) -> Part:
    try:
        if isinstance(layer, nn.Linear):
            return _linear(name, layer, shape)
        if isinstance(layer, nn.Conv2d):
            return _conv(name, layer, shape)
        if isinstance(layer, nn.AvgPool2d):
            return _pool(name, layer, shape)
        if isinstance(layer, nn.Flatten):
            return _flatten(name, layer, shape)
        if type(layer) in NEURONS:
            return population(name, layer, shape)
    except Unsupported:
        raise
    except ValueError as error:
        raise Unsupported(name, layer, str(error)) from None
    if isinstance(layer, nn.MaxPool2d):
        raise Unsupported(
            name, layer,
            "max pooling is no sum of spikes and no chip synapse can do it; use AvgPool2d or a"
            " strided Conv2d and retrain",
        )  # fmt: skip
    raise Unsupported(name, layer, f"this layer cannot be exported; supported are {SUPPORTED}")


def _linear(name: str, layer: nn.Linear, shape: Shape) -> Stage:
    if len(shape) != 1:
        raise Unsupported(
            name, layer, f"it would act on rows of a map of shape {shape}; put a Flatten before it"
        )
    bias = np.array(0.0) if layer.bias is None else numbers(layer.bias)
    return Stage(name=name, source=shape, synapse=FloatDense(w=numbers(layer.weight)), bias=bias)


def _conv(name: str, layer: nn.Conv2d, shape: Shape) -> Stage:
    if layer.padding_mode != "zeros":
        raise Unsupported(
            name, layer,
            f"padding_mode is {layer.padding_mode!r}, chips pad with silence only; use"
            ' padding_mode="zeros" and retrain',
        )  # fmt: skip
    w = numbers(layer.weight)
    if layer.padding == "same":
        w, padding = _same(name, layer, w)
    else:
        padding = (0, 0) if layer.padding == "valid" else _pair(layer.padding)
    geometry = ConvGeometry(
        stride=_pair(layer.stride),
        padding=padding,
        dilation=_pair(layer.dilation),
        groups=layer.groups,
    )
    synapse = FloatConv2d(w=w, geometry=geometry)
    target = synapse.output_shape(shape)
    bias = np.zeros(target[0]) if layer.bias is None else numbers(layer.bias)
    return Stage(name=name, source=shape, synapse=synapse, bias=per_neuron(bias, target))


def per_neuron(per_channel: Floats, shape: Shape) -> Floats:
    """One value a channel repeated over its map, [n] in C order."""
    return np.repeat(per_channel, int(np.prod(shape[1:])))


def _same(name: str, layer: nn.Conv2d, w: Floats) -> tuple[Floats, tuple[int, int]]:
    """Padding "same" in numbers; an even kernel gets a row of zeros in front to be centred."""
    padding = []
    for axis in (0, 1):
        total = layer.dilation[axis] * (w.shape[2 + axis] - 1)
        if total % 2 and layer.dilation[axis] != 1:
            raise Unsupported(
                name, layer,
                "padding 'same' of an even, dilated kernel is not symmetric, which chips cannot"
                " do; use an odd kernel",
            )  # fmt: skip
        if total % 2:
            w = np.pad(w, [(1, 0) if i == 2 + axis else (0, 0) for i in range(4)])
        padding.append((total + 1) // 2)
    return w, (padding[0], padding[1])


def _pool(name: str, layer: nn.AvgPool2d, shape: Shape) -> Stage:
    kernel, padding = _pair(layer.kernel_size), _pair(layer.padding)
    stride = kernel if layer.stride is None else _pair(layer.stride)
    area = kernel[0] * kernel[1]
    if padding != (0, 0) and not layer.count_include_pad:
        raise Unsupported(
            name, layer,
            "with count_include_pad=False borders have weights of their own; use"
            " count_include_pad=True or padding=0",
        )  # fmt: skip
    if layer.divisor_override not in (None, area):
        raise Unsupported(
            name, layer,
            f"divisor_override is {layer.divisor_override}, average pooling divides by {area};"
            " drop it and scale the weights of the next layer",
        )  # fmt: skip
    pool = FloatSumPool2d(kernel=kernel, stride=stride, padding=padding, w=1 / area)
    stage = Stage(name=name, source=shape, synapse=pool)
    uneven = any(
        (n + 2 * p - k) % s for n, p, k, s in zip(shape[1:], padding, kernel, stride, strict=True)
    )
    if layer.ceil_mode and uneven:
        raise Unsupported(
            name, layer,
            f"ceil_mode adds windows that reach beyond a map of {shape[1:]}; use ceil_mode=False"
            " or a map size that the stride divides",
        )  # fmt: skip
    return stage


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _flatten(name: str, layer: nn.Flatten, shape: Shape) -> Flat:
    if layer.start_dim != 1 or layer.end_dim not in (-1, len(shape)):
        raise Unsupported(
            name, layer,
            f"start_dim={layer.start_dim}, end_dim={layer.end_dim} flattens a part of the map only;"
            " use Flatten() as it is",
        )  # fmt: skip
    return Flat(name=name, source=shape)


def _folded(name: str, norm: _BatchNorm, before: list[Part]) -> Stage:
    """The stage before a batch norm, popped from `before`, with the norm folded in."""
    stage = before.pop() if before else None
    if not isinstance(stage, Stage) or isinstance(stage.synapse, FloatSumPool2d):
        raise Unsupported(
            name, norm,
            "batch norm can be folded only into a Linear or Conv2d right before it; move it there"
            " and retrain",
        )  # fmt: skip
    weight = np.asarray(stage.synapse.w)
    channels = weight.shape[0]
    bias = np.broadcast_to(stage.bias, int(np.prod(stage.target))).reshape(channels, -1)[:, 0]
    shell = nn.Linear(1, 1)
    shell.weight = nn.Parameter(torch.from_numpy(weight.copy()))
    shell.bias = nn.Parameter(torch.from_numpy(bias.copy()))
    try:
        folded, shift = fold(shell, norm)
    except ValueError as error:
        raise Unsupported(name, norm, str(error)) from None
    synapse = replace(stage.synapse, w=folded.detach().numpy())
    return replace(stage, synapse=synapse, bias=per_neuron(shift.detach().numpy(), stage.target))


def _amplified(stage: Stage, factor: float) -> Stage:
    """`stage` with its weights, but not its bias, multiplied by `factor`."""
    if factor == 1.0:
        return stage
    return replace(scaled(stage, np.array(factor)), bias=stage.bias)


def _no_amplitude_left(factor: float, name: str, layer: nn.Module) -> None:
    if factor != 1.0:
        raise Unsupported(
            name, layer,
            f"a graded_spikes_factor of {factor:g} has no Linear or Conv2d behind it to fold"
            " into; set it to 1",
        )  # fmt: skip
