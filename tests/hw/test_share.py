"""Layers that share cores, against every other way to share them."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from spikeport.hw.cost import Use
from spikeport.hw.share import shared

ROOM = Use(10, 10, 10, 10, 10)
uses = st.builds(Use, *[st.integers(0, 10)] * 5)


def partitions(n: int) -> Iterator[list[list[int]]]:
    """All ways to put 0..n-1 into groups."""
    if n == 0:
        yield []
        return
    for smaller in partitions(n - 1):
        yield [*smaller, [n - 1]]
        for i, group in enumerate(smaller):
            yield [*smaller[:i], [*group, n - 1], *smaller[i + 1 :]]


def together(found: list[Use], group: list[int]) -> Use:
    return Use(*(sum(found[i][axis] for i in group) for axis in range(5)))


def allowed_together(use: Use, share: float) -> bool:
    busy = max(use.in_axons, use.neurons, use.synapse_words, use.out_axons) / 10
    return use.neuron_groups <= 10 and busy <= share


@given(st.lists(uses, max_size=6), st.sampled_from([0.5, 1.0]))
def test_no_way_needs_fewer_cores(found: list[Use], share: float) -> None:
    groups = shared(found, ROOM, share=share)
    assert sorted(i for group in groups for i in group) == list(range(len(found)))
    allowed = [
        p
        for p in partitions(len(found))
        if all(len(g) == 1 or allowed_together(together(found, g), share) for g in p)
    ]
    assert groups == shared(found, ROOM, share=share)
    assert sorted(groups) in [sorted(p) for p in allowed]
    assert len(groups) == min(map(len, allowed))


def test_very_many_layers_do_not_overflow() -> None:
    groups = shared([Use(neurons=5)] * 2000, ROOM, share=1.0)
    assert sorted(i for group in groups for i in group) == list(range(2000))
    assert len(groups) == 1000


def test_halves_of_very_many_layers_get_large_and_small_ones() -> None:
    """200 layers that leave a tenth of a core free, and 200 that take it."""
    groups = shared([Use(neurons=9)] * 200 + [Use(neurons=1)] * 200, ROOM, share=1.0)
    assert sorted(i for group in groups for i in group) == list(range(400))
    assert len(groups) == 200


def test_many_layers_end_in_time() -> None:
    many = [Use(neurons=1 + i % 5) for i in range(60)]
    groups = shared(many, ROOM, share=1.0)
    assert len(groups) == 18  # 180 neurons on cores of 10
