"""Weights laid out for sums by events, and the sums: dense synapses by `Rows`, convolutions by
`Taps`. Both take spikes [N, ...], where anything but 0 is a spike, and give int32 [N, n_out]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.events_kernel import CHUNK, STRIP, sum_rows, sum_single_taps, sum_taps
from spikeport.sim.synapse import Conv2d, Shape

WORD = 64


def packed(s: NDArray[Any]) -> NDArray[np.uint64]:
    """The spikes of `s` [N, ...] as ones in words [N, ceil(n / 64)], lowest bit first."""
    rows = s.reshape(len(s), -1)
    bits = np.packbits(rows if rows.dtype == np.uint8 else rows != 0, axis=1, bitorder="little")
    padded = np.zeros((len(rows), -(-rows.shape[1] // WORD) * 8), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view("<u8").astype(np.uint64, copy=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """A dense synapse. w: int8 or int16 [n_in, n_out padded], to be shifted left by `left`."""

    w: NDArray[Any]
    n_out: int
    left: int

    @classmethod
    def of(cls, w: NDArray[Any]) -> Rows:
        """Of weights [n_out, n_in] within +-256. Even ones are halved, and fit half the memory."""
        n_out, n_in = w.shape
        left = 0 if (w & 1).any() else 1
        halved = w >> left
        small = -128 <= halved.min() and halved.max() <= 127
        laid_out = np.zeros((n_in, -(-n_out // STRIP) * STRIP), np.int8 if small else np.int16)
        laid_out[:, :n_out] = halved.T
        return cls(w=laid_out, n_out=n_out, left=left)

    def __call__(self, s: NDArray[Any]) -> NDArray[np.int32]:
        out = np.empty((len(s), self.n_out), np.int32)
        sum_rows(packed(s), self.w, self.left, out)
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Taps:
    """A convolution: for every pixel p of a channel and e in first[p] .. first[p + 1] - 1 the pixel
    to[e] that it reaches through tap[e]. w: int16 [C_in, taps, outputs of a group, padded]; int32
    [C_in, taps] where each channel has one output of its own. channel, pixel: of every input."""

    w: NDArray[Any]
    shape: Shape
    groups: int
    channel: NDArray[np.int32]
    pixel: NDArray[np.int32]
    first: NDArray[np.int32]
    to: NDArray[np.int32]
    tap: NDArray[np.int32]

    @classmethod
    def of(cls, conv: Conv2d, source: Shape) -> Taps:
        """Of `conv` behind a map of shape `source`, (C, H, W)."""
        shape = conv.output_shape(source)
        groups = conv.geometry.groups
        per_out, per_in = len(conv.w) // groups, conv.w.shape[1]
        w = conv.w.reshape(groups, per_out, per_in, -1).transpose(0, 2, 3, 1)
        w = w.reshape(groups * per_in, -1, per_out)
        if per_out == per_in == 1:
            laid_out = np.ascontiguousarray(w[..., 0], np.int32)
        else:  # in C order, which the kernel counts on
            laid_out = np.zeros((*w.shape[:2], -(-per_out // CHUNK) * CHUNK), np.int16)
            laid_out[..., :per_out] = w
        channel, pixel = np.divmod(
            np.arange(np.prod(source), dtype=np.int32), source[1] * source[2]
        )
        first, to, tap = reach(conv, source)
        return cls(
            w=laid_out, shape=shape, groups=groups, channel=channel.astype(np.int32),
            pixel=pixel.astype(np.int32), first=first, to=to, tap=tap,
        )  # fmt: skip

    def __call__(self, s: NDArray[Any]) -> NDArray[np.int32]:
        out = np.empty((len(s), self.shape[0], self.shape[1] * self.shape[2]), np.int32)
        where = (self.channel, self.pixel, self.first, self.to, self.tap)
        if self.w.ndim == 2:
            sum_single_taps(packed(s), self.w, *where, out)
        else:
            sum_taps(packed(s), self.w, *where, self.groups, out)
        return out.reshape(len(s), -1)


def reach(conv: Conv2d, source: Shape) -> tuple[NDArray[np.int32], ...]:
    """`first`, `to` and `tap` of `Taps`, all int32."""
    _, height, width = conv.output_shape(source)
    g, (tall, wide) = conv.geometry, conv.w.shape[2:]
    i, j, ky, kx = np.ogrid[:height, :width, :tall, :wide]
    y = i * g.stride[0] - g.padding[0] + ky * g.dilation[0]
    x = j * g.stride[1] - g.padding[1] + kx * g.dilation[1]
    inside = (y >= 0) & (y < source[1]) & (x >= 0) & (x < source[2])
    pixels, to, tap = (
        np.broadcast_to(a, inside.shape)[inside]
        for a in (y * source[2] + x, i * width + j, ky * wide + kx)
    )
    order = np.argsort(pixels, kind="stable")
    first = np.searchsorted(pixels[order], np.arange(source[1] * source[2] + 1))
    return first.astype(np.int32), to[order].astype(np.int32), tap[order].astype(np.int32)
