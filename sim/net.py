"""The two networks: `FloatNet` (what was trained) and `FixedNet` (what the chip runs).

Both are frozen values: arrays are copied, checked and read-only, equality is equality of
`digest()`. Neither can be turned into the other by a cast; `spikeport.export.quantise` is the one
crossing.

Time is model time: step t of a population is fed by step t - delay of its sources, and nothing
arrives from before the first step. On a chip every projection costs one step or more, so a
population at depth d lives through step t at chip step t + d; `FixedNet.depths` and `chip_delays`
say how (see `spikeport.sim.topology`). All arrays here and in traces are in model time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from spikeport.sim import checks
from spikeport.sim.arith import DELAY_MAX
from spikeport.sim.chip import CHIPS, Chip
from spikeport.sim.digest import NO_IDENTITY, digest
from spikeport.sim.parts import (
    READOUTS,
    RESETS,
    FloatPopulation,
    FloatProjection,
    Input,
    Population,
    Projection,
    Readout,
)
from spikeport.sim.synapse import Shape
from spikeport.sim.topology import Schedule, check, schedule

__all__ = [
    "READOUTS", "RESETS", "FixedNet", "FloatNet", "FloatPopulation", "FloatProjection", "Input",
    "Population", "Projection", "Readout",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class _Net:
    """What both kinds of network share: topology checks, lookup, identity."""

    input: Input
    populations: tuple[Any, ...]
    projections: tuple[Any, ...]
    readout: Readout
    steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "populations", tuple(self.populations))
        object.__setattr__(self, "projections", tuple(self.projections))
        steps = checks.whole(self.steps, where="network steps", low=1, high=1 << 20)
        object.__setattr__(self, "steps", steps)
        check(self)
        if self.readout.population not in {p.name for p in self.populations}:
            raise ValueError(f"readout names {self.readout.population!r}, which is no population")

    def population(self, name: str) -> Any:
        """The population called `name`."""
        return next(p for p in self.populations if p.name == name)

    def incoming(self, name: str) -> tuple[Any, ...]:
        """Projections into population `name`."""
        return tuple(p for p in self.projections if p.target == name)

    def shape_of(self, name: str) -> Shape:
        """Shape of "input" or of a population."""
        return self.input.shape if name == "input" else self.population(name).shape

    def digest(self) -> str:
        """64 hex digits that change when any value changes, except those that only tell where
        something comes from: a net's provenance and the sources of a chip's limits."""
        return digest(self)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatNet(_Net):
    """A discretised float network; populations in an order in which the sources of projections
    without delay come first."""

    populations: tuple[FloatPopulation, ...]
    projections: tuple[FloatProjection, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedNet(_Net):
    """A network of integers for `chip`; populations in an order in which the sources of
    projections without delay come first.

    `sim.reference.run` is its definition. `provenance` says where it came from and takes no part
    in its identity. A loop needs as much delay as it has synapses, because each costs a chip step.
    """

    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    chip: Chip = CHIPS["loihi2"]
    provenance: Mapping[str, Any] = field(default_factory=dict, metadata=NO_IDENTITY)

    def __post_init__(self) -> None:
        super().__post_init__()
        for projection, delay in zip(self.projections, self.chip_delays, strict=True):
            if delay > DELAY_MAX:
                raise ValueError(
                    f"projection {projection.source!r} -> {projection.target!r} would need a delay"
                    f" of {delay} chip steps, {DELAY_MAX} are the most; shorten it or the path"
                    " beside it"
                )

    @cached_property
    def _schedule(self) -> Schedule:
        return schedule(self)

    @property
    def depths(self) -> Mapping[str, int]:
        """Chip steps between the input's window and each population's."""
        return self._schedule.depths

    @property
    def chip_delays(self) -> tuple[int, ...]:
        """Delay of each projection on the chip, in steps beyond the one that all of them cost."""
        return self._schedule.chip_delays
