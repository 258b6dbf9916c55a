"""Bounds are sound for every legal input, tight where that can be known, and say what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeport.export.bounds import bounds, prove, worst_input
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


def test_the_worst_input_attains_what_a_risk_foresees() -> None:
    net = overflowing()
    risk = prove(net)[0]
    trace = reference.run(net, worst_input(net, risk))
    assert trace.wraps["p"] > 0


def test_the_worst_input_of_a_convolution_reaches_the_bound_exactly() -> None:
    w = np.arange(-9, 9).reshape(2, 1, 3, 3) * 20
    synapse = Conv2d(w=w, geometry=ConvGeometry(padding=(1, 1), groups=2))
    population = Population(name="p", shape=(2, 4, 5), v_th=90, dv=100)
    net = build(population, synapse, steps=3)
    inside = 20 + 6  # second channel, row 1, column 1: no border
    high = int(bounds(net)["p"].u.high[inside])
    from spikeport.export.bounds import Risk

    risk = Risk(population="p", neuron=inside, quantity="u", bound=high, limit=1, neurons=1)
    trace = reference.run(net, worst_input(net, risk))["p"]
    assert trace.u is not None
    assert trace.u[-1, 0, inside] == high == 64 * 15 * w[1].sum()


def test_a_readout_that_may_fire_is_a_risk() -> None:
    population = Population(name="p", shape=(2,), v_th=131071, dv=0)
    w = np.array([[200, 200, 250], [2, 2, 2]])
    net = build(population, Dense(w=w), steps=14, kind="last_v")
    assert [r.quantity for r in prove(net)] == ["v", "readout"]
    assert prove(build(population, Dense(w=w), steps=13, kind="last_v")) == []


def test_random_nets_keep_the_promise(random_net: Callable[..., Any]) -> None:
    proven = 0
    for seed in range(60):
        net, x = random_net(seed)
        if not prove(net) and len(x) <= net.steps:
            trace = reference.run(net, x, strict=True)
            proven += 1
            assert sum(trace.wraps.values()) == sum(trace.clips.values()) == 0
    assert proven > 5


def test_worst_input_needs_a_first_layer() -> None:
    net = overflowing()
    risk = prove(net)[0]
    second = Population(name="q", shape=(2,), v_th=5)
    more = FixedNet(
        input=net.input,
        populations=(*net.populations, second),
        projections=(
            *net.projections,
            Projection(source="p", target="q", synapse=Dense(w=np.array([[2, 4], [6, 8]]))),
        ),
        readout=Readout(population="q"),
        steps=3,
    )
    other = type(risk)(population="q", neuron=0, quantity="u", bound=1, limit=1, neurons=1)
    with pytest.raises(ValueError, match=r"^population 'q' is not fed by the input alone; a worst"):
        worst_input(more, other)
