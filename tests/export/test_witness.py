"""Witnesses: an input that makes an overflow happen, or an honest word that none was found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spikeport.export.bounds import Risk, prove
from spikeport.export.witness import worst_input
from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, Synapse


def build(population: Population, synapse: Synapse, *, steps: int) -> FixedNet:
    shape = (2, 4, 5) if not isinstance(synapse, Dense) else (3,)
    return FixedNet(
        input=Input(shape=shape, kind="graded", payload_bits=4, scale=15.0),
        populations=(population,),
        projections=(Projection(source="input", target=population.name, synapse=synapse),),
        readout=Readout(population=population.name),
        steps=steps,
    )


def overflowing() -> FixedNet:
    w = np.array([[-10, 4, 2], [250, 250, 200]])
    population = Population(name="p", shape=(2,), v_th=131071, du=1000, dv=20)
    return build(population, Dense(w=w, w_exp=2), steps=12)


def test_a_first_layer_is_driven_to_what_its_risk_foresees() -> None:
    net = overflowing()
    risk = prove(net)[0]
    witness = worst_input(net, risk)
    assert witness.happens
    assert witness.tries == 16  # the weights' own guess is among the first
    assert witness.x.shape == (12, 1, 3)
    assert (witness.x == 15).all()
    assert reference.run(net, witness.x).wraps["p"] > 0
    assert str(witness) == (
        f"population 'p', neuron 1: u reaches {witness.reached} in step {witness.step}, beyond"
        " 8388607, for the input that this witness holds"
    )


def test_the_worst_input_of_a_convolution_reaches_the_bound_exactly() -> None:
    w = np.arange(-9, 9).reshape(2, 1, 3, 3) * 20
    synapse = Conv2d(w=w, geometry=ConvGeometry(padding=(1, 1), groups=2))
    net = build(Population(name="p", shape=(2, 4, 5), v_th=90, dv=100), synapse, steps=3)
    inside = 20 + 6  # second channel, row 1, column 1: no border
    high = 64 * 15 * int(w[1].sum())
    for quantity, bound in (("u", high), ("a", high // 64), ("sum", high // 64)):
        risk = Risk(
            population="p", neuron=inside, quantity=quantity, bound=bound, limit=1, neurons=1
        )
        assert worst_input(net, risk).reached == bound


def two_layers(*, last: list[list[int]], w_exp: int = 7) -> FixedNet:
    """The second layer's neuron is driven by two neurons that want opposite inputs."""
    first = Population(name="a", shape=(2,), v_th=20, dv=4095)
    second = Population(name="b", shape=(1,), v_th=131071, dv=0)
    return FixedNet(
        input=Input(shape=(2,)),
        populations=(first, second),
        projections=(
            Projection(source="input", target="a", synapse=Dense(w=[[30, -30], [-30, 30]])),
            Projection(source="a", target="b", synapse=Dense(w=last, w_exp=w_exp)),
        ),
        readout=Readout(population="b"),
        steps=4,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_deeper_layer_is_searched(sign: int) -> None:
    # Four steps of one neuron overflow; the two cannot fire together.
    net = two_layers(last=[[sign * 254, sign * 4]])
    risk = replace(prove(net)[0], limit=(1 << 23) - 1)
    witness = worst_input(net, risk, tries=64)
    assert witness.reached == sign * 4 * 254 * 128 * 64
    assert not witness.happens
    assert str(witness) == (
        "population 'b', neuron 0: no input was found that drives v beyond 8388607; the furthest"
        f" of 64 tried reaches {sign * 8323072}, the bound is {sign * 8454144}"
    )
    longer = replace(net, steps=5)
    assert worst_input(longer, prove(longer)[0], tries=64).happens


def test_what_cannot_be_searched_is_refused() -> None:
    net = overflowing()
    risk = prove(net)[0]
    with pytest.raises(
        ValueError, match=r"^the risk is of population 'q', which the network lacks$"
    ):
        worst_input(net, replace(risk, population="q"))
    with pytest.raises(ValueError, match=r"^tries is 0; allowed are 1\.\.1073741824$"):
        worst_input(net, risk, tries=0)
