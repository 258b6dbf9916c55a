"""A network as named parts and links between them, whatever it was written in.

Parts are affine stages, gains, flattenings and populations; all that arrives at a part adds up.
A link may take time. Every loop goes through a population and has a delay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

import numpy as np
from torch import nn

from spikeport.export.passes import Gain, Stage
from spikeport.sim.net import FloatPopulation, Input
from spikeport.sim.synapse import Shape


@dataclass(frozen=True, kw_only=True)
class Flat:
    """Flattening of a map in C order."""

    name: str
    source: Shape

    @property
    def target(self) -> Shape:
        """Shape behind the flattening."""
        return (int(np.prod(self.source)),)


Part = Union[Stage, Gain, Flat, FloatPopulation]  # noqa: UP007 (evaluated at run time)


@dataclass(frozen=True, kw_only=True)
class Link:
    """What `source` ("input" or a part) gives reaches `target` in the same step, or `delay` steps
    later; nothing arrives from before the first step."""

    source: str
    target: str
    delay: int = 0


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A whole network. parts: by name, populations in an order in which links without delay lead
    forward. output: the population that is read. layers: what populations were made of."""

    input: Input
    steps: int
    parts: Mapping[str, Part]
    links: tuple[Link, ...]
    output: str
    readout: str
    layers: Mapping[str, nn.Module]

    @property
    def populations(self) -> list[FloatPopulation]:
        """The populations, in order."""
        return [part for part in self.parts.values() if isinstance(part, FloatPopulation)]

    def shape(self, name: str) -> Shape:
        """Shape of what "input" or a part gives."""
        if name == "input":
            return self.input.shape
        return shape_behind(self.parts[name])


def shape_behind(part: Part) -> Shape:
    """Shape of what `part` gives."""
    return part.shape if isinstance(part, FloatPopulation) else part.target


def ours(shape: tuple[int, ...]) -> Shape:
    """A shape without batch as ours: (n,) or (C, H, W), with (C, L) as (C, 1, L).

    Raises ValueError for others.
    """
    if len(shape) == 2:
        return (shape[0], 1, shape[1])
    if len(shape) not in (1, 3):
        raise ValueError(f"it has shape {tuple(shape)} without time and batch; allowed are (n,),"
                         " (C, L) and (C, H, W)")  # fmt: skip
    return tuple(shape)
