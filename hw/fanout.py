"""What one spike of every source neuron sets in motion on one core."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.core import Core, format_for, list_words
from spikeport.hw.cost import Wire, powers, size
from spikeport.hw.place import Slice
from spikeport.sim.synapse import Conv2d, Dense

Counts = NDArray[np.int64]


def fanout(part: Dense | Conv2d, wire: Wire, held: Slice, core: Core) -> Counts:
    """int64 [4, *source shape]: for a spike of each source neuron, the messages to a core that
    holds `held` of the target of `wire` (0 or 1), the synapses there that it reads, zeros included
    as they are stored, those of them that are not zero, and the words of memory read.

    part: the synapse of `wire`, with pools spelled as convolutions.
    """
    if isinstance(part, Dense):
        n = held.size
        nonzero = np.count_nonzero(part.w_chip[held.indices()], axis=0)
        index = format_for((n - 1).bit_length(), core.dense_index_formats)
        words = list_words(core, n, weight=wire.weight, index=index, delay=wire.delay)
        each = [np.full_like(nonzero, value) for value in (1, n)]
        found = np.stack([*each, nonzero, np.full_like(nonzero, words)])
        return np.asarray(found.reshape(4, *wire.source_shape), np.int64)
    return _of_convolution(part, wire, held, core)


def _of_convolution(conv: Conv2d, wire: Wire, held: Slice, core: Core) -> Counts:
    def spread(taps: Counts) -> Counts:
        """Per tap [C_in, kh, kw] to per source neuron [C_in, H, W]."""
        rows, columns = _seen(conv, wire, held)
        return np.asarray(np.einsum("ckl,ky,lx->cyx", taps, rows, columns, optimize=True))

    ones = spread(_per_tap(conv, held, lambda w: len(w)))
    nonzero = spread(_per_tap(conv, held, lambda w: np.count_nonzero(w, axis=0)))
    if core.taps:  # a list a tap, cut into blocks that are powers of two

        def stored(n: int) -> int:
            blocks = powers(n)
            return sum(list_words(core, b, weight=wire.weight, delay=wire.delay) for b in blocks)

        words = spread(_per_tap(conv, held, lambda w: stored(len(w))))
    else:  # a list a pixel and channel
        index = format_for((size(held.box) - 1).bit_length(), core.conv_index_formats)
        lengths, which = np.unique(ones, return_inverse=True)
        each = [
            list_words(core, int(n), weight=wire.weight, index=index, delay=wire.delay)
            for n in lengths
        ]
        words = np.array(each, np.int64)[which].reshape(ones.shape)
    return np.asarray(np.stack([ones > 0, ones, nonzero, words]), np.int64)


def _per_tap(conv: Conv2d, held: Slice, count: Callable[[NDArray[np.int16]], object]) -> Counts:
    """int64 [C_in, kh, kw]: `count` of the weights [n, kh, kw] that lead from each source channel
    to the channels held, of its own group only."""
    out, inside, *kernel = conv.w.shape
    groups = conv.geometry.groups
    members = out // groups
    first, end = held.box[0]
    found = np.zeros((inside * groups, *kernel), np.int64)
    for group in range(first // members, -(-end // members)):
        low, high = max(first, group * members), min(end, (group + 1) * members)
        for c in range(inside):
            found[group * inside + c] = count(conv.w[low:high, c])
    return found


def _seen(conv: Conv2d, wire: Wire, held: Slice) -> list[Counts]:
    """For rows and for columns, int64 [k, n]: 1 where a neuron held sees source position n through
    tap k."""
    found = []
    g = conv.geometry
    axes = zip(
        wire.source_shape[1:], held.box[1:], conv.w.shape[2:], g.stride, g.padding, g.dilation,
        strict=True,
    )  # fmt: skip
    for n, (first, end), kernel, stride, padding, dilation in axes:
        seen = np.zeros((kernel, n), np.int64)
        for tap in range(kernel):
            at = np.arange(first, end) * stride - padding + tap * dilation
            seen[tap, at[(at >= 0) & (at < n)]] = 1
        found.append(seen)
    return found
