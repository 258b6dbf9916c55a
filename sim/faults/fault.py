"""One hardware fault as a small value, and the places in a network where it can sit.

| kind         | part       | what goes wrong                                                     |
|--------------|------------|---------------------------------------------------------------------|
| `weight`     | projection | `bit` of stored weight `index` is flipped, for good                 |
| `threshold`  | population | `bit` of the mantissa v_th is flipped, for good                     |
| `u`, `v`     | population | `bit` of the state of neuron `index` is flipped before step `step`  |
| `stuck`      | population | neuron `index` sends a spike in every step; its own state goes on   |
| `dead`       | population | neuron `index` sends nothing, and its u and v read 0                |
| `dropped`    | projection | each spike of source `index` is lost there with chance `rate`       |
| `duplicated` | projection | each spike of source `index` counts twice there with chance `rate`  |
| `core`       | core       | all neurons of a core are dead                                      |

A projection is meant by its number in `net.projections`, a population by its name, a core by its
number in a mapping of cores. Indices count in C order. A fault strikes every sample alike; only
which spikes get lost or doubled is drawn for each sample and step, from `seed`.

What a bit means stands in `spikeport.sim.faults.stored`, what a fault does to a run in
`spikeport.sim.faults.inject`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spikeport.sim import checks
from spikeport.sim.arith import U_LIMIT, V_TH_MAX, WEIGHT_LIMIT
from spikeport.sim.net import FixedNet
from spikeport.sim.synapse import SumPool2d

# What each kind needs beside its part.
KINDS: Mapping[str, tuple[str, ...]] = {
    "weight": ("index", "bit"),
    "threshold": ("index", "bit"),
    "u": ("index", "bit", "step"),
    "v": ("index", "bit", "step"),
    "stuck": ("index",),
    "dead": ("index",),
    "dropped": ("index", "rate", "seed"),
    "duplicated": ("index", "rate", "seed"),
    "core": (),
}
PERMANENT = ("weight", "threshold")  # those that another network can stand for
STATE, SPIKE = ("u", "v"), ("dropped", "duplicated")
ON_PROJECTIONS = ("weight", *SPIKE)
STATE_BITS = U_LIMIT.bit_length()  # sign included
BITS = {
    "weight": (WEIGHT_LIMIT - 1).bit_length(), "threshold": V_TH_MAX.bit_length(),
    "u": STATE_BITS, "v": STATE_BITS,
}  # fmt: skip

Part = str | int
Cores = Mapping[int, Mapping[str, Sequence[int]]]
"""Which neurons a core holds: {core: {population: indices}}."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault; the table of the module says which fields a kind needs, the others are None.

    part: number of a projection or core, name of a population. index: from 0. bit: from 0, the
    lowest; 0..7 of a weight, 0..16 of a threshold, 0..23 of u and v. step: 0..T-1. rate: above 0,
    at most 1. seed: 0..2**63-1.
    """

    kind: str
    part: Part
    index: int | None = None
    bit: int | None = None
    step: int | None = None
    rate: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        checks.choice(self.kind, tuple(KINDS), where="fault kind")
        given = tuple(n for n in ("index", "bit", "step", "rate", "seed") if self._has(n))
        if set(given) != set(KINDS[self.kind]):
            raise ValueError(
                f"fault {self.kind!r}: given are {given}; it takes {KINDS[self.kind]}, no more and"
                " no less"
            )
        numbered = self.kind in (*ON_PROJECTIONS, "core")
        if isinstance(self.part, str) == numbered or isinstance(self.part, bool):
            needed = "a number" if numbered else "the name of a population"
            raise ValueError(f"fault {self.kind!r}: part is {self.part!r}; it must be {needed}")
        if numbered:
            self._whole("part", high=(1 << 31) - 1)
        highest = {"bit": BITS.get(self.kind, 1) - 1, "seed": (1 << 63) - 1}
        for name in set(given) - {"rate"}:
            self._whole(name, high=highest.get(name, (1 << 31) - 1))
        if self.rate is not None:
            object.__setattr__(self, "rate", checked_rate(self.rate, where=f"fault {self.kind!r}"))

    def _has(self, name: str) -> bool:
        return getattr(self, name) is not None

    def _whole(self, name: str, *, high: int) -> None:
        where = f"fault {self.kind!r}: {name}"
        value = checks.whole(getattr(self, name), where=where, low=0, high=high)
        object.__setattr__(self, name, value)

    @property
    def site(self) -> tuple[Any, ...]:
        """Where it sits: two faults of one site are the same fault, whatever their seeds."""
        return (self.kind, self.part, self.index, self.bit, self.step)

    def to_json(self) -> dict[str, Any]:
        """The fields that it has; `Fault(**fields)` is the way back."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        what = {"core": "dead core", "u": "u of neuron", "v": "v of neuron"}.get(
            self.kind, self.kind
        )
        parts = [what if self.index is None else f"{what} {self.index}"]
        place = "projection" if self.kind in ON_PROJECTIONS else "population"
        parts.append(f"{self.part}" if self.kind == "core" else f"of {place} {self.part!r}")
        parts += [] if self.bit is None else [f"bit {self.bit}"]
        parts += [] if self.step is None else [f"step {self.step}"]
        parts += [] if self.rate is None else [f"rate {self.rate:g}"]
        return ", ".join([" ".join(parts[:2]), *parts[2:]])


def checked_rate(rate: Any, *, where: str) -> float:
    """`rate` as a float above 0 and at most 1, or ValueError naming `where`."""
    number = float(rate)
    if not 0 < number <= 1:
        raise ValueError(f"{where}: rate is {rate}; a share of spikes is above 0 and at most 1")
    return number


def places(net: FixedNet, kind: str, *, cores: Cores | None = None) -> dict[Part, int]:
    """How many indices each part of `net` has for faults of `kind`, parts in order.

    A pool stores one weight, a population one threshold or one a neuron. Raises ValueError for
    kind "core" without `cores`.
    """
    if kind == "core":
        if not cores:
            raise ValueError(
                "fault 'core': which neurons a core holds is unknown; give cores={core:"
                " {population: indices}}"
            )
        return {core: 1 for core in sorted(cores)}
    if kind == "weight":
        return {
            number: 1 if isinstance(p.synapse, SumPool2d) else int(p.synapse.w.size)
            for number, p in enumerate(net.projections)
        }
    if kind in SPIKE:
        sizes = {"input": net.input.size, **{p.name: p.size for p in net.populations}}
        return {number: sizes[p.source] for number, p in enumerate(net.projections)}
    if kind == "threshold":
        return {p.name: int(p.v_th.size) for p in net.populations}
    return {p.name: p.size for p in net.populations}


def resolved(
    net: FixedNet, faults: Iterable[Fault], *, steps: int, cores: Cores | None = None
) -> tuple[Fault, ...]:
    """`faults`, checked against a run of `steps` steps of `net`, cores spelled as dead neurons.

    Raises ValueError naming the fault that does not fit and what would.
    """
    found: list[Fault] = []
    for fault in faults:
        sizes = places(net, fault.kind, cores=cores)
        if fault.part not in sizes:
            raise ValueError(
                f"fault {fault.kind!r}: there is no part {fault.part!r}; there are"
                f" {', '.join(map(repr, sizes))}"
            )
        if fault.index is not None and fault.index >= sizes[fault.part]:
            raise ValueError(
                f"fault {fault.kind!r} of {fault.part!r}: index is {fault.index}; allowed are"
                f" 0..{sizes[fault.part] - 1}"
            )
        if fault.step is not None and fault.step >= steps:
            raise ValueError(
                f"fault {fault.kind!r} of {fault.part!r}: step is {fault.step}; the run has steps"
                f" 0..{steps - 1}"
            )
        if fault.kind == "core" and cores is not None:
            dead = [
                Fault(kind="dead", part=name, index=int(index))
                for name, indices in sorted(cores[int(fault.part)].items())
                for index in sorted(set(indices))
            ]
            found += resolved(net, dead, steps=steps)
        else:
            found.append(fault)
    return tuple(found)
