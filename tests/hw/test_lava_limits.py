"""What a NetX file cannot say, and Lava's stock processes not do, in one sentence each."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from spikeport.hw import lava_limits
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Synapse


def network(synapse: Synapse, *, delay: int = 0, **settings: Any) -> FixedNet:
    return FixedNet(
        input=Input(shape=(128, 1, 1)),
        populations=(
            Population(
                name="out", shape=synapse.output_shape((128, 1, 1)), **{"v_th": 2} | settings
            ),
        ),
        projections=(Projection(source="input", target="out", synapse=synapse, delay=delay),),
        readout=Readout(population="out"),
        steps=4,
    )


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
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        lava_limits.refuse(net)


def test_our_own_neuron_and_delay_line_leave_the_geometry_only() -> None:
    lava_limits.refuse_geometry(network(conv(1), delay=4, reset="subtract", v_init=5))
    with pytest.raises(ValueError, match=r"groups reach 128, but Lava keeps them in 8 bits"):
        lava_limits.refuse_geometry(network(conv(128)))
