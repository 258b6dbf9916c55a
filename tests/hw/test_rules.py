"""Every rule of a chip with the exact issue it gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spikeport.hw import rules
from spikeport.sim.chip import LAVA, LOIHI_1, LOIHI_2, Chip
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


def looped(**settings: Any) -> FixedNet:
    """Population "out" also feeds itself, one step later."""
    net = network(**settings)
    again = Projection(source="out", target="out", synapse=EVEN, delay=1)
    return replace(net, projections=(*net.projections, again))


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
        network(delay=5), TIGHT, "delays", "error",
        f"{PATH}: its spikes wait 4 steps on the chip, but loihi2 allows 0..3; shorten the path"
        " beside it or lower its delay",
    ),
    (
        network(
            Conv2d(w=np.array([[[[2, -3]]]])), source=Input(shape=(1, 1, 3)), delay=4
        ), LOIHI_2, "conv_delays", "error",
        f"{PATH}: its spikes wait 3 steps on the chip, but convolutions on loihi2 wait 0"
        " at most; shorten the path beside it, lower its delay or use a dense synapse",
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
        f"{OUT}: v_th has 2 values, but neurons of loihi2 share one value a population; share it in"
        " training or split the population",
    ),
    (
        network(v_init=np.array([0, 6])), LOIHI_2, "start_potentials", "error",
        f"{OUT}: v_init is not 0, but on loihi2 every sample starts at 0; train with v_init = 0, or"
        " give the first step the current that makes up for it",
    ),
    (
        network(reset="subtract"), LOIHI_1, "resets", "error",
        f"{OUT}: reset is 'subtract', but neurons of loihi1 reset by 'zero'; train with reset"
        " 'zero'",
    ),
    (
        looped(bias=2113, bias_exp=2, dv=4095), LOIHI_2, "early_spikes", "error",
        f"{OUT}: its bias makes it fire before its window, and a delay carries that into one, but"
        " neurons of loihi2 live from the first chip step on; lower the bias or the delay, or give"
        " its layer a smaller depth",
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


def test_the_simulator_runs_what_a_board_does_not() -> None:
    own = np.array([5, 6])
    nets = [
        network(reset="subtract", v_init=own, v_th=own, du=own, dv=own),
        looped(bias=2113, bias_exp=2, dv=4095),
        network(Conv2d(w=np.array([[[[2, -3]]]])), source=Input(shape=(1, 1, 3)), delay=4),
    ]
    for net in nets:
        assert rules.check(net, LAVA) == []
        assert rules.check(net, LOIHI_2)


def test_a_neuron_that_feeds_itself_may_have_any_bias_from_which_a_low_start_keeps_it() -> None:
    assert rules.check(looped(bias=4095, bias_exp=7, dv=2000), LOIHI_2) == []
    assert rules.check(looped(bias=2112, bias_exp=2, dv=4095), LOIHI_2) != []


def test_synapses_of_one_source_share_its_axons() -> None:
    net = network()
    twice = replace(net, projections=(*net.projections, replace(net.projections[0], delay=1)))
    assert rules.check(twice, replace(LOIHI_2, in_axons=2)) == []
    found = rules.check(looped(), replace(LOIHI_2, in_axons=3))
    assert [issue.got for issue in found] == ["a neuron has 4 sources"]


def test_neurons_that_nothing_drives_fit() -> None:
    net = network()
    clock = Population(name="clock", shape=(1,), v_th=1, bias=2, bias_exp=7)
    drive = Projection(source="clock", target="out", synapse=Dense(w=np.array([[2], [-4]])))
    net = replace(net, populations=(clock, *net.populations), projections=(*net.projections, drive))
    assert rules.check(net, LOIHI_2) == []
