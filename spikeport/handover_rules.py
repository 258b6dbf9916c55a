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
FLOAT32 = (1e-30, 1e30)  # sums of so many of these as a neuron has neither vanish nor overflow
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


def firing(graph: Graph) -> list[Node]:
    """Neurons with a threshold and something to reset."""
    return [node for node in nodes_of(graph, "neurons") if "v_threshold" in node.values]


def resets(graph: Graph) -> set[str | None]:
    """What a spike does in neurons with a threshold; None where the file does not say."""
    return {node.about.get("reset") for node in firing(graph)}


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


def chained(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """One way leads from the one Input to the one Output, which is all that nirtorch runs right."""
    for kind_ in ("Input", "Output"):
        found = len(nodes_of(graph, kind_))
        if found != 1:
            got = f"it has {found} {kind_} nodes"
            yield issue("chain", None, got, "nirtorch takes one", "leave the others out")
    for node in graph.nodes.values():
        arriving = len(graph.sources(node.name))
        if arriving != 1 and node.type != "Input":
            yield issue(
                "chain", node, f"{arriving} edges lead into it",
                "nirtorch runs a node behind its first source and leaves later ones out",
                "train without recurrence (snnTorch's reset by subtraction is such where neurons"
                " leak) and skip connections",
            )  # fmt: skip
        if node.type != "Output" and node.name not in {a for a, _ in graph.edges}:
            got, limit = "nothing comes behind it", "nirtorch returns what it runs last"
            yield issue("chain", node, got, limit, "leave it out")


def in_float32(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Numbers are such that float32, in which torch runs, neither loses them nor their sums. What
    weights and biases lose at the lower end is nothing beside thresholds that stay clear of it."""
    for node in nodes_of(graph, "weights", "neurons"):
        for key in ("weight", "bias", "v_threshold", "tau_mem", "tau_syn"):
            sizes = np.abs(node.array(key, default=1.0))
            least = 0.0 if key in ("weight", "bias") else FLOAT32[0]
            lost = sizes[(sizes > FLOAT32[1]) | ((sizes < least) & (sizes > 0))]
            if lost.size:
                yield issue(
                    "numbers", node, f"its {key} goes to {lost.max():g}",
                    f"{reader.name} runs in float32, which is safe from {FLOAT32[0]:g} to"
                    f" {FLOAT32[1]:g}", "scale weights and thresholds together",
                )  # fmt: skip


OPENED_SOURCE = "nir 1.0.8, serialization.py, read; ir/graph.py and the nodes' own checks"
CHAIN_SOURCE = "nirtorch 2.6, graph_executor.py, GraphExecutor.forward; graph_utils.py"
