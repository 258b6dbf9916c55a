"""What a box of a population takes of a core.

A box is a range of indices along every axis of the population's shape: ((first, end),) of a vector,
((c0, c1), (y0, y1), (x0, x1)) of maps. Costs of dense rows and of convolutions on Loihi 2 were
fitted to public compile logs (benchmarks/place.py says how well), those of Loihi 1 are
nengo-loihi's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
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
        axons = prod(wire.source_shape)
        return Use(in_axons=axons, synapse_words=axons * dense_words(wire, size(box), core))
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
        rows, columns = views(wire, box)
        found[np.ix_(rows.seen, columns.seen)] += 1
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


def dense_words(wire: Wire, n: int, core: Core) -> int:
    """Words of the list that a spike reads on a core with `n` neurons of a dense target."""
    index = format_for((n - 1).bit_length(), core.dense_index_formats)
    return list_words(core, n, weight=wire.weight, index=index, delay=wire.delay)


def pixel_words(wire: Wire, n: int, box: Box, core: Core) -> int:
    """Words of a list of `n` synapses of a convolution onto `box`, on cores without taps."""
    index = format_for((size(box) - 1).bit_length(), core.conv_index_formats)
    return list_words(core, n, weight=wire.weight, index=index, delay=wire.delay)


def tap_words(wire: Wire, n: int, core: Core) -> int:
    """Words of one tap onto `n` channels, on cores that store taps: a list a block of channels."""
    return sum(list_words(core, b, weight=wire.weight, delay=wire.delay) for b in powers(n))


def by_group(conv: Conv2d, box: Box) -> Iterator[tuple[int, int, int]]:
    """Each group of which `box` holds channels: its number, and its first and end channel there."""
    members = conv.w.shape[0] // conv.geometry.groups
    first, end = box[0]
    for group in range(first // members, -(-end // members)):
        yield group, max(first, group * members), min(end, (group + 1) * members)


def _by_taps(wire: Wire, conv: Conv2d, box: Box, core: Core) -> Use:
    """One list a tap and input channel, whatever the size of the map; one axon a block."""
    _, inside, height, width = conv.w.shape
    words = sum(tap_words(wire, end - first, core) for _, first, end in by_group(conv, box))
    first, end = box[0]
    return Use(in_axons=len(powers(end - first)), synapse_words=words * inside * height * width)


def _by_pixels(wire: Wire, conv: Conv2d, box: Box, core: Core) -> Use:
    """One axon a pixel; pixels that are seen by the same taps share a list."""
    rows, columns = views(wire, box)
    channels = conv.w.shape[1] * (box[0][1] - box[0][0])
    words = 0
    for down, times in rows.lists:
        for across, more in columns.lists:
            words += times * more * pixel_words(wire, channels * down * across, box, core)
    return Use(in_axons=len(rows.seen) * len(columns.seen), synapse_words=words)


@dataclass(frozen=True, kw_only=True)
class View:
    """What outputs see of one axis of the source. taps: of each position, those that it is seen
    through. seen: the positions that are seen at all, ascending. lists: (n, count), how many
    different sets of n taps there are."""

    taps: tuple[frozenset[int], ...]
    seen: tuple[int, ...]
    lists: tuple[tuple[int, int], ...]


def views(wire: Wire, box: Box) -> tuple[View, View]:
    """What `box` of a convolution sees of the rows and of the columns of its source."""
    assert wire.conv is not None  # for type checkers; callers have looked
    g, kernel = wire.conv.geometry, wire.conv.w.shape[2:]
    axes = zip(wire.source_shape[1:], box[1:], kernel, g.stride, g.padding, g.dilation, strict=True)
    rows, columns = (_view(*axis) for axis in axes)
    return rows, columns


@lru_cache(maxsize=4096)  # the boxes of a grid have few ranges in common
def _view(
    n: int, out: tuple[int, int], kernel: int, stride: int, padding: int, dilation: int
) -> View:
    """What outputs in `out` see of `n` source positions."""
    found: list[set[int]] = [set() for _ in range(n)]
    for position in range(*out):
        for tap in range(kernel):
            seen = position * stride - padding + tap * dilation
            if 0 <= seen < n:
                found[seen].add(tap)
    taps = tuple(map(frozenset, found))
    return View(
        taps=taps,
        seen=tuple(position for position, each in enumerate(taps) if each),
        lists=tuple(Counter(len(each) for each in set(taps) if each).items()),
    )
