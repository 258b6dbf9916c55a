"""Cuts of populations: exact against all other cuts, and none breaks a limit."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeport.hw.cost import Box, Use, size
from spikeport.hw.cut import as_compiled, fewest
from spikeport.sim.synapse import Shape

ROOM = Use(in_axons=40, neuron_groups=8, neurons=12, synapse_words=60, out_axons=100)


def measure_with(words: int, halo: int) -> Any:
    """A made-up cost: words grow with channels, axons with the region and its surroundings."""

    def measure(box: Box) -> Use:
        around = prod(end - first + halo for first, end in box[1:])
        depth = box[0][1] - box[0][0]
        return Use(in_axons=around, neuron_groups=1, neurons=size(box), synapse_words=words * depth)

    return measure


shapes = st.one_of(
    st.tuples(st.integers(1, 60)),
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)),
)


def all_neurons(shape: Shape) -> set[tuple[int, ...]]:
    return set(product(*map(range, shape)))


@pytest.mark.parametrize("way", [as_compiled, fewest])
@given(shape=shapes, words=st.integers(0, 70), halo=st.integers(0, 3))
def test_boxes_fit_and_hold_every_neuron_once(
    way: Any, shape: Shape, words: int, halo: int
) -> None:
    measure = measure_with(words, halo)
    boxes = way(shape, measure, ROOM)
    if boxes is None:
        assert measure(((0, 1),) * len(shape)).share(ROOM) > 1
        return
    assert boxes == way(shape, measure, ROOM)
    assert all(measure(box).share(ROOM) <= 1 for box in boxes)
    held = [neuron for box in boxes for neuron in product(*(range(a, b) for a, b in box))]
    assert len(held) == len(set(held))
    assert set(held) == all_neurons(shape)


def grids(shape: Shape) -> Any:
    """Every grid of parts that differ by one at most."""
    for counts in product(*(range(1, n + 1) for n in shape)):
        axes = []
        for n, k in zip(shape, counts, strict=True):
            lengths = [n // k + (i < n % k) for i in range(k)]
            ends = [sum(lengths[: i + 1]) for i in range(k)]
            axes.append([(end - m, end) for end, m in zip(ends, lengths, strict=True)])
        yield list(product(*axes))


@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 40)),
        st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    ),
    words=st.integers(0, 60),
    halo=st.integers(0, 3),
)
def test_fewest_is_best_of_all_grids(shape: Shape, words: int, halo: int) -> None:
    measure = measure_with(words, halo)

    def worth(boxes: list[Box]) -> tuple[int, float, int]:
        uses = [measure(box) for box in boxes]
        return len(uses), max(u.share(ROOM) for u in uses), sum(u.in_axons for u in uses)

    found = fewest(shape, measure, ROOM)
    every = [grid for grid in grids(shape) if worth(grid)[1] <= 1]
    assert (found is None) == (not every)
    if found is not None:
        best = min(map(worth, every))
        assert worth(found) == best if len(shape) == 3 else worth(found)[:2] == best[:2]


def test_pieces_of_vectors_shrink_by_what_they_lack() -> None:
    # 100 neurons of 5 words each with room for 60: 12 as long become 12 // 9, then no more.
    def measure(box: Box) -> Use:
        return Use(neurons=size(box), synapse_words=5 * size(box))

    wide = ROOM._replace(neurons=100)
    boxes = as_compiled((100,), measure, wide)  # 500 words are 9 times 60: 100 // 9 = 11
    assert boxes is not None
    assert [size(b) for b in boxes] == [11] * 9 + [1]


def test_tiles_are_filled_up_to_a_power_of_two() -> None:
    # 20 columns fill 32, and 4 * 32 are more than 100 neurons although 4 * 20 are not.
    limits = ROOM._replace(neurons=100)
    boxes = as_compiled((1, 4, 20), lambda box: Use(neurons=size(box)), limits)
    assert boxes == [((0, 1), (0, 4), (0, 16)), ((0, 1), (0, 4), (16, 20))]


def test_channels_are_halved_only_where_no_tile_fits() -> None:
    def measure(box: Box) -> Use:
        return Use(neurons=size(box), synapse_words=20 * (box[0][1] - box[0][0]))

    boxes = as_compiled((5, 2, 2), measure, ROOM)
    assert boxes is not None
    assert {b[0] for b in boxes} == {(0, 3), (3, 5)}
    assert len(boxes) == 2
