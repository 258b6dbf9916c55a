"""What arrives at each neuron node of a NIR graph: chains of linear nodes, delays, constants.

Every node but a neuron is affine in what it receives, so all that arrives at neurons is a sum over
paths (a source, the links on the way, a delay) and constants, the biases on the way. A bias acts in
every step; behind an explicit Delay it acts from the step on that the Delay lets through first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from spikeport.export.nir_conventions import Conventions
from spikeport.export.nir_file import NEURONS, Edge, Graph, Node
from spikeport.export.nir_graph import closing_edges, walk
from spikeport.export.nir_nodes import Shapes, each
from spikeport.export.nir_shapes import attempt, shaped
from spikeport.export.passes import Chain, Gain, Link, Stage, linear_part
from spikeport.sim.synapse import Shape

Floats = NDArray[np.float64]

MOST_PATHS = 1000  # into one node


@dataclass(frozen=True, kw_only=True)
class Route:
    """A way for values to arrive: from `source` (a neuron node, or an Input) of `shape`, (n,) or
    (C, H, W), through `chain`, `delay` steps later."""

    source: str
    shape: Shape
    chain: Chain = ()
    delay: int = 0


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """All that a node receives, or gives. constants: float64 [n] that act from a step on."""

    shapes: Shapes
    routes: tuple[Route, ...] = ()
    constants: Mapping[int, Floats] = field(default_factory=dict)


def arrivals(graph: Graph, *, said: Conventions) -> dict[str, Arrival]:
    """What every neuron node and every Output receives.

    Raises ValueError with one sentence that names file and node.
    """
    late = {
        name: _late(graph, node, said) for name, node in graph.nodes.items() if node.type == "Delay"
    }
    closing = closing_edges(graph, late=late)
    shapes, links = shaped(graph)
    given: dict[str, Arrival] = {}
    received: dict[str, Arrival] = {}
    linear = [name for name in graph.nodes if graph.nodes[name].type not in NEURONS]
    for name, node in graph.nodes.items():
        if node.type in NEURONS or node.type == "Input":
            given[name] = Arrival(
                shapes=shapes[name], routes=(Route(source=name, shape=shapes[name].ours),)
            )
    for name in walk(linear, graph.edges, starts=()).order:
        node = graph.nodes[name]
        if node.type != "Input":
            received[name] = _received(graph, name, given=given, closing=closing)
            steps = attempt(graph, node, _steps, received[name].shapes, said)
            given[name] = _passed(received[name], links[name], shapes[name], steps=steps)
    for name, node in graph.nodes.items():
        if node.type in NEURONS:
            received[name] = _received(graph, name, given=given, closing=closing)
    wanted = (*NEURONS, "Output")
    return {name: a for name, a in received.items() if graph.nodes[name].type in wanted}


def _late(graph: Graph, node: Node, said: Conventions) -> bool | None:
    steps = attempt(graph, node, lambda n: said.steps(n.array("delay")))
    return True if steps.all() else None if steps.any() else False


def _steps(node: Node, shapes: Shapes, said: Conventions) -> NDArray[np.int64]:
    if node.type != "Delay":
        return np.array(0, np.int64)
    return said.steps(each(node, "delay", shapes.file))


def _received(
    graph: Graph, name: str, *, given: Mapping[str, Arrival], closing: Iterable[Edge]
) -> Arrival:
    """The sum of what all sources of node `name` give."""
    node = graph.nodes[name]
    where = f"{graph.path}: node {name!r} ({node.type})"
    sources = graph.sources(name)
    if not sources:
        raise ValueError(f"{where}: has no source; connect or remove it")
    routes: list[Route] = []
    constants: dict[int, Floats] = {}
    for source in sources:
        extra = int((source, name) in closing)
        routes += [replace(r, delay=r.delay + extra) for r in given[source].routes]
        for delay, constant in given[source].constants.items():
            constants[delay] = constants.get(delay, np.array(0.0)) + constant
    if len(routes) > MOST_PATHS:
        raise ValueError(
            f"{where}: {len(routes)} ways of linear nodes lead there, {MOST_PATHS} are the most;"
            " put neurons between the branches, or add their weights up"
        )
    forward = [s for s in sources if (s, name) not in closing] or sources
    return Arrival(shapes=given[forward[0]].shapes, routes=tuple(routes), constants=constants)


def _passed(
    arrival: Arrival, link: Link | None, shapes: Shapes, *, steps: NDArray[np.int64]
) -> Arrival:
    """What a linear node makes of `arrival`; steps: its delay, () or [n]."""
    routes, constants = list(arrival.routes), dict(arrival.constants)
    if isinstance(link, Stage):
        constants = {
            delay: linear_part(link.synapse, value.reshape(1, *link.source)).reshape(-1)
            for delay, value in constants.items()
        }
        if link.bias.any():
            bias = np.broadcast_to(link.bias, shapes.size)
            constants[0] = constants.get(0, np.array(0.0)) + bias
        link = replace(link, bias=np.array(0.0))
    elif isinstance(link, Gain):
        constants = {delay: value * link.factor for delay, value in constants.items()}
    if link is not None:
        routes = [replace(route, chain=(*route.chain, link)) for route in routes]
    if steps.any():
        routes, constants = _delayed(routes, constants, shapes, steps=steps)
    return Arrival(shapes=shapes, routes=tuple(routes), constants=constants)


def _delayed(
    routes: list[Route], constants: dict[int, Floats], shapes: Shapes, *, steps: NDArray[np.int64]
) -> tuple[list[Route], dict[int, Floats]]:
    """Every route once for each distinct delay, the values that have another one masked out."""
    later: list[Route] = []
    held: dict[int, Floats] = {}
    distinct = np.unique(steps).tolist()
    for delay in distinct:
        mask = (steps == delay).astype(np.float64)
        gain: Chain = ()
        if len(distinct) > 1:
            gain = (Gain(source=shapes.ours, factor=mask, name=f"delay {delay}"),)
        for r in routes:
            later.append(replace(r, chain=(*r.chain, *gain), delay=r.delay + delay))
        for before, value in constants.items():
            at = before + delay
            held[at] = held.get(at, np.array(0.0)) + value * mask
    return later, held
