"""The shapes of all values in a NIR graph, from those of its inputs on."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TypeVar

import numpy as np

from spikeport.export.nir_file import NEURONS, Graph, Node
from spikeport.export.nir_graph import starts, walk
from spikeport.export.nir_nodes import LARGEST_MAP, Shapes, link_of
from spikeport.export.passes import Link
from spikeport.sim import checks
from spikeport.sim.synapse import Shape

Result = TypeVar("Result")


def shaped(graph: Graph) -> tuple[dict[str, Shapes], dict[str, Link | None]]:
    """The shapes behind every node, and the links that linear nodes are.

    Raises ValueError with one sentence that names file and node where they do not fit together.
    """
    shapes: dict[str, Shapes] = {}
    links: dict[str, Link | None] = {}
    for name in walk(graph.nodes, graph.edges, starts=starts(graph)).order:
        node = graph.nodes[name]
        before = [shapes[a] for a in graph.sources(name) if a in shapes]
        if node.type == "Input":
            shapes[name] = input_shapes(graph, node)
        elif node.type in NEURONS:
            shapes[name] = before[0] if before else _own(node)
        elif not before:
            raise ValueError(
                f"{graph.path}: node {name!r} ({node.type}): has no source; connect or remove it"
            )
        else:
            links[name], shapes[name] = attempt(graph, node, link_of, before[0])
    for node in graph.nodes.values():
        attempt(graph, node, _one_size, {a: shapes[a].size for a in graph.sources(node.name)})
    return shapes, links


def input_shapes(graph: Graph, node: Node) -> Shapes:
    """The shapes of what the Input `node` gives; ValueError as of `shaped`."""
    return attempt(graph, node, _given, bool(graph.sources(node.name)))


def attempt(graph: Graph, node: Node, work: Callable[..., Result], *rest: object) -> Result:
    """`work(node, *rest)`, its refusal completed with file and node."""
    try:
        return work(node, *rest)
    except ValueError as error:
        raise ValueError(f"{graph.path}: node {node.name!r} ({node.type}): {error}") from None


def _given(node: Node, entered: bool) -> Shapes:
    """Shapes of an Input; entered: whether an edge leads into it."""
    if entered:
        raise ValueError("an edge leads into it; remove that edge")
    found = np.atleast_1d(node.values["shape"])
    if found.ndim > 1:
        raise ValueError(f"shape is {found.tolist()}; needed are whole numbers, one an axis")
    file: Shape = tuple(checks.frozen_ints(found, where="shape", low=1, high=LARGEST_MAP).tolist())
    file = file[1:] if len(file) == 4 and file[0] == 1 else file  # a batch of one
    if len(file) > 3:
        raise ValueError(
            f"has shape {file}; allowed are (n,), (C, L) and (C, H, W) without batch and time"
        )
    if prod(file) > LARGEST_MAP:
        raise ValueError(f"has shape {file}, more values than chips hold; correct it")
    return Shapes(file=file, ours=_ours(file))


def _own(node: Node) -> Shapes:
    """Shapes of neurons that nothing feeds forward: those of their parameters."""
    shape = max((np.shape(value) for value in node.values.values()), key=np.prod)
    return Shapes(file=shape or (1,), ours=_ours(shape or (1,)))


def _ours(shape: Shape) -> Shape:
    """(n,) or (C, H, W) for a shape in a file: (C, L) is (C, 1, L), more are flattened."""
    if len(shape) == 2:
        return (shape[0], 1, shape[1])
    return shape if len(shape) in (1, 3) else (int(np.prod(shape)),)


def _one_size(node: Node, sizes: dict[str, int]) -> None:
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{size} from {source!r}" for source, size in sizes.items())
        raise ValueError(f"different numbers of values arrive ({told}) and cannot add up")
