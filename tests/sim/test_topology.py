"""When a network runs: order of populations, loops, and the timing on a chip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spikeport.sim import reference
from spikeport.sim.net import (
    FixedNet,
    FloatNet,
    FloatPopulation,
    FloatProjection,
    Input,
    Population,
    Projection,
    Readout,
)
from spikeport.sim.synapse import Dense, FloatDense
from spikeport.sim.topology import blocks, is_loop


def net(*projections: tuple[str, str, int], sources: str = "", steps: int = 6) -> FixedNet:
    """One-neuron populations that pass a spike on; those in `sources` spike by themselves."""
    names = sorted({end for a, b, _ in projections for end in (a, b)} - {"input"})
    return FixedNet(
        input=Input(shape=(1,)),
        populations=tuple(
            Population(name=n, shape=(1,), v_th=9, dv=4095, bias=1000 if n in sources else 0)
            for n in names
        ),
        projections=tuple(
            Projection(source=a, target=b, synapse=Dense(w=[[10]]), delay=d)
            for a, b, d in projections
        ),
        readout=Readout(population=names[-1]),
        steps=steps,
    )


CASES: list[tuple[FixedNet, dict[str, int], tuple[int, ...]]] = [
    (net(("input", "a", 0), ("a", "b", 0)), {"a": 1, "b": 2}, (0, 0)),
    (net(("input", "a", 0), ("a", "b", 0), ("input", "b", 0)), {"a": 1, "b": 2}, (0, 0, 1)),
    (net(("input", "a", 0), ("a", "b", 5)), {"a": 1, "b": 0}, (0, 3)),
    (net(("input", "a", 1)), {"a": 0}, (0,)),
    (net(("input", "a", 0), ("a", "a", 1)), {"a": 1}, (0, 0)),
    (net(("input", "a", 0), ("a", "a", 3)), {"a": 1}, (0, 2)),
    (net(("input", "a", 0), ("a", "b", 0), ("b", "a", 2)), {"a": 1, "b": 2}, (0, 0, 0)),
    (net(("input", "a", 0), ("a", "b", 1), ("b", "a", 1)), {"a": 1, "b": 1}, (0, 0, 0)),
    # A source of its own starts as late as its targets allow, with delays at once...
    (
        net(("input", "a", 0), ("a", "c", 0), ("b", "c", 0), sources="b"),
        {"a": 1, "b": 1, "c": 2},
        (0, 0, 0),
    ),
    (
        net(("input", "a", 0), ("a", "b", 0), ("c", "b", 1), sources="c"),
        {"a": 1, "b": 2, "c": 0},
        (0, 0, 2),
    ),
    # ...or as soon as the longest delay that a chip has allows.
    (
        net(("input", "a", 0), ("a", "b", 0), ("c", "b", 63), sources="c"),
        {"a": 1, "b": 2, "c": 2},
        (0, 0, 62),
    ),
]


@pytest.mark.parametrize(("case", "depths", "chip_delays"), CASES)
def test_schedule(case: FixedNet, depths: dict[str, int], chip_delays: tuple[int, ...]) -> None:
    assert case.depths == {"input": 0, **depths}
    assert case.chip_delays == chip_delays


@pytest.mark.parametrize("case", [case for case, _, _ in CASES])
def test_chip_time_is_model_time(case: FixedNet) -> None:
    """Step the net as a chip does, every projection a step and its delay late."""
    steps = case.steps + max(case.depths.values()) + 1
    x = np.zeros((case.steps, 1, 1), np.int64)
    x[0] = x[3] = 1
    sent: dict[str, Any] = {"input": [int(v) for v in x[:, 0, 0]] + [0] * steps}
    for p in case.populations:
        sent[p.name] = [0] * (steps + case.steps)
    for chip_step in range(steps):
        for p in case.populations:
            if p.bias.any():
                sent[p.name][chip_step] = int(chip_step >= case.depths[p.name])
                continue
            sent[p.name][chip_step] = max(
                sent[q.source][chip_step - 1 - late] if chip_step >= 1 + late else 0
                for q, late in zip(case.projections, case.chip_delays, strict=True)
                if q.target == p.name
            )
    trace = reference.run(case, x)
    for name, part in trace.populations.items():
        first = case.depths[name]
        assert part.spikes[:, 0, 0].tolist() == sent[name][first : first + case.steps]
        assert part.spikes.any() or name == "b"


def test_blocks() -> None:
    loops = net(
        ("input", "a", 0), ("a", "b", 0), ("b", "c", 0), ("c", "b", 2), ("c", "d", 0), ("d", "d", 1)
    )  # fmt: skip
    assert blocks(loops) == (("a",), ("b", "c"), ("d",))
    assert [is_loop(loops, block) for block in blocks(loops)] == [False, True, True]


def test_later_populations_may_feed_earlier_ones() -> None:
    """`b` is listed after `a`, which it drives one step late; that is no loop."""
    backwards = net(("input", "b", 0), ("b", "a", 1))
    assert blocks(backwards) == (("b",), ("a",))
    x = np.array([1, 0, 0, 1, 1, 0]).reshape(6, 1, 1)
    assert reference.run(backwards, x)["a"].spikes.ravel().tolist() == [0, 1, 0, 0, 1, 1]


def test_float_nets_know_no_chip() -> None:
    """A loop that no chip can close in time is an ordinary float network."""
    FloatNet(
        input=Input(shape=(1,)),
        populations=tuple(FloatPopulation(name=n, shape=(1,), v_th=1.0) for n in "ab"),
        projections=tuple(
            FloatProjection(source=a, target=b, synapse=FloatDense(w=[[1.0]]), delay=d)
            for a, b, d in (("input", "a", 0), ("a", "b", 0), ("b", "a", 1))
        ),
        readout=Readout(population="b"),
        steps=3,
    )


def test_a_loop_through_three_names_the_shortest() -> None:
    with pytest.raises(ValueError, match=r"^the loop a -> b -> a has 2 synapses"):
        net(("input", "a", 0), ("a", "b", 0), ("b", "c", 0), ("c", "a", 2), ("b", "a", 1))


def test_a_loop_without_too_little_delay_is_not_blamed() -> None:
    """Of two loops through `a` only the longer one lacks delay."""
    with pytest.raises(
        ValueError, match=r"^the loop a -> b -> c -> a has 3 synapses, .* make 2 on"
    ):
        net(("input", "a", 0), ("a", "a", 1), ("a", "b", 0), ("b", "c", 0), ("c", "a", 2))
    with pytest.raises(ValueError, match=r"^the loop b -> c -> b has 2 synapses, .* make 1 only"):
        net(("input", "a", 0), ("a", "b", 0), ("b", "a", 2), ("b", "c", 0), ("c", "b", 1))
