"""What readers of other chips make of a NIR file: whether they take it, and where they differ.

A reader is a public program that loads NIR for a chip: sinabs for Speck, rockpool for Xylo,
py-spinnaker2 for SpiNNaker2. Its rules were read in its source, and each names the place; the first
two readers run in `tests/conformance/test_readers.py`, which holds the rules to what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from spikeport import handover_speck, handover_spinnaker2, handover_xylo
from spikeport.export.nir_file import NEURONS, PORT, Graph, Node, load, refusal
from spikeport.export.nir_neurons import refuse_low
from spikeport.export.nir_nodes import each
from spikeport.export.nir_shapes import attempt, shaped
from spikeport.handover_rules import Reader, firing, issue, resets
from spikeport.hw.rule import Issue
from spikeport.sim.synapse import Shape

READERS: Mapping[str, Reader] = {
    "speck": handover_speck.READER,
    "xylo": handover_xylo.READER,
    "spinnaker2": handover_spinnaker2.READER,
}
"""By target."""


@np.errstate(all="ignore")  # rules judge what overflows as they do other numbers
def check(source: Path, *, target: str) -> dict[str, Any]:
    """What the reader of `target`, one of `READERS`, makes of the NIR file `source`, or of the
    net.nir in a folder; a JSON summary. "load" is Python that reads the file as it is meant.

    Raises ValueError in one sentence for what cannot be read.
    """
    path = source / "net.nir" if source.is_dir() else source
    reader, graph = READERS[target], load(path)
    shapes, _ = shaped(graph)
    for name, node in graph.nodes.items():
        if node.type in NEURONS:
            attempt(graph, node, _sound, shapes[name].file)
    rules: tuple[Callable[[Graph, Reader], Iterator[Issue]], ...] = (
        _opened, _types, _input, _starts, _resets, *reader.rules,
    )  # fmt: skip
    issues = [found for rule in rules for found in rule(graph, reader)]
    return {
        "passed": all(found.severity != "error" for found in issues),
        "target": target,
        "reader": reader.name,
        "issues": [
            {**asdict(found), "text": str(found), "source": reader.sources[found.rule]}
            for found in issues
        ],
        "load": reader.load(graph),
    }


def describe(result: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [f"{found['severity']}: {found['text']}" for found in result["issues"]]
    if result["passed"]:
        lines += [f"load it with {result['reader']} by", result["load"].rstrip()]
    verdict = "takes" if result["passed"] else "does not take"
    return "\n".join([*lines, f"{result['reader']} {verdict} the network to {result['target']}"])


def _sound(node: Node, shape: Shape) -> None:
    """Raise ValueError, without file and node, for neurons whose numbers do not belong together,
    which the rules take for granted."""
    for key in node.values:
        if key not in ("input_shape", "input_type"):
            each(node, key, shape)
    for key in ("tau", "tau_mem", "tau_syn"):
        if (least := node.array(key, default=1.0).min()) <= 0:
            raise ValueError(f"{key} is {least:g} s; time constants must be positive")
    v_th, v_reset = (each(node, key, shape, default=0.0) for key in ("v_threshold", "v_reset"))
    refuse_low(v_th - v_reset)


def _opened(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """The nir library opens the file, which is stricter than NIR and than spikeport."""
    if stopped := refusal(graph.path):
        yield issue(
            "opened", None, stopped, f"{reader.name} opens it with that",
            "give every node the shapes that it asks for, without a batch and one number a neuron",
        )  # fmt: skip


def _types(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """The reader has a counterpart for every node."""
    for node in graph.nodes.values():
        if node.type in reader.refused:
            limit, advice = reader.refused[node.type]
            yield issue("types", node, f"it is of type {node.type}", limit, advice)
        elif node.type == PORT:
            yield issue(
                "types", node, "it is an end of a graph within the graph",
                f"what {reader.name} makes of those is not known here", "write the network flat",
            )  # fmt: skip
        elif node.type not in reader.types:
            yield issue(
                "types", node, f"it is of type {node.type}",
                f"{reader.name} reads {', '.join(reader.types)}", "write the network with those",
            )  # fmt: skip


def _input(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Spikes arrive, not numbers."""
    for node in graph.nodes.values():
        if node.type == "Input" and node.about.get("kind") == "graded":
            yield issue(
                "input", node, "its input is graded", f"{reader.chip} takes spikes",
                "encode the input as spikes and train with them",
            )  # fmt: skip


def _starts(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Potentials start at zero."""
    for node in graph.nodes.values():
        if np.any(node.about.get("v_init", 0.0)):
            yield issue(
                "starts", node, "its potentials start at v_init",
                f"NIR cannot say so and {reader.name} starts at 0", "train without v_init",
            )  # fmt: skip


def _resets(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """A spike does what it did in training."""
    for node in firing(graph):
        if node.array("v_reset", default=0.0).any():
            yield issue(
                "resets", node, "its v_reset is not 0", f"{reader.name} takes it as 0",
                "shift all potentials by it",
            )  # fmt: skip
        reset = node.about.get("reset")
        if reset is None:
            yield issue(
                "resets", node, "NIR does not say what a spike does",
                f"{reader.name} {reader.resets_by}", "compare its spikes with the framework's that"
                " wrote the file", severity="advice",
            )  # fmt: skip
        elif reset not in reader.resets or (reader.one_reset and len(resets(graph)) > 1):
            yield issue(
                "resets", node, f"its reset is {reset!r}", f"{reader.name} {reader.resets_by}",
                f"train with reset {reader.resets[-1]!r} throughout",
            )  # fmt: skip
