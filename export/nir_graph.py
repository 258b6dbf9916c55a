"""Order and loops of a NIR graph: which edge carries the value of the step before.

A loop must take time. Where an explicit Delay of at least one step lies on it, that is its time;
otherwise the edge that closes it carries the value of the step before. Which edge that is follows
from a depth-first walk from the Input, along the edges in the order of the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from spikeport.export.nir_file import NEURONS, Edge, Graph


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A depth-first walk: the edges that close loops, and all nodes in an order in which every
    other edge leads forward."""

    closing: frozenset[Edge]
    order: tuple[str, ...]


def closing_edges(graph: Graph, *, late: Mapping[str, bool | None]) -> frozenset[Edge]:
    """The edges that get a delay of one step because nothing else on their loop takes time.

    late: of each Delay node whether all of its values come later than in the same step, or None
    when only some do. Raises ValueError naming the loop when it has no neurons, or when only a
    part of it takes time.
    """
    linear = [name for name, node in graph.nodes.items() if node.type not in NEURONS]
    begin = [name for name in starts(graph) if name in linear]
    for source, target in sorted(walk(linear, graph.edges, starts=begin).closing):
        raise ValueError(
            f"{graph.path}: the edge {source!r} -> {target!r} closes a loop without neurons, a"
            " filter that no synapse can be; put spiking neurons into the loop or remove it"
        )
    waits = {name for name, all_late in late.items() if all_late}
    edges = [(a, b) for a, b in graph.edges if a not in waits]
    closing = walk(graph.nodes, edges, starts=starts(graph)).closing
    for name, all_late in late.items():
        if all_late is None and any(name in _behind(edges, end) for end in _behind(edges, name)):
            raise ValueError(
                f"{graph.path}: node {name!r} (Delay): lies on a loop and delays only some of its"
                " values; give all of them at least one step"
            )
    return closing


def starts(graph: Graph) -> list[str]:
    """Where a walk begins: at inputs, and at neurons that no input reaches."""
    inputs = [name for name, node in graph.nodes.items() if node.type == "Input"]
    return inputs + [name for name, node in graph.nodes.items() if node.type in NEURONS]


def walk(nodes: Collection[str], edges: Iterable[Edge], *, starts: Iterable[str]) -> Walk:
    """Walk the part of a graph that `nodes` and the edges between them make up."""
    follow: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges:
        if source in follow and target in follow:
            follow[source].append(target)
    closing: set[Edge] = set()
    done: dict[str, bool] = {}  # False: on the way from the start to here
    order: list[str] = []
    for start in (*starts, *nodes):
        if start in done:
            continue
        done[start] = False
        path = [(start, iter(follow[start]))]
        while path:
            node, rest = path[-1]
            for after in rest:
                if after not in done:
                    done[after] = False
                    path.append((after, iter(follow[after])))
                    break
                if not done[after]:
                    closing.add((node, after))
            else:
                done[node] = True
                order.append(node)
                path.pop()
    return Walk(closing=frozenset(closing), order=tuple(reversed(order)))


def _behind(edges: Iterable[Edge], start: str) -> set[str]:
    """Nodes that `start` leads to, itself only through a loop."""
    found: set[str] = set()
    todo = [start]
    while todo:
        source = todo.pop()
        fresh = {b for a, b in edges if a == source} - found
        found |= fresh
        todo += fresh
    return found
