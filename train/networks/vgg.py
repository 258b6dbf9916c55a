"""VGG networks with spiking neurons, for images of even sides; three pools halve the maps."""

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
    scaled,
    stem,
)

POOL = 0
"""In a list of channels: a 2x2 pool."""

VGG9 = (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL)
VGG11 = (64, POOL, 128, 256, POOL, 512, 512, 512, POOL, 512, 512)


def vgg9(config: ModelConfig, carrier: Input, *, steps: int, classes: int) -> SpikingNet:
    """Seven 3x3 conv-norm-LIF, linear-norm-LIF with 1024 neurons, linear-readout; channels and
    neurons times `width`."""
    layers, features = _convolutions(config, carrier, VGG9)
    hidden = scaled(config, 1024)
    layers += [
        *dense_lif(config, features, hidden, mark="8"),
        ("fc9", nn.Linear(hidden, classes)),
        readout(config),
    ]
    return assembled(layers, config, carrier, steps=steps)


def vgg11(config: ModelConfig, carrier: Input, *, steps: int, classes: int) -> SpikingNet:
    """Eight 3x3 conv-norm-LIF, two linear-LIF with 4096 neurons and no norm, linear-readout, as in
    the code of SNN-RAT (NeurIPS 2022); channels and neurons times `width`."""
    layers, features = _convolutions(config, carrier, VGG11)
    hidden = scaled(config, 4096)
    layers += [
        *dense_lif(config, features, hidden, mark="9", norm=False),
        *dense_lif(config, hidden, hidden, mark="10", norm=False),
        ("fc11", nn.Linear(hidden, classes)),
        readout(config),
    ]
    return assembled(layers, config, carrier, steps=steps)


def _convolutions(
    config: ModelConfig, carrier: Input, plan: tuple[int, ...]
) -> tuple[list[Named], int]:
    """The layers of `plan` up to a flattening, and how many values that gives."""
    before = scaled(config, plan[0])
    layers, (height, width) = stem(config, carrier, before, mark="1")
    convolutions, pools = 1, 0
    for channels in plan[1:]:
        if channels == POOL:
            pools += 1
            layers.append((f"pool{pools}", pool(config, 2)))
            continue
        convolutions += 1
        after = scaled(config, channels)
        layers += conv_lif(config, before, after, mark=str(convolutions))
        before = after
    layers.append(("flatten", nn.Flatten()))
    return layers, before * (height >> pools) * (width >> pools)
