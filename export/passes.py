"""Linear chains between populations: from many stages to one projection and one bias.

Between two populations a network file may hold any chain of convolutions, pools and affine maps; a
chip has one synapse. A chain is a tuple of `Stage`s; every pass takes a chain and returns a chain
that computes the same map, and leaves its argument alone. `composed` applies them until one stage
is left.

Composition is exact, zero padding included. Two convolutions merge into one where no window of the
second reaches beyond the map in between, or where what it would then see of the source is padding
too; otherwise the chain becomes a dense matrix, if that is not too large.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import gcd

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.floating import conv_adjoint, conv_sum
from spikeport.sim.synapse import (
    ConvGeometry,
    FloatConv2d,
    FloatDense,
    FloatSumPool2d,
    FloatSynapse,
    Shape,
    lowered_float,
)

Floats = NDArray[np.float64]
Chain = tuple["Stage", ...]

LARGEST_DENSE = 4_000_000  # entries of a matrix that a fallback may create


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One affine map: `synapse` applied to a source of shape `source`, plus `bias`.

    bias: float64 () or [n_out], one value a neuron in C order, added in every step. `name` is
    what messages call it.
    """

    source: Shape
    synapse: FloatSynapse
    bias: Floats = field(default_factory=lambda: np.array(0.0))
    name: str = "?"

    def __post_init__(self) -> None:
        size = int(np.prod(self.target))
        bias = np.array(self.bias, np.float64)
        if bias.shape not in ((), (size,)):
            raise ValueError(
                f"layer {self.name!r}: bias has shape {bias.shape}; allowed are () and ({size},)"
            )
        bias.flags.writeable = False
        object.__setattr__(self, "bias", bias)

    @property
    def target(self) -> Shape:
        """Shape behind the stage."""
        return self.synapse.output_shape(self.source)

    def __call__(self, x: Floats) -> Floats:
        """The map applied to [N, *source]; returns [N, *target]."""
        flat = linear_part(self.synapse, x).reshape(len(x), -1) + self.bias
        return flat.reshape(len(x), *self.target)


def linear_part(synapse: FloatSynapse, x: Floats) -> Floats:
    """`synapse` applied to [N, *source], without bias."""
    part = lowered_float(synapse, x.shape[1:])
    if isinstance(part, FloatDense):
        return x.reshape(len(x), -1) @ part.w.T
    return conv_sum(part, x)


def identity(shape: Shape) -> FloatSynapse:
    """The synapse that passes a source of `shape` on unchanged."""
    if len(shape) == 3:
        return FloatSumPool2d(kernel=(1, 1), stride=(1, 1))
    return FloatDense(w=np.eye(shape[0]))


def composed(source: Shape, chain: Chain) -> Stage:
    """One stage that computes the whole `chain` from a source of shape `source`.

    An empty chain is the identity. Raises ValueError when only a dense matrix beyond
    `LARGEST_DENSE` entries could express it.
    """
    if not chain:
        return Stage(source=source, synapse=identity(source), name="identity")
    while len(chain) > 1:
        # From the back: behind a dense layer everything folds into its rows, the cheapest way.
        chain = (*chain[:-2], merged(chain[-2], chain[-1]))
    return _collapsed(chain[0])


def merged(first: Stage, second: Stage) -> Stage:
    """`second` after `first`, as one stage."""
    a = lowered_float(first.synapse, first.source)
    b = lowered_float(second.synapse, first.target)
    synapse: FloatSynapse | None
    if isinstance(b, FloatDense):
        synapse = FloatDense(w=_rows_before(a, b.w, first.source))
    elif isinstance(a, FloatDense):
        synapse = None  # dense, then convolution: only a matrix can say it
    else:
        synapse = _conv_after_conv(a, b, first)
    name = f"{first.name}+{second.name}"
    if synapse is None:
        synapse = FloatDense(w=_matrix(first, second, name=name))
    carried = np.broadcast_to(first.bias, int(np.prod(first.target))).reshape(1, *first.target)
    bias = linear_part(second.synapse, np.array(carried)).reshape(-1) + second.bias
    return Stage(source=first.source, synapse=synapse, bias=bias, name=name)


def scaled(stage: Stage, gain: Floats) -> Stage:
    """`stage` with every output, bias included, multiplied by `gain`, () or [n_out].

    A convolution stays one when the gain is the same all over a channel; otherwise it becomes a
    dense matrix.
    """
    gain = collapse(np.asarray(gain, np.float64))
    if gain.shape == () and gain == 1:
        return stage
    synapse = lowered_float(stage.synapse, stage.source)
    if isinstance(synapse, FloatDense):
        scaled_synapse: FloatSynapse = FloatDense(w=synapse.w * gain.reshape(-1, 1))
    else:
        per_map = np.broadcast_to(gain, int(np.prod(stage.target))).reshape(stage.target[0], -1)
        if (per_map != per_map[:, :1]).any():
            dense = FloatDense(w=_dense_rows(synapse, stage))
            return scaled(replace(stage, synapse=dense), gain)
        scaled_synapse = replace(synapse, w=synapse.w * per_map[:, :1, None, None])
        if isinstance(stage.synapse, FloatSumPool2d) and gain.shape == ():
            scaled_synapse = replace(stage.synapse, w=stage.synapse.w * float(gain))
    return replace(stage, synapse=scaled_synapse, bias=stage.bias * gain)


def as_dense(stage: Stage) -> Stage:
    """`stage` as one dense matrix; refused beyond `LARGEST_DENSE` entries."""
    synapse = lowered_float(stage.synapse, stage.source)
    if isinstance(synapse, FloatDense):
        return stage
    return replace(stage, synapse=FloatDense(w=_dense_rows(synapse, stage)))


def collapse(values: Floats) -> Floats:
    """() when all entries are equal, `values` otherwise."""
    values = np.asarray(values, np.float64)
    return values.reshape(-1)[0] if values.size and (values == values.flat[0]).all() else values


def _collapsed(stage: Stage) -> Stage:
    return replace(stage, bias=np.asarray(collapse(stage.bias)))


def _rows_before(a: FloatDense | FloatConv2d, rows: Floats, source: Shape) -> Floats:
    """Dense weights seen through `a` from its source."""
    if isinstance(a, FloatDense):
        return rows @ a.w
    maps = rows.reshape(len(rows), *a.output_shape(source))
    return conv_adjoint(a, maps, source).reshape(len(rows), -1)


def _matrix(first: Stage, second: Stage, *, name: str) -> Floats:
    outputs = int(np.prod(second.target))
    _affordable(outputs * int(np.prod(first.source)), name=name)
    _affordable(outputs * int(np.prod(first.target)), name=name)
    synapse = lowered_float(second.synapse, second.source)
    rows = _rows_before(synapse, np.eye(outputs), second.source)
    return _rows_before(lowered_float(first.synapse, first.source), rows, first.source)


def _dense_rows(synapse: FloatConv2d, stage: Stage) -> Floats:
    outputs = int(np.prod(stage.target))
    _affordable(outputs * int(np.prod(stage.source)), name=stage.name)
    return _rows_before(synapse, np.eye(outputs), stage.source)


def _affordable(entries: int, *, name: str) -> None:
    if entries > LARGEST_DENSE:
        raise ValueError(
            f"layers {name!r}: only a dense matrix of {entries} entries computes them exactly, the"
            f" limit is {LARGEST_DENSE}; use map sizes that pools divide evenly, no padding behind"
            " a pool or convolution, or put a spiking layer between them"
        )


def _conv_after_conv(a: FloatConv2d, b: FloatConv2d, first: Stage) -> FloatConv2d | None:
    """The one convolution equal to `b` after `a`, or None where there is none."""
    g, h = a.geometry, b.geometry
    between = first.target
    if any(not _edges_agree(a, b, axis, first.source, between) for axis in (0, 1)):
        return None
    full_a, full_b = ungrouped(a.w, g.groups), ungrouped(b.w, h.groups)
    steps = tuple(d * s for d, s in zip(h.dilation, g.stride, strict=True))
    spans = [
        (kb - 1) * step + (ka - 1) * d + 1
        for kb, ka, step, d in zip(b.w.shape[2:], a.w.shape[2:], steps, g.dilation, strict=True)
    ]
    w = np.zeros((len(full_b), full_a.shape[1], *spans))
    for y, x in np.ndindex(*b.w.shape[2:]):
        top, left = y * steps[0], x * steps[1]
        rows = slice(top, top + (a.w.shape[2] - 1) * g.dilation[0] + 1, g.dilation[0])
        columns = slice(left, left + (a.w.shape[3] - 1) * g.dilation[1] + 1, g.dilation[1])
        w[:, :, rows, columns] += np.tensordot(full_b[:, :, y, x], full_a, axes=1)
    w, groups = _regrouped(w, (g.groups, h.groups))
    geometry = ConvGeometry(
        stride=(g.stride[0] * h.stride[0], g.stride[1] * h.stride[1]),
        padding=(
            g.padding[0] + h.padding[0] * g.stride[0],
            g.padding[1] + h.padding[1] * g.stride[1],
        ),
        groups=groups,
    )
    return FloatConv2d(w=w, geometry=geometry)


def _edges_agree(a: FloatConv2d, b: FloatConv2d, axis: int, source: Shape, between: Shape) -> bool:
    """Whether positions outside the map in between see nothing but padding of the source."""
    if b.geometry.padding[axis] == 0:
        return True
    g = a.geometry
    reach = (a.w.shape[2 + axis] - 1) * g.dilation[axis]
    before_first = reach - g.stride[axis] - g.padding[axis]  # last row seen by position -1
    after_last = between[1 + axis] * g.stride[axis] - g.padding[axis]  # first row, position n
    return before_first < 0 and after_last >= source[1 + axis]


def ungrouped(w: Floats, groups: int) -> Floats:
    """Convolution weights [C_out, C_in/groups, ...] spelled with groups=1, zeros between groups."""
    outputs, inputs = w.shape[0] // groups, w.shape[1]
    full = np.zeros((w.shape[0], inputs * groups, *w.shape[2:]))
    for k in range(groups):
        full[k * outputs : (k + 1) * outputs, k * inputs : (k + 1) * inputs] = w[
            k * outputs : (k + 1) * outputs
        ]
    return full


def regrouped(w: Floats, groups: int) -> Floats | None:
    """The inverse of `ungrouped`, or None when entries between the groups are not zero."""
    if w.shape[0] % groups or w.shape[1] % groups:
        return None
    inputs, outputs = w.shape[1] // groups, w.shape[0] // groups
    parts = [
        w[k * outputs : (k + 1) * outputs, k * inputs : (k + 1) * inputs] for k in range(groups)
    ]
    packed = np.concatenate(parts)
    return packed if np.array_equal(ungrouped(packed, groups), w) else None


def _regrouped(w: Floats, groups: tuple[int, int]) -> tuple[Floats, int]:
    for candidate in sorted({*groups, gcd(*groups)}, reverse=True):
        packed = regrouped(w, candidate)
        if packed is not None:
            return packed, candidate
    return w, 1
