"""NIR's linear nodes as affine stages."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeport.export.nir_file import Node
from spikeport.export.passes import Stage, regrouped
from spikeport.sim.synapse import ConvGeometry, FloatConv2d, FloatDense, FloatSumPool2d, Shape


def stage_of(node: Node, source: Shape) -> Stage | None:
    """`node` behind a source of shape `source`; None for a Flatten, which moves nothing.

    Raises ValueError (without file and node, which the caller adds) when the node does not fit.
    """
    if node.type in ("Affine", "Linear"):
        return _dense(node, source)
    if node.type == "Conv2d":
        return _conv(node, source)
    if node.type in ("SumPool2d", "AvgPool2d"):
        return _pool(node, source)
    _check_flatten(node, source)
    return None


def _dense(node: Node, source: Shape) -> Stage:
    w = node.array("weight")
    if w.ndim != 2 or len(source) != 1 or w.shape[1] != source[0]:
        raise ValueError(
            f"weights of shape {w.shape} do not fit a source of shape {source}; they must be"
            " [n_out, n_in], behind a Flatten if the source is a map"
        )
    bias = np.array(0.0)
    if node.type == "Affine":
        bias = node.array("bias")
        if bias.shape != (w.shape[0],):
            raise ValueError(f"bias has shape {bias.shape}; needed is ({w.shape[0]},)")
    return Stage(name=node.name, source=source, synapse=FloatDense(w=w), bias=bias)


def _conv(node: Node, source: Shape) -> Stage:
    w = node.array("weight")
    if w.ndim != 4:
        raise ValueError(f"weights have shape {w.shape}; needed is [C_out, C_in, kH, kW]")
    stride, dilation = _pair(node, "stride"), _pair(node, "dilation")
    padding = _padding(node, w.shape[2:], dilation, stride)
    groups = int(np.asarray(node.values["groups"]).reshape(-1)[0])
    w, padding, groups = _unpacked(node, w, padding, dilation, groups)
    geometry = ConvGeometry(stride=stride, padding=padding, dilation=dilation, groups=groups)
    synapse = FloatConv2d(w=w, geometry=geometry)
    target = synapse.output_shape(source)
    bias = node.array("bias").reshape(-1)
    if bias.size not in (1, target[0]):
        raise ValueError(f"bias has {bias.size} values; needed are {target[0]}, one a channel")
    each = np.repeat(np.broadcast_to(bias, target[0]), target[1] * target[2])
    return Stage(name=node.name, source=source, synapse=synapse, bias=each)


def _unpacked(
    node: Node, w: Any, padding: tuple[int, int], dilation: tuple[int, int], groups: int
) -> tuple[Any, tuple[int, int], int]:
    """Undo what our writer did to please nir: zeros round oblong kernels and between groups."""
    rim = node.about.get("rim", [0, 0])
    w = w[:, :, rim[0] : w.shape[2] - rim[0], rim[1] : w.shape[3] - rim[1]]
    padding = (padding[0] - rim[0] * dilation[0], padding[1] - rim[1] * dilation[1])
    wanted = node.about.get("groups", groups)
    if wanted != groups:
        packed = regrouped(w, wanted)
        if packed is None:
            raise ValueError("weights between its groups are not zero; the file was edited")
        return packed, padding, wanted
    return w, padding, groups


def _padding(
    node: Node, kernel: tuple[int, ...], dilation: tuple[int, int], stride: tuple[int, int]
) -> tuple[int, int]:
    value = node.values["padding"]
    if not isinstance(value, str):
        return _pair(node, "padding")
    if value == "valid":
        return 0, 0
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if value != "same" or any(t % 2 for t in total) or stride != (1, 1):
        raise ValueError(
            f"padding is {value!r} for a kernel of {tuple(kernel)} and stride {stride}; allowed are"
            " numbers, 'valid', and 'same' for odd kernels of stride 1"
        )
    return total[0] // 2, total[1] // 2


def _pool(node: Node, source: Shape) -> Stage:
    kernel = _pair(node, "kernel_size")
    w = 1.0 if node.type == "SumPool2d" else 1 / (kernel[0] * kernel[1])
    pool = FloatSumPool2d(
        kernel=kernel, stride=_pair(node, "stride"), padding=_pair(node, "padding"), w=w
    )
    if len(source) != 3:
        raise ValueError(f"the source has shape {source}; pooling needs (C, H, W)")
    return Stage(name=node.name, source=source, synapse=pool)


def _pair(node: Node, key: str) -> tuple[int, int]:
    values = np.asarray(node.values[key]).reshape(-1)
    if values.size not in (1, 2) or values.dtype.kind not in "iuf" or (values % 1).any():
        raise ValueError(f"{key} is {node.values[key]!r}; needed are one or two whole numbers")
    return int(values[0]), int(values[-1])


def _check_flatten(node: Node, source: Shape) -> None:
    start = int(np.asarray(node.values["start_dim"]).reshape(-1)[0])
    end = int(np.asarray(node.values["end_dim"]).reshape(-1)[0])
    last = len(source) - 1
    if last and (start != 0 or end not in (-1, last)):
        raise ValueError(
            f"start_dim={start}, end_dim={end} flattens a part of a source of shape {source} only;"
            " flatten all of it"
        )
