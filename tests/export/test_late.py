"""Skip paths over convolutions: exact on boards too, where convolutions cannot wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from spikeport.export.prepare import prepare
from spikeport.export.quantise import to_fixed
from spikeport.hw import rules
from spikeport.sim import engine, floating, reference
from spikeport.sim.chip import LAVA, LOIHI_2
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
from spikeport.sim.surrogate import SURROGATES, Surrogate
from spikeport.sim.synapse import (
    ConvGeometry,
    Dense,
    FloatConv2d,
    FloatDense,
    FloatSumPool2d,
    SumPool2d,
)
from spikeport.sim.trace import first_difference
from spikeport.sim.twin import Twin
from spikeport.sim.twin_base import copies
from spikeport.sim.twin_float import FloatTwin


def skipping(size: int = 6, *, graded: bool = True) -> FloatNet:
    """input -> a -> b, both convolutions, and a convolution and a pool past `a`. Graded values,
    which relays cannot send on, or spikes."""
    rng = np.random.default_rng(0)
    same = ConvGeometry(padding=(1, 1))

    def conv(outputs: int, inputs: int) -> FloatConv2d:
        return FloatConv2d(w=rng.normal(size=(outputs, inputs, 3, 3)), geometry=same)

    pool = FloatSumPool2d(kernel=(1, 1), stride=(1, 1), w=0.5)
    return FloatNet(
        input=Input(shape=(2, size, size), kind="graded" if graded else "spike"),
        populations=tuple(
            FloatPopulation(name=n, shape=(2, size, size), v_th=2.0, keep_v=0.5) for n in "ab"
        ),
        projections=(
            FloatProjection(source="input", target="a", synapse=conv(2, 2)),
            FloatProjection(source="a", target="b", synapse=conv(2, 2)),
            FloatProjection(source="input", target="b", synapse=conv(2, 2)),
            FloatProjection(source="input", target="b", synapse=pool),
        ),
        readout=Readout(population="b"),
        steps=5,
    )


def test_late_convolutions_become_dense_and_stay_exact() -> None:
    net = skipping()
    ready = prepare(net, LOIHI_2)
    kinds = [isinstance(p.synapse, FloatDense) for p in ready.projections]
    assert kinds == [False, False, True, True]
    x = np.random.default_rng(1).integers(0, 2, (5, 7, 2, 6, 6))
    before, after = floating.run(net, x), floating.run(ready, x)
    assert before["b"].spikes.any()
    for name in "ab":
        assert np.array_equal(before[name].spikes, after[name].spikes)
        assert np.allclose(before[name].v_last, after[name].v_last, atol=1e-12)
    fixed = to_fixed(net, LOIHI_2)
    rules.enforce(fixed, LOIHI_2)
    assert fixed.chip_delays == (0, 0, 1, 1)
    assert isinstance(fixed.projections[2].synapse, Dense)
    assert np.array_equal(engine.run(fixed, x)["b"].spikes, reference.run(fixed, x)["b"].spikes)


def test_the_simulator_lets_convolutions_wait() -> None:
    net = skipping()
    assert prepare(net, LAVA).projections[2] == net.projections[2]


def test_a_chain_stays_as_it_is() -> None:
    net = skipping()
    chain = replace(net, projections=net.projections[:2])
    assert prepare(chain, LOIHI_2) is chain


def test_a_matrix_that_would_be_too_large_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"^projection 'input' -> 'b' waits 1 steps for the path beside it, which convolutions"
        r" on loihi2 cannot, and as a dense matrix it would have 21233664 entries, at most 4000000",
    ):
        prepare(skipping(48), LOIHI_2)


def test_spikes_wait_in_relays_and_stay_exact() -> None:
    net = skipping(graded=False)
    ready = prepare(net, LOIHI_2)
    assert [p.name for p in ready.populations] == ["input.relay1", "a", "b"]
    wires = [(p.source, p.target) for p in ready.projections]
    past = ("input.relay1", "b")
    assert wires == [("input", "a"), ("a", "b"), past, past, ("input", "input.relay1")]
    assert [p.synapse for p in ready.projections[:4]] == [p.synapse for p in net.projections]
    x = np.random.default_rng(1).integers(0, 2, (5, 7, 2, 6, 6))
    before, after = floating.run(net, x), floating.run(ready, x)
    assert np.array_equal(after["input.relay1"].spikes, x.reshape(5, 7, -1))
    for name in "ab":
        assert before[name].spikes.any()
        assert np.array_equal(before[name].spikes, after[name].spikes)
    fixed = to_fixed(net, LOIHI_2, weight_bits=1)  # of the net's weights, not of the relays'
    rules.enforce(fixed, LOIHI_2)
    assert not any(fixed.chip_delays)
    assert np.array_equal(engine.run(fixed, x)["input.relay1"].spikes, x.reshape(5, 7, -1))
    direct = to_fixed(net, replace(LOIHI_2, conv_delay_max=62), weight_bits=1)
    expected = reference.run(direct, x)
    for name in "ab":
        assert np.array_equal(reference.run(fixed, x)[name].spikes, expected[name].spikes)


def longer(net: FloatNet) -> FloatNet:
    """Behind a chain of three, its source and its first population feed the last."""
    a, b = net.populations
    conv = net.projections[1].synapse
    return replace(
        net,
        populations=(a, b, replace(b, name="c")),
        projections=(
            *net.projections[:2],
            FloatProjection(source="b", target="c", synapse=conv),
            FloatProjection(source="a", target="c", synapse=conv),
            FloatProjection(source="input", target="c", synapse=conv),
            FloatProjection(source="input", target="b", synapse=conv),
        ),
        readout=Readout(population="c"),
    )


def test_relays_are_shared_and_as_many_as_steps_are_to_wait() -> None:
    chain = longer(skipping(graded=False))
    ready = prepare(chain, LOIHI_2)
    names = [p.name for p in ready.populations]
    assert names == ["input.relay1", "input.relay2", "a", "a.relay1", "b", "c"]
    wires = [f"{p.source} {p.target}" for p in ready.projections[3:]]
    assert wires == [
        "a.relay1 c", "input.relay2 c", "input.relay1 b", "a a.relay1", "input input.relay1",
        "input.relay1 input.relay2",
    ]  # fmt: skip
    fixed = to_fixed(chain, LOIHI_2, weight_bits={"input -> c": 3, "c": 5})
    largest = {f"{p.source} {p.target}": int(np.abs(p.synapse.w).max()) for p in fixed.projections}
    assert largest["input.relay2 c"] <= 4 < largest["b c"] <= 16 < largest["input.relay1 b"]


def test_a_small_matrix_takes_less_than_relays() -> None:
    """18 weights a neuron of the source, of which a core holds 23 beside a neuron's share."""
    kinds = [type(p.synapse) for p in prepare(skipping(3, graded=False), LOIHI_2).projections]
    assert kinds[2:] == [FloatDense, FloatDense]
    assert LOIHI_2.synapse_words * 8 / LOIHI_2.neurons == pytest.approx(23.4, abs=0.1)


def test_relays_of_an_input_in_other_units_fire_too() -> None:
    net = longer(skipping(graded=False))
    net = replace(net, input=replace(net.input, scale=4.0))
    x = np.random.default_rng(1).integers(0, 2, (5, 7, 2, 6, 6))
    ready, fixed = prepare(net, LOIHI_2), to_fixed(net, LOIHI_2)
    for name in ("input.relay1", "input.relay2"):
        assert np.array_equal(engine.run(fixed, x)[name].spikes, x.reshape(5, 7, -1))
        assert np.array_equal(floating.run(ready, x / 4.0)[name].spikes, x.reshape(5, 7, -1))


PATIENT = replace(LOIHI_2, conv_delay_max=62)  # needs no relays


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("change", [lambda net: net, longer], ids=["one", "two in a row"])
def test_gradients_pass_relays_as_if_they_were_not_there(
    change: Callable[[FloatNet], FloatNet], surrogate: str
) -> None:
    """At half a threshold from it a triangle would pass half of them, a rectangle nothing."""
    net, window = change(skipping(graded=False)), Surrogate(surrogate, 1.0)
    pairs = (
        [Twin(to_fixed(net, c, weight_bits=6), surrogate=window) for c in (LOIHI_2, PATIENT)],
        [
            FloatTwin(prepare(net, c), surrogate=window, dtype=torch.float64)
            for c in (LOIHI_2, PATIENT)
        ],
    )
    for twins in pairs:
        assert ["input.relay1" in [p.name for p in t.net.populations] for t in twins] == [1, 0]
        train = np.random.default_rng(1).integers(0, 2, (5, 7, 2, 6, 6))
        for x in (torch.from_numpy(train).double(), torch.from_numpy(train[0]).double()):
            through, around = (gradient(twin, x) for twin in twins)
            assert torch.allclose(through, around, rtol=1e-6, atol=1e-6 * float(around.abs().max()))
            assert float(around.abs().max()) > 0


def gradient(twin: Twin | FloatTwin, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    logits = twin(x)
    (found,) = torch.autograd.grad((logits * torch.arange(logits.shape[1])).sum(), x)
    return found


def test_only_what_copies_its_source_is_taken_for_a_relay() -> None:
    """What is said to copy does so in every train; each of the others fails in one of them."""
    relay = Population(name="relay", shape=(1, 1, 1), v_th=0, dv=4095, bias=-64, scale=2.0)
    kinds = [
        (relay, True),
        (replace(relay, v_th=1, bias=0), True),
        (replace(relay, bias=0, dv=1), True),  # rests at its threshold
        (replace(relay, dv=2300), True),  # sinks, but a spike still lifts it far enough
        (replace(relay, dv=2000), False),
        (replace(relay, dv=0), False),
        (replace(relay, bias=1), False),
        (replace(relay, bias=-128), False),
        (replace(relay, du=2048), False),
        (replace(relay, v_init=400_000), False),
        (replace(relay, reset="subtract", v_th=1, bias=0, dv=1), False),
    ]
    trains = np.array(list(product([0, 1], repeat=9))).T[..., None]
    for population, expected in kinds:
        net = FixedNet(
            input=Input(shape=(1, 1, 1)),
            populations=(population,),
            projections=(
                Projection(
                    source="input", target="relay",
                    synapse=SumPool2d(kernel=(1, 1), stride=(1, 1), w=2),
                ),
            ),
            readout=Readout(population="relay"),
            steps=9,
        )  # fmt: skip
        spikes = reference.run(net, trains.reshape(9, -1, 1, 1, 1))["relay"].spikes
        assert np.array_equal(spikes, trains) == expected, population
        assert copies(population, 2) == expected, population


@pytest.mark.lava
def test_lava_sends_spikes_through_relays() -> None:
    from spikeport.hw import lava_inprocess

    fixed = to_fixed(skipping(graded=False), LOIHI_2)
    x = np.random.default_rng(2).integers(0, 2, (5, 2, 2, 6, 6))
    assert first_difference(reference.run(fixed, x), lava_inprocess.run(fixed, x)) is None
