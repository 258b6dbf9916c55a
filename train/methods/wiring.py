"""The populations of a network and what stands before and behind each, for methods of neurons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikeport.train.blocks import Recurrent, through
from spikeport.train.neuron import Integrator, Lif

if TYPE_CHECKING:
    from spikeport.train.model import SpikingNet

PASSED = (nn.AvgPool2d, nn.Flatten, nn.Dropout, nn.Identity)
"""Layers without parameters that make of twice the input twice the output."""


@dataclass(kw_only=True, eq=False)
class Population:
    """Neurons `lif`. whole: what is called with a whole window, they or a `Recurrent`. before: the
    norms or linear layers whose sum is their current; readers: the linear layers that take in their
    spikes; the loop of a `Recurrent` is among both. last: whether the spikes are the output."""

    name: str
    lif: Lif
    whole: Lif | Recurrent
    before: list[nn.Module] = field(default_factory=list)
    readers: list[nn.Module] = field(default_factory=list)
    last: bool = False


@dataclass(frozen=True)
class _Wire:
    """The spikes of a population (None: the input) on their way, or the output of a `layer`."""

    source: Population | None = None
    layer: nn.Module | None = None


def populations(net: SpikingNet) -> list[Population]:
    """All populations of `net`, in order.

    Raises ValueError naming a layer that is none of ours, or one that should be linear and is not.
    """
    found: list[Population] = []

    def visit(name: str, layer: nn.Module, wires: tuple[_Wire, ...]) -> tuple[_Wire, ...]:
        if isinstance(layer, PASSED):
            return wires
        if isinstance(layer, (Lif, Recurrent)):
            found.append(_population(name, layer, wires))
            return (_Wire(source=found[-1]),)
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            for wire in wires:
                if wire.source is not None:
                    wire.source.readers.append(layer)
        elif not isinstance(layer, (_BatchNorm, Integrator)) or (
            isinstance(layer, _BatchNorm) and any(wire.layer is None for wire in wires)
        ):
            raise ValueError(
                f"layer {name!r} ({type(layer).__name__}): methods that change neurons need nets of"
                " Lif and linear layers, a norm only behind a linear one; leave them out here"
            )
        return (_Wire(layer=layer),)

    start: tuple[_Wire, ...] = (_Wire(),)
    end = through(net.layers._modules, start, visit=visit, add=lambda a, b: (*a, *b))
    for wire in end:
        if wire.source is not None:
            wire.source.last = True
    return found


def _population(name: str, layer: Lif | Recurrent, wires: tuple[_Wire, ...]) -> Population:
    before = [wire.layer for wire in wires if wire.layer is not None]
    if isinstance(layer, Lif):
        return Population(name=name, lif=layer, whole=layer, before=before)
    return Population(
        name=f"{name}.lif", lif=layer.lif, whole=layer, before=[*before, layer.loop],
        readers=[layer.loop],
    )  # fmt: skip


def replaced(net: SpikingNet, name: str, lif: Lif) -> None:
    """Put `lif` in the place of the population called `name`, in the mode of that."""
    parent, _, last = name.rpartition(".")
    owner = net.layers.get_submodule(parent)
    setattr(owner, last, lif.train(getattr(owner, last).training))
