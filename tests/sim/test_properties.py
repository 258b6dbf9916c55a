"""What holds for every network that can be drawn; a counterexample shrinks to a small one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings

from spikeport.sim import engine, reference
from spikeport.sim.net_file import read_net, write_net
from spikeport.sim.topology import blocks, is_loop
from spikeport.sim.trace import first_difference


def test_the_engine_is_the_reference(fixed_nets: Callable[[], Any]) -> None:
    @given(fixed_nets())
    def holds(case: Any) -> None:
        net, x = case
        expected, found = reference.run(net, x), engine.run(net, x)
        assert first_difference(expected, found) is None
        assert np.array_equal(expected.logits(net.readout), found.logits(net.readout))
        assert (expected.wraps, expected.clips) == (found.wraps, found.clips)

    holds()


def test_a_net_file_keeps_everything(fixed_nets: Callable[[], Any], tmp_path: Path) -> None:
    @given(fixed_nets())
    def holds(case: Any) -> None:
        net, x = case
        write_net(tmp_path / "net.h5", net)
        back = read_net(tmp_path / "net.h5")
        assert back == net
        assert back.digest() == net.digest()
        assert (back.depths, back.chip_delays) == (net.depths, net.chip_delays)
        assert first_difference(reference.run(net, x), reference.run(back, x)) is None

    holds()


def test_chip_time_is_model_time(fixed_nets: Callable[[], Any]) -> None:
    @given(fixed_nets())
    def holds(case: Any) -> None:
        net, _ = case
        for p, chip in zip(net.projections, net.chip_delays, strict=True):
            assert chip >= 0
            assert p.delay == 1 + chip - (net.depths[p.target] - net.depths[p.source])
        for name, depth in net.depths.items():
            incoming = [d for p, d in zip(net.projections, net.chip_delays, strict=True)
                        if p.target == name]  # fmt: skip
            assert depth == 0 or 0 in incoming, "no population starts later than it must"

    holds()


REACHED: dict[str, Callable[[Any, Any], bool]] = {
    "loop": lambda net, trace: any(is_loop(net, block) for block in blocks(net)),
    "loop of several": lambda net, trace: any(len(block) > 1 for block in blocks(net)),
    "maps": lambda net, trace: len(net.populations[-1].shape) == 3,
    "graded": lambda net, trace: net.input.kind == "graded",
    "wrap or clip": lambda net, trace: sum(trace.wraps.values()) + sum(trace.clips.values()) > 0,
    "spikes": lambda net, trace: trace[net.populations[-1].name].spikes.any(),
    "subtract": lambda net, trace: net.populations[-1].reset == "subtract",
    "chip delay": lambda net, trace: any(net.chip_delays),
}


@pytest.mark.parametrize("what", REACHED)
def test_the_strategy_reaches_what_matters(fixed_nets: Callable[[], Any], what: str) -> None:
    """What is drawn depends on the modules loaded, whose constants hypothesis draws too; a hundred
    networks may miss something, which is drawn within a few hundred."""

    def reached(case: Any) -> bool:
        net, x = case
        return REACHED[what](net, reference.run(net, x))

    limits = settings(max_examples=2000, phases=[Phase.generate])
    find(fixed_nets(), reached, settings=limits, random=Random(1))
