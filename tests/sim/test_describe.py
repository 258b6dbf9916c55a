"""`describe`: the whole text of two small nets."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent

import numpy as np

from spikeport.sim.describe import describe
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
from spikeport.sim.synapse import (
    Conv2d,
    ConvGeometry,
    Dense,
    FloatConv2d,
    FloatDense,
    FloatSumPool2d,
    SumPool2d,
)


def fixed_net() -> FixedNet:
    geometry = ConvGeometry(stride=(1, 2), padding=(1, 0), dilation=(1, 1), groups=2)
    return FixedNet(
        input=Input(shape=(2, 4, 5), kind="graded", payload_bits=8, scale=255),
        populations=(
            Population(name="maps", shape=(4, 4, 2), v_th=70, du=10, dv=np.arange(32), bias=-3),
            Population(name="pool", shape=(4, 2, 1), v_th=0, bias=[1] * 7 + [5], bias_exp=6),
            Population(name="out", shape=(3,), v_th=131071, v_init=-5, reset="subtract", scale=2.5),
        ),
        projections=(
            Projection(
                source="input",
                target="maps",
                synapse=Conv2d(w=np.arange(-18, 18).reshape(4, 1, 3, 3), geometry=geometry),
            ),
            Projection(
                source="maps", target="pool", synapse=SumPool2d(kernel=(2, 2), stride=(2, 2), w=9)
            ),
            Projection(source="pool", target="out", synapse=Dense(w=np.ones((3, 8)), w_exp=-1)),
            Projection(source="maps", target="out", synapse=Dense(w=np.tri(3, 32) * -7), delay=1),
        ),
        readout=Readout(population="out", kind="last_v"),
        steps=9,
    )


def test_fixed_net() -> None:
    net = fixed_net()
    assert describe(net) == dedent(
        f"""\
        FixedNet {net.digest()[:12]} for loihi2: 9 steps, reads last_v of out
        input 2x4x5: graded 8 bit, scale 255
        maps 4x4x2 at depth 1: v_th 70, du 10, dv 0..31, bias -3, reset zero, scale 1
          <- input: conv 4x1x3x3, stride 1x2, padding 1x0, dilation 1x1, groups 2, w -18..17
        pool 4x2x1 at depth 2: v_th 0, du 4095, dv 0, bias 1..5 << 6, reset zero, scale 1
          <- maps: sum pool 2x2, stride 2x2, padding 0x0, w 9
        out 3 at depth 3: v_th 131071, du 4095, dv 0, bias 0, v_init -5, reset subtract, scale 2.5
          <- pool: dense 3x8, w 1 << -1
          <- maps: dense 3x32, w -7..0, delay 1"""
    )


def test_float_net() -> None:
    net = FloatNet(
        input=Input(shape=(1, 4, 4)),
        populations=(
            FloatPopulation(name="a", shape=(2, 3, 3), v_th=1, keep_u=0.25, keep_v=0.5, scale=64),
            FloatPopulation(name="b", shape=(2, 1, 1), v_th=0.1, bias=[0.5, -0.125]),
            FloatPopulation(name="c", shape=(2,), v_th=1.5, v_init=0.75),
        ),
        projections=(
            FloatProjection(
                source="input", target="a", synapse=FloatConv2d(w=np.ones((2, 1, 2, 2)))
            ),
            FloatProjection(
                source="a",
                target="b",
                synapse=FloatSumPool2d(kernel=(3, 3), stride=(3, 3), w=0.5),
            ),
            FloatProjection(source="b", target="c", synapse=FloatDense(w=[[0, 0.5], [-2, 1]])),
        ),
        readout=Readout(population="c"),
        steps=4,
    )
    assert describe(net) == dedent(
        f"""\
        FloatNet {net.digest()[:12]}: 4 steps, reads count of c
        input 1x4x4: spike, scale 1
        a 2x3x3: v_th 1, keep_u 0.25, keep_v 0.5, bias 0, reset zero, scale 64
          <- input: conv 2x1x2x2, stride 1x1, padding 0x0, dilation 1x1, groups 1, w 1
        b 2x1x1: v_th 0.1, keep_u 0, keep_v 1, bias -0.125..0.5, reset zero
          <- a: sum pool 3x3, stride 3x3, padding 0x0, w 0.5
        c 2: v_th 1.5, keep_u 0, keep_v 1, bias 0, v_init 0.75, reset zero
          <- b: dense 2x2, w -2..1"""
    )


def test_nets_that_look_alike_differ_in_the_digest() -> None:
    net = fixed_net()
    last = net.projections[3]
    assert isinstance(last.synapse, Dense)
    upside_down = replace(last, synapse=Dense(w=last.synapse.w[::-1]))
    turned = replace(net, projections=(*net.projections[:3], upside_down))
    assert describe(turned).splitlines()[1:] == describe(net).splitlines()[1:]
    assert describe(turned) != describe(net)
