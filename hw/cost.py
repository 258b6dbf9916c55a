"""What a box of a population takes of a core.

A box is a range of indices along every axis of the population's shape: ((first, end),) of a vector,
((c0, c1), (y0, y1), (x0, x1)) of maps. Costs of dense rows and of convolutions on Loihi 2 were
fitted to public compile logs (benchmarks/place.py says how well), those of Loihi 1 are
nengo-loihi's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.core import Core, format_for, list_words, weight_bits
from spikeport.sim.net import FixedNet
from spikeport.sim.synapse import Conv2d, Shape, lowered

Box = tuple[tuple[int, int], ...]


class Use(NamedTuple):
    """What of a core is used, or all that there is."""

    in_axons: int = 0
    neuron_groups: int = 0
    neurons: int = 0
    synapse_words: int = 0
    out_axons: int = 0

    def plus(self, other: Use) -> Use:
        """Both on one core."""
        return Use(*(a + b for a, b in zip(self, other, strict=True)))

    def fits(self, limits: Use) -> bool:
        """Whether no limit is broken."""
        return all(a <= b for a, b in zip(self, limits, strict=True))

    def share(self, limits: Use) -> float:
        """How busy a core is: the largest share of any of `limits` but that of neuron groups, which
        take no time."""
        parts = zip(self, limits, self._fields, strict=True)
        return max(a / b for a, b, name in parts if name != "neuron_groups")


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A projection as far as it costs room. conv: None of a dense one. weight, delay: bits."""

    source: str
    target: str
    source_shape: Shape
    conv: Conv2d | None
    weight: int
    delay: int


def wires(net: FixedNet, core: Core) -> tuple[Wire, ...]:
    """The projections of `net`, each looked at once."""
    found = []
    for projection, late in zip(net.projections, net.chip_delays, strict=True):
        shape = net.shape_of(projection.source)
        part = lowered(projection.synapse, shape)
        found.append(
            Wire(
                source=projection.source,
                target=projection.target,
                source_shape=shape,
                conv=part if isinstance(part, Conv2d) else None,
                weight=weight_bits(part, core),
                delay=core.delay_bits if late else 0,
            )
        )
    return tuple(found)


def size(box: Box) -> int:
    """Neurons of a box."""
    return prod(end - first for first, end in box)


def arriving(wire: Wire, box: Box, core: Core) -> Use:
    """Input axons and synapse memory that `wire` takes of a core that holds `box` of its target."""
    if wire.conv is None:
        axons, n = prod(wire.source_shape), size(box)
        index = format_for((n - 1).bit_length(), core.dense_index_formats)
        words = list_words(core, n, weight=wire.weight, index=index, delay=wire.delay)
        return Use(in_axons=axons, synapse_words=axons * words)
    by = _by_taps if core.taps else _by_pixels
    return by(wire, wire.conv, box, core)


def reached(wire: Wire, listeners: Sequence[Box], core: Core) -> NDArray[np.int64]:
    """int64: how many axons a neuron, or of a convolution int64 [H, W] each pixel, needs to reach
    all cores that hold `listeners`, the boxes of its target."""
    if core.multicast or wire.conv is None:
        count = 1 if core.multicast else len(listeners)
        return np.full(wire.source_shape[1:] if wire.conv else (), count)
    found = np.zeros(wire.source_shape[1:], np.int64)
    for box in listeners:
        rows, columns = ([bool(taps) for taps in axis] for axis in _patterns(wire, box))
        found += np.outer(rows, columns)
    return found


def leaving(wire: Wire, box: Box, core: Core, axons: NDArray[np.int64]) -> int:
    """Output axons that `wire` takes of a core that holds `box` of its source; `axons` as `reached`
    returns them."""
    if wire.conv is None:
        return size(box) * int(axons)
    (c0, c1), (y0, y1), (x0, x1) = box
    return (core.pixel_axons or len(powers(c1 - c0))) * int(axons[y0:y1, x0:x1].sum())


def powers(n: int) -> list[int]:
    """The powers of two that add up to `n`, largest first: how a log's cores cut channels."""
    return [1 << bit for bit in reversed(range(n.bit_length())) if n >> bit & 1]


def _by_taps(wire: Wire, conv: Conv2d, box: Box, core: Core) -> Use:
    """One list a tap and input channel, whatever the size of the map; one axon a block."""
    out, inside, height, width = conv.w.shape
    members = out // conv.geometry.groups
    first, end = box[0]
    words = 0
    for group in range(first // members, -(-end // members)):
        n = min(end, (group + 1) * members) - max(first, group * members)
        words += sum(
            list_words(core, block, weight=wire.weight, delay=wire.delay) for block in powers(n)
        )
    return Use(in_axons=len(powers(end - first)), synapse_words=words * inside * height * width)


def _by_pixels(wire: Wire, conv: Conv2d, box: Box, core: Core) -> Use:
    """One axon a pixel; pixels that are seen by the same taps share a list."""
    rows, columns = _patterns(wire, box)
    channels = conv.w.shape[1] * (box[0][1] - box[0][0])
    index = format_for((size(box) - 1).bit_length(), core.conv_index_formats)
    words = 0
    for down in set(rows):
        for across in set(columns):
            n = channels * len(down) * len(across)
            words += list_words(core, n, weight=wire.weight, index=index, delay=wire.delay)
    pixels = sum(map(bool, rows)) * sum(map(bool, columns))
    return Use(in_axons=pixels, synapse_words=words)


def _patterns(wire: Wire, box: Box) -> list[tuple[frozenset[int], ...]]:
    """For rows and for columns of the source, the taps through which `box` sees each."""
    assert wire.conv is not None  # for type checkers; callers have looked
    g, kernel = wire.conv.geometry, wire.conv.w.shape[2:]
    axes = zip(wire.source_shape[1:], box[1:], kernel, g.stride, g.padding, g.dilation, strict=True)
    return [_taps(*axis) for axis in axes]


@lru_cache(maxsize=4096)
def _taps(
    n: int, out: tuple[int, int], kernel: int, stride: int, padding: int, dilation: int
) -> tuple[frozenset[int], ...]:
    """For each of `n` source positions, the taps that outputs in `out` see it through."""
    found: list[set[int]] = [set() for _ in range(n)]
    for position in range(*out):
        for tap in range(kernel):
            seen = position * stride - padding + tap * dilation
            if 0 <= seen < n:
                found[seen].add(tap)
    return tuple(map(frozenset, found))
