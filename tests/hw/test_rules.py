"""Every rule of a chip with the exact issue it gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spikeport.hw import rules
from spikeport.sim.chip import LOIHI_1, LOIHI_2, Chip
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, Dense, SumPool2d, Synapse

EVEN = Dense(w=np.array([[2, -4], [6, -8]]))


def network(
    synapse: Synapse = EVEN,
    *,
    source: Input | None = None,
    steps: int = 8,
    delay: int = 0,
    **settings: Any,
) -> FixedNet:
    """One population "out" that breaks no rule unless asked to."""
    source = source or Input(shape=(2,))
    shape = synapse.output_shape(source.shape)
    return FixedNet(
        input=source,
        populations=(Population(name="out", shape=shape, **{"v_th": 100} | settings),),
        projections=(Projection(source="input", target="out", synapse=synapse, delay=delay),),
        readout=Readout(population="out"),
        steps=steps,
    )


def conv(w: list[int]) -> FixedNet:
    return network(Conv2d(w=np.array(w).reshape(1, 1, 1, -1)), source=Input(shape=(1, 1, 9)))


TIGHT = replace(
    LOIHI_2, decay_max=100, v_th_max=90, bias_exp_max=2, w_exp_min=-2, w_exp_max=1, delay_max=3,
    in_axons=1, cores=1, neurons=1,
)  # fmt: skip
PATH = "projection 'input' -> 'out'"
OUT = "population 'out'"

CASES: list[tuple[FixedNet, Chip, str, str, str]] = [
    (
        network(Dense(w=np.array([[3, -4], [255, -8]]))), LOIHI_2, "dense_weights", "advice",
        f"{PATH}: 2 of 4 weights are not kept as programmed, but with both signs a core keeps even"
        " weights only; store 2 * w and lower w_exp by 1",
    ),
    (
        conv([-3, 129]), LOIHI_2, "conv_weights", "error",
        f"{PATH}: weights span -3..129, but a core holds -128..127, even ones in -256..254, 0..255"
        " or -255..0; quantise to one of these",
    ),
    (
        network(replace(EVEN, w_exp=2)), TIGHT, "exponents", "error",
        f"{PATH}: w_exp is 2, but loihi2 allows -2..1; choose another scale for the layer",
    ),
    (
        network(delay=4), TIGHT, "delays", "error",
        f"{PATH}: delay is 4, but loihi2 allows 0..3; shorten the skip path",
    ),
    (
        network(du=99, dv=101), TIGHT, "decays", "error",
        f"{OUT}: dv is 101, but loihi2 allows 0..100; choose a smaller scale for the layer",
    ),
    (
        network(v_th=91, du=9), TIGHT, "thresholds", "error",
        f"{OUT}: v_th is 91, but loihi2 allows 0..90; choose a smaller scale for the layer",
    ),
    (
        network(bias=np.array([5, -4096])), LOIHI_2, "biases", "error",
        f"{OUT}: bias mantissa is -4096, but loihi2 allows +-4095; raise bias_exp",
    ),
    (
        network(bias=3, bias_exp=3), TIGHT, "biases", "error",
        f"{OUT}: bias_exp is 3, but loihi2 allows 0..2; choose a smaller scale for the layer",
    ),
    (
        network(v_th=np.array([5, 6])), LOIHI_2, "shared_parameters", "error",
        f"{OUT}: v_th has 2 values, but Lava's LIF on a chip takes one a population; share it in"
        " training",
    ),
    (
        network(v_init=np.array([0, 6])), LOIHI_2, "stock_neuron", "error",
        f"{OUT}: v_init is not 0, but Lava's LIFReset starts every sample at 0; train with"
        " v_init = 0",
    ),
    (
        network(reset="subtract"), LOIHI_2, "stock_neuron", "error",
        f"{OUT}: reset is 'subtract', but Lava's LIF resets to zero; train with reset \"zero\"",
    ),
    (
        network(source=Input(shape=(2,), kind="graded", payload_bits=8)), LOIHI_1,
        "graded_input", "error",
        "input: spikes carry 8 bits, but loihi1 carries 0; encode the input as binary spikes or"
        " choose loihi2",
    ),
    (
        network(steps=12), LOIHI_2, "reset_interval", "advice",
        "network: a sample takes 12 steps, but boards reset at intervals that are powers of two;"
        " train with 8, 16 or 32 steps",
    ),
    (
        network(), TIGHT, "fan_in", "error",
        f"{OUT}: a neuron has 2 sources, but a core of loihi2 has 1 input axons; make the layer"
        " before it smaller",
    ),
    (
        network(), TIGHT, "neurons", "error",
        "network: it has 2 neurons, but loihi2 has room for 1; make it smaller or use several"
        " chips",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("net", "chip", "rule", "severity", "text"), CASES)
def test_a_broken_rule_is_named_with_place_and_advice(
    net: FixedNet, chip: Chip, rule: str, severity: str, text: str
) -> None:
    found = [issue for issue in rules.check(net, chip) if issue.rule == rule]
    assert [(str(issue), issue.severity) for issue in found] == [(text, severity)]


def test_every_rule_has_a_case_and_names_itself() -> None:
    assert {rule.__name__ for rule in rules.RULES} == {case[2] for case in CASES}


@pytest.mark.parametrize(
    "weights", [[-128, 127], [-256, 254], [0, 255], [-255, 0], [-3, 5], [0, 0], [1, 3]]
)
def test_conv_weights_that_a_core_holds(weights: list[int]) -> None:
    assert rules.check(conv(weights), LOIHI_2) == []


@pytest.mark.parametrize("weights", [[-129, 0, 127], [-1, 128], [-256, 0, 253], [-1, 255]])
def test_conv_weights_that_no_core_holds(weights: list[int]) -> None:
    assert [issue.rule for issue in rules.check(conv(weights), LOIHI_2)] == ["conv_weights"]


def test_pools_are_checked_as_the_convolutions_they_become() -> None:
    pool = SumPool2d(kernel=(2, 3), stride=(1, 1), w=7)
    net = network(pool, source=Input(shape=(2, 4, 4)))
    assert rules.check(net, LOIHI_2) == []
    tight = replace(LOIHI_2, in_axons=5)
    assert [issue.got for issue in rules.check(net, tight)] == ["a neuron has 6 sources"]


def test_enforce_joins_errors_and_lets_advice_pass() -> None:
    rules.enforce(network(steps=12), LOIHI_2)
    with pytest.raises(ValueError, match=r"^the network does not fit loihi2: .*; also .*") as found:
        rules.enforce(network(reset="subtract", v_init=1, steps=12), LOIHI_2)
    assert "steps" not in str(found.value)
