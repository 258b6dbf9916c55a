"""Bounds are sound for every legal input, tight where that can be known, and say what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeport.export.bounds import bounds, prove
from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d


def build(population: Population, synapse: Any, *, steps: int = 6, kind: str = "count") -> FixedNet:
    shape = (2, 4, 5) if not isinstance(synapse, Dense) else (3,)
    return FixedNet(
        input=Input(shape=shape, kind="graded", payload_bits=4, scale=15.0),
        populations=(population,),
        projections=(Projection(source="input", target=population.name, synapse=synapse),),
        readout=Readout(population=population.name, kind=kind),
        steps=steps,
    )


@st.composite
def nets(draw: st.DrawFn) -> FixedNet:
    """One population with every parameter drawn, some nets overflowing, behind each synapse."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["dense", "conv", "pool"]))
    synapse: Any
    if kind == "dense":
        synapse = Dense(w=rng.integers(-256, 256, (4, 3)), w_exp=draw(st.integers(-8, 7)))
        shape: tuple[int, ...] = (4,)
    elif kind == "conv":
        geometry = ConvGeometry(stride=(1, 2), padding=(1, 0), groups=2)
        synapse = Conv2d(w=rng.integers(-256, 256, (4, 1, 3, 2)), geometry=geometry)
        shape = synapse.output_shape((2, 4, 5))
    else:
        synapse = SumPool2d(kernel=(2, 3), stride=(2, 1), padding=(1, 0), w=-200)
        shape = synapse.output_shape((2, 4, 5))
    n = int(np.prod(shape))
    each = draw(st.booleans())
    population = Population(
        name="p",
        shape=shape,
        v_th=rng.integers(0, draw(st.sampled_from([50, 131072])), n if each else None),
        du=rng.integers(0, 4096, n if each else None),
        dv=rng.integers(0, 4096),
        bias=rng.integers(-4096, 4096, n),
        bias_exp=draw(st.integers(0, 7)),
        v_init=rng.integers(-10000, 10000, n),
        reset=draw(st.sampled_from(["zero", "subtract"])),
    )
    return build(population, synapse, steps=draw(st.integers(1, 9)))


@given(net=nets(), seed=st.integers(0, 2**32 - 1), dense=st.floats(0, 1))
def test_a_proven_net_never_leaves_its_bounds(net: FixedNet, seed: int, dense: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 16, (net.steps, 6, *net.input.shape))
    x = np.where(rng.random(x.shape) < dense, 15, x)
    if prove(net):
        return
    trace, bound = reference.run(net, x, strict=True)["p"], bounds(net)["p"]
    assert trace.u is not None
    assert trace.v is not None
    assert (bound.u.low <= trace.u).all()
    assert (trace.u <= bound.u.high).all()
    assert (trace.v <= np.maximum(bound.v.high, 0)).all()
    assert (np.minimum(bound.v.low, 0) <= trace.v).all()


def overflowing() -> FixedNet:
    w = np.array([[-10, 4, 2], [250, 250, 200]])
    population = Population(name="p", shape=(2,), v_th=131071, du=1000, dv=20)
    return build(population, Dense(w=w, w_exp=2), steps=12)


def test_a_risk_names_neuron_bound_limit_and_remedy() -> None:
    first = prove(overflowing())[0]
    assert (first.population, first.neuron, first.quantity) == ("p", 1, "u")
    assert str(first).startswith("population 'p': u can wrap in neuron 1 (1 in all): it may reach")
    assert str(first).endswith(
        f"the limit is 8388607; lower the scale of its weights by {first.factor:.3g} or run fewer"
        " steps"
    )


def test_a_convolution_counts_the_taps_that_lie_inside_the_map() -> None:
    w = np.arange(-9, 9).reshape(2, 1, 3, 3) * 20
    geometry = ConvGeometry(stride=(1, 2), padding=(1, 2), dilation=(1, 2), groups=2)
    synapse = Conv2d(w=w, geometry=geometry)
    shape = synapse.output_shape((2, 4, 5))
    net = build(Population(name="p", shape=shape, v_th=90, dv=100), synapse, steps=3)
    full = np.full((1, 1, 2, 4, 5), 15)
    for sign, end in ((1, "high"), (-1, "low")):
        part = Conv2d(w=np.maximum(sign * w, 0), geometry=geometry)
        expected = sign * reference.synapse_sum(part, full)[0, 0]
        assert np.array_equal(getattr(bounds(net)["p"].a, end), expected), end


def test_a_readout_that_may_fire_is_a_risk() -> None:
    population = Population(name="p", shape=(2,), v_th=131071, dv=0)
    w = np.array([[200, 200, 250], [2, 2, 2]])
    net = build(population, Dense(w=w), steps=14, kind="last_v")
    assert [r.quantity for r in prove(net)] == ["v", "readout"]
    assert prove(build(population, Dense(w=w), steps=13, kind="last_v")) == []


@pytest.mark.parametrize("kind", [None, "delay", "recurrent"])
def test_random_nets_keep_the_promise(random_net: Callable[..., Any], kind: str | None) -> None:
    proven = certain = 0
    for seed in range(60):
        net, x = random_net(seed, kind=kind, lava=False)
        found = bounds(net)
        if prove(net):
            continue
        proven += 1
        trace = reference.run(net, x, strict=True)
        for name, bound in found.items():
            part = trace[name]
            assert part.u is not None
            assert (bound.u.low <= part.u).all()
            assert (part.u <= bound.u.high).all()
            for step, spikes in enumerate(part.spikes):
                sent = bound.spikes.at(step)
                assert sent is not None
                assert (sent.low <= spikes).all()
                assert (spikes <= sent.high).all()
                certain += int((sent.low == sent.high).sum())
            assert not part.spikes[:, :, bound.dead].any()
    assert proven > 20
    assert certain > 1000


def looped(*, steps: int, inhibition: int, bias: int = 130) -> FixedNet:
    """A neuron that its bias fires in step 0 and that then inhibits itself, before a target."""
    shot = Population(name="shot", shape=(1,), v_th=1, du=0, dv=4095, bias=bias)
    target = Population(name="target", shape=(2,), v_th=131071, dv=0)
    return FixedNet(
        input=Input(shape=(1,)),
        populations=(shot, target),
        projections=(
            Projection(
                source="shot", target="shot", synapse=Dense(w=[[-inhibition]], w_exp=7), delay=1
            ),
            Projection(source="shot", target="target", synapse=Dense(w=[[100], [-50]], w_exp=6)),
        ),
        readout=Readout(population="target", kind="sum_v"),
        steps=steps,
    )


def test_a_one_shot_neuron_is_known_to_fire_once() -> None:
    net = looped(steps=5000, inhibition=250)
    assert prove(net) == []
    sent = bounds(net)["shot"].spikes
    assert sent.starts == [0, 1]
    assert [(int(x.low[0]), int(x.high[0])) for x in sent.values] == [(1, 1), (0, 0)]
    target = bounds(net)["target"]
    assert target.v.low.tolist() == [6400 << 6, -3200 << 6]
    assert target.v.high.tolist() == [6400 << 6, -3200 << 6]
    assert target.dead.tolist() == [True, True]


def test_a_neuron_without_enough_inhibition_is_known_to_fire_on() -> None:
    sent = bounds(looped(steps=6, inhibition=0))["shot"].spikes
    assert sent.at(-1) is None
    assert [int(sent.at(t).low[0]) for t in range(6)] == [1] * 6  # type: ignore[union-attr]
    assert [r.quantity for r in prove(looped(steps=100, inhibition=0))] == ["v", "readout"]


@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.integers(2, 7),
    exponents=st.tuples(st.integers(-4, 2), st.integers(-4, 2), st.integers(-4, 2)),
    delays=st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(2, 4)),
    reset=st.sampled_from(["zero", "subtract"]),
)
def test_loops_through_two_populations_stay_inside_their_bounds(
    seed: int, bits: int, exponents: tuple[int, ...], delays: tuple[int, ...], reset: str
) -> None:
    rng = np.random.default_rng(seed)
    high = 1 << bits

    def wired(source: str, target: str, n: tuple[int, int], *, at: int) -> Projection:
        synapse = Dense(w=rng.integers(-high, high, n), w_exp=exponents[at])
        return Projection(source=source, target=target, synapse=synapse, delay=delays[at])

    def grown(name: str, n: int) -> Population:
        return Population(
            name=name, shape=(n,), v_th=rng.integers(0, high, n), du=rng.integers(0, 4096, n),
            dv=rng.integers(0, 4096, n), bias=rng.integers(-32 * high, 32 * high, n),
            v_init=rng.integers(-1000, 1000, n), reset=reset,
        )  # fmt: skip

    net = FixedNet(
        input=Input(shape=(3,)),
        populations=(grown("a", 4), grown("b", 2)),
        projections=(
            wired("input", "a", (4, 3), at=0),
            wired("a", "a", (4, 4), at=1),
            wired("b", "a", (4, 2), at=2),
            wired("a", "b", (2, 4), at=0),
        ),
        readout=Readout(population="b"),
        steps=12,
    )
    found = bounds(net)
    if prove(net):
        return
    trace = reference.run(net, rng.integers(0, 2, (12, 8, 3)), strict=True)
    for name, bound in found.items():
        part = trace[name]
        assert part.u is not None
        assert part.v is not None
        assert (bound.u.low <= part.u).all()
        assert (part.u <= bound.u.high).all()
        assert (np.minimum(bound.v.low, 0) <= part.v).all()
        assert (part.v <= np.maximum(bound.v.high, 0)).all()
        for step, spikes in enumerate(part.spikes):
            sent = bound.spikes.at(step)
            assert sent is not None
            assert (sent.low <= spikes).all()
            assert (spikes <= sent.high).all()
