"""The parts of a network: its input, its populations, the projections between them, its readout.

Each is a frozen value; arrays are copied, checked and read-only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from spikeport.sim import checks
from spikeport.sim.arith import DECAY_MAX, DECAY_ONE, DU_OFFSET, V_LIMIT, V_TH_MAX
from spikeport.sim.checks import Frozen
from spikeport.sim.synapse import FloatSynapse, Shape, Synapse

RESETS = ("zero", "subtract")
READOUTS = ("count", "last_v", "sum_v", "first_spike")
LONGEST_DELAY = 1 << 20  # in model time; what a chip can do is another matter


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
    """How logits are read from one population: spike "count", "last_v" (potential after the last
    step), "sum_v" (sum of the potentials after every step) or "first_spike" (T minus the step of
    the first spike, 0 if silent)."""

    population: str
    kind: str = "count"

    def __post_init__(self) -> None:
        checks.choice(self.kind, READOUTS, where="readout kind")

    @property
    def of_potentials(self) -> bool:
        """Whether potentials are read, of neurons that only integrate, and not spikes."""
        return self.kind in ("last_v", "sum_v")


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
    def keep_u(self) -> NDArray[np.int64]:
        """int64 () or (n,): how many 4096ths of u a step keeps; the chip loses one more than du."""
        return DECAY_ONE - DU_OFFSET - self.du.astype(np.int64)

    @property
    def keep_v(self) -> NDArray[np.int64]:
        """int64 () or (n,): how many 4096ths of v a step keeps."""
        return DECAY_ONE - self.dv.astype(np.int64)

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
    """Integer synapses from `source` ("input" or a population) to `target`. delay: in model time;
    0 feeds a step of the target from the same step of the source, 1 closes a loop."""

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
    delay = checks.whole(projection.delay, where=where, low=0, high=LONGEST_DELAY)
    object.__setattr__(projection, "delay", delay)
