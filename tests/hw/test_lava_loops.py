"""Loops, delays and neurons of our own on Lava: each case against the definition of a network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.hw import early, lava_inprocess, lava_record, lava_run
from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d
from spikeport.sim.trace import first_difference


def dense(rows: int, columns: int, *, low: int = -90, high: int = 120, w_exp: int = 0) -> Dense:
    rng: Any = np.random.default_rng([rows, columns])
    return Dense(w=rng.integers(low, high, (rows, columns)), w_exp=w_exp)


def conv(channels_out: int, channels_in: int, *, low: int = -255, high: int = 256) -> Conv2d:
    """3 x 3, odd weights of both signs: more than a dense synapse can hold."""
    rng: Any = np.random.default_rng([channels_out, channels_in])
    w = rng.integers(low, high, (channels_out, channels_in, 3, 3)) | 1
    return Conv2d(w=w, geometry=ConvGeometry(padding=(1, 1)))


def network(
    source: Input, populations: list[Population], paths: list[tuple[str, str, Any, int]]
) -> FixedNet:
    """Populations and (source, target, synapse, delay) of their projections."""
    return FixedNet(
        input=source,
        populations=tuple(populations),
        projections=tuple(
            Projection(source=a, target=b, synapse=synapse, delay=delay)
            for a, b, synapse, delay in paths
        ),
        readout=Readout(population=populations[-1].name),
        steps=9,
    )


def spikes_for(net: FixedNet, *, steps: int = 9, batch: int = 4) -> NDArray[np.int64]:
    """Input that fills about a third of all entries."""
    size = (steps, batch, *net.input.shape)
    rng: Any = np.random.default_rng(steps)
    values = rng.integers(1, net.input.largest + 1, size)
    return np.asarray(values * (rng.random(size) < 0.35))


def differs(net: FixedNet, x: NDArray[np.int64]) -> bool:
    return first_difference(reference.run(net, x), lava_inprocess.run(net, x)) is not None


def assert_same(net: FixedNet, x: NDArray[np.int64]) -> None:
    """Lava gives the bits of the reference, and the case is not trivial."""
    assert all(part.spikes.any() for part in reference.run(net, x).populations.values())
    assert not differs(net, x)


def looped(**settings: Any) -> FixedNet:
    """Two layers; the second feeds itself and the first."""
    return network(
        Input(shape=(6,)),
        [
            Population(name="a", shape=(5,), v_th=90, dv=300),
            Population(name="b", shape=(4,), **{"v_th": 60, "dv": 900, "du": 2000} | settings),
        ],
        [
            ("input", "a", dense(5, 6), 0),
            ("a", "b", dense(4, 5), 0),
            ("b", "b", dense(4, 4, low=-200, high=60), 1),
            ("b", "a", dense(5, 4, w_exp=-1), 2),
        ],
    )


@pytest.mark.lava
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_loops_through_one_population_and_through_two(steps: int) -> None:
    assert_same(looped(v_th=0), spikes_for(looped(), steps=max(steps, 2))[:steps])


@pytest.mark.lava
@pytest.mark.parametrize("delay", [2, 3, 8])
def test_loops_with_more_delay_than_they_need(delay: int) -> None:
    net = looped()
    *others, first, second = net.projections
    late = replace(first, delay=delay), replace(second, delay=delay + 1)
    net = replace(net, projections=(*others, *late))
    assert_same(net, spikes_for(net))


@pytest.mark.lava
def test_every_sample_is_as_if_it_were_alone() -> None:
    """A restart of the models equals models that Lava has compiled anew."""
    net, x = looped(bias=3000), spikes_for(looped())
    together = lava_inprocess.run(net, x)
    for at in range(x.shape[1]):
        for name, part in lava_inprocess.run(net, x[:, at : at + 1]).populations.items():
            for quantity in ("spikes", "u", "v"):
                both = getattr(part, quantity), getattr(together[name], quantity)[:, at : at + 1]
                np.testing.assert_array_equal(*both)


@pytest.mark.lava
def test_several_projections_with_the_same_ends_each_with_its_own_delay_and_exponent() -> None:
    net = network(
        Input(shape=(7,), kind="graded", payload_bits=5),
        [Population(name="out", shape=(4,), v_th=500, du=1000, dv=100)],
        [
            ("input", "out", dense(4, 7, w_exp=exponent, high=high), delay)
            for exponent, high, delay in ((0, 120, 0), (-3, 100, 1), (-1, 110, 1), (1, 80, 6))
        ],
    )
    assert net.chip_delays == (0, 1, 1, 6)
    assert_same(net, spikes_for(net))


@pytest.mark.lava
def test_skips_of_unequal_depth() -> None:
    """No delay in the network: the chip's own makes up for the shorter path."""
    net = network(
        Input(shape=(2, 3, 4), kind="graded", payload_bits=8),
        [
            Population(name="a", shape=(3, 3, 4), v_th=900),
            Population(name="b", shape=(3, 3, 4), v_th=300, dv=200),
            Population(name="c", shape=(5,), v_th=100),
        ],
        [
            ("input", "a", conv(3, 2), 0),
            ("a", "b", conv(3, 3, low=-100), 0),
            ("input", "b", conv(3, 2, low=-90, high=99), 0),
            ("b", "c", dense(5, 36), 0),
            ("a", "c", dense(5, 36), 0),
            ("input", "c", dense(5, 24, w_exp=-4), 0),
        ],
    )
    assert net.chip_delays == (0, 0, 1, 0, 1, 2)
    assert not lava_record.alone(net)
    assert_same(net, spikes_for(net))


@pytest.mark.lava
@pytest.mark.parametrize(("kind", "bits"), [("spike", 1), ("graded", 19)])
def test_convolutions_and_pools_with_delays(kind: str, bits: int) -> None:
    """Weights that no dense synapse holds, sums that wrap at 24 bits, one source with several
    delays, and a loop through a map."""
    net = network(
        Input(shape=(2, 4, 3), kind=kind, payload_bits=bits),
        [
            Population(name="map", shape=(2, 4, 3), v_th=400, dv=100),
            Population(name="pool", shape=(2, 2, 1), v_th=50),
            Population(name="out", shape=(2, 4, 3), v_th=700, du=3000),
        ],
        [
            ("input", "map", conv(2, 2), 0),
            ("map", "map", conv(2, 2, low=-200, high=50), 1),
            ("map", "map", conv(2, 2, low=-60, high=90), 3),
            ("map", "pool", SumPool2d(kernel=(2, 2), stride=(2, 2), w=33), 4),
            ("map", "out", conv(2, 2, low=-90), 2),
            ("input", "out", conv(2, 2), 5),
            ("input", "out", conv(2, 2, low=-30), 7),
        ],
    )
    # "pool" and "out" see old spikes only: their windows begin with that of the input.
    assert net.depths == {"input": 0, "map": 1, "pool": 0, "out": 0}
    assert net.chip_delays == (0, 0, 2, 2, 0, 4, 6)
    assert_same(net, spikes_for(net, steps=12))


def sourced(**settings: Any) -> FixedNet:
    """A layer driven by the input and by neurons that nothing drives."""
    return network(
        Input(shape=(6,)),
        [
            Population(name="hidden", shape=(6,), v_th=40),
            Population(name="source", shape=(3,), **settings),
            Population(name="out", shape=(4,), v_th=60, dv=500, du=1500),
        ],
        [
            ("input", "hidden", dense(6, 6), 0),
            ("hidden", "out", dense(4, 6), 0),
            ("source", "out", dense(4, 3), 0),
        ],
    )


@pytest.mark.lava
def test_neurons_that_fire_in_every_step() -> None:
    net = sourced(v_th=1, dv=4095, bias=2, bias_exp=7)
    assert net.depths["source"] == 1
    assert reference.run(net, spikes_for(net))["source"].spikes.all()
    assert_same(net, spikes_for(net))


@pytest.mark.lava
def test_neurons_that_fire_in_the_first_step_only() -> None:
    """They start above their threshold and then inhibit themselves."""
    net = sourced(v_th=10, du=4095, dv=0, v_init=np.array([700, 650, 900]))
    stop = Projection(source="source", target="source", synapse=Dense(w=-255 * np.eye(3)), delay=1)
    net = replace(net, projections=(*net.projections, stop))
    x = spikes_for(net)
    fired = reference.run(net, x)["source"].spikes
    assert fired[0].all()
    assert not fired[1:].any()
    assert_same(net, x)


@pytest.mark.lava
def test_parts_that_the_input_does_not_reach() -> None:
    """Lava runs only what hangs together."""
    net = network(
        Input(shape=(2, 3, 1)),
        [
            Population(name="clock", shape=(2,), v_th=3, bias=100),
            Population(name="driven", shape=(1, 2, 3), v_th=np.arange(6), dv=900),
            Population(name="lonely", shape=(2, 1, 2), v_th=9, bias=np.array([90, 700, 5, 4000])),
        ],
        [("clock", "driven", dense(6, 2), 0)],
    )
    assert_same(net, spikes_for(net))


@pytest.mark.lava
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_neurons_on_a_map_with_parameters_of_their_own(reset: str) -> None:
    rng: Any = np.random.default_rng(5)
    net = network(
        Input(shape=(2, 4, 3)),
        [
            Population(
                name="map", shape=(3, 4, 3), reset=reset, v_th=rng.integers(0, 900, 36),
                du=rng.integers(0, 4096, 36), dv=rng.integers(0, 4096, 36), bias_exp=3,
                bias=rng.integers(-900, 900, 36), v_init=rng.integers(-90_000, 90_000, 36),
            ),
            Population(name="out", shape=(5,), v_th=30, v_init=-4000, reset=reset),
        ],
        [("input", "map", conv(3, 2), 0), ("map", "out", dense(5, 36), 0)],
    )  # fmt: skip
    assert_same(net, spikes_for(net))


# What would go wrong, seen by leaving it out


@pytest.mark.lava
def test_mutant_samples_in_a_row_despite_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    from spikeport.hw import lava_net

    net = looped()
    for module in (lava_net, lava_record):
        monkeypatch.setattr(module, "alone", lambda net: False)
    assert differs(net, spikes_for(net))


@pytest.mark.lava
def test_mutant_neurons_that_fire_before_their_window(monkeypatch: pytest.MonkeyPatch) -> None:
    from spikeport.hw import lava_net

    held, x = looped(bias=4000), spikes_for(looped())
    assert early.intruders(held) == {"b"}
    assert lava_net.ours(held) == frozenset()
    forgetful = looped(bias=4000, bias_exp=2, dv=4095)
    assert lava_net.ours(forgetful) == {"b"}
    assert not differs(held, x)
    assert not differs(forgetful, x)
    monkeypatch.setattr(lava_net, "intruders", lambda net, silent, start: frozenset())
    assert differs(forgetful, x)
    monkeypatch.setattr(lava_net, "HELD", 0)
    assert differs(held, x)


# The real runtime


@pytest.mark.lava
def test_the_runtime_runs_loops_delays_and_our_neurons() -> None:
    """Three samples, each in an execution of its own: recurrence, a late convolution, v_init,
    subtraction, an early spiker, and a part that the input does not reach."""
    net = network(
        Input(shape=(2, 3, 3)),
        [
            Population(name="map", shape=(2, 3, 3), v_th=300, v_init=np.arange(18) * 1000),
            Population(name="b", shape=(4,), v_th=60, bias=4000, reset="subtract"),
            Population(name="c", shape=(4,), v_th=60, bias=4000, dv=100),
            Population(name="lonely", shape=(2,), v_th=9, bias=300),
        ],
        [
            ("input", "map", conv(2, 2), 0),
            ("map", "map", conv(2, 2, high=20), 2),
            ("map", "b", dense(4, 18), 0),
            ("b", "c", dense(4, 4), 0),
            ("c", "b", dense(4, 4, high=20), 4),
            ("c", "c", dense(4, 4, high=20), 1),
        ],
    )
    assert "c" in early.intruders(net)
    x = spikes_for(net, batch=3)
    expected = reference.run(net, x)
    assert all(part.spikes.any() for part in expected.populations.values())
    assert first_difference(expected, lava_run.run(net, x, timeout_s=120)) is None
