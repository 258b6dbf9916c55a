"""A recurrent network for events and sound."""

from __future__ import annotations

import math

from torch import nn

from spikeport.sim.net import Input
from spikeport.train.blocks import Recurrent
from spikeport.train.config import ModelConfig
from spikeport.train.model import SpikingNet
from spikeport.train.networks.layers import assembled, lif, readout
from spikeport.train.norm import TdBatchNorm1d


def recurrent(config: ModelConfig, carrier: Input, *, steps: int, classes: int) -> SpikingNet:
    """flatten, linear-norm, `hidden` LIF neurons that feed themselves with a delay of one step,
    linear-readout; inputs of any shape.

    The norm starts with alpha 1 / sqrt(2), because the loop adds to the current behind it.
    """
    hidden = config.hidden
    loop = nn.Linear(hidden, hidden, bias=False)
    layers = [
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(carrier.size, hidden, bias=False)),
        ("norm1", TdBatchNorm1d(hidden, v_th=config.v_th, alpha=math.sqrt(0.5))),
        ("rec1", Recurrent(loop, lif(config))),
        ("fc2", nn.Linear(hidden, classes)),
        readout(config),
    ]
    return assembled(layers, config, carrier, steps=steps)
