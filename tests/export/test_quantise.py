"""The crossing to integers: exact where training settled the scale, proven where it is searched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeport import fitting
from spikeport.export.bounds import bounds, prove
from spikeport.export.grid import DoesNotFit
from spikeport.export.quantise import to_fixed
from spikeport.sim import effective, floating, reference
from spikeport.sim.arith import V_LIMIT
from spikeport.sim.chip import LAVA, LOIHI_1, LOIHI_2
from spikeport.sim.floating import NEVER
from spikeport.sim.net import FloatNet, FloatPopulation, FloatProjection, Input, Readout
from spikeport.sim.synapse import (
    Conv2d,
    ConvGeometry,
    Dense,
    FloatConv2d,
    FloatDense,
    FloatSumPool2d,
    SumPool2d,
)

GRADED = Input(shape=(2, 6, 6), kind="graded", payload_bits=8, scale=255.0)


def conv_net(
    seed: int = 0, *, input_: Input = GRADED, factor: float = 1.0, v_init: float = 0.0
) -> FloatNet:
    """Convolution, pool, dense layer with current memory, integrating readout."""
    rng = np.random.default_rng(seed)

    def scaled(*shape: int) -> Any:
        return rng.normal(size=shape) * factor

    return FloatNet(
        input=input_,
        populations=(
            FloatPopulation(
                name="a", shape=(4, 6, 3), v_th=0.8 * factor, keep_v=0.7, bias=scaled(72) * 0.1,
                v_init=v_init * factor,
            ),
            FloatPopulation(name="p", shape=(4, 3, 1), v_th=0.4 * factor, keep_v=0.0),
            FloatPopulation(name="b", shape=(9,), v_th=1.3 * factor, keep_v=0.9, keep_u=0.3),
            FloatPopulation(name="c", shape=(5,), v_th=NEVER, bias=scaled(5) * 0.01),
        ),
        projections=(
            FloatProjection(
                source="input", target="a",
                synapse=FloatConv2d(
                    w=scaled(4, 2, 3, 2) * 0.5,
                    geometry=ConvGeometry(stride=(1, 2), padding=(1, 0)),
                ),
            ),
            FloatProjection(
                source="a", target="p",
                synapse=FloatSumPool2d(kernel=(2, 3), stride=(2, 3), w=factor / 6),
            ),
            FloatProjection(source="p", target="b", synapse=FloatDense(w=scaled(9, 12))),
            FloatProjection(source="b", target="c", synapse=FloatDense(w=scaled(5, 9))),
        ),
        readout=Readout(population="c", kind="last_v"),
        steps=7,
    )  # fmt: skip


def test_a_searched_scale_is_proven_and_close() -> None:
    net = conv_net()
    fixed = to_fixed(net, LOIHI_2)
    assert prove(fixed) == []
    x = np.random.default_rng(1).integers(0, 256, (7, 30, 2, 6, 6))
    exact, rounded = floating.run(net, x / 255), reference.run(fixed, x, strict=True)
    for name in "apb":
        assert exact[name].spikes.mean() > 0.01
        assert (exact[name].spikes != rounded[name].spikes).mean() < 0.04
    assert fixed.population("c").v_th == 131071
    assert rounded["c"].spikes.sum() == 0


def test_maps_may_start_at_a_potential_on_every_chip() -> None:
    net = conv_net(v_init=0.25)
    x = np.random.default_rng(1).integers(0, 256, (7, 30, 2, 6, 6))
    exact = floating.run(net, x / 255)
    for chip in (LOIHI_2, LAVA):
        fixed = to_fixed(net, chip)
        assert prove(fixed) == []
        assert ("a.start" in fixed.depths) is (chip is LOIHI_2)
        rounded = reference.run(fixed, x, strict=True)
        assert (exact["a"].spikes != rounded["a"].spikes).mean() < 0.01


def test_the_integers_are_the_formulas() -> None:
    settled = [
        replace(p, scale=s)
        for p, s in zip(conv_net(v_init=0.25).populations, (3000.0, 90, 40, 21), strict=True)
    ]
    net = replace(conv_net(), populations=tuple(settled))
    fixed = to_fixed(net, LAVA)
    a, b = fixed.population("a"), fixed.population("b")
    assert a.v_th == 2400
    assert a.dv == round(4096 * 0.3)
    assert a.du == 4095
    assert b.du == round(4096 * 0.7) - 1
    assert a.v_init == 64 * 750
    assert fixed.population("p").dv == 4095  # 4096 would not fit
    wanted = 64 * 3000 * net.population("a").bias
    assert abs(wanted).max() > 4095 * 2**3
    assert a.bias_exp == next(e for e in range(8) if abs(np.rint(wanted / 2**e)).max() <= 4095)
    assert np.array_equal(a.bias, np.rint(wanted / 2**a.bias_exp))
    conv, pool, dense, last = (p.synapse for p in fixed.projections)
    assert isinstance(conv, Conv2d)
    assert np.array_equal(conv.w, np.rint(net.projections[0].synapse.w * (3000 / 255)))
    assert isinstance(pool, SumPool2d)
    assert pool.w == 15
    for synapse, projection, scale in ((dense, net.projections[2], 40), (last, None, 21)):
        assert isinstance(synapse, Dense)
        k = -1 - synapse.w_exp
        w = (projection or net.projections[3]).synapse.w
        assert np.array_equal(synapse.w, 2 * np.rint(w * scale * 2**k))
        assert abs(np.rint(w * scale * 2 ** (k + 1))).max() > 127
    assert fixed.provenance["scales"] == dict.fromkeys("apbc", "trained")


def dequantised(net: FloatNet, fixed: Any) -> FloatNet:
    populations, projections = [], []
    for p, q in zip(net.populations, fixed.populations, strict=True):
        unit = 64 * q.scale
        populations.append(
            replace(
                p, scale=q.scale, bias=q.bias_shifted / unit, v_init=q.v_init / unit,
                v_th=p.v_th if p.v_th.max() == NEVER else q.v_th / q.scale,
                keep_v=1 - q.dv / 4096, keep_u=1 - (q.du + 1) / 4096,
            )
        )  # fmt: skip
    for a, b in zip(net.projections, fixed.projections, strict=True):
        per_unit = net.input.scale if a.source == "input" else 1.0
        scale = fixed.population(b.target).scale
        w: Any = effective.weights(b.synapse, scale=scale, per_unit=per_unit)
        projections.append(replace(a, synapse=replace(a.synapse, w=w)))
    return replace(net, populations=tuple(populations), projections=tuple(projections))


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), bits=st.integers(3, 8))
def test_quantising_what_was_quantised_changes_nothing(seed: int, bits: int) -> None:
    net = conv_net(seed)
    once = to_fixed(net, LOIHI_2, weight_bits=bits)
    twice = to_fixed(dequantised(net, once), LOIHI_2, weight_bits=bits)
    x = np.random.default_rng(seed).integers(0, 256, (7, 3, 2, 6, 6))
    first, second = reference.run(once, x), reference.run(twice, x)
    for p, q in zip(once.populations, twice.populations, strict=True):
        for name in ("v_th", "du", "dv", "bias_shifted", "v_init"):
            assert np.array_equal(getattr(p, name), getattr(q, name)), name
        assert np.array_equal(np.asarray(first[p.name].v), np.asarray(second[p.name].v))


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), power=st.integers(-20, 20))
def test_a_power_of_two_on_everything_changes_no_integer(seed: int, power: int) -> None:
    plain, scaled = (
        to_fixed(conv_net(seed, factor=f), LOIHI_2, margin=0.1) for f in (1.0, 2.0**power)
    )
    bare = [
        replace(n, populations=tuple(replace(p, scale=1.0) for p in n.populations))
        for n in (plain, scaled)
    ]
    assert bare[0] == bare[1]
    assert scaled.populations[1].scale == plain.populations[1].scale / 2.0**power


def test_margin_leaves_room() -> None:
    tight, roomy = (to_fixed(conv_net(), LOIHI_2, margin=m) for m in (0.0, 0.5))
    assert bounds(tight)["a"].v.largest.max() > 0.9 * V_LIMIT
    assert bounds(roomy)["a"].v.largest.max() < 0.51 * V_LIMIT


def dense_net(w: Any, **neurons: Any) -> FloatNet:
    n_out, n_in = np.shape(w)
    population = FloatPopulation(**{"name": "p", "shape": (n_out,), "v_th": 1.0, **neurons})
    return FloatNet(
        input=Input(shape=(n_in,)),
        populations=(population,),
        projections=(FloatProjection(source="input", target="p", synapse=FloatDense(w=w)),),
        readout=Readout(population="p"),
        steps=4,
    )


def test_a_matrix_without_positive_weights_avoids_the_value_it_cannot_hold() -> None:
    synapse = to_fixed(dense_net([[-64.0, -3.0]], scale=1.0), LOIHI_2).projections[0].synapse
    assert isinstance(synapse, Dense)
    assert synapse.w_exp == -1  # one bit more would need -256
    assert synapse.w_chip.tolist() == [[-128, -6]]
    coarser = to_fixed(dense_net([[-128.0, -3.0]], scale=1.0), LOIHI_2).projections[0].synapse
    assert isinstance(coarser, Dense)
    assert coarser.w_exp == 0
    assert coarser.w_chip.tolist() == [[-128, -4]]
    mixed = to_fixed(dense_net([[-128.0, 3.0]], scale=1.0), LOIHI_2).projections[0].synapse
    assert isinstance(mixed, Dense)
    assert mixed.w_chip.tolist() == [[-256, 6]]


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            dense_net([[1.0, -40000.0]], scale=1.0),
            "projection 'input' -> 'p': a weight becomes -40000, 8 bits allow -32768..32512 there;"
            " lower the scale",
        ),
        (
            dense_net([[1.0, -2.0]], v_th=140000.0, scale=1.0),
            "population 'p': the threshold becomes 140000 at scale 1, loihi2 allows 0..131071;"
            " lower the threshold or the scale",
        ),
        (
            dense_net([[1.0, -2.0]], v_th=1e-5),
            "population 'p': the threshold 1e-05 rounds to 0 at scale 16256; the weights are too"
            " large beside it, retrain with a larger threshold",
        ),
        (
            dense_net([[1.0, -2.0]], keep_u=1.0),
            "population 'p': keep_u is 1, but loihi2 loses at least 1/4096 of u in every step;"
            " retrain with keep_u at most 0.999756",
        ),
        (
            dense_net([[1.0, -2.0]], bias=20000.0, scale=1.0),
            "population 'p': the bias becomes 1280000, loihi2 allows 524160; lower the bias or the"
            " scale",
        ),
        (
            dense_net([[1.0, -2.0]], v_init=2e5, scale=1.0),
            "population 'p': v_init becomes 12800000 at scale 1, the limit is 8388607; lower"
            " v_init or the scale",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(net: FloatNet, message: str) -> None:
    with pytest.raises(DoesNotFit) as error:
        to_fixed(net, replace(LOIHI_2, v_init=True))
    assert str(error.value) == message


def test_loihi_1_has_no_graded_input() -> None:
    with pytest.raises(ValueError, match=r"^the input is graded with 8 payload bits, but spikes"):
        to_fixed(conv_net(), LOIHI_1)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_sums_fit_loihi_1(sign: float) -> None:
    """What arrives in one step: 300 spikes, a few of which reach the threshold."""
    net = dense_net(np.full((2, 300), sign), v_th=4.0, keep_v=0.5)
    most = {}
    for chip in (LOIHI_1, LOIHI_2):
        fixed = to_fixed(net, chip)
        assert prove(fixed) == []
        most[chip.name] = int(bounds(fixed)["p"].a.largest.max())
    assert most["loihi1"] <= 32767 < most["loihi2"]
    with pytest.raises(ValueError, match="what arrives in one step"):
        fitting.enforce(to_fixed(net, LOIHI_2), LOIHI_1)


@pytest.mark.parametrize("margin", [-0.1, 1.0])
def test_margin_must_be_a_share(margin: float) -> None:
    with pytest.raises(ValueError, match=rf"^margin is {margin}; allowed are 0 <= margin < 1$"):
        to_fixed(conv_net(), LOIHI_2, margin=margin)


@pytest.mark.parametrize("bits", [0, 9])
def test_weight_bits_are_the_chips(bits: int) -> None:
    with pytest.raises(ValueError, match=rf"^weight_bits is {bits}; allowed are 1\.\.8$"):
        to_fixed(conv_net(), LOIHI_2, weight_bits=bits)
