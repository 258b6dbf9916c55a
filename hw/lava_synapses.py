"""Projections as Lava's stock connection processes.

Lava's convolution knows no delay: its source is held back by connections that each cost one step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, identity

from spikeport.hw.lava_axes import conv_weight, flattened, lava_shape, mapped
from spikeport.hw.lava_import import quiet
from spikeport.hw.lava_limits import message_bits
from spikeport.sim.net import FixedNet
from spikeport.sim.synapse import Conv2d, Dense, Shape, lowered

with quiet():
    from lava.proc.conv.process import Conv as LavaConv
    from lava.proc.dense.process import DelayDense
    from lava.proc.dense.process import Dense as LavaDense
    from lava.proc.sparse.process import Sparse


class Wiring:
    """Connects the output ports of a network's source and populations to their input ports, both
    by name."""

    def __init__(self, net: FixedNet, outputs: dict[str, Any], inputs: dict[str, Any]) -> None:
        self.net, self.inputs = net, inputs
        self._held = {(name, 0): port for name, port in outputs.items()}

    def connect(self, at: int) -> None:
        """Make the net's projection number `at`."""
        projection, delay = self.net.projections[at], self.net.chip_delays[at]
        source, target = projection.source, projection.target
        shape = self.net.shape_of(source)
        synapse, bits = lowered(projection.synapse, shape), message_bits(self.net, source)
        if isinstance(synapse, Conv2d):
            process = _conv(synapse, shape, message_bits=bits)
            self._late(source, delay).connect(process.s_in)
        else:
            process = _dense(synapse, delay=delay, message_bits=bits)
            flattened(self._held[source, 0]).connect(process.s_in)
        mapped(process.a_out, self.net.shape_of(target)).connect(self.inputs[target])

    def tie(self, name: str) -> None:
        """Connect the input to population `name` without effect."""
        size = (self.net.population(name).size, self.net.input.size)
        nothing = Sparse(weights=csr_matrix(size, dtype=np.int32))
        flattened(self._held["input", 0]).connect(nothing.s_in)
        mapped(nothing.a_out, self.net.shape_of(name)).connect(self.inputs[name])

    def _late(self, source: str, delay: int) -> Any:
        """Output port of `source`, held back by `delay` steps."""
        if (source, delay) not in self._held:
            before = self._late(source, delay - 1)
            size = self.net.input.size if source == "input" else self.net.population(source).size
            copy = Sparse(
                weights=identity(size, dtype=np.int32, format="csr"),
                # Values above 0 let numbers pass as they are, 0/1 included.
                num_message_bits=message_bits(self.net, source) or 1,
            )
            before.flatten().connect(copy.s_in)
            self._held[source, delay] = copy.a_out.reshape(before.shape)
        return self._held[source, delay]


def _dense(dense: Dense, *, delay: int, message_bits: int) -> Any:
    # Lava drops weight bits itself, so it gets the weights as programmed, not `w_chip`.
    settings = {
        "weights": dense.w.astype(np.int32),
        "weight_exp": dense.w_exp,
        "num_message_bits": message_bits,
    }
    return DelayDense(delays=delay, **settings) if delay else LavaDense(**settings)


def _conv(conv: Conv2d, shape: Shape, *, message_bits: int) -> Any:
    geometry = conv.geometry
    return LavaConv(
        weight=conv_weight(conv.w),
        input_shape=lava_shape(shape),
        stride=geometry.stride[::-1],
        padding=geometry.padding[::-1],
        dilation=geometry.dilation[::-1],
        groups=geometry.groups,
        num_message_bits=message_bits,
    )
