"""What every core and every link has to do in each chip step of a run.

A population's step t is chip step t + its depth (`spikeport.sim.topology`): there its neurons are
updated, its spikes leave, and what they reach is read and added. A sample takes as many chip steps
as the network has, and the largest depth more. Every neuron is updated in each of them, also before
and after its own window, where it is at rest unless it has a bias.

A spike goes to each core that holds a target of it, one message a projection; whether Loihi 2
copies messages on their way is not public. Input comes from outside the mesh: what it sets in
motion counts, its own way does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.cost import Box, Wire, wires
from spikeport.hw.fanout import fanouts
from spikeport.hw.mesh import Link, way
from spikeport.hw.place import Placement
from spikeport.sim.net import FixedNet, Population
from spikeport.sim.synapse import lowered
from spikeport.sim.trace import PopulationTrace, Trace

Each = NDArray[np.int64]
NAMES = (
    "active", "spikes", "dense", "conv", "effective", "macs", "words", "received", "outside",
    "sent", "hops_x", "hops_y", "left",
)  # fmt: skip
SUMS = ("synapses", "hops")  # of two each


@dataclass(frozen=True, kw_only=True)
class Activity:
    """Counts int64 [S, B, cores] of S chip steps and B samples, but `neurons` [cores].

    active: neurons with a potential before or after the step, a current in it, or a bias; the
    others are at rest (after SANA-FE 2.2.9, models.cpp; Davies et al. do not say). dense, conv:
    synapses of lists read, zeros included. effective: those that are not zero. macs: those of them
    that multiply, because graded input brings a number. words: read from synapse memory. received:
    messages from cores; sent: to cores, the own one included. hops_x, hops_y: from tile to tile,
    counted where the message comes from. left: messages to other chips, whose way is not known.
    outside: events of the input that reach the core.

    links: for each link of the mesh that is used, int64 [S, B] messages.
    """

    placement: Placement
    neurons: Each
    active: Each
    spikes: Each
    dense: Each
    conv: Each
    effective: Each
    macs: Each
    words: Each
    received: Each
    outside: Each
    sent: Each
    hops_x: Each
    hops_y: Each
    left: Each
    links: dict[Link, Each] = field(default_factory=dict, repr=False)

    @property
    def steps(self) -> int:
        """Chip steps a sample."""
        return self.spikes.shape[0]

    @property
    def samples(self) -> int:
        return self.spikes.shape[1]

    @property
    def synapses(self) -> Each:
        """int64 [S, B, cores]: synaptic operations of both kinds."""
        return self.dense + self.conv

    @property
    def hops(self) -> Each:
        """int64 [S, B, cores]: from tile to tile, both ways."""
        return self.hops_x + self.hops_y

    def per_step(self) -> dict[str, NDArray[np.float64]]:
        """Means over the samples in every chip step [S], all cores together, by name."""
        found = {name: getattr(self, name).sum(2).mean(1) for name in NAMES + SUMS}
        return {"updates": np.full(self.steps, float(self.neurons.sum())), **found}

    def totals(self) -> dict[str, float]:
        """Means over the samples, all steps and cores together, by name."""
        found = {name: float(getattr(self, name).sum()) / self.samples for name in NAMES + SUMS}
        return {"updates": float(self.neurons.sum() * self.steps), **found}


def activity(net: FixedNet, x: Any, trace: Trace, placement: Placement) -> Activity:
    """What `placement` of `net` has to do for input `x` [T, B, *shape], of which `trace` is the
    run. Raises ValueError for a trace that kept no u and v, or is of another run."""
    events = net.input.shaped(x) != 0
    for p in net.populations:
        found = trace[p.name].spikes.shape
        if found != (*events.shape[:2], p.size):
            raise ValueError(
                f"the trace has spikes {found} of population {p.name!r}, the input is"
                f" {events.shape}; give the input and its own run"
            )
    tally = _Tally(net=net, placement=placement, steps=len(events), batch=events.shape[1])
    for p in net.populations:
        tally.add_neurons(p, trace[p.name])
    sent = {"input": events, **{p.name: trace[p.name].spikes != 0 for p in net.populations}}
    for wire, core, each in _fanouts(net, placement):
        tally.add_arrivals(sent[wire.source], wire, each, core)
    return Activity(placement=placement, neurons=tally.neurons, links=tally.links, **tally.counts)


def work(net: FixedNet, placement: Placement) -> dict[str, Each]:
    """int64, by "input" and population, in the shape of each: the synaptic operations that one
    event of every neuron sets in motion on all cores, zeros included as they are stored."""
    found = {name: np.zeros(net.shape_of(name), np.int64) for name in net.depths}
    for wire, _, each in _fanouts(net, placement):
        found[wire.source] += each[1]
    return found


def _fanouts(net: FixedNet, placement: Placement) -> Iterator[tuple[Wire, int, Each]]:
    """Every projection with each core that holds some of its target, and what a spike of each
    source neuron does there, int64 [4, *source shape] as `spikeport.hw.fanout` says."""
    core = placement.target.core
    for projection, wire in zip(net.projections, wires(net, core), strict=True):
        held = placement.slices(wire.target)
        part = lowered(projection.synapse, wire.source_shape)
        each = fanouts(part, wire, (one for _, one in held), core)
        yield from ((wire, number, counts) for (number, _), counts in zip(held, each, strict=True))


class _Tally:
    """Counts of an Activity while they grow."""

    def __init__(self, *, net: FixedNet, placement: Placement, steps: int, batch: int) -> None:
        self.net, self.placement, self.window = net, placement, steps
        size = (steps + max(net.depths.values()), batch, len(placement.cores))
        self.counts: dict[str, Each] = {name: np.zeros(size, np.int64) for name in NAMES}
        self.neurons: Each = np.zeros(size[2], np.int64)
        self.links: dict[Link, Each] = {}
        self.held = {p.name: placement.slices(p.name) for p in net.populations}

    def lives(self, name: str) -> slice:
        """The chip steps of the window of "input" or a population."""
        first = self.net.depths[name]
        return slice(first, first + self.window)

    def add_neurons(self, population: Population, part: PopulationTrace) -> None:
        """Updates and spikes of a population."""
        busy, window = _active(population, part), self.lives(population.name)
        biased = np.broadcast_to(population.bias_shifted != 0, (population.size,))
        for core, held in self.held[population.name]:
            at = held.indices()
            self.neurons[core] += held.size
            active = np.full(self.counts["active"].shape[:2], np.count_nonzero(biased[at]))
            active[window] = np.count_nonzero(busy[..., at], axis=-1)
            self.counts["active"][..., core] += active
            self.counts["spikes"][window, :, core] += part.spikes[..., at].sum(-1, dtype=np.int64)

    def add_arrivals(self, sent: NDArray[np.bool_], wire: Wire, each: Each, core: int) -> None:
        """What events `sent` [T, B, ...] of the source of `wire` do on `core`, where one of each
        neuron does `each` [4, *source shape]."""
        source, kind = wire.source, "conv" if wire.conv else "dense"
        window, shape = self.lives(source), each.shape[1:]
        sent = sent.reshape(*sent.shape[:2], *shape)
        outside = [(-1, tuple((0, n) for n in shape))]
        boxes = [(c, part.box) for c, part in self.held[source]] if source != "input" else outside
        for start, box in boxes:
            found = _summed(sent, each, box)
            if found is None:
                continue
            messages, synapses, effective, words = np.moveaxis(found, -1, 0)
            self.counts[kind][window, :, core] += synapses
            self.counts["effective"][window, :, core] += effective
            self.counts["words"][window, :, core] += words
            if start < 0:
                self.counts["outside"][window, :, core] += messages
                if self.net.input.kind == "graded":
                    self.counts["macs"][window, :, core] += effective
            else:
                self.counts["received"][window, :, core] += messages
                self._send(messages, start, core, window)

    def _send(self, messages: Each, start: int, end: int, window: slice) -> None:
        """`messages` [T, B] from core to core."""
        found = way(start, end, self.placement.target.chip.cores)
        self.counts["sent"][window, :, start] += messages
        self.counts["hops_x"][window, :, start] += found.hops_x * messages
        self.counts["hops_y"][window, :, start] += found.hops_y * messages
        self.counts["left"][window, :, start] += found.leaves_chip * messages
        for link in found.links:
            if link not in self.links:
                self.links[link] = np.zeros(self.counts["sent"].shape[:2], np.int64)
            self.links[link][window] += messages


def _summed(sent: NDArray[np.bool_], each: Each, box: Box) -> Each | None:
    """int64 [T, B, 4]: `each` of the events of a box, summed; None if they reach nothing."""
    every = slice(None)
    at: Any = (every, *(slice(first, end) for first, end in box))
    part = each[at]
    reached = np.nonzero(part[0])
    if not reached[0].size:
        return None
    # Only the part of the map that is seen takes part in the product.
    seen = [slice(int(axis.min()), int(axis.max()) + 1) for axis in reached]
    at = (every, *seen)
    part = part[at]
    inside = (slice(f + s.start, f + s.stop) for (f, _), s in zip(box, seen, strict=True))
    at = (every, every, *inside)
    events = sent[at]
    # float64 adds whole numbers exactly up to 2**53.
    product = events.reshape(*events.shape[:2], -1).astype(np.float64) @ part.reshape(4, -1).T
    return np.asarray(product, np.int64)


def _active(population: Population, part: PopulationTrace) -> NDArray[np.bool_]:
    """bool [T, B, n]: which neurons are not at rest in each step."""
    if part.u is None or part.v is None:
        raise ValueError(
            f"the trace holds no u and v of population {population.name!r}; run it again with"
            " record=True"
        )
    after = part.v != 0
    first = np.broadcast_to(population.v_init != 0, after[:1].shape)
    before = np.concatenate([first, after[:-1]])
    busy = before | after | (part.u != 0) | (population.bias_shifted != 0)
    return np.asarray(busy, np.bool_)
