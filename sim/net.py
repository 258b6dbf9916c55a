"""The two networks: `FloatNet` (what was trained) and `FixedNet` (what the chip runs).

Both are frozen values: arrays are copied, checked and read-only, equality is equality of
`digest()`. Neither can be turned into the other by a cast; `spikeport.export.quantise` is the one
crossing.

Time. Every projection costs one chip step, plus its `delay`. A population at depth d sees input
step t at chip step t + d, so its window of T steps starts d steps after the input's. All arrays
here and in traces are relative to that window: step t of a population is fed by step t of its
sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from spikeport.sim import checks
from spikeport.sim.arith import DECAY_MAX, DELAY_MAX, V_LIMIT, V_TH_MAX
from spikeport.sim.checks import Frozen
from spikeport.sim.chip import CHIPS, Chip
from spikeport.sim.digest import NO_IDENTITY, digest
from spikeport.sim.synapse import FloatSynapse, Shape, Synapse
from spikeport.sim.topology import depths

RESETS = ("zero", "subtract")
READOUTS = ("count", "last_v", "first_spike")


@dataclass(frozen=True, kw_only=True)
class Input:
    """Source of a network. shape: (n,) or (C, H, W).

    kind "spike": 0 or 1 per step. kind "graded": 0 .. 2**payload_bits - 1 per step. `scale` is the
    number of integers per unit of the float input (255 for pixels in [0, 1] sent as 8 bits).
    """

    shape: Shape
    kind: str = "spike"
    payload_bits: int = 1
    scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", checks.shape_of(self.shape, where="input"))
        checks.choice(self.kind, ("spike", "graded"), where="input kind")
        high = 1 if self.kind == "spike" else 24
        where = f"{self.kind} input payload_bits"
        bits = checks.whole(self.payload_bits, where=where, low=1, high=high)
        object.__setattr__(self, "payload_bits", bits)
        object.__setattr__(self, "scale", checks.positive(self.scale, where="input scale"))

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def largest(self) -> int:
        """Largest value of one entry in one step."""
        return (1 << self.payload_bits) - 1

    def shaped(self, x: Any) -> NDArray[Any]:
        """`x` as an array [T, B, *shape], or ValueError if its shape is another."""
        array: NDArray[Any] = np.asarray(x)
        found = array.shape
        if array.ndim != 2 + len(self.shape) or found[2:] != self.shape or 0 in found:
            raise ValueError(
                f"network input has shape {found}; needed is [T, B, *{self.shape}], none empty"
            )
        return array

    def check(self, x: Any, *, dtype: DTypeLike = np.int64) -> NDArray[Any]:
        """`x` as `dtype` [T, B, *shape], or ValueError if shape, type or range are wrong."""
        return checks.frozen_ints(
            self.shaped(x), where="network input", low=0, high=self.largest, dtype=dtype
        )


@dataclass(frozen=True, kw_only=True)
class Readout:
    """How logits are read: spike "count", "last_v" (potential after the last step) or
    "first_spike" (T minus the step of the first spike, 0 if silent) of one population."""

    population: str
    kind: str = "count"

    def __post_init__(self) -> None:
        checks.choice(self.kind, READOUTS, where="readout kind")


@dataclass(frozen=True, kw_only=True)
class Population:
    """Integer LIF neurons with one rule; equations in `spikeport.sim.lif`.

    du, dv: lost fractions, 0..4095. v_th: 0..131071, compared as v > v_th << 6. bias: mantissa,
    -4096..4095, shifted left by bias_exp, 0..7. v_init: +-(2**23 - 1). Each of these is a scalar
    or one value a neuron, int32 of shape () or (n,) with n in C order of `shape`. `scale`: synaptic
    integers per unit of the float membrane (v / 64 / scale is the float potential); reports only.
    """

    name: str
    shape: Shape
    v_th: Frozen[np.int32]
    du: Frozen[np.int32] = DECAY_MAX
    dv: Frozen[np.int32] = 0
    bias: Frozen[np.int32] = 0
    bias_exp: int = 0
    v_init: Frozen[np.int32] = 0
    reset: str = "zero"
    scale: float = 1.0

    def __post_init__(self) -> None:
        where = f"population {self.name!r}"
        object.__setattr__(self, "shape", checks.shape_of(self.shape, where=where))
        limits = {
            "v_th": (0, V_TH_MAX),
            "du": (0, DECAY_MAX),
            "dv": (0, DECAY_MAX),
            "bias": (-4096, 4095),
            "v_init": (-V_LIMIT, V_LIMIT),
        }
        for name, (low, high) in limits.items():
            value = checks.frozen_ints(
                getattr(self, name), where=f"{where}: {name}", low=low, high=high
            )
            _scalar_or_each(value, self.size, where=f"{where}: {name}")
            object.__setattr__(self, name, value)
        bias_exp = checks.whole(self.bias_exp, where=f"{where}: bias_exp", low=0, high=7)
        object.__setattr__(self, "bias_exp", bias_exp)
        checks.choice(self.reset, RESETS, where=f"{where}: reset")
        scale = checks.positive(self.scale, where=f"{where}: scale")
        object.__setattr__(self, "scale", scale)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def bias_shifted(self) -> NDArray[np.int64]:
        """int64 () or (n,): what is added to v in every step."""
        return self.bias.astype(np.int64) << self.bias_exp


@dataclass(frozen=True, kw_only=True)
class FloatPopulation:
    """Float LIF neurons: u <- keep_u u + a; v <- keep_v v + u + bias; s = v > v_th; reset.

    keep_u, keep_v in [0, 1]; v_th, bias, v_init in units of the membrane; each a scalar or one
    value a neuron, float64 of shape () or (n,). `scale`: synaptic integers per unit of the membrane
    that training has settled on, or None when the exporter may choose.
    """

    name: str
    shape: Shape
    v_th: Frozen[np.float64]
    keep_u: Frozen[np.float64] = 0.0
    keep_v: Frozen[np.float64] = 1.0
    bias: Frozen[np.float64] = 0.0
    v_init: Frozen[np.float64] = 0.0
    reset: str = "zero"
    scale: float | None = None

    def __post_init__(self) -> None:
        where = f"population {self.name!r}"
        object.__setattr__(self, "shape", checks.shape_of(self.shape, where=where))
        for name in ("v_th", "keep_u", "keep_v", "bias", "v_init"):
            value = checks.frozen_floats(getattr(self, name), where=f"{where}: {name}")
            _scalar_or_each(value, self.size, where=f"{where}: {name}")
            object.__setattr__(self, name, value)
            if name.startswith("keep") and (value.min() < 0 or value.max() > 1):
                raise ValueError(
                    f"{where}: {name} must lie in [0, 1], got {value.min()}..{value.max()}"
                )
        if self.v_th.min() < 0:
            raise ValueError(f"{where}: v_th is {self.v_th.min()}; thresholds must not be negative")
        checks.choice(self.reset, RESETS, where=f"{where}: reset")
        if self.scale is not None:
            scale = checks.positive(self.scale, where=f"{where}: scale")
            object.__setattr__(self, "scale", scale)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


def _scalar_or_each(value: NDArray[Any], size: int, *, where: str) -> None:
    if value.shape not in ((), (size,)):
        raise ValueError(f"{where} has shape {value.shape}; allowed are () and ({size},)")


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Integer synapses from `source` ("input" or a population) to `target`. delay: steps beyond
    the one that every projection costs, 0..62."""

    source: str
    target: str
    synapse: Synapse
    delay: int = 0

    def __post_init__(self) -> None:
        _freeze_delay(self)


@dataclass(frozen=True, kw_only=True)
class FloatProjection:
    """Float synapses from `source` ("input" or a population) to `target`. delay: as in
    `Projection`."""

    source: str
    target: str
    synapse: FloatSynapse
    delay: int = 0

    def __post_init__(self) -> None:
        _freeze_delay(self)


def _freeze_delay(projection: Projection | FloatProjection) -> None:
    where = f"projection {projection.source!r} -> {projection.target!r}: delay"
    delay = checks.whole(projection.delay, where=where, low=0, high=DELAY_MAX)
    object.__setattr__(projection, "delay", delay)


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
        depths(self)  # raises when the topology is not aligned
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

    @property
    def depths(self) -> dict[str, int]:
        """Chip steps between the input's window and each population's."""
        return depths(self)

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
    """A discretised float network; populations in an order in which sources come first."""

    populations: tuple[FloatPopulation, ...]
    projections: tuple[FloatProjection, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedNet(_Net):
    """A network of integers for `chip`; populations in an order in which sources come first.

    `sim.reference.run` is its definition. `provenance` says where it came from and takes no part
    in its identity.
    """

    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    chip: Chip = CHIPS["loihi2"]
    provenance: Mapping[str, Any] = field(default_factory=dict, metadata=NO_IDENTITY)
