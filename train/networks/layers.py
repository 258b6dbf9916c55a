"""What the networks of a configuration are put together from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from torch import nn

from spikeport.sim.net import Input
from spikeport.sim.surrogate import Surrogate
from spikeport.train.config import ModelConfig
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Integrator, Lif
from spikeport.train.norm import TdBatchNorm1d, TdBatchNorm2d

Named = tuple[str, nn.Module]


def lif(config: ModelConfig) -> Lif:
    """The neurons of `config`."""
    return Lif(
        config.keep_v,
        v_th=config.v_th,
        surrogate=Surrogate(config.surrogate, config.surrogate_width),
        detach_reset=config.detach_reset,
    )


def readout(config: ModelConfig) -> Named:
    """The layer that is read, behind the last linear one."""
    return ("readout", Integrator()) if config.readout == "last_v" else ("lif_out", lif(config))


def pool(config: ModelConfig, size: int | tuple[int, int]) -> nn.AvgPool2d:
    """The mean or the sum of windows of `size`, side by side."""
    return nn.AvgPool2d(size, divisor_override=1 if config.pool == "sum" else None)


def conv_lif(
    config: ModelConfig, before: int, channels: int, *, mark: str = "", kernel: int = 3,
    stride: int = 1, padding: int | tuple[int, int] | None = None,
) -> list[Named]:  # fmt: skip
    """conv-norm-LIF, called convM, normM, lifM with `mark` M; padded to keep the size of a map
    unless `padding` says otherwise."""
    padding = kernel // 2 if padding is None else padding
    conv = nn.Conv2d(before, channels, kernel, stride=stride, padding=padding, bias=False)
    return [
        (f"conv{mark}", conv),
        (f"norm{mark}", TdBatchNorm2d(channels, v_th=config.v_th)),
        (f"lif{mark}", lif(config)),
    ]


def stem(
    config: ModelConfig, carrier: Input, channels: int, *, mark: str = ""
) -> tuple[list[Named], tuple[int, int]]:
    """3x3 conv-norm-LIF on the input, and height and width of its maps, multiples of 8: an even
    side of the input that is none is padded to one (28 to 32)."""
    height, width = sides(config, carrier, multiple=8, padded=True)
    padding = 1 + (height - carrier.shape[1]) // 2, 1 + (width - carrier.shape[2]) // 2
    first = conv_lif(config, carrier.shape[0], channels, mark=mark, padding=padding)
    return first, (height, width)


def dense_lif(
    config: ModelConfig, before: int, features: int, *, mark: str = "", norm: bool = True
) -> list[Named]:
    """linear-norm-LIF, called fcM, normM, lifM with `mark` M, or without the norm."""
    normed: list[Named] = [(f"norm{mark}", TdBatchNorm1d(features, v_th=config.v_th))]
    return [
        (f"fc{mark}", nn.Linear(before, features, bias=not norm)),
        *(normed if norm else []),
        (f"lif{mark}", lif(config)),
    ]


def scaled(config: ModelConfig, channels: int) -> int:
    """`channels` of the published network at the width of `config`, at least 1."""
    return max(1, round(channels * config.width))


def sides(config: ModelConfig, carrier: Input, *, multiple: int, padded: bool) -> tuple[int, int]:
    """Height and width of the input, or with `padded` the next that pools and strides can divide
    by `multiple`. Raises ValueError where there are none: a pool must not cut a row or column off.
    """
    shape = carrier.shape
    found = shape[1:] if len(shape) == 3 else (1, 1)
    lacking = [-side % multiple for side in found]
    if any(n % 2 or not padded for n in lacking if n):
        allowed = f"even numbers that padding makes multiples of {multiple}" if padded else ""
        raise ValueError(
            f"model {config.name!r} got input shape {shape}; it needs (C, H, W) with H and W"
            f" {allowed or f'multiples of {multiple}'} for its pools and strides; use model 'dense'"
            " or pad the images"
        )
    return found[0] + lacking[0], found[1] + lacking[1]


def assembled(
    layers: Iterable[Named], config: ModelConfig, carrier: Input, *, steps: int
) -> SpikingNet:
    """The network of `layers`, which end with a readout."""
    return SpikingNet(
        nn.Sequential(OrderedDict(layers)), input=carrier, steps=steps, readout=config.readout
    )
