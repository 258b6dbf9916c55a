"""Skip paths over convolutions: exact on boards too, where convolutions cannot wait."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spikeport.export.prepare import prepare
from spikeport.export.quantise import to_fixed
from spikeport.hw import rules
from spikeport.sim import engine, floating, reference
from spikeport.sim.chip import LAVA, LOIHI_2
from spikeport.sim.net import FloatNet, FloatPopulation, FloatProjection, Input, Readout
from spikeport.sim.synapse import ConvGeometry, Dense, FloatConv2d, FloatDense, FloatSumPool2d


def skipping(size: int = 6) -> FloatNet:
    """input -> a -> b, both convolutions, and a convolution and a pool past `a`."""
    rng = np.random.default_rng(0)
    same = ConvGeometry(padding=(1, 1))

    def conv(outputs: int, inputs: int) -> FloatConv2d:
        return FloatConv2d(w=rng.normal(size=(outputs, inputs, 3, 3)), geometry=same)

    pool = FloatSumPool2d(kernel=(1, 1), stride=(1, 1), w=0.5)
    return FloatNet(
        input=Input(shape=(2, size, size)),
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
