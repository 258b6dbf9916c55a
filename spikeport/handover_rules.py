"""What the rules of all NIR readers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport.export.nir_file import NEURONS, Graph, Node
from spikeport.hw.rule import Issue

WEIGHTS = ("Linear", "Affine", "Conv1d", "Conv2d")
POOLS = ("SumPool2d", "AvgPool2d")
KINDS = {
    **dict.fromkeys(WEIGHTS, "weights"),
    **dict.fromkeys(POOLS, "pool"),
    **dict.fromkeys(NEURONS, "neurons"),
}
"""What a type of node is to a chip; types without a kind are called by their own name."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A program that loads NIR for a chip.

    types: of nodes that it reads; refused: others, with what it does instead and what to do.
    resets: those it can do, resets_by: in words, one_reset: whether all neurons share one. rules:
    functions of the graph and this. sources: rule to the place where it was read. load: Python
    that loads "net.nir" as `net` in the way that the graph means.
    """

    name: str
    chip: str
    types: tuple[str, ...]
    refused: Mapping[str, tuple[str, str]]
    resets: tuple[str, ...]
    resets_by: str
    one_reset: bool
    rules: tuple[Callable[[Graph, Reader], Iterator[Issue]], ...]
    sources: Mapping[str, str]
    load: Callable[[Graph], str]


def issue(
    rule: str, node: Node | None, got: str, limit: str, advice: str, *, severity: str = "error"
) -> Issue:
    """A broken rule at `node`, or of the whole network."""
    where = "network" if node is None else f"node {node.name!r}"
    return Issue(rule=rule, where=where, got=got, limit=limit, advice=advice, severity=severity)


def kind(node: Node) -> str:
    """What `node` is to a chip."""
    return KINDS.get(node.type, node.type)


def nodes_of(graph: Graph, *kinds: str) -> list[Node]:
    """The nodes that are one of `kinds`, in the file's order."""
    return [node for node in graph.nodes.values() if kind(node) in kinds]


def behind(graph: Graph, name: str) -> list[Node]:
    """Where the values of node `name` lead, through Flatten."""
    found: list[Node] = []
    todo, seen = [name], {name}
    while todo:
        before = todo.pop()
        for node in (graph.nodes[b] for a, b in graph.edges if a == before):
            if node.type != "Flatten":
                found.append(node)
            elif node.name not in seen:
                seen.add(node.name)
                todo.append(node.name)
    return found


def spread(values: NDArray[np.float64]) -> str:
    """The values in words: one, or from where to where they go."""
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def size(node: Node) -> int:
    """How many neurons, or values of an Input or Output, `node` has."""
    if "shape" in node.values:
        return int(np.prod(node.array("shape")))
    return max(int(np.size(value)) for value in node.values.values())


def looped(graph: Graph) -> list[Node]:
    """The nodes that lie on a loop."""

    def reaches(name: str) -> set[str]:
        seen: set[str] = set()
        todo = [b for a, b in graph.edges if a == name]
        while todo:
            here = todo.pop()
            if here not in seen:
                seen.add(here)
                todo += [b for a, b in graph.edges if a == here]
        return seen

    return [node for name, node in graph.nodes.items() if name in reaches(name)]
