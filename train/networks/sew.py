"""Residual networks whose shortcuts add spikes to spikes (SEW-ADD; arXiv 2102.04159).

A block sends 0, 1, 2, ...: on a chip the layer behind it has one projection from each population
that adds to the sum, all with the same weights.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from spikeport.sim.net import Input
from spikeport.train.blocks import Residual
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

Plan = tuple[tuple[int, int], ...]
"""Stages of blocks: channels and number of blocks; all but the first halve the maps."""

RESNET18: Plan = ((64, 2), (128, 2), (256, 2), (512, 2))
RESNET19: Plan = ((128, 3), (256, 3), (512, 2))


def sew_resnet18(config: ModelConfig, carrier: Input, *, steps: int, classes: int) -> SpikingNet:
    """A 3x3 stem of 64 channels, four stages of two blocks, global pool, linear-readout; channels
    times `width`."""
    layers, features = _stages(config, carrier, 64, RESNET18)
    layers += [("fc", nn.Linear(features, classes)), readout(config)]
    return assembled(layers, config, carrier, steps=steps)


def sew_resnet19(config: ModelConfig, carrier: Input, *, steps: int, classes: int) -> SpikingNet:
    """A 3x3 stem of 128 channels, stages of three, three and two blocks, global pool,
    linear-norm-LIF with 256 neurons, linear-readout; channels and neurons times `width`."""
    layers, features = _stages(config, carrier, 128, RESNET19)
    hidden = scaled(config, 256)
    layers += [
        *dense_lif(config, features, hidden, mark="1"),
        ("fc2", nn.Linear(hidden, classes)),
        readout(config),
    ]
    return assembled(layers, config, carrier, steps=steps)


def _stages(config: ModelConfig, carrier: Input, first: int, plan: Plan) -> tuple[list[Named], int]:
    """Stem, stages and global pool, flattened, and how many values that gives."""
    before = scaled(config, first)
    layers, sides = stem(config, carrier, before)
    for number, (channels, blocks) in enumerate(plan, start=1):
        after = scaled(config, channels)
        for block in range(1, blocks + 1):
            stride = 2 if number > 1 and block == 1 else 1
            layers.append((f"block{number}_{block}", _block(config, before, after, stride)))
            before = after
    height, width = (side >> (len(plan) - 1) for side in sides)
    return [*layers, ("pool", pool(config, (height, width))), ("flatten", nn.Flatten())], before


def _block(config: ModelConfig, before: int, channels: int, stride: int) -> Residual:
    """Twice conv-norm-LIF; the shortcut is the identity, or 1x1 conv-norm-LIF where the shape
    changes."""
    branch = [
        *conv_lif(config, before, channels, mark="1", stride=stride),
        *conv_lif(config, channels, channels, mark="2"),
    ]
    if stride == 1 and before == channels:
        return Residual(OrderedDict(branch))
    around = conv_lif(config, before, channels, kernel=1, stride=stride)
    return Residual(OrderedDict(branch), nn.Sequential(OrderedDict(around)))
