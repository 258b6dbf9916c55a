"""A SpikingNet cut into stages: the pools, the folded weights and the neurons of one population."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikeport.sim.synapse import ConvGeometry
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Integrator, Lif
from spikeport.train.norm import fold


@dataclass
class Stage:
    """One population of a SpikingNet: the pools before its weights, folded weights, its neurons."""

    name: str
    weight: Tensor
    bias: Tensor
    neuron: Lif | Integrator
    geometry: ConvGeometry | None  # None: dense
    pools: list[nn.AvgPool2d] = field(default_factory=list)
    flatten: bool = False

    @property
    def pool_gain(self) -> float:
        """What average pooling divides by, to be moved into the weights."""
        return math.prod(1.0 / _area(pool) for pool in self.pools)


def stages(net: SpikingNet) -> Iterator[Stage]:
    """Cut `net` into populations, batch norm folded (evaluation statistics).

    Raises ValueError naming the layer when it has no place in this chain.
    """
    pools: list[nn.AvgPool2d] = []
    flatten = False
    linear: nn.Linear | nn.Conv2d | None = None
    norm: _BatchNorm | None = None
    for name, layer in net.named_layers():
        if isinstance(layer, nn.AvgPool2d) and linear is None:
            pools.append(_plain_pool(name, layer))
        elif isinstance(layer, nn.Flatten) and linear is None:
            flatten = True
        elif isinstance(layer, nn.Dropout):
            continue
        elif isinstance(layer, (nn.Linear, nn.Conv2d)) and linear is None:
            linear = _zero_padded(name, layer)
        elif isinstance(layer, _BatchNorm) and linear is not None and norm is None:
            norm = layer
        elif isinstance(layer, (Lif, Integrator)) and linear is not None:
            weight, bias = _folded(linear, norm)
            yield Stage(name, weight, bias, layer, _geometry(linear), pools, flatten)
            pools, flatten, linear, norm = [], False, None, None
        else:
            raise ValueError(
                f"layer {name!r} ({type(layer).__name__}) cannot be trained on the chip's integers"
                " at this place; use chains of pool, flatten, linear or conv, batch norm, Lif"
            )


def _zero_padded(name: str, layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    if isinstance(layer, nn.Conv2d) and (
        layer.padding_mode != "zeros" or isinstance(layer.padding, str)
    ):
        raise ValueError(
            f"layer {name!r}: padding is {layer.padding!r} with {layer.padding_mode!r}, but chips"
            " pad with silence by a number of pixels; use padding=(y, x) and zeros"
        )
    return layer


def _geometry(layer: nn.Linear | nn.Conv2d) -> ConvGeometry | None:
    if isinstance(layer, nn.Linear):
        return None
    return ConvGeometry(
        stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups  # type: ignore[arg-type]
    )  # fmt: skip


def _folded(layer: nn.Linear | nn.Conv2d, norm: _BatchNorm | None) -> tuple[Tensor, Tensor]:
    if norm is not None:
        return fold(layer, norm)
    bias = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
    return layer.weight.detach().double(), bias.detach().double()


def _area(pool: nn.AvgPool2d) -> int:
    return math.prod(_pair(pool.kernel_size))


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _plain_pool(name: str, pool: nn.AvgPool2d) -> nn.AvgPool2d:
    if pool.padding not in (0, (0, 0)) or pool.ceil_mode or pool.divisor_override:
        raise ValueError(
            f"layer {name!r}: average pooling with padding, ceil_mode or divisor_override has no"
            " exact integer form here; use plain windows"
        )
    pairs = zip(_pair(pool.kernel_size), _pair(pool.stride), strict=True)
    if any(kernel > stride for kernel, stride in pairs):
        raise ValueError(
            f"layer {name!r}: average pooling {pool.kernel_size} with stride {pool.stride}"
            " overlaps, so weights behind it add up beyond their bits; use a stride as large as the"
            " window"
        )
    return pool
