"""A network on the cores of a chip: which core holds which neurons, and what that takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw import cut
from spikeport.hw.cost import Box, Use, Wire, arriving, leaving, size, wires
from spikeport.hw.rule import Issue, place as named
from spikeport.hw.share import shared
from spikeport.hw.target import Target
from spikeport.sim.net import FixedNet
from spikeport.sim.synapse import Shape
from spikeport.sim.text import aligned

WAYS: Mapping[str, cut.Cut] = {"compiled": cut.as_compiled, "fewest": cut.fewest}
TITLES = ("axons in", "groups", "neurons", "synapses", "axons out")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Neurons of one population: a range of indices along every axis of its `shape`."""

    population: str
    shape: Shape
    box: Box

    @property
    def size(self) -> int:
        """How many neurons it holds."""
        return size(self.box)

    def indices(self) -> NDArray[np.int64]:
        """int64 [size]: its neurons by their number in the population, ascending."""
        axes = [np.arange(first, end) for first, end in self.box]
        return np.ravel_multi_index(np.ix_(*axes), self.shape).ravel()


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One core: what it holds and what that takes."""

    slices: tuple[Slice, ...]
    use: Use

    @property
    def populations(self) -> tuple[str, ...]:
        """Names of what it holds."""
        return tuple(part.population for part in self.slices)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Core after core of `target`; every neuron of the network is on exactly one."""

    target: Target
    cores: tuple[Loaded, ...]

    def core_of(self, population: str) -> NDArray[np.int64]:
        """int64 [n]: the core of each neuron of `population`. Raises ValueError for a name that
        the network does not have."""
        parts = [(c, s) for c, core in enumerate(self.cores) for s in core.slices]
        parts = [(c, s) for c, s in parts if s.population == population]
        if not parts:
            raise ValueError(f"there is no population {population!r} in this placement")
        found = np.empty(sum(s.size for _, s in parts), np.int64)
        for core, part in parts:
            found[part.indices()] = core
        return found

    def neurons(self) -> dict[int, dict[str, list[int]]]:
        """{core: {population: indices}}, as `spikeport.sim.faults` takes it."""
        return {
            number: {part.population: part.indices().tolist() for part in core.slices}
            for number, core in enumerate(self.cores)
        }

    @property
    def busiest(self) -> float:
        """The largest share of any limit on any core."""
        return max(core.use.share(self.target.limits) for core in self.cores)

    def rows(self) -> list[dict[str, Any]]:
        """For each set of populations that a core holds, in the order of the cores: its names, the
        most that a core takes ("most", a Use) and the number of such cores."""
        groups: dict[tuple[str, ...], list[Use]] = {}
        for core in self.cores:
            groups.setdefault(core.populations, []).append(core.use)
        return [
            {"populations": names, "most": Use(*map(max, zip(*uses, strict=True))), "cores": len(uses)}
            for names, uses in groups.items()
        ]

    def as_text(self) -> str:
        """A table as Intel's compiler prints it: the fullest core of every layer in per cent of
        the limits, and how many cores the layer takes."""
        limits = self.target.limits
        table = [["", *TITLES, "cores"]]
        for row in self.rows():
            shares = [f"{a / b:.2%}" for a, b in zip(row["most"], limits, strict=True)]
            table.append([" + ".join(row["populations"]), *shares, str(row["cores"])])
        table.append([f"of {self.target.cores} cores", *[""] * len(TITLES), str(len(self.cores))])
        return aligned(table)


class DoesNotFitError(ValueError):
    """One neuron of some population is too much for a core. issues: one a population."""

    def __init__(self, issues: list[Issue], chip: str) -> None:
        self.issues = issues
        super().__init__(f"the network does not fit {chip}: " + "; also ".join(map(str, issues)))


def place(net: FixedNet, target: Target, *, way: str = "compiled") -> Placement:
    """`net` on the cores of `target`, the same for the same input.

    way: "compiled" predicts Intel's compiler, which gives each layer cores of its own; "fewest"
    cuts layers into the fewest pieces that fit, alike in size, and lets small layers share cores as
    long as the busiest core gets no busier (`spikeport.hw.cut` says how). How many cores there are
    is not looked at; `spikeport.hw.rules_place` does that. Raises ValueError for an unknown way,
    and DoesNotFitError where not even one neuron fits on a core.
    """
    if way not in WAYS:
        raise ValueError(f"way is {way!r}; allowed are {', '.join(map(repr, WAYS))}")
    found = wires(net, target.core)
    boxes = _boxes(net, target, found, WAYS[way])
    cores = [
        Loaded(slices=(Slice(population=p.name, shape=p.shape, box=box),), use=use)
        for p in net.populations
        for box in boxes[p.name]
        for use in [_use(found, p.name, box, target, boxes)]
    ]
    whole = Placement(target=target, cores=tuple(cores))
    return whole if way == "compiled" else _packed(whole)


def _boxes(
    net: FixedNet, target: Target, found: tuple[Wire, ...], way: cut.Cut
) -> dict[str, list[Box]]:
    """The boxes of every population. Where axons are counted per listening core, more boxes of one
    population may mean more of another, so all are cut anew until nothing changes."""
    boxes: dict[str, list[Box]] = {}
    while True:
        before = dict(boxes)
        issues = []
        for p in reversed(net.populations):  # what listens comes first, but for loops
            cuts = way(p.shape, lambda box: _use(found, p.name, box, target, boxes), target.limits)
            if cuts is None:
                one: Box = ((0, 1),) * len(p.shape)
                use = _use(found, p.name, one, target, boxes)
                issues.append(_too_much(named(p), use, target))
            else:
                boxes[p.name] = cuts
        if issues:
            raise DoesNotFitError(issues[::-1], target.name)
        if boxes == before:
            return boxes


def _use(
    found: tuple[Wire, ...], name: str, box: Box, target: Target, boxes: Mapping[str, list[Box]]
) -> Use:
    """What a core takes that holds `box` of population `name`."""
    outward = [w for w in found if w.source == name]
    axons = sum(leaving(w, box, target.core, boxes.get(w.target, ())) for w in outward)
    n = size(box)
    use = Use(neuron_groups=1, neurons=n, out_axons=axons if outward else n)
    for wire in found:
        if wire.target == name:
            use = use.plus(arriving(wire, box, target.core))
    return use


def _too_much(where: str, use: Use, target: Target) -> Issue:
    """The limit that one neuron breaks most."""
    over = [(a / b, a, b, t) for a, b, t in zip(use, target.limits, TITLES, strict=True)]
    _, got, limit, title = max(over)
    what = {"synapses": "words of synapse memory", "axons in": "input axons"}.get(title, title)
    return Issue(
        rule="one_neuron",
        where=where,
        got=f"one neuron alone takes {got} {what}",
        limit=f"a core of {target.name} has {limit}",
        advice="give it fewer sources, or weights of fewer bits",
    )


def _packed(whole: Placement) -> Placement:
    """Layers that have one core each put together."""
    split = {
        name for row in whole.rows() if row["cores"] > 1 for name in row["populations"]
    }
    alone = [core for core in whole.cores if core.populations[0] not in split]
    groups = shared(
        [core.use for core in alone], whole.target.limits, share=whole.busiest
    )
    merged: dict[int, Loaded] = {}
    for members in groups:
        use = Use()
        for i in members:
            use = use.plus(alone[i].use)
        slices = tuple(alone[i].slices[0] for i in members)
        merged[members[0]] = Loaded(slices=slices, use=use)
    numbers = {id(core): i for i, core in enumerate(alone)}
    cores = []
    for core in whole.cores:
        at = numbers.get(id(core))
        if at is None:
            cores.append(core)
        elif at in merged:
            cores.append(merged[at])
    return Placement(target=whole.target, cores=tuple(cores))
