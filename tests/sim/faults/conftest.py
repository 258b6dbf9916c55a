"""Strategies of faults for any network, handed out as fixtures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st

from spikeport.sim.faults import KINDS, Fault
from spikeport.sim.faults.fault import BITS, places
from spikeport.sim.faults.stored import format_of
from spikeport.sim.net import FixedNet


def held(net: FixedNet, number: int) -> bool:
    """Whether a core could hold the weights of projection `number`."""
    try:
        format_of(net.projections[number])
    except ValueError:
        return False
    return True


@st.composite
def one(draw: st.DrawFn, net: FixedNet, steps: int) -> Fault:
    kind = draw(st.sampled_from([kind for kind in KINDS if kind != "core"]))
    parts = places(net, kind)
    if kind == "weight":
        parts = {n: size for n, size in parts.items() if held(net, int(n))}
        if not parts:
            kind, parts = "v", places(net, "v")
    part = draw(st.sampled_from(list(parts)))
    ranges: dict[str, st.SearchStrategy[Any]] = {
        "index": st.integers(0, parts[part] - 1),
        "bit": st.integers(0, BITS.get(kind, 1) - 1),
        "step": st.integers(0, steps - 1),
        "rate": st.sampled_from([0.25, 0.5, 1.0]),
        "seed": st.integers(0, 99),
    }
    return Fault(kind=kind, part=part, **{name: draw(ranges[name]) for name in KINDS[kind]})


@pytest.fixture(scope="session")
def fault_lists() -> Callable[[FixedNet, int], st.SearchStrategy[list[Fault]]]:
    """`fault_lists(net, steps)`: lists of up to four faults, the same place more than once too."""
    return lambda net, steps: st.lists(one(net, steps), max_size=4)


@pytest.fixture(scope="session")
def forward() -> Callable[[FixedNet], FixedNet]:
    """`forward(net)`: `net` without the projections that close loops."""

    def cut(net: FixedNet) -> FixedNet:
        order: list[Any] = ["input", *(p.name for p in net.populations)]
        kept = [p for p in net.projections if order.index(p.source) < order.index(p.target)]
        return replace(net, projections=tuple(kept))

    return cut
