"""Exact products of integers: dense synapses and convolutions, the fastest way each time.

A float sum of integers is exact in any order when no partial sum can leave the mantissa. Sources
are never negative, so every partial sum lies between the sum of the negative weights and the sum
of the positive ones, times the largest source value.

| product   | proof needed       | typical use                                     |
|-----------|--------------------|-------------------------------------------------|
| `float32` | largest sum < 2**24 | spikes; 8-bit pixels into up to 256 weights     |
| `float64` | largest sum < 2**53 | everything else that fits a chip                |
| `int64`   | none               | sums no chip can hold; numpy's own slow product |

Sources that send spikes, that is 0 or 1, open two more ways. `events` adds up, in int32, the
weights of the inputs that spiked; it wraps as Lava does, needs no proof and wins where spikes are
rare. `int8`, a product of bytes, and `conv2d`, a convolution without columns, are torch's
(`product_torch.py`), where float32 would do, the process has torch loaded and its answers are
exact. `Product.way` chooses; all give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import FLOAT32_EXACT, FLOAT64_EXACT, U_LIMIT
from spikeport.sim.events import Rows, Taps
from spikeport.sim.parts import Projection
from spikeport.sim.product_torch import CONV2D, INT8, Convolved, Int8, offered
from spikeport.sim.reference import delivered
from spikeport.sim.synapse import Conv2d, Dense, Shape, largest_sum, lowered

COLUMN_BYTES = 8 << 20  # columns of one block of images; small enough for a cache
# Measured: rates of spikes below which events win, against torch and numpy. Weights
# that leave the caches are read from memory once a product, but once a spike by events.
DENSE_EVENTS_BELOW, CONV_EVENTS_BELOW = (0.15, 0.5), (0.05, 0.3)
CACHED_WEIGHTS, BEYOND = 1 << 22, 1 / 3
EVENTS_WIDTH = 64  # dense outputs from which on rows fill the registers
# torch costs a call, worth it from so many multiplications on, of so many a sample at least; and
# its convolution of a few channels is slower than one by columns.
TORCH_FROM, TORCH_LEAST, TORCH_CHANNELS = 1 << 20, 1 << 10, 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """One projection, prepared. delay: in model time; part: what it computes; w: its weights, float
    or int64, dense [n_in, n_out] or convolution [groups, C_out/groups, taps]; bound: largest
    magnitude of any partial sum; spikes: whether its source sends nothing but zeros and ones."""

    source: str
    delay: int
    part: Dense | Conv2d
    source_shape: Shape
    w: NDArray[Any]
    bound: int
    spikes: bool

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

    @property
    def events(self) -> bool:
        """Whether sums by events are possible and ever worth it."""
        if isinstance(self.part, Dense):
            return self.spikes and len(self.part.w) >= EVENTS_WIDTH
        return self.spikes and self.plain

    @property
    def torch(self) -> str:
        """The way of torch that is exact here and ever worth it, "int8" or "conv2d", or ""."""
        if not (self.spikes and self.plain and self._work >= TORCH_LEAST):
            return ""
        if isinstance(self.part, Dense):
            return INT8 if offered(INT8) else ""
        single = len(self.part.w) == self.part.geometry.groups
        fits = single or self.part.w.shape[1] >= TORCH_CHANNELS
        return CONV2D if fits and offered(CONV2D) else ""

    def way(self, s: NDArray[Any]) -> str:
        """How the sums of source values [T, B, ...] are computed: by "events", by torch's "int8" or
        "conv2d", or by numpy in `arithmetic`."""
        much = s.dtype == np.uint8 and len(s) * s.shape[1] * self._work >= TORCH_FROM
        torch = self.torch if much else ""
        if self.events:
            dense = isinstance(self.part, Dense)
            below = (DENSE_EVENTS_BELOW if dense else CONV_EVENTS_BELOW)[0 if torch else 1]
            below *= BEYOND if self.part.w.size > CACHED_WEIGHTS else 1
            some = s[::4]  # a sample of the steps says enough
            if np.count_nonzero(some) < below * some.size:
                return "events"
        return torch or self.arithmetic

    @cached_property
    def _work(self) -> int:
        """Multiplications of one step of one sample; of a convolution about."""
        return self.part.w.size * int(np.prod(self.part.output_shape(self.source_shape)[1:]))

    def __call__(self, s: NDArray[Any]) -> NDArray[Any]:
        """Sums [T, B, n_out], of the weights' type, float32 or int32, for source values
        [T, B, ...]."""
        rows = s.reshape(-1, *self.source_shape)
        way = self.way(s)
        total: NDArray[Any]
        if way == "events":
            total = self._by_events(rows)
        elif way in (INT8, CONV2D):
            total = self._by_torch(rows)
        elif isinstance(self.part, Dense):
            total = rows.reshape(len(rows), -1).astype(self.w.dtype, copy=False) @ self.w
        else:
            total = convolve(rows.astype(self.w.dtype, copy=False), self.part, w=self.w)
        return total.reshape(*s.shape[:2], -1)

    @cached_property
    def _by_events(self) -> Rows | Taps:
        if isinstance(self.part, Dense):
            return Rows.of(self.part.held)
        return Taps.of(self.part, self.source_shape)

    @cached_property
    def _by_torch(self) -> Int8 | Convolved:
        if isinstance(self.part, Dense):
            return Int8.of(self.part.held)
        return Convolved.of(self.part)

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
    bound = largest_sum(part, largest=largest)
    wide = np.float64 if bound < FLOAT64_EXACT else np.int64
    arithmetic = np.float32 if bound < FLOAT32_EXACT else wide
    if isinstance(part, Dense):
        laid_out = part.held.astype(arithmetic).T
    else:
        groups = part.geometry.groups
        laid_out = part.w.astype(arithmetic).reshape(groups, len(part.w) // groups, -1)
    return Product(
        source=projection.source, delay=projection.delay, part=part, source_shape=shape,
        w=laid_out, bound=bound, spikes=largest == 1,
    )  # fmt: skip


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
