"""What a NetX file cannot say, and Lava's stock processes not do, in one sentence each."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spikeport.hw import lava_inprocess, lava_limits
from spikeport.hw.lava_limits import LavaLimitError
from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, Synapse
from spikeport.sim.trace import first_difference


def network(
    synapse: Synapse, *, delay: int = 0, payload_bits: int = 1, **settings: Any
) -> FixedNet:
    return FixedNet(
        input=Input(shape=(128, 1, 1), kind="graded", payload_bits=payload_bits),
        populations=(
            Population(
                name="out", shape=synapse.output_shape((128, 1, 1)), **{"v_th": 2} | settings
            ),
        ),
        projections=(Projection(source="input", target="out", synapse=synapse, delay=delay),),
        readout=Readout(population="out"),
        steps=4,
    )


def test_bits_of_messages() -> None:
    dense = Dense(w=np.ones((1, 128), np.int16))
    for payload, bits in ((1, 8), (8, 8), (12, 12)):
        net = network(dense, payload_bits=payload)
        assert lava_limits.message_bits(net, "input") == bits
        assert lava_limits.message_bits(net, "out") == 0
    spikes = replace(net, input=Input(shape=(128, 1, 1)))
    assert lava_limits.message_bits(spikes, "input") == 0


def conv(groups: int) -> Conv2d:
    w = np.ones((128, 128 // groups, 1, 1), np.int16)
    return Conv2d(w=w, geometry=ConvGeometry(groups=groups))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            network(conv(1), v_init=5),
            "population 'out': v_init is not 0, but Lava's LIFReset starts every sample at 0;"
            ' train with v_init = 0, or use a backend, "lava" included',
        ),
        (
            network(conv(1), reset="subtract"),
            "population 'out': reset is 'subtract', but Lava's LIFReset resets to zero only;"
            ' train with reset "zero", or use a backend, "lava" included',
        ),
        (
            network(conv(1), delay=4),
            "projection 'input' -> 'out': on a chip this convolution comes 3 steps late, but"
            " Lava's Conv knows no delay; shorten the path beside it, lower its delay or use a"
            " dense synapse",
        ),
        (
            network(conv(128)),
            "projection 'input' -> 'out': kernel, stride, padding, dilation or groups reach 128,"
            " but Lava keeps them in 8 bits, at most 127; split the layer",
        ),
    ],
)
def test_stock_processes_are_refused_what_they_lack(net: FixedNet, message: str) -> None:
    with pytest.raises(LavaLimitError, match=f"^{re.escape(message)}$"):
        lava_limits.refuse(net)


def test_our_own_neuron_and_delay_line_leave_the_geometry_only() -> None:
    lava_limits.refuse_synapses(network(conv(1), delay=4, reset="subtract", v_init=5))
    with pytest.raises(LavaLimitError, match=r"groups reach 128, but Lava keeps them in 8 bits"):
        lava_limits.refuse_synapses(network(conv(128)))


def wide(synapse: Synapse, *, bits: int, **settings: Any) -> FixedNet:
    return network(synapse, payload_bits=bits, **settings)


def late_dense(w: int, *, w_exp: int) -> Dense:
    return Dense(w=np.full((2, 128), w), w_exp=w_exp)


sum_of_255s = Conv2d(w=np.full((2, 128, 1, 1), 255))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            wide(sum_of_255s, bits=17),  # 128 * 255 * (2**17 - 1)
            "its sums can reach 4278157440, but",
        ),
        (
            wide(late_dense(255, w_exp=-1), bits=20, delay=3),
            "its sums can reach 34225488000, but",
        ),
    ],
)
def test_sums_that_lava_computes_otherwise_are_refused(net: FixedNet, message: str) -> None:
    message = (
        f"projection 'input' -> 'out': {message} Lava computes those of convolutions and late dense"
        " synapses as the chip does below 2147483648 only; send fewer payload bits or use smaller"
        " weights"
    )
    with pytest.raises(LavaLimitError, match=f"^{re.escape(message)}$"):
        lava_limits.refuse_synapses(net)


@pytest.mark.parametrize(
    "net",
    [
        wide(sum_of_255s, bits=16),  # 128 * 255 * (2**16 - 1), just below 2**31
        wide(late_dense(255, w_exp=-1), bits=20),
        wide(late_dense(255, w_exp=0), bits=20, delay=3),
        wide(late_dense(255, w_exp=-1), bits=16, delay=3),
    ],
)
@pytest.mark.lava
def test_lava_computes_all_other_wide_sums_as_the_chip_does(net: FixedNet) -> None:
    x = np.random.default_rng(1).integers(0, net.input.largest + 1, (4, 2, 128, 1, 1))
    assert first_difference(reference.run(net, x), lava_inprocess.run(net, x)) is None
