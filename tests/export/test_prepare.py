"""What a chip's neurons cannot do is spelled otherwise without changing a spike, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spikeport.export.bounds import prove
from spikeport.export.prepare import Unsuited, dealt_out, prepare
from spikeport.export.quantise import to_fixed
from spikeport.sim import engine, floating, reference
from spikeport.sim.chip import LAVA, LOIHI_1, LOIHI_2
from spikeport.sim.floating import NEVER
from spikeport.sim.net import FixedNet, FloatNet, FloatPopulation, FloatProjection, Input, Readout
from spikeport.sim.synapse import ConvGeometry, Dense, FloatConv2d, FloatDense, FloatSumPool2d

RNG = np.random.default_rng(5)


def dense_net(**neurons: Any) -> FloatNet:
    population = FloatPopulation(**{"name": "p", "shape": (4,), "v_th": 1.0, **neurons})
    w = np.random.default_rng(3).normal(size=(4, 6))
    return FloatNet(
        input=Input(shape=(6,)),
        populations=(population,),
        projections=(
            FloatProjection(source="input", target="p", synapse=FloatDense(w=w)),
            FloatProjection(
                source="p", target="p", synapse=FloatDense(w=-0.3 * np.eye(4)[::-1]), delay=2
            ),
        ),
        readout=Readout(population="p"),
        steps=9,
    )


def map_net(v_th: Any, *, pool: bool = False) -> FloatNet:
    """Two maps into two of the same size, by convolution or pool."""
    population = FloatPopulation(name="p", shape=(2, 3, 3), v_th=v_th, keep_v=0.8, bias=0.05)
    w = np.random.default_rng(4).normal(size=(2, 2, 3, 3))
    synapse: Any = FloatConv2d(w=w, geometry=ConvGeometry(padding=(1, 1)))
    if pool:
        synapse = FloatSumPool2d(kernel=(3, 3), stride=(1, 1), padding=(1, 1), w=0.3)
    return FloatNet(
        input=Input(shape=(2, 3, 3)),
        populations=(population,),
        projections=(FloatProjection(source="input", target="p", synapse=synapse),),
        readout=Readout(population="p"),
        steps=9,
    )


def spikes_on(net: FloatNet, *, seed: int = 0) -> Any:
    x = np.random.default_rng(seed).integers(0, 2, (net.steps, 20, *net.input.shape))
    return floating.run(net, x)["p"].spikes


def test_what_the_chip_can_is_left_alone() -> None:
    net = dense_net(bias=0.1)
    assert prepare(net, LOIHI_2) is net
    settled = dense_net(v_init=0.25, reset="subtract", scale=300.0, v_th=np.arange(1.0, 5.0))
    assert prepare(settled, LAVA) is settled


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            dense_net(reset="subtract"),
            "population 'p' resets by subtraction, but neurons of loihi2 reset to zero; train it"
            ' with reset_mechanism="zero", or choose target "lava"',
        ),
        (
            dense_net(keep_v=np.array([0.5, 0.5, 0.5, 0.75])),
            "population 'p': keep_v differs between neurons (0.5..0.75), but loihi2 has one decay a"
            ' population; share it in training, or choose target "lava"',
        ),
        (
            dense_net(keep_u=np.array([0.1, 0.2, 0.3, 0.4])),
            "population 'p': keep_u differs between neurons (0.1..0.4), but loihi2 has one decay a"
            ' population; share it in training, or choose target "lava"',
        ),
        (
            dense_net(v_th=np.array([0.0, 1, 1, 1])),
            "population 'p': thresholds differ between neurons and one of them is 0, which no"
            " scaling makes equal to the others; loihi2 has one threshold a population, split the"
            ' population or choose target "lava"',
        ),
        (
            dense_net(v_th=np.array([1.0, 1, 1, NEVER])),
            "population 'p': thresholds differ between neurons and one of them is never reached,"
            " which no scaling makes equal to the others; loihi2 has one threshold a population,"
            ' split the population or choose target "lava"',
        ),
        (
            replace(
                dense_net(v_th=np.arange(1.0, 5)), readout=Readout(population="p", kind="sum_v")
            ),
            "population 'p': thresholds differ between neurons, but its potentials are read, which"
            " scaling would change; loihi2 has one threshold a population, share it in training or"
            ' choose target "lava"',
        ),
        (
            map_net(np.arange(1.0, 19)),
            "population 'p': thresholds differ between neurons within a channel of the convolution"
            " from 'input', whose places share their weights; loihi2 has one threshold a"
            ' population, share the thresholds of a channel in training or choose target "lava"',
        ),
        (
            dense_net(v_init=0.5, keep_u=0.25),
            "population 'p' starts at v_init (in NIR: above its v_reset), which only a first-step"
            " current can replace here, but its current lasts (keep_u is 0.25); train it without or"
            ' with keep_u 0, or choose target "lava"',
        ),
        (
            replace(dense_net(v_init=0.5), steps=50_000),
            "population 'p' starts at v_init, which on loihi2 a source neuron replaces for up to"
            ' 25000 steps, not 50000; run fewer steps or choose target "lava"',
        ),
    ],
)
def test_what_has_to_be_trained_otherwise_is_refused(net: FloatNet, message: str) -> None:
    with pytest.raises(Unsuited) as error:
        to_fixed(net, LOIHI_2)
    assert str(error.value) == message
    if "sum_v" not in repr(net.readout):
        prepare(net, LAVA)  # the simulator has all of it


def test_thresholds_become_equal_by_scaling_what_enters() -> None:
    net = dense_net(v_th=np.array([0.5, 1.0, 2.0, 0.25]), bias=0.1, v_init=0.2, keep_v=0.7)
    even = prepare(net, replace(LOIHI_2, v_init=True))
    p = even.population("p")
    assert p.v_th.shape == ()
    assert float(p.v_th) == 2.0
    assert p.bias.tolist() == [0.4, 0.2, 0.1, 0.8]
    assert p.v_init.tolist() == [0.8, 0.4, 0.2, 1.6]
    for a, b in zip(net.projections, even.projections, strict=True):
        assert np.array_equal(b.synapse.w, np.asarray(a.synapse.w) * [[4.0], [2], [1], [8]])
    assert 0.05 < spikes_on(net).mean() < 0.95
    assert np.array_equal(spikes_on(net), spikes_on(even))
    fixed = to_fixed(net, LOIHI_1)
    assert fixed.population("p").v_th.shape == ()


@pytest.mark.parametrize("pool", [False, True])
def test_channels_share_their_factor(pool: bool) -> None:
    net = map_net(np.repeat([0.5, 1.0], 9), pool=pool)
    even = prepare(net, LOIHI_2)
    assert float(even.population("p").v_th) == 1.0
    assert isinstance(even.projections[0].synapse, FloatConv2d)
    assert 0.05 < spikes_on(net).mean() < 0.95
    assert np.array_equal(spikes_on(net), spikes_on(even))
    assert prove(to_fixed(net, LOIHI_2)) == []


def test_where_thresholds_may_differ_every_neuron_fills_the_grid() -> None:
    net = dense_net(bias=0.1, v_init=-0.3)
    filled = prepare(net, LAVA)
    tops = [
        max(np.abs(np.asarray(q.synapse.w)[i]).max() for q in filled.projections) for i in range(4)
    ]
    assert tops == pytest.approx([max(tops)] * 4)
    assert filled.population("p").v_th.shape == (4,)
    assert np.array_equal(spikes_on(net), spikes_on(filled))
    read = replace(net, readout=Readout(population="p", kind="last_v"))
    assert prepare(read, LAVA) is read  # potentials keep their unit
    maps = prepare(map_net(0.7), LAVA)
    assert len(np.unique(maps.population("p").v_th)) == 2
    assert np.array_equal(spikes_on(map_net(0.7)), spikes_on(maps))


@pytest.mark.parametrize("v_init", [0.5, np.array([0.9, -0.4, 0.0, 2.5])])
def test_a_start_potential_becomes_a_current_of_the_first_step(v_init: Any) -> None:
    net = dense_net(v_init=v_init, keep_v=0.7)
    started = prepare(net, LOIHI_2)
    assert [p.name for p in started.populations] == ["p.start", "p"]
    assert not started.population("p").v_init.any()
    assert np.array_equal(spikes_on(net), spikes_on(started))

    fixed = to_fixed(net, LOIHI_2)
    assert prove(fixed) == []
    x = np.random.default_rng(1).integers(0, 2, (9, 12, 6))
    trace = reference.run(fixed, x, strict=True)
    assert trace["p.start"].spikes[0].all()
    assert not trace["p.start"].spikes[1:].any()
    other = reference.run(with_v_init(fixed), x, strict=True)
    assert np.array_equal(np.asarray(trace["p"].v), np.asarray(other["p"].v))
    assert np.array_equal(trace["p"].spikes, other["p"].spikes)
    wanted = 64 * fixed.population("p").scale * np.broadcast_to(v_init, 4)
    found = with_v_init(fixed).population("p").v_init
    assert found == pytest.approx(wanted, abs=0.01 * abs(wanted).max())


def with_v_init(fixed: FixedNet) -> FixedNet:
    """The net without its one-shot neuron, started at the v_init that leaks to the same current."""
    start = next(q for q in fixed.projections if (q.source, q.target) == ("p.start", "p"))
    current = reference.synapse_sum(start.synapse, np.ones((1, 1, 1), np.int64))[0, 0] << 6
    p = fixed.population("p")
    keep = 4096 - int(p.dv)
    v_init = np.sign(current) * -(-abs(current) * 4096 // keep)
    return replace(
        fixed,
        populations=(replace(p, v_init=v_init),),
        projections=tuple(q for q in fixed.projections if q.source != "p.start"),
        chip=LAVA,
    )


def test_a_one_shot_neuron_stays_silent_for_as_long_as_promised() -> None:
    net = prepare(dense_net(v_init=0.5, keep_v=0.0), LOIHI_2)
    alone = replace(
        net, readout=Readout(population="p.start"), populations=net.populations[:1],
        projections=net.projections[2:3],
    )  # fmt: skip
    spikes = engine.run(to_fixed(alone, LOIHI_2), np.zeros((25_000, 1, 6), np.int64))["p.start"]
    assert np.flatnonzero(spikes.spikes).tolist() == [0]


def test_an_always_on_neuron_spikes_in_every_step() -> None:
    on = FloatPopulation(name="on", shape=(1,), v_th=1.0, bias=2.0, keep_v=0.0)
    net = dense_net(keep_u=0.5)
    bias = FloatProjection(source="on", target="p", synapse=FloatDense(w=RNG.normal(size=(4, 1))))
    net = replace(net, populations=(on, *net.populations), projections=(*net.projections, bias))
    for chip in (LOIHI_1, LAVA):
        fixed = to_fixed(net, chip)
        x = np.random.default_rng(2).integers(0, 2, (9, 5, 6))
        assert reference.run(fixed, x, strict=True)["on"].spikes.all()
        assert prove(fixed) == []


def test_weights_are_dealt_out_by_magnitude() -> None:
    w = np.array([[0.01, -8.0, 0.02], [0.5, 0.0, -0.03]])
    net = FloatNet(
        input=Input(shape=(3,)),
        populations=(FloatPopulation(name="p", shape=(2,), v_th=1.0),),
        projections=(FloatProjection(source="input", target="p", synapse=FloatDense(w=w)),),
        readout=Readout(population="p"),
        steps=5,
    )
    for count in (2, 3):
        parts = [np.asarray(q.synapse.w) for q in dealt_out(net, count).projections]
        assert len(parts) == count
        assert np.array_equal(sum(parts), w)
        assert (np.count_nonzero(parts, axis=0) <= 1).all()
    assert [np.count_nonzero(p) for p in parts] == [1, 1, 3]
    fixed = to_fixed(net, LOIHI_2, exponents=3)
    exponents = [q.synapse.w_exp for q in fixed.projections if isinstance(q.synapse, Dense)]
    assert exponents == sorted(exponents, reverse=True)
    assert len(set(exponents)) == 3
    same = replace(
        net, projections=(replace(net.projections[0], synapse=FloatDense(w=np.ones((2, 3)))),)
    )
    assert len(dealt_out(same, 3).projections) == 1
    assert dealt_out(map_net(1.0), 2) == map_net(1.0)


@pytest.mark.parametrize("exponents", [0, 5])
def test_the_number_of_exponents_is_limited(exponents: int) -> None:
    with pytest.raises(ValueError, match=rf"^exponents is {exponents}; allowed are 1\.\.4$"):
        to_fixed(dense_net(), LOIHI_2, exponents=exponents)
