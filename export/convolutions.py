"""Convolutions of convolutions, and of groups spelled out."""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.synapse import ConvGeometry, FloatConv2d, Shape

Floats = NDArray[np.float64]


def conv_after_conv(a: FloatConv2d, b: FloatConv2d, *, source: Shape) -> FloatConv2d | None:
    """The one convolution equal to `b` after `a` on a source of shape `source`.

    None where there is none: a window of `b` sees zeros beyond the map in between at a place
    where `a` would have seen part of the source.
    """
    g, h = a.geometry, b.geometry
    between = a.output_shape(source)
    if any(not _edges_agree(a, b, axis, source, between) for axis in (0, 1)):
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
