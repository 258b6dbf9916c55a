"""Traces: the first difference, and the three readouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spikeport.sim.net import Readout
from spikeport.sim.trace import (
    PopulationTrace,
    Trace,
    compared,
    differing_spikes,
    first_difference,
)


def trace(*, record: bool = True, **planted: Any) -> Trace:
    """Two populations of zeros, 5 steps, 2 samples, 3 and 4 neurons; planted: a_spikes=[at...]."""
    parts = {}
    for name, n in (("a", 3), ("b", 4)):
        arrays = {q: np.zeros((5, 2, n), np.int32) for q in ("spikes", "u", "v")}
        for quantity, array in arrays.items():
            for at in planted.get(f"{name}_{quantity}", []):
                array[at] = 7 if quantity != "spikes" else 1
        parts[name] = PopulationTrace(
            spikes=arrays["spikes"].astype(np.uint8),
            v_last=arrays["v"][-1],
            u=arrays["u"] if record else None,
            v=arrays["v"] if record else None,
        )
    return Trace(populations=parts)


def test_equal_traces_have_no_difference() -> None:
    assert first_difference(trace(a_v=[(1, 1, 1)]), trace(a_v=[(1, 1, 1)])) is None


def test_planted_difference_is_found() -> None:
    planted = trace(b_v=[(3, 1, 2), (4, 0, 0), (4, 1, 3)])
    found = first_difference(trace(), planted)
    assert str(found) == (
        "population 'b': v of neuron 2, sample 1, first differs at step 3: 0 against 7"
        " (3 entries differ in all)"
    )


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        ({"a_v": [(2, 0, 0)], "b_u": [(1, 0, 0)]}, ("b", "u", 1)),
        ({"a_v": [(2, 0, 0)], "b_spikes": [(2, 0, 0)]}, ("a", "v", 2)),
        ({"a_v": [(2, 0, 0)], "a_u": [(2, 1, 0)]}, ("a", "u", 2)),
        ({"a_spikes": [(2, 1, 2)], "a_u": [(2, 0, 0)]}, ("a", "spikes", 2)),
    ],
    ids=["step", "population", "quantity", "spikes first"],
)
def test_order_of_differences(planted: dict[str, Any], expected: tuple[str, str, int]) -> None:
    found = first_difference(trace(**planted), trace())
    assert found is not None
    assert (found.population, found.quantity, found.step) == expected
    assert found.count == 1


def test_quantities_that_one_side_lacks_are_skipped() -> None:
    left, right = trace(record=False), trace(a_v=[(1, 0, 0)], b_spikes=[(4, 1, 3)])
    found = first_difference(left, right)
    assert found is not None
    assert (found.quantity, found.step, found.neuron) == ("spikes", 4, 3)
    assert first_difference(left, right, quantities=("u", "v")) is None


def test_traces_of_different_nets_are_refused() -> None:
    left = trace()
    with pytest.raises(
        ValueError, match=r"^traces hold different populations: \['a', 'b'\] and \['a'\]$"
    ):
        first_difference(left, Trace(populations={"a": left["a"]}))
    short = PopulationTrace(spikes=left["a"].spikes[:4], v_last=left["a"].v_last)
    with pytest.raises(
        ValueError, match=r"^traces of 'a' have shapes \(5, 2, 3\) and \(4, 2, 3\)$"
    ):
        first_difference(left, Trace(populations={"a": short, "b": left["b"]}))


def test_logits_of_the_three_readouts() -> None:
    part = trace(a_spikes=[(0, 0, 1), (3, 0, 1), (2, 1, 0)], a_v=[(4, 1, 2)])
    assert part.logits(Readout(population="a")).tolist() == [[0, 2, 0], [1, 0, 0]]
    assert part.logits(Readout(population="a", kind="last_v")).tolist() == [[0, 0, 0], [0, 0, 7]]
    first = part.logits(Readout(population="a", kind="first_spike"))
    assert first.tolist() == [[0, 5, 0], [3, 0, 0]]
    assert part.logits(Readout(population="b")).shape == (2, 4)


def test_spikes_are_counted() -> None:
    left, right = trace(a_spikes=[(0, 0, 1)], b_spikes=[(1, 1, 3)]), trace(b_spikes=[(1, 1, 2)])
    assert (left.spike_total(), right.spike_total()) == (2, 1)
    assert compared(left, right) == 5 * 2 * 7
    assert differing_spikes(left, right) == 3


def test_a_sum_of_potentials_that_was_not_kept_is_missed() -> None:
    with pytest.raises(
        ValueError,
        match=r"^the trace holds no sum of potentials of population 'b'; run it again with"
        r" record=True$",
    ):
        trace(record=False).logits(Readout(population="b", kind="sum_v"))
