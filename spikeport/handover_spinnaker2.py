"""SpiNNaker2, through py-spinnaker2's `s2_nir.py`, which is read here and nowhere run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spikeport.export.nir_file import Graph, Node
from spikeport.handover_rules import OPENED_SOURCE, Reader, behind, issue, kind, nodes_of, resets
from spikeport.hw.rule import Issue

LARGEST = 127  # size of a weight on SpiNNaker2

DIRECT = "py-spinnaker2 needs weights between"
BARRED = {
    ("weights", "weights"): "py-spinnaker2 refuses weights behind weights",
    ("neurons", "neurons"): DIRECT,
    ("Input", "neurons"): DIRECT,
    ("weights", "pool"): "py-spinnaker2 needs neurons behind weights",
    ("pool", "pool"): "py-spinnaker2 has one pool at a time",
}
"""What may not stand behind what, Flatten left out."""

LOAD = """\
import nir
from spinnaker2.s2_nir import ConversionConfig, IntegratorMethod, ResetMethod, from_nir

config = ConversionConfig(
    dt={dt_s!r},
    integrator=IntegratorMethod.{rule},
    reset=ResetMethod.{reset},
    conn_delay={delay},
    scale_weights={scaled},
)
net, inputs, outputs = from_nir(nir.read("net.nir"), config)
"""


def _order(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Weights or a pool before all neurons, never weights before weights."""
    for node in graph.nodes.values():
        for after in behind(graph, node.name):
            pair = (kind(node), kind(after))
            if pair in BARRED:
                yield _misplaced(after, node, BARRED[pair])
            elif pair[0] == "pool" and after.type == "Linear":
                yield _misplaced(after, node, "py-spinnaker2 knows Affine alone behind a pool")
        for source in (graph.nodes[name] for name in graph.sources(node.name)):
            if node.type == "Flatten" and kind(source) != "pool":
                yield _misplaced(node, source, "py-spinnaker2 drops a Flatten without a pool")


def _misplaced(node: Node, before: Node, limit: str) -> Issue:
    got = f"it stands behind {before.name!r} ({before.type})"
    return issue("order", node, got, limit, "put what is missing between, or leave it out")


def _convolutions(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Convolutions lead to neurons without currents, undilated, in one piece."""
    for node in graph.nodes.values():
        if node.type == "Conv2d":
            for key in ("dilation", "groups"):
                if (node.array(key) != 1).any():
                    got, limit = f"its {key} is not 1", f"py-spinnaker2 leaves {key} out"
                    yield issue("convolutions", node, got, limit, "retrain without")
            if any(after.type == "CubaLIF" for after in behind(graph, node.name)):
                yield issue(
                    "convolutions", node, "it leads to CubaLIF",
                    "py-spinnaker2 has convolutions before LIF and IF only", "train Leaky neurons",
                )  # fmt: skip
        elif node.type == "SumPool2d":
            same = (node.array("kernel_size") == node.array("stride")).all()
            convolved = any(after.type == "Conv2d" for after in behind(graph, node.name))
            if convolved and (node.array("padding").any() or not same):
                yield issue(
                    "convolutions", node, "it overlaps or has padding",
                    "py-spinnaker2 has neither before a convolution", "retrain without",
                )  # fmt: skip


def _weights(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """What rounding makes of the weights."""
    rounded = [n.name for n in nodes_of(graph, "weights") if not _whole(n.array("weight"))]
    if rounded:
        yield issue(
            "weights", None,
            f"weights of {', '.join(map(repr, rounded))} are not whole numbers up to {LARGEST}",
            "SpiNNaker2's are, and py-spinnaker2 cuts off the fractions of a convolution's",
            "expect other spikes than the float network's", severity="advice",
        )  # fmt: skip


def _offsets(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """What becomes of a bias before neurons with a current."""
    for node in nodes_of(graph, "weights"):
        late = any(after.type == "CubaLIF" for after in behind(graph, node.name))
        if late and node.array("bias", default=0.0).any():
            yield issue(
                "offsets", node, "its bias goes into a current that builds up",
                "py-spinnaker2 adds it to the potential, at once as large as it would become",
                "train with bias=False", severity="advice",
            )  # fmt: skip


def _time(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """How long a step is must be known where neurons have time constants."""
    timed = any(node.type in ("LIF", "CubaLIF") for node in graph.nodes.values())
    if timed and graph.about.get("dt_s") is None:
        yield issue(
            "time", None, "it does not say how long a step is", "the code below takes 1 s",
            "give dt the seconds that are meant", severity="advice",
        )  # fmt: skip


def _steps(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Each projection takes its time."""
    yield issue(
        "steps", None, "its layers act within one step",
        "py-spinnaker2 delays every projection by conn_delay steps",
        "compare each layer from its own first step on", severity="advice",
    )  # fmt: skip


def _whole(w: NDArray[np.float64]) -> bool:
    """Whether SpiNNaker2 holds these weights as they are."""
    return bool((w == np.rint(w)).all() and np.abs(w).max() <= LARGEST)


def _load(graph: Graph) -> str:
    dt_s = graph.about.get("dt_s")
    convolved = any(node.type == "Conv2d" for node in graph.nodes.values())
    whole = all(_whole(node.array("weight")) for node in nodes_of(graph, "weights"))
    return LOAD.format(
        dt_s=1.0 if dt_s is None else dt_s,
        rule="EXPONENTIAL" if graph.about.get("rule") == "exact" else "FORWARD",
        reset="ZERO" if resets(graph) == {"zero"} else "SUBTRACT",
        delay=0 if convolved else 1, scaled=not whole,
    )  # fmt: skip


PLACE = "py-spinnaker2, s2_nir.py"
READER = Reader(
    name="py-spinnaker2",
    chip="SpiNNaker2",
    types=(
        "Input", "Output", "Affine", "Linear", "Conv2d", "SumPool2d", "Flatten", "LIF", "IF",
        "CubaLIF",
    ),
    refused={
        "AvgPool2d": (
            "py-spinnaker2 knows sums, and averages in some versions that divide whole weights",
            "write a SumPool2d, as spikeport export --target spinnaker2 does",
        ),
    },
    resets=("zero", "subtract"),
    resets_by="has one rule for the whole network",
    one_reset=True,
    rules=(_order, _convolutions, _weights, _offsets, _time, _steps),
    sources={
        "opened": OPENED_SOURCE,
        "types": f"{PLACE}, create_populations, create_projections",
        "input": f"{PLACE}, create_populations: spike_list",
        "starts": f"{PLACE}, convert_LIF: no initial potential",
        "resets": f"{PLACE}, ConversionConfig.reset",
        "order": f"{PLACE}, create_populations and create_projections",
        "convolutions": f"{PLACE}, get_conv2d_params, create_populations,"
                        " create_sumpool2d_conv2d_projection",
        "weights": f"{PLACE}, get_conv2d_params and ConversionConfig.scale_weights",
        "offsets": f"{PLACE}, convert_CubaLIF, i_offset",
        "time": f"{PLACE}, ConversionConfig.dt",
        "steps": f"{PLACE}, ConversionConfig.conn_delay",
    },
    load=_load,
)  # fmt: skip
