"""A network on the cores of a chip: which core holds which neurons, and what that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw import cut, rules_place
from spikeport.hw.cost import Box, Use, Wire, arriving, leaving, reached, size, wires
from spikeport.hw.cut import Measure
from spikeport.hw.rule import Issue
from spikeport.hw.share import shared
from spikeport.hw.target import Target
from spikeport.sim.net import FixedNet, Population
from spikeport.sim.synapse import Shape
from spikeport.sim.text import aligned

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

    def slices(self, population: str) -> list[tuple[int, Slice]]:
        """What holds neurons of `population`: the number of the core, and which it holds."""
        parts = ((number, part) for number, core in enumerate(self.cores) for part in core.slices)
        return [(number, part) for number, part in parts if part.population == population]

    def core_of(self, population: str) -> NDArray[np.int64]:
        """int64 [n]: the core of each neuron of `population`. Raises ValueError for a name that
        the network does not have."""
        parts = self.slices(population)
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

    def groups(self) -> dict[tuple[str, ...], list[int]]:
        """The numbers of the cores that hold each set of populations, in the order of the cores."""
        found: dict[tuple[str, ...], list[int]] = {}
        for number, core in enumerate(self.cores):
            found.setdefault(core.populations, []).append(number)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """For each of `groups` its names, the most that a core takes and what all of them take
        (each a Use), and the number of cores."""
        rows = []
        for names, numbers in self.groups().items():
            uses = [self.cores[number].use for number in numbers]
            most, total = (Use(*map(f, zip(*uses, strict=True))) for f in (max, sum))
            rows.append({"populations": names, "most": most, "total": total, "cores": len(uses)})
        return rows

    def table(self) -> list[list[str]]:
        """Rows as Intel's compiler prints them: the fullest core of every layer in per cent of
        the limits, and how many cores the layer takes."""
        limits = self.target.limits
        table = [["", *TITLES, "cores"]]
        for row in self.rows():
            shares = [f"{a / b:.2%}" for a, b in zip(row["most"], limits, strict=True)]
            table.append([" + ".join(row["populations"]), *shares, str(row["cores"])])
        table.append([f"of {self.target.cores} cores", *[""] * len(TITLES), str(len(self.cores))])
        return table

    def as_text(self) -> str:
        """`table` as text."""
        return aligned(self.table())


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to place. cut: makes boxes of a population. packed: whether layers of one core each may
    share cores afterwards."""

    cut: cut.Cut
    packed: bool


WAYS: Mapping[str, Way] = {
    "compiled": Way(cut=cut.as_compiled, packed=False),
    "fewest": Way(cut=cut.fewest, packed=True),
}


class DoesNotFitError(ValueError):
    """There is no room: one neuron is too much for a core, or there are too few cores. issues: the
    rules that say so."""

    def __init__(self, issues: list[Issue], chip: str) -> None:
        self.issues = issues
        super().__init__(f"the network does not fit {chip}: " + "; also ".join(map(str, issues)))


def place(net: FixedNet, target: Target, *, way: str = "compiled") -> Placement:
    """`net` on the cores of `target`, the same for the same input.

    way: "compiled" predicts Intel's compiler, which gives each layer cores of its own; "fewest"
    cuts layers into the fewest pieces that fit, alike in size, and lets small layers share cores as
    long as the busiest core gets no busier (`spikeport.hw.cut` says how). How many cores there are
    is not looked at; `spikeport.hw.rules_place.cores` does that. Raises ValueError for an unknown
    way, and DoesNotFitError where not even one neuron fits on a core.
    """
    if way not in WAYS:
        raise ValueError(f"way is {way!r}; allowed are {', '.join(map(repr, WAYS))}")
    found = wires(net, target.core)
    boxes = _boxes(net, target, found, WAYS[way].cut)
    cores = []
    for p in net.populations:
        outward = [
            (w, reached(w, boxes[w.target], target.core)) for w in found if w.source == p.name
        ]
        measure = _measure(p, found, outward, target)
        for box in boxes[p.name]:
            part = Slice(population=p.name, shape=p.shape, box=box)
            cores.append(Loaded(slices=(part,), use=measure(box)))
    whole = Placement(target=target, cores=tuple(cores))
    return _packed(whole) if WAYS[way].packed else whole


Outward = list[tuple[Wire, NDArray[np.int64]]]


def _boxes(
    net: FixedNet, target: Target, found: tuple[Wire, ...], into_boxes: cut.Cut
) -> dict[str, list[Box]]:
    """The boxes of every population. Where axons are counted per listening core, more boxes of one
    population may mean more of another, so all are cut anew until nothing changes; it ends because
    the axons that a pass counts are never fewer than those of the last."""
    boxes: dict[str, list[Box]] = {}
    axons = [np.zeros((), np.int64)] * len(found)
    while True:
        before = dict(boxes)
        issues: list[Issue] = []
        for p in reversed(net.populations):  # what listens comes first, but for loops
            own = [i for i, wire in enumerate(found) if wire.source == p.name]
            for i in own:
                now = reached(found[i], boxes.get(found[i].target, ()), target.core)
                axons[i] = np.maximum(axons[i], now)
            measure = _measure(p, found, [(found[i], axons[i]) for i in own], target)
            cuts = into_boxes(p.shape, measure, target.limits)
            if cuts is None:
                each = (rules_place.one_neuron(p, measure(b), target) for b in cut.singles(p.shape))
                issues[:0] = next(filter(None, map(list, each)))
            else:
                boxes[p.name] = cuts
        if issues:
            raise DoesNotFitError(issues, target.name)
        if boxes == before:
            return boxes


def _measure(p: Population, found: tuple[Wire, ...], outward: Outward, target: Target) -> Measure:
    """What a core takes that holds a box of `p`."""
    inward = [wire for wire in found if wire.target == p.name]

    def measure(box: Box) -> Use:
        n = size(box)
        axons = sum(leaving(wire, box, target.core, count) for wire, count in outward)
        # What no projection listens to is read from outside, through an axon a neuron.
        use = Use(neuron_groups=1, neurons=n, out_axons=axons if outward else n)
        for wire in inward:
            use = use.plus(arriving(wire, box, target.core))
        return use

    return measure


def _packed(whole: Placement) -> Placement:
    """Layers that have one core each put together, where their first one stands."""
    times = Counter(core.populations for core in whole.cores)
    alone = [i for i, core in enumerate(whole.cores) if times[core.populations] == 1]
    uses = [whole.cores[i].use for i in alone]
    cores: dict[int, Loaded] = {
        i: core for i, core in enumerate(whole.cores) if times[core.populations] > 1
    }
    for group in shared(uses, whole.target.limits, share=whole.busiest):
        members = [whole.cores[alone[i]] for i in group]
        use = members[0].use
        for other in members[1:]:
            use = use.plus(other.use)
        slices = tuple(part for core in members for part in core.slices)
        cores[alone[group[0]]] = Loaded(slices=slices, use=use)
    return Placement(target=whole.target, cores=tuple(cores[i] for i in sorted(cores)))
