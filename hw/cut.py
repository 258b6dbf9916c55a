"""Two ways to cut a population into boxes that fit on cores.

`as_compiled` predicts Intel's compiler, fitted to public compile logs. A vector begins as one piece
as long as a core may have neurons; while a piece takes k times what a core has (rounded up), pieces
become k times shorter. Maps are cut into tiles whose width is a power of two, and which are filled
up to it, and whose height is halved any number of times; channels are halved only where no tile
fits otherwise. Of the tiles that fit, one that makes the fewest pieces is taken, of those the
squarest, which is our choice: logs show other shapes of the same size. That Loihi 1 is cut alike
is our choice too. One row of a log with sparse synapses, which `FixedNet` does not have, says that
input axons and words together must stay below 16000; that is no rule here.

`fewest` makes as few pieces as the limits allow and makes them alike; of the grids of maps with
equally many pieces it takes the one whose busiest piece is least busy, then the one that hears the
fewest sources, hence the least traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, pairwise, product
from math import prod

from spikeport.hw.cost import Box, Use
from spikeport.sim.synapse import Shape

Measure = Callable[[Box], Use]  # what a box takes of a core
Cut = Callable[[Shape, Measure, Use], list[Box] | None]


def as_compiled(shape: Shape, measure: Measure, limits: Use) -> list[Box] | None:
    """Boxes of a population of `shape` as Intel's compiler makes them, None if one neuron does not
    fit on a core with `limits`."""
    way = _shortened if len(shape) == 1 else _tiled
    return way(shape, measure, limits)


def _shortened(shape: Shape, measure: Measure, limits: Use) -> list[Box] | None:
    (n,), length = shape, limits.neurons
    while True:
        use = measure(((0, min(n, length)),))  # all other pieces are alike or shorter
        times = max(-(-a // b) for a, b in zip(use, limits, strict=True))
        if times <= 1:
            return list(_grid([_steps(n, length)]))
        if length == 1:
            return None
        length = max(1, length // times)


def _tiled(shape: Shape, measure: Measure, limits: Use) -> list[Box] | None:
    channels, height, width = shape
    widths = [1 << bit for bit in range((width - 1).bit_length() + 1)]
    for c in _halvings(channels):
        tiles = sorted(
            (-(-height // h) * -(-width // w), h + w, h, w)
            for h in _halvings(height)
            for w in widths
            if c * h * w <= limits.neurons
        )
        for *_, h, w in tiles:
            bounds = [_steps(channels, c), _steps(height, h), _steps(width, w)]
            if all(measure(box).fits(limits) for box in _grid(bounds)):
                return list(_grid(bounds))
    return None


def _halvings(n: int) -> list[int]:
    """`n`, its half, the half of that, down to 1, each rounded up."""
    return [n] if n == 1 else [n, *_halvings(-(-n // 2))]


def fewest(shape: Shape, measure: Measure, limits: Use) -> list[Box] | None:
    """The fewest boxes of a population of `shape` that fit, None if one neuron does not fit."""
    if len(shape) == 1:
        return _alike(shape[0], measure, limits)
    if not measure(next(singles(shape))).fits(limits):
        return None
    n = prod(shape)
    for pieces in range(-(-n // limits.neurons), n + 1):
        best: tuple[float, int, list[Box]] | None = None
        for counts in _factors(pieces, shape):
            bounds = [list(pairwise(_even(m, k))) for m, k in zip(shape, counts, strict=True)]
            # The box in the middle hears as much as most, and rules out most grids at once.
            middle = tuple(axis[len(axis) // 2] for axis in bounds)
            if measure(middle).share(limits) > (best[0] if best else 1.0):
                continue
            boxes = list(product(*bounds))
            busiest, heard = _judged(boxes, measure, limits, best)
            if busiest <= 1 and (best is None or (busiest, heard) < best[:2]):
                best = busiest, heard, boxes
        if best:
            return best[2]
    return None


def singles(shape: Shape) -> Iterator[Box]:
    """Boxes of one neuron, first the one in the middle, which hears as much as any but for rare
    geometries, then all."""
    middle = tuple(n // 2 for n in shape)
    for neuron in chain([middle], product(*map(range, shape))):
        yield tuple((i, i + 1) for i in neuron)


def _alike(n: int, measure: Measure, limits: Use) -> list[Box] | None:
    """The fewest pieces of a vector; longer ones take more, so halving the range finds them."""
    low, high = 1, n + 1
    while low < high:
        middle = (low + high) // 2
        if measure(((0, -(-n // middle)),)).fits(limits):
            high = middle
        else:
            low = middle + 1
    return list(_grid([_even(n, low)])) if low <= n else None


def _judged(
    boxes: list[Box], measure: Measure, limits: Use, best: tuple[float, int, list[Box]] | None
) -> tuple[float, int]:
    """Share of the busiest box, and axons of all; cut short where it is too busy anyway."""
    bar = best[0] if best else 1.0
    busiest, heard = 0.0, 0
    for box in boxes:
        use = measure(box)
        busiest, heard = max(busiest, use.share(limits)), heard + use.in_axons
        if busiest > bar:
            return 2.0, 0
    return busiest, heard


def _factors(pieces: int, shape: Shape) -> Iterator[tuple[int, ...]]:
    """Numbers of parts along each axis that multiply to `pieces`."""
    if len(shape) == 1:
        if pieces <= shape[0]:
            yield (pieces,)
        return
    for k in range(1, min(pieces, shape[0]) + 1):
        if pieces % k == 0:
            for rest in _factors(pieces // k, shape[1:]):
                yield (k, *rest)


def _even(n: int, parts: int) -> list[int]:
    """Bounds of `parts` parts of 0..n that differ by one at most, the longer first."""
    return [(n * i + parts - 1) // parts for i in range(parts + 1)]


def _steps(n: int, step: int) -> list[int]:
    """Bounds of parts of 0..n that are `step` long, the last one maybe shorter."""
    return [*range(0, n, step), n]


def _grid(bounds: list[list[int]]) -> Iterator[Box]:
    """The boxes between the bounds of each axis, in C order."""
    return product(*(list(pairwise(axis)) for axis in bounds))
