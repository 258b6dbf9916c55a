"""Exact products of integers through floating-point BLAS: dense synapses and convolutions.

A float sum of integers is exact in any order when no partial sum can leave the mantissa. Sources
are never negative, so every partial sum lies between the sum of the negative weights and the sum
of the positive ones, times the largest source value.

| product   | proof needed       | typical use                                     |
|-----------|--------------------|-------------------------------------------------|
| `float32` | largest sum < 2**24 | spikes; 8-bit pixels into up to 256 weights     |
| `float64` | largest sum < 2**53 | everything else that fits a chip                |
| `int64`   | none               | sums no chip can hold; numpy's own slow product |

Dense synapses that see spikes have a second way, taken where spikes are rare: `events` adds up, in
int32, the weight rows of the inputs that spiked. It wraps as Lava does and needs no proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import FLOAT32_EXACT, FLOAT64_EXACT, U_LIMIT
from spikeport.sim.kernel import sum_events
from spikeport.sim.parts import Projection
from spikeport.sim.reference import delivered
from spikeport.sim.synapse import Conv2d, Dense, Shape, largest_sum, lowered

COLUMN_BYTES = 8 << 20  # columns of one block of images; small enough for a cache
# Measured: adding rows wins below a quarter of spikes, once rows fill a few vector registers.
EVENTS_BELOW, EVENTS_WIDTH = 0.25, 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """One projection, prepared. delay: in model time; part: what it computes; w: its weights, float
    or int64, dense [n_in, n_out] or convolution [groups, C_out/groups, taps]; bound: largest
    magnitude of any partial sum; events: int16 [n_in, n_out] where sums by events are possible,
    else None."""

    source: str
    delay: int
    part: Dense | Conv2d
    source_shape: Shape
    w: NDArray[Any]
    bound: int
    events: NDArray[np.int16] | None

    @property
    def arithmetic(self) -> str:
        """ "float32", "float64" or "int64"."""
        return self.w.dtype.name

    @property
    def w_exp(self) -> int:
        """Shift of the sum that is still to be applied."""
        return self.part.w_exp if isinstance(self.part, Dense) else 0

    @property
    def plain(self) -> bool:
        """Whether the sum needs nothing but the shift: it is a float32 below every wrap."""
        wraps = isinstance(self.part, Conv2d) and self.bound >= U_LIMIT
        return self.arithmetic == "float32" and not wraps

    def __call__(self, s: NDArray[Any]) -> NDArray[Any]:
        """Sums [T, B, n_out], of the weights' type or int32, for source values [T, B, ...]."""
        if self.events is not None and _sparse(s):
            return add_events(s, self.events)
        rows = s.astype(self.w.dtype, copy=False).reshape(-1, *self.source_shape)
        total: NDArray[Any]
        if isinstance(self.part, Dense):
            total = rows.reshape(len(rows), -1) @ self.w
        else:
            total = convolve(rows, self.part, w=self.w)
        return total.reshape(*s.shape[:2], -1)

    def delivered(self, s: NDArray[Any]) -> NDArray[np.int32]:
        """What arrives of source values [T, B, ...]: int32 [T, B, n_out], shifted and wrapped."""
        total = self(s)
        if self.plain or total.dtype == np.int32:
            # Shifts of int32 drop high bits and floor, as Lava's do.
            total = total.astype(np.int32, copy=False)
            return total << self.w_exp if self.w_exp >= 0 else total >> -self.w_exp
        return delivered(self.part, total.astype(np.int64)).astype(np.int32)


def prepare(projection: Projection, *, shape: Shape, largest: int) -> Product:
    """The product of `projection` with sources of `shape` whose entries lie in 0..largest."""
    part = lowered(projection.synapse, shape)
    w = part.w_chip if isinstance(part, Dense) else part.w.astype(np.int64)
    rows = w.reshape(len(w), -1)
    bound = largest_sum(part, largest=largest)
    wide = np.float64 if bound < FLOAT64_EXACT else np.int64
    arithmetic = np.float32 if bound < FLOAT32_EXACT else wide
    events = None
    if isinstance(part, Dense):
        laid_out = rows.astype(arithmetic).T
        if largest == 1 and len(rows) >= EVENTS_WIDTH:
            events = np.ascontiguousarray(rows.T, np.int16)
    else:
        groups = part.geometry.groups
        laid_out = rows.astype(arithmetic).reshape(groups, len(rows) // groups, -1)
    return Product(
        source=projection.source, delay=projection.delay, part=part, source_shape=shape,
        w=laid_out, bound=bound, events=events,
    )  # fmt: skip


def _sparse(s: NDArray[Any]) -> bool:
    """Whether few of the values [T, B, ...] are spikes, judged by every fourth step."""
    some = s[::4]
    return bool(np.count_nonzero(some) < EVENTS_BELOW * some.size)


def add_events(s: NDArray[Any], w: NDArray[np.int16]) -> NDArray[np.int32]:
    """Sums int32 [T, B, n_out] of the rows of `w` [n_in, n_out] where s [T, B, ...] is not 0."""
    out = np.empty((*s.shape[:2], w.shape[1]), np.int32)
    sum_events(s.reshape(-1, len(w)), w, out.reshape(-1, w.shape[1]))
    return out


def convolve(s: NDArray[Any], conv: Conv2d, *, w: NDArray[Any]) -> NDArray[Any]:
    """Cross-correlation of [N, C, H, W] as matrix products of image columns; [N, n_out].

    w: [groups, C_out/groups, taps]. The columns are made block by block, so that they stay small.
    """
    count = len(s)
    shape = conv.output_shape(s.shape[1:])
    groups, per_out, taps = w.shape
    pixels = shape[1] * shape[2]
    out = np.empty((count, groups, per_out, pixels), w.dtype)
    block = max(1, COLUMN_BYTES // (groups * taps * pixels * w.itemsize))
    for first in range(0, count, block):
        columns = _columns(s[first : first + block], conv, size=shape[1:])
        columns = columns.reshape(len(columns), groups, taps, pixels)
        np.matmul(w, columns, out=out[first : first + block])
    return out.reshape(count, -1)


def _columns(s: NDArray[Any], conv: Conv2d, *, size: Shape) -> NDArray[Any]:
    """[N, C, kH, kW, H_out, W_out]: what each tap of the kernel sees."""
    (pad_y, pad_x), geometry = conv.geometry.padding, conv.geometry
    padded = np.pad(s, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    count, channels, _, _ = s.shape
    n, c, y, x = padded.strides
    view = np.lib.stride_tricks.as_strided(
        padded,
        shape=(count, channels, *conv.w.shape[2:], *size),
        strides=(
            n, c, y * geometry.dilation[0], x * geometry.dilation[1],
            y * geometry.stride[0], x * geometry.stride[1],
        ),
        writeable=False,
    )  # fmt: skip
    return np.ascontiguousarray(view)
