"""torch layers without state as exact parts: affine stages, pools, flattenings.

This file knows torch and no file format. Every layer is either expressed exactly or refused in one
sentence that names it. Values are taken as they are in memory: a float32 parameter becomes the
float64 of equal value. Layers over (C, L) are those over (C, 1, L).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikeport.export.neurons import Unsupported, numbers
from spikeport.export.parts import Flat
from spikeport.export.passes import Stage
from spikeport.sim.synapse import ConvGeometry, FloatConv2d, FloatDense, FloatSumPool2d, Shape
from spikeport.train.norm import fold

Floats = NDArray[np.float64]

SUPPORTED = (
    "Linear, Conv1d, Conv2d, AvgPool1d, AvgPool2d, Flatten, BatchNorm1d, BatchNorm2d, Dropout,"
    " Identity, Leaky, Synaptic, RLeaky, RSynaptic, Lapicque, Lif, Integrator"
)
NOT_EXPORTED = f"this layer cannot be exported; supported are {SUPPORTED}"
SKIPPED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
NO_MAXIMUM = (
    "max pooling is no sum of spikes and no chip synapse can do it; use AvgPool2d or a strided"
    " Conv2d and retrain"
)

NOT_FOLDED = (
    "batch norm can be folded only into a Linear or Conv2d right before it; move it there and"
    " retrain"
)


def stateless(name: str, layer: nn.Module, shape: Shape) -> Stage | Flat:
    """`layer` for a source of `shape` as a part; Unsupported when none computes the same."""
    try:
        if isinstance(layer, nn.Linear):
            return _linear(name, layer, shape)
        if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            return _conv(name, layer, shape)
        if isinstance(layer, (nn.AvgPool1d, nn.AvgPool2d)):
            return _pool(name, layer, shape)
        if isinstance(layer, nn.Flatten):
            return _flatten(name, layer, shape)
    except Unsupported:
        raise
    except ValueError as error:
        raise Unsupported(name, layer, str(error)) from None
    if isinstance(layer, MAX_POOLS):
        raise Unsupported(name, layer, NO_MAXIMUM)
    raise Unsupported(name, layer, NOT_EXPORTED)


def _linear(name: str, layer: nn.Linear, shape: Shape) -> Stage:
    if len(shape) != 1:
        raise Unsupported(
            name, layer, f"it would act on rows of a map of shape {shape}; put a Flatten before it"
        )
    bias = np.array(0.0) if layer.bias is None else numbers(layer.bias)
    return Stage(name=name, source=shape, synapse=FloatDense(w=numbers(layer.weight)), bias=bias)


def _conv(name: str, layer: nn.Conv1d | nn.Conv2d, shape: Shape) -> Stage:
    if layer.padding_mode != "zeros":
        raise Unsupported(
            name, layer,
            f"padding_mode is {layer.padding_mode!r}, chips pad with silence only; use"
            ' padding_mode="zeros" and retrain',
        )  # fmt: skip
    w = numbers(layer.weight)
    w = w[:, :, None] if w.ndim == 3 else w
    stride, dilation = _pair(layer.stride, flat=1), _pair(layer.dilation, flat=1)
    if layer.padding == "same":
        w, padding = _same(name, layer, w, dilation=dilation)
    else:
        padding = (0, 0) if layer.padding == "valid" else _pair(layer.padding, flat=0)
    geometry = ConvGeometry(stride=stride, padding=padding, dilation=dilation, groups=layer.groups)
    synapse = FloatConv2d(w=w, geometry=geometry)
    target = synapse.output_shape(shape)
    bias = np.zeros(target[0]) if layer.bias is None else numbers(layer.bias)
    return Stage(name=name, source=shape, synapse=synapse, bias=per_neuron(bias, target))


def per_neuron(per_channel: Floats, shape: Shape) -> Floats:
    """One value a channel repeated over its map, [n] in C order."""
    return np.repeat(per_channel, int(np.prod(shape[1:])))


def _same(
    name: str, layer: nn.Module, w: Floats, *, dilation: tuple[int, int]
) -> tuple[Floats, tuple[int, int]]:
    """Padding "same" in numbers; an even kernel gets a row of zeros in front to be centred."""
    padding = []
    for axis in (0, 1):
        total = dilation[axis] * (w.shape[2 + axis] - 1)
        if total % 2 and dilation[axis] != 1:
            raise Unsupported(
                name, layer,
                "padding 'same' of an even, dilated kernel is not symmetric, which chips cannot"
                " do; use an odd kernel",
            )  # fmt: skip
        if total % 2:
            w = np.pad(w, [(1, 0) if i == 2 + axis else (0, 0) for i in range(4)])
        padding.append((total + 1) // 2)
    return w, (padding[0], padding[1])


def _pool(name: str, layer: nn.AvgPool1d | nn.AvgPool2d, shape: Shape) -> Stage:
    kernel, padding = _pair(layer.kernel_size, flat=1), _pair(layer.padding, flat=0)
    stride = kernel if layer.stride is None else _pair(layer.stride, flat=1)
    area = kernel[0] * kernel[1]
    if padding != (0, 0) and not layer.count_include_pad:
        raise Unsupported(
            name, layer,
            "with count_include_pad=False borders have weights of their own; use"
            " count_include_pad=True or padding=0",
        )  # fmt: skip
    divisor = getattr(layer, "divisor_override", None) or area
    if divisor not in (1, area):
        raise Unsupported(
            name, layer,
            f"divisor_override is {divisor}, average pooling divides by {area} and a sum by 1;"
            " drop it and scale the weights of the next layer",
        )  # fmt: skip
    pool = FloatSumPool2d(kernel=kernel, stride=stride, padding=padding, w=1 / divisor)
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


def _pair(value: Any, *, flat: int) -> tuple[int, int]:
    """(y, x) of a setting; of layers over (C, L), which keep one number, (flat, x)."""
    if isinstance(value, int):
        return int(value), int(value)
    return (flat, int(value[0])) if len(value) == 1 else (int(value[0]), int(value[1]))


def _flatten(name: str, layer: nn.Flatten, shape: Shape) -> Flat:
    if layer.start_dim != 1 or layer.end_dim not in (-1, len(shape)):
        raise Unsupported(
            name, layer,
            f"start_dim={layer.start_dim}, end_dim={layer.end_dim} flattens a part of the map only;"
            " use Flatten() as it is",
        )  # fmt: skip
    return Flat(name=name, source=shape)


def folded(name: str, norm: _BatchNorm, stage: Stage | Flat) -> Stage:
    """`stage`, a Linear or convolution right before batch norm `norm`, with the norm folded in."""
    if not isinstance(stage, Stage) or isinstance(stage.synapse, FloatSumPool2d):
        raise Unsupported(name, norm, NOT_FOLDED)
    weight = np.asarray(stage.synapse.w)
    channels = weight.shape[0]
    bias = np.broadcast_to(stage.bias, int(np.prod(stage.target))).reshape(channels, -1)[:, 0]
    shell = nn.utils.skip_init(nn.Linear, 1, 1)  # draws no random numbers
    shell.weight = nn.Parameter(torch.from_numpy(weight.copy()))
    shell.bias = nn.Parameter(torch.from_numpy(bias.copy()))
    try:
        w, shift = fold(shell, norm)
    except ValueError as error:
        raise Unsupported(name, norm, str(error)) from None
    synapse = replace(stage.synapse, w=w.detach().numpy())
    return replace(stage, synapse=synapse, bias=per_neuron(shift.detach().numpy(), stage.target))
