"""NIR's linear nodes as links of a chain of affine maps, and the shapes that they see.

A shape has two sides: what the file says, (C, L) for instance, and what we keep: a map stays a map
behind a Flatten, because values are in C order on either side of it, and (C, L) is (C, 1, L).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.export.convolutions import regrouped
from spikeport.export.nir_file import Node
from spikeport.export.passes import Gain, Link, Stage, collapse
from spikeport.sim.synapse import ConvGeometry, FloatConv2d, FloatDense, FloatSumPool2d, Shape

Floats = NDArray[np.float64]

LARGEST_MAP = 100_000_000  # values behind a convolution; a Loihi 2 has 1e6 neurons


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Shape of a node's values as the file sees it, and as ours: (n,) or (C, H, W)."""

    file: Shape
    ours: Shape

    @property
    def size(self) -> int:
        """How many values that is."""
        return int(np.prod(self.file))


def link_of(node: Node, source: Shapes) -> tuple[Link | None, Shapes]:
    """`node` behind `source`, and the shapes behind it; None where the values stay as they are.

    Raises ValueError (without file and node, which the caller adds) when the node does not fit.
    """
    if node.type in ("Affine", "Linear"):
        stage = _dense(node, source)
        return stage, Shapes(file=stage.target, ours=stage.target)
    if node.type in ("Conv1d", "Conv2d"):
        stage = _conv(node, _map(source.file, flat=node.type == "Conv1d"))
        ours = stage.target
        file = (ours[0], ours[2]) if node.type == "Conv1d" else ours
        return stage, Shapes(file=file, ours=ours)
    if node.type in ("SumPool2d", "AvgPool2d"):
        stage = _pool(node, _map(source.file, flat=False))
        return stage, Shapes(file=stage.target, ours=stage.target)
    if node.type == "Scale":
        factor = each(node, "scale", source.file)
        return Gain(source=source.ours, factor=factor, name=node.name), source
    if node.type == "Flatten":
        return None, Shapes(file=_flattened(node, source.file), ours=source.ours)
    return None, source


def each(node: Node, key: str, shape: Shape, *, default: float | None = None) -> Floats:
    """A parameter for values of `shape`: () where they share one, else [n] in C order.

    It may have one value, as many as there are, or `shape` with ones in it. Raises ValueError
    (without file and node) for anything else.
    """
    value = node.array(key, default=default)
    size = int(np.prod(shape))
    if value.size == 1:
        return value.reshape(())
    if value.size != size and value.ndim == len(shape):
        if all(n in (1, wanted) for n, wanted in zip(value.shape, shape, strict=True)):
            value = np.broadcast_to(value, shape)
    if value.size != size:
        raise ValueError(f"{key} has {value.size} values, but {size} values arrive")
    return collapse(value.reshape(-1))


def _map(shape: Shape, *, flat: bool) -> Shape:
    """(C, H, W) of a source that must be a map, (C, L) being one of height 1."""
    if flat and len(shape) == 2:
        return (shape[0], 1, shape[1])
    if flat or len(shape) != 3:
        needed = "(C, L)" if flat else "(C, H, W)"
        raise ValueError(f"the source has shape {shape}; needed is {needed}")
    return shape


def _dense(node: Node, source: Shapes) -> Stage:
    w = node.array("weight")
    # Behind a Flatten that leaves channels apart, as many inputs as values mean all of them.
    flat = len(source.file) <= 2 or max(source.file) == source.size
    if w.ndim != 2 or not flat or w.shape[1] != source.size:
        raise ValueError(
            f"weights of shape {w.shape} do not fit a source of shape {source.file}; they must be"
            " [n_out, n_in], behind a Flatten if the source is a map"
        )
    bias = np.array(0.0)
    if node.type == "Affine":
        bias = node.array("bias")
        if bias.shape != (w.shape[0],):
            raise ValueError(f"bias has shape {bias.shape}; needed is ({w.shape[0]},)")
    return Stage(name=node.name, source=source.ours, synapse=FloatDense(w=w), bias=bias)


def _conv(node: Node, source: Shape) -> Stage:
    w = node.array("weight")
    needed = "[C_out, C_in, k]" if node.type == "Conv1d" else "[C_out, C_in, kH, kW]"
    if w.ndim != needed.count(",") + 1:
        raise ValueError(f"weights have shape {w.shape}; needed is {needed}")
    if node.type == "Conv1d":
        w = w[:, :, None]
    stride, dilation = _pair(node, "stride"), _pair(node, "dilation")
    padding = _padding(node, w.shape[2:], dilation, stride)
    groups = _one(node, "groups")
    w, padding, groups = _unpacked(node, w, padding, dilation, groups)
    geometry = ConvGeometry(stride=stride, padding=padding, dilation=dilation, groups=groups)
    synapse = FloatConv2d(w=w, geometry=geometry)
    target = _affordable(synapse.output_shape(source))
    bias = node.array("bias").reshape(-1)
    if bias.size not in (1, target[0]):
        raise ValueError(f"bias has {bias.size} values; needed are {target[0]}, one a channel")
    bias = np.repeat(np.broadcast_to(bias, target[0]), target[1] * target[2])
    return Stage(name=node.name, source=source, synapse=synapse, bias=bias)


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
    padding = _pair(node, "padding")
    if any(k > n + 2 * p for k, n, p in zip(kernel, source[1:], padding, strict=True)):
        raise ValueError(f"kernel {kernel} does not fit a map of {source[1:]} padded by {padding}")
    _affordable((source[0], *kernel), what="kernel")
    pool = FloatSumPool2d(kernel=kernel, stride=_pair(node, "stride"), padding=padding)
    if node.type == "AvgPool2d":
        pool = replace(pool, w=1 / (kernel[0] * kernel[1]))
    _affordable(pool.output_shape(source))
    return Stage(name=node.name, source=source, synapse=pool)


def _affordable(shape: Shape, *, what: str = "output") -> Shape:
    """`shape`, unless no computer could hold what has it."""
    if prod(shape) > LARGEST_MAP:
        raise ValueError(f"its {what} would have shape {shape}, more than chips hold; see padding")
    return shape


def _one(node: Node, key: str) -> int:
    values = np.asarray(node.values[key]).reshape(-1)
    if values.size != 1 or values[0] % 1:
        raise ValueError(
            f"{key} is {np.asarray(node.values[key]).tolist()!r}; needed is one whole number"
        )
    return int(values[0])


def _pair(node: Node, key: str) -> tuple[int, int]:
    """(y, x); of a Conv1d (neutral, x)."""
    values = np.asarray(node.values[key]).reshape(-1)
    most = 1 if node.type == "Conv1d" else 2
    if not 1 <= values.size <= most or values.dtype.kind not in "iuf" or (values % 1).any():
        needed = "one whole number" if most == 1 else "one or two whole numbers"
        raise ValueError(f"{key} is {np.asarray(node.values[key]).tolist()!r}; needed is {needed}")
    if node.type == "Conv1d":
        return (0 if key == "padding" else 1), int(values[0])
    return int(values[0]), int(values[-1])


def _flattened(node: Node, source: Shape) -> Shape:
    """Shape behind a Flatten; the values stay where they are."""
    rank = len(source)
    start, end = _one(node, "start_dim"), _one(node, "end_dim")
    if rank == 1:
        return source
    whole = np.asarray(node.values.get("input_type", source)).reshape(-1)
    if len(whole) == rank + 1 and (whole[1:] == source).all():
        # It counts a batch as dimension 0, which is none of ours.
        start, end = (max(d - 1, 0) if d >= 0 else max(d, -rank) for d in (start, end))
    if not (-rank <= start < rank and -rank <= end < rank and start % rank <= end % rank):
        raise ValueError(
            f"start_dim={start}, end_dim={end} do not fit a source of shape {source}; dimensions"
            " are counted without batch and time"
        )
    start, end = start % rank, end % rank
    return (*source[:start], int(np.prod(source[start : end + 1])), *source[end + 1 :])
