"""From what arrives at neuron nodes to populations and projections.

A bias that a population cannot take up, because it enters a current with memory or begins later,
comes from a source neuron of its own, "<node>.bias", which spikes in every step and whose synapses
hold the values.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from spikeport.export.nir_file import SILENT, Graph, Node
from spikeport.export.nir_graph import starts, walk
from spikeport.export.nir_neurons import Neurons
from spikeport.export.nir_paths import Arrival, Route
from spikeport.export.nir_shapes import attempt
from spikeport.export.passes import Stage, added, as_dense, collapse, composed, scaled
from spikeport.sim.net import FloatPopulation, FloatProjection
from spikeport.sim.synapse import FloatDense

Floats = NDArray[np.float64]
Parts = tuple[tuple[FloatPopulation, ...], tuple[FloatProjection, ...]]


def wired(graph: Graph, arriving: Mapping[str, Arrival], neurons: Mapping[str, Neurons]) -> Parts:
    """Populations, sources without delay first, and their projections.

    Raises ValueError with one sentence that names file and node.
    """
    populations: dict[str, tuple[FloatPopulation, ...]] = {}
    projections: dict[str, tuple[FloatProjection, ...]] = {}
    for name, found in neurons.items():
        populations[name], projections[name] = attempt(
            graph, graph.nodes[name], _population, found, arriving[name], graph
        )
    order = _order(graph, projections)
    return (
        tuple(p for name in order for p in populations[name]),
        tuple(p for name in order for p in projections[name]),
    )


def _population(node: Node, neurons: Neurons, arrival: Arrival, graph: Graph) -> Parts:
    """The population of `node`, a source of its biases where it needs one, what leads to them."""
    projections: dict[tuple[str, int], list[Stage]] = {}
    for route in arrival.routes:
        stage = _stage(route, neurons, arrival, graph=graph)
        _add(projections.setdefault((route.source, route.delay), []), stage)
    now, later = _biases(neurons, arrival)
    population = FloatPopulation(
        name=node.name, shape=arrival.shapes.ours, v_th=neurons.v_th, keep_u=neurons.keep_u,
        keep_v=neurons.keep_v, bias=collapse(neurons.bias + now), v_init=neurons.v_init,
        reset=neurons.reset, scale=neurons.scale,
    )  # fmt: skip
    name = f"{node.name}.bias"
    source = FloatPopulation(name=name, shape=(1,), v_th=1.0, bias=2.0)
    from_nodes = [
        FloatProjection(
            source="input" if graph.nodes[before].type == "Input" else before,
            target=node.name,
            synapse=stage.synapse,
            delay=delay,
        )
        for (before, delay), stages in sorted(projections.items(), key=lambda item: item[0][1])
        for stage in stages
    ]
    from_source = [
        FloatProjection(
            source=name, target=node.name, synapse=FloatDense(w=value[:, None]), delay=delay
        )
        for delay, value in sorted(later.items())
    ]
    return ((source, population) if later else (population,)), (*from_nodes, *from_source)


def _stage(
    route: Route,
    neurons: Neurons,
    arrival: Arrival,
    *,
    graph: Graph,
) -> Stage:
    """The links of `route` as one stage that ends in the target's shape."""
    source = graph.nodes[route.source]
    if source.type in SILENT:
        raise ValueError(
            f"its input from {source.name!r} ({source.type}) is a potential, and chips send spikes;"
            f" give {source.name!r} a threshold, or end the network with it"
        )
    stage = scaled(composed(route.shape, route.chain), neurons.gain)
    shape = arrival.shapes.ours
    return stage if stage.target in (shape, (arrival.shapes.size,)) else as_dense(stage)


def _add(stages: list[Stage], stage: Stage) -> None:
    """Put `stage` beside others of the same ends and delay, or add it to one of them."""
    for i, other in enumerate(stages):
        both = added(other, stage)
        if both is not None:
            stages[i] = both
            return
    stages.append(stage)


def _biases(neurons: Neurons, arrival: Arrival) -> tuple[Floats, dict[int, Floats]]:
    """The constant that the potential takes up, () or [n], and those that need a source: by the
    step that they begin with, [n]."""
    gained = {
        delay: np.broadcast_to(value * neurons.gain, arrival.shapes.size)
        for delay, value in arrival.constants.items()
        if np.any(value * neurons.gain)
    }
    now = np.array(0.0) if neurons.keep_u.any() else gained.pop(0, np.array(0.0))
    return now, gained


def _order(graph: Graph, projections: Mapping[str, tuple[FloatProjection, ...]]) -> list[str]:
    """Names of neuron nodes, sources of projections without delay before their targets, and
    otherwise as one meets them on the way from the input."""
    waiting = [
        name
        for name in walk(graph.nodes, graph.edges, starts=starts(graph)).order
        if name in projections
    ]
    order: list[str] = []
    while waiting:
        for name in waiting:
            needed = {p.source for p in projections[name] if not p.delay}
            if not needed & set(waiting) - {name}:
                break
        waiting.remove(name)
        order.append(name)
    return order
