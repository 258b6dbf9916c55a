"""What the neurons of a network can receive and send in each step, whatever the input.

An `Interval` bounds one value a neuron. An `Emission` is the course of what a source may send: an
interval over its spikes (0..0 certainly silent, 1..1 certainly firing, 0..1 unknown) or over its
graded values. A `Wire` carries the emission of its source, delayed, through a projection.

Everything is exact interval arithmetic over integers, in float64 where that is exact. A source in
front of a convolution is widened to one interval a channel, so that the sums cost no convolution:
a tap adds the same at every place where it does not fall on the border.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.net import Projection
from spikeport.sim.synapse import Conv2d, Dense, Shape, lowered

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Lowest and highest value a neuron, int64 [n]."""

    low: Ints
    high: Ints

    @classmethod
    def constant(cls, size: int, low: int, high: int) -> Interval:
        """The same interval for `size` neurons."""
        return cls(low=np.full(size, low, np.int64), high=np.full(size, high, np.int64))

    def join(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(low=np.minimum(self.low, other.low), high=np.maximum(self.high, other.high))

    def __add__(self, other: Interval) -> Interval:
        return Interval(low=self.low + other.low, high=self.high + other.high)

    def __lshift__(self, bits: int) -> Interval:
        return Interval(low=self.low << bits, high=self.high << bits)

    def __rshift__(self, bits: int) -> Interval:
        return Interval(low=self.low >> bits, high=self.high >> bits)

    @property
    def largest(self) -> Ints:
        """Largest magnitude a neuron."""
        return np.maximum(abs(self.low), abs(self.high))

    def same(self, other: Interval) -> bool:
        """Whether both hold the same values."""
        return np.array_equal(self.low, other.low) and np.array_equal(self.high, other.high)


@dataclass(kw_only=True)
class Emission:
    """What a source of `size` neurons may send from step 0 on, kept where it changes."""

    size: int
    starts: list[int] = field(default_factory=list)
    values: list[Interval] = field(default_factory=list)

    @classmethod
    def always(cls, size: int, *, largest: int) -> Emission:
        """A source of which nothing is known: 0..largest in every step."""
        unknown = Interval.constant(size, 0, largest)
        return cls(size=size, starts=[0], values=[unknown])

    def at(self, step: int) -> Interval | None:
        """What may be sent in `step`; None (nothing) before the first. The same object while
        nothing changes."""
        index = bisect_right(self.starts, step) - 1
        return self.values[index] if index >= 0 else None

    def extend(self, step: int, sent: Interval) -> None:
        """From `step` on `sent` may be sent."""
        if not self.values or not self.values[-1].same(sent):
            self.starts.append(step)
            self.values.append(sent)


class Wire:
    """The sums that one projection delivers, recomputed when its source's emission changes."""

    def __init__(self, projection: Projection, *, shape: Shape, emission: Emission) -> None:
        self.delay, self.emission = projection.delay, emission
        part = lowered(projection.synapse, shape)
        self.sums: _DenseSums | _ConvSums
        if isinstance(part, Dense):
            self.sums, self.w_exp = _DenseSums(part), part.w_exp
        else:
            self.sums, self.w_exp = _ConvSums(part, shape=shape), 0
        self.exponent = isinstance(part, Dense)
        self._sent: Interval | None = None
        zero = self.sums.zero
        self.raw = self.delivered = Interval(low=zero, high=zero)

    def at(self, step: int) -> Interval:
        """What arrives in `step`, behind the exponent. The same object while nothing changes;
        `raw` then holds the sums before the exponent."""
        sent = self.emission.at(step - self.delay)
        if sent is not None and sent is not self._sent:
            self._sent = sent
            self.raw = self.sums.of(sent)
            w_exp = self.w_exp
            self.delivered = self.raw << w_exp if w_exp >= 0 else self.raw >> -w_exp
        return self.delivered


class _DenseSums:
    """Sums of a dense synapse, moved by the columns whose source changed."""

    def __init__(self, dense: Dense) -> None:
        self.w = dense.w_chip
        self.zero = np.zeros(len(self.w), np.int64)
        self.sent = Interval.constant(self.w.shape[1], 0, 0)
        self.total = Interval(low=self.zero, high=self.zero)

    def of(self, sent: Interval) -> Interval:
        low, high = sent.low - self.sent.low, sent.high - self.sent.high
        moved = np.flatnonzero((low != 0) | (high != 0))
        w = (self.w if len(moved) == len(low) else self.w[:, moved]).astype(np.float64)
        ends = np.stack([low[moved], high[moved]], axis=1).astype(np.float64)
        lows, highs = (np.maximum(w, 0) @ ends + np.minimum(w, 0) @ ends[:, ::-1]).T
        self.sent = sent
        self.total += Interval(low=lows.astype(np.int64), high=highs.astype(np.int64))
        return self.total


class _ConvSums:
    """Sums of a convolution whose source is bounded channel by channel."""

    def __init__(self, conv: Conv2d, *, shape: Shape) -> None:
        g, (_, height, width) = conv.geometry, shape
        w = conv.w.reshape(g.groups, -1, *conv.w.shape[1:]).astype(np.float64)
        self.channels = shape[0]
        self.positive, self.negative = np.maximum(w, 0), np.minimum(w, 0)
        out = conv.output_shape(shape)
        sizes = zip((height, width), conv.w.shape[2:], out[1:], range(2), strict=True)
        self.rows, self.columns = (
            _inside(size, taps, n, (g.stride[i], g.padding[i], g.dilation[i]))
            for size, taps, n, i in sizes
        )
        self.zero = np.zeros(int(np.prod(out)), np.int64)

    def of(self, sent: Interval) -> Interval:
        groups = len(self.positive)
        low = sent.low.reshape(self.channels, -1).min(1).reshape(groups, -1).astype(np.float64)
        high = sent.high.reshape(self.channels, -1).max(1).reshape(groups, -1).astype(np.float64)
        return Interval(
            low=self._placed(self._taps(low, high)), high=self._placed(self._taps(high, low))
        )

    def _taps(self, positive: Floats, negative: Floats) -> Floats:
        """[groups, C_out/groups, kH, kW]: what each tap adds at this end of the interval."""
        rule = "goikl,gi->gokl"
        total: Floats = np.einsum(rule, self.positive, positive, optimize=True)
        total += np.einsum(rule, self.negative, negative, optimize=True)
        return total

    def _placed(self, taps: Floats) -> Ints:
        """int64 [n_out]: the sum of the taps that lie inside the map, at every place."""
        inside = self.rows @ taps @ self.columns.T
        return inside.reshape(-1).astype(np.int64)


def _inside(size: int, taps: int, out: int, spacing: tuple[int, int, int]) -> Floats:
    """[out, taps]: 1.0 where a tap falls inside a map that is `size` long, not on its border."""
    stride, padding, dilation = spacing
    place = stride * np.arange(out)[:, None] - padding + dilation * np.arange(taps)
    return ((place >= 0) & (place < size)).astype(np.float64)
