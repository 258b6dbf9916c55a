"""Linear chains between populations: from many stages to one projection and one bias.

Between two populations a network file may hold any chain of convolutions, pools, gains and affine
maps; a chip has one synapse. A chain is a tuple of `Stage`s and `Gain`s; every pass takes links and
returns links that compute the same map, and leaves its arguments alone. `composed` applies them
until one stage is left. Maps are flattened and reshaped between links for free: all are C order.

Composition is exact, zero padding included. Two convolutions merge into one where no window of the
second reaches beyond the map in between, or where what it would then see of the source is padding
too; otherwise the chain becomes a dense matrix, if that is not too large.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Union

import numpy as np
from numpy.typing import NDArray

from spikeport.export.convolutions import conv_after_conv
from spikeport.sim.floating import conv_adjoint, conv_sum
from spikeport.sim.synapse import (
    FloatConv2d,
    FloatDense,
    FloatSumPool2d,
    FloatSynapse,
    Shape,
    lowered_float,
)

Floats = NDArray[np.float64]
Link = Union["Stage", "Gain"]
Chain = tuple[Link, ...]

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


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Every value of a source of shape `source` times `factor`, float64 () or [n]."""

    source: Shape
    factor: Floats
    name: str = "?"

    @property
    def target(self) -> Shape:
        """Shape behind the gain, that before it."""
        return self.source

    def __call__(self, x: Floats) -> Floats:
        """The map applied to [N, *source]; returns the same shape."""
        return (x.reshape(len(x), -1) * self.factor).reshape(x.shape)


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
    link = chain[0]
    if isinstance(link, Gain):
        alone = Stage(source=source, synapse=identity(source), name=link.name)
        link = scaled(alone, link.factor)
    elif link.source != source:  # reshaped before the first link
        link = replace(as_dense(link), source=source)
    return _collapsed(link)


def merged(first: Link, second: Link) -> Link:
    """`second` after `first`, as one link."""
    name = f"{first.name}+{second.name}"
    if isinstance(second, Gain):
        if isinstance(first, Gain):
            return replace(first, factor=first.factor * second.factor, name=name)
        return replace(scaled(first, second.factor), name=name)
    if isinstance(first, Gain):
        return replace(_weighted(second, first.factor), source=first.source, name=name)
    a = lowered_float(first.synapse, first.source)
    b = lowered_float(second.synapse, second.source)
    synapse: FloatSynapse | None
    if isinstance(b, FloatDense):
        synapse = FloatDense(w=_rows_before(a, b.w, first.source))
    elif isinstance(a, FloatDense) or first.target != second.source:
        synapse = None  # dense or reshaped, then convolution: only a matrix can say it
    else:
        synapse = conv_after_conv(a, b, source=first.source)
    if synapse is None:
        synapse = FloatDense(w=_matrix(first, second, name=name))
    bias = second.bias
    if first.bias.any():
        size = int(np.prod(first.target))
        carried = np.array(np.broadcast_to(first.bias, size)).reshape(1, *second.source)
        bias = linear_part(second.synapse, carried).reshape(-1) + bias
    return Stage(source=first.source, synapse=synapse, bias=bias, name=name)


def _weighted(stage: Stage, factor: Floats) -> Stage:
    """`stage` with its inputs, [n] or (), multiplied by `factor` beforehand."""
    each = np.broadcast_to(factor, int(np.prod(stage.source)))
    synapse = lowered_float(stage.synapse, stage.source)
    if isinstance(synapse, FloatConv2d):
        per_map = each.reshape(stage.source[0], -1)
        if (per_map == per_map[:, :1]).all():
            groups, w = synapse.geometry.groups, synapse.w
            channel = per_map[:, 0].reshape(groups, 1, w.shape[1], 1, 1)
            parts = w.reshape(groups, -1, *w.shape[1:]) * channel
            return replace(stage, synapse=replace(synapse, w=parts.reshape(w.shape)))
        synapse = FloatDense(w=_dense_rows(synapse, stage))
    return replace(stage, synapse=FloatDense(w=synapse.w * each))


def added(first: Stage, second: Stage) -> Stage | None:
    """The sum of two stages of the same source and target, or None where they do not add up to
    one synapse without becoming a matrix."""
    a, b = first.synapse, second.synapse
    if not isinstance(a, FloatDense) or not isinstance(b, FloatDense):
        return None
    name = f"{first.name}, {second.name}"
    synapse = FloatDense(w=a.w + b.w)
    return replace(first, synapse=synapse, bias=first.bias + second.bias, name=name)


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
