"""What one spike of every source neuron sets in motion on one core."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.core import Core
from spikeport.hw.cost import View, Wire, by_group, dense_words, pixel_words, tap_words, views
from spikeport.hw.place import Slice
from spikeport.sim.synapse import Conv2d, Dense

Counts = NDArray[np.int64]


def fanouts(
    part: Dense | Conv2d, wire: Wire, slices: Iterable[Slice], core: Core
) -> Iterator[Counts]:
    """For each of `slices` of the target of `wire`, held by a core, int64 [4, *source shape]: for a
    spike of each source neuron, the messages to that core (0 or 1), the synapses there that it
    reads, zeros included as they are stored, those of them that are not zero, and the words of
    memory read.

    part: the synapse of `wire`, with pools spelled as convolutions.
    """
    if isinstance(part, Conv2d):
        yield from (_of_convolution(part, wire, held, core) for held in slices)
        return
    weights = part.held  # of all cores: what each holds depends on the signs of the whole
    for held in slices:
        n = held.size
        nonzero = np.count_nonzero(weights[held.indices()], axis=0)
        one, stored, words = (np.full_like(nonzero, k) for k in (1, n, dense_words(wire, n, core)))
        found = np.stack([one, stored, nonzero, words])
        yield np.asarray(found.reshape(4, *wire.source_shape), np.int64)


def _of_convolution(conv: Conv2d, wire: Wire, held: Slice, core: Core) -> Counts:
    sides = zip(views(wire, held.box), conv.w.shape[2:], strict=True)
    rows, columns = (_seen(view, kernel) for view, kernel in sides)

    def spread(taps: Counts) -> Counts:
        """Per tap [C_in, kh, kw] to per source neuron [C_in, H, W]."""
        return np.asarray(np.einsum("ckl,yk,xl->cyx", taps, rows, columns, optimize=True))

    ones = spread(_per_tap(conv, held, lambda w: len(w)))
    nonzero = spread(_per_tap(conv, held, lambda w: np.count_nonzero(w, axis=0)))
    if core.taps:
        words = spread(_per_tap(conv, held, lambda w: tap_words(wire, len(w), core)))
    else:  # a list a pixel and channel
        lengths, which = np.unique(ones, return_inverse=True)
        each = [pixel_words(wire, int(n), held.box, core) for n in lengths]
        words = np.array(each, np.int64)[which].reshape(ones.shape)
    return np.asarray(np.stack([ones > 0, ones, nonzero, words]), np.int64)


def _per_tap(conv: Conv2d, held: Slice, count: Callable[[NDArray[np.int16]], object]) -> Counts:
    """int64 [C_in, kh, kw]: `count` of the weights [n, kh, kw] that lead from each source channel
    to the channels held, of its own group only."""
    _, inside, *kernel = conv.w.shape
    found = np.zeros((inside * conv.geometry.groups, *kernel), np.int64)
    for group, first, end in by_group(conv, held.box):
        for c in range(inside):
            found[group * inside + c] = count(conv.w[first:end, c])
    return found


def _seen(view: View, kernel: int) -> Counts:
    """int64 [n, kernel]: 1 where source position n is seen through a tap."""
    found = np.zeros((len(view.taps), kernel), np.int64)
    for position, taps in enumerate(view.taps):
        found[position, sorted(taps)] = 1
    return found
