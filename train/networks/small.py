"""Networks for a quick start: one hidden layer, or two convolutions."""

from __future__ import annotations

from torch import nn

from spikeport.sim.net import Input
from spikeport.train.config import ModelConfig
from spikeport.train.model import SpikingNet
from spikeport.train.networks.layers import (
    Named,
    assembled,
    conv_lif,
    dense_lif,
    pool,
    readout,
    sides,
)


def dense(config: ModelConfig, carrier: Input, *, steps: int, classes: int) -> SpikingNet:
    """flatten, linear-norm-LIF with `hidden` neurons, linear-readout."""
    layers = [
        ("flatten", nn.Flatten()),
        *dense_lif(config, carrier.size, config.hidden, mark="1"),
        ("fc2", nn.Linear(config.hidden, classes)),
        readout(config),
    ]
    return assembled(layers, config, carrier, steps=steps)


def conv(config: ModelConfig, carrier: Input, *, steps: int, classes: int) -> SpikingNet:
    """Twice 3x3 conv-norm-LIF-2x2 pool, then linear-readout; C, H, W images with H and W multiples
    of 4."""
    height, width = sides(config, carrier, multiple=4, padded=False)
    before = carrier.shape[0]
    layers: list[Named] = []
    for i, channels in enumerate(config.channels, start=1):
        layers += conv_lif(config, before, channels, mark=str(i))
        layers.append((f"pool{i}", pool(config, 2)))
        before = channels
    layers += [
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(before * (height // 4) * (width // 4), classes)),
        readout(config),
    ]
    return assembled(layers, config, carrier, steps=steps)
