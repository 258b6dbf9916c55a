"""A SpikingNet cut into stages: one population each, with the synapses that lead to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikeport.sim.synapse import ConvGeometry
from spikeport.train.blocks import Recurrent, through
from spikeport.train.model import SpikingNet, pair
from spikeport.train.neuron import Integrator, Lif
from spikeport.train.norm import fold

PLAIN = "use pool, flatten, linear or conv, batch norm, Lif, residual blocks of these and Recurrent"


@dataclass(frozen=True, kw_only=True, eq=False)
class Path:
    """One linear layer into a population, fed by the sum of `sources` ("input" or populations, of
    the same step, or of the step before for the population itself), its norm folded."""

    sources: tuple[str, ...]
    layer: str
    norm: str | None
    weight: Tensor
    bias: Tensor
    geometry: ConvGeometry | None  # None: dense
    pools: tuple[nn.AvgPool2d, ...] = ()
    flatten: bool = False

    @property
    def pool_gain(self) -> float:
        """What pooling divides sums by, to be moved into the weights."""
        return math.prod(1.0 / divisor(pool) for pool in self.pools)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One population of a SpikingNet: its neurons, the paths into it, and the linear layer from
    its own spikes of the step before."""

    name: str
    neuron: Lif | Integrator
    paths: tuple[Path, ...]
    loop: Path | None = None

    @property
    def synapses(self) -> tuple[Path, ...]:
        """All paths, the loop last."""
        return (*self.paths, self.loop) if self.loop else self.paths


@dataclass(frozen=True, kw_only=True, eq=False)
class _Wire:
    """What the spikes of one source have gone through on the way to the next population."""

    source: str
    pools: tuple[nn.AvgPool2d, ...] = ()
    flatten: bool = False
    linear: tuple[str, nn.Linear | nn.Conv2d] | None = None
    norm: tuple[str, _BatchNorm] | None = None


_Wires = tuple[_Wire, ...]  # all that adds up at one place


def stages(net: SpikingNet) -> list[Stage]:
    """Cut `net` into populations, batch norm folded (evaluation statistics), in order.

    Raises ValueError naming the layer when it has no place there.
    """
    found: list[Stage] = []

    def visit(name: str, layer: nn.Module, wires: _Wires) -> _Wires:
        if isinstance(layer, (nn.Dropout, nn.Identity)):
            return wires
        loop = None
        if isinstance(layer, Recurrent):
            name, loop = f"{name}.lif", _loop(name, layer)
            layer = layer.lif
        if not isinstance(layer, (Lif, Integrator)):
            return tuple(_behind(name, layer, wire) for wire in wires)
        paths = tuple(_paths(name, layer, wires))
        found.append(Stage(name=name, neuron=layer, paths=paths, loop=loop))
        return (_Wire(source=name),)

    start: _Wires = (_Wire(source="input"),)
    through(net.layers._modules, start, visit=visit, add=lambda a, b: (*a, *b))
    return found


def _behind(name: str, layer: nn.Module, wire: _Wire) -> _Wire:
    """`wire` led through a layer without state."""
    if wire.linear is None:
        if isinstance(layer, nn.AvgPool2d):
            return replace(wire, pools=(*wire.pools, _plain_pool(name, layer)))
        if isinstance(layer, nn.Flatten):
            return replace(wire, flatten=True)
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            return replace(wire, linear=(name, _zero_padded(name, layer)))
    elif isinstance(layer, _BatchNorm) and wire.norm is None:
        return replace(wire, norm=(name, layer))
    raise _misplaced(name, layer)


def _misplaced(name: str, layer: nn.Module) -> ValueError:
    return ValueError(
        f"layer {name!r} ({type(layer).__name__}) cannot be trained on the chip's integers at this"
        f" place; {PLAIN}"
    )


def _paths(name: str, layer: nn.Module, wires: _Wires) -> Iterator[Path]:
    """The wires into the neurons `name`, one path for each linear layer."""
    by_layer: dict[str, list[_Wire]] = {}
    for wire in wires:
        if wire.linear is None:
            raise _misplaced(name, layer)
        by_layer.setdefault(wire.linear[0], []).append(wire)
    every = [wire.source for wire in wires]
    twice = {source for source in every if every.count(source) > 1}
    if twice:
        raise ValueError(
            f"layer {name!r} receives the spikes of {min(twice)!r} in two ways, which have no room"
            " on one grid of weights; put neurons into the shortcut"
        )
    for key, group in by_layer.items():
        sources = tuple(wire.source for wire in group)
        if len(group) > 1 and "input" in sources:
            raise ValueError(
                f"layer {key!r} adds up the input and spikes, which come in different units; begin"
                " with a layer of neurons"
            )
        if len({(wire.pools, wire.flatten) for wire in group}) > 1:
            raise ValueError(
                f"layer {key!r} adds up the spikes of {', '.join(sources)} behind different pools;"
                " pool behind the sum, or end the shortcut with neurons"
            )
        yield _path(sources, group[0])


def _path(sources: tuple[str, ...], wire: _Wire) -> Path:
    assert wire.linear is not None
    key, linear = wire.linear
    weight, bias = _folded(linear, wire.norm[1] if wire.norm else None)
    return Path(
        sources=sources, layer=key, norm=wire.norm[0] if wire.norm else None,
        weight=weight, bias=bias, geometry=_geometry(linear), pools=wire.pools,
        flatten=wire.flatten,
    )  # fmt: skip


def _loop(name: str, layer: Recurrent) -> Path:
    return _path((f"{name}.lif",), _Wire(source="", linear=(f"{name}.loop", layer.loop)))


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


def area(pool: nn.AvgPool2d) -> int:
    """Pixels in the window of a pool."""
    return math.prod(pair(pool.kernel_size))


def divisor(pool: nn.AvgPool2d) -> int:
    """What a pool divides the sum of its window by: its area, or 1 where it is a sum."""
    return pool.divisor_override or area(pool)


def _plain_pool(name: str, pool: nn.AvgPool2d) -> nn.AvgPool2d:
    kernel = pair(pool.kernel_size)
    plain = pool.divisor_override in (None, 1, area(pool))
    if pool.padding not in (0, (0, 0)) or pool.ceil_mode or not plain:
        raise ValueError(
            f"layer {name!r}: pooling with padding, ceil_mode or a divisor_override other than 1"
            " has no exact integer form here; use plain averages, or plain sums with"
            " divisor_override=1"
        )
    if any(k > stride for k, stride in zip(kernel, pair(pool.stride), strict=True)):
        raise ValueError(
            f"layer {name!r}: pooling {pool.kernel_size} with stride {pool.stride} overlaps, so"
            " weights behind it add up beyond their bits; use a stride as large as the window"
        )
    return pool
