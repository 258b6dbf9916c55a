"""Which spikes from before a window reach into one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from spikeport.hw import early
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense


def neurons(names: str, paths: list[tuple[str, str, int, int]], **settings: Any) -> FixedNet:
    """One neuron a name, with v_th 60 and the settings of its name; paths: (source, target,
    weight, delay)."""
    return FixedNet(
        input=Input(shape=(1,)),
        populations=tuple(
            Population(name=name, shape=(1,), **{"v_th": 60} | settings.get(name, {}))
            for name in names.split()
        ),
        projections=tuple(
            Projection(source=a, target=b, synapse=Dense(w=np.array([[w]])), delay=delay)
            for a, b, w, delay in paths
        ),
        readout=Readout(population=names.split()[-1]),
        steps=8,
    )


CHAIN = [("input", "a", 20, 0), ("a", "b", 20, 0)]
LOOP = [*CHAIN, ("b", "b", -8, 1)]


def test_only_spikes_that_a_delay_carries_into_a_window_count() -> None:
    restless = {"bias": 4000, "bias_exp": 3}
    assert early.intruders(neurons("a b", CHAIN, a=restless, b=restless)) == frozenset()
    assert early.intruders(neurons("a b", LOOP, a=restless)) == frozenset()
    assert early.intruders(neurons("a b", LOOP, b=restless)) == {"b"}
    assert early.intruders(neurons("a b", LOOP, b=restless), silent={"b"}) == frozenset()


def test_they_are_computed_to_the_last_bit() -> None:
    """Two steps of bias take v to twice the bias, which is no spike if it is v_th << 6."""
    assert early.intruders(neurons("a b", LOOP, b={"bias": 1920})) == frozenset()
    assert early.intruders(neurons("a b", LOOP, b={"bias": 1921})) == {"b"}


def test_neurons_that_are_held_down_fire_early_only_if_they_forget_it() -> None:
    net = neurons("a b", LOOP, b={"bias": 4000, "bias_exp": 3, "dv": 2000})
    assert early.intruders(net) == {"b"}
    assert early.intruders(net, start=early.HELD) == frozenset()
    # 1/4096 of the lowest potential is -2047, so it takes 5888 to pass a threshold of 60 << 6.
    for bias, expected in ((2943, set()), (2944, {"b"})):
        forgetful = {"bias": bias, "bias_exp": 1, "dv": 4095}
        net = neurons("b", [("input", "b", 20, 0), ("b", "b", -8, 1)], b=forgetful)
        assert early.intruders(net, start=early.HELD) == expected


def test_a_delay_must_reach_back_to_the_spike() -> None:
    """ "b" fires in the first of three steps before its window and silences itself."""
    paths = [("input", "a", 20, 0), ("a", "c", 20, 0), ("c", "b", 20, 0), ("b", "b", -255, 1)]
    once = {"bias": 4000, "bias_exp": 1}
    for delay, expected in ((1, set()), (2, set()), (3, {"b"}), (5, {"b"})):
        net = neurons("a c b d", [*paths, ("b", "d", 20, delay)], b=once)
        assert net.depths["b"] == 3
        assert early.intruders(net) == expected


def test_a_source_of_biases_with_a_delay_begins_with_the_input() -> None:
    """As the reader of NIR files makes it of a bias before a Delay."""
    paths = [*CHAIN, ("b.bias", "b", 20, 0), ("b.bias", "b", 20, 1)]
    net = neurons("a b.bias b", paths, **{"b.bias": {"bias": 4000, "bias_exp": 3}})
    assert (net.depths["b"], net.depths["b.bias"]) == (2, 0)
    assert early.intruders(net) == frozenset()


def test_what_early_spikes_cause_counts_too() -> None:
    """A clock drives "c" before its window, and the loop of "c" keeps the spike."""
    paths = [("input", "a", 20, 0), ("a", "c", 10, 0), ("clock", "c", 61, 0), ("c", "c", -8, 1)]
    net = neurons("a clock c", paths, clock={"v_th": 1, "bias": 2, "bias_exp": 7})
    assert net.depths == {"input": 0, "a": 1, "clock": 1, "c": 2}
    assert early.intruders(net) == {"c"}
    weaker = replace(net.projections[2], synapse=Dense(w=np.array([[60]])))
    net = replace(net, projections=(*net.projections[:2], weaker, net.projections[3]))
    assert early.intruders(net) == frozenset()
