"""Speck, through sinabs 3.1.3: convolutions, integrate-and-fire neurons, no steps of time."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log2, prod

import numpy as np

from spikeport.export.nir_file import Graph, Node
from spikeport.handover_rules import (
    CHAIN_SOURCE,
    OPENED_SOURCE,
    Reader,
    behind,
    chained,
    in_float32,
    issue,
    kind,
    nodes_of,
    resets,
    spread,
)  # fmt: skip
from spikeport.hw.rule import Issue

CORES = 9
KERNEL, FEATURES, STRIDES, POOL_SIDES = 16, 1024, (1, 2, 4, 8), (1, 2, 4)
MEMORIES = ((16, 64), (32, 32), (64, 16))
"""Ki words of weights and of neurons that a core holds."""

LEADS_TO = {
    "Input": ("weights", "pool"),
    "weights": ("neurons",),
    "neurons": ("weights", "pool", "Output"),
    "pool": ("weights", "pool"),
}
"""What may stand behind what, Flatten left out."""

LOAD = """\
import nir
import sinabs.activation
import sinabs.layers
import sinabs.nir
import torch

net = sinabs.nir.from_nir(nir.read("net.nir"), batch_size=1)  # samples that run at a time
for layer in net.modules():
    if isinstance(layer, sinabs.layers.LIF):  # integrate-and-fire layers are such
        v_th = layer.spike_threshold.max().float()
        above = torch.nextafter(v_th, torch.tensor(torch.inf))  # NIR fires above it, sinabs at it
        layer.spike_threshold = torch.nn.Parameter(above, False)
        layer.spike_fn = sinabs.activation.SingleSpike  # at most one spike a step
        layer.reset_fn = sinabs.activation.{reset}
        layer.min_v_mem = None  # potentials without a floor
# sinabs.reset_states(net) before each further sample: potentials stay as they are
"""


def _order(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Weights, neurons, pools, weights again."""
    for node in nodes_of(graph, *LEADS_TO):
        for after in behind(graph, node.name):
            if kind(after) not in LEADS_TO[kind(node)]:
                yield issue(
                    "order", after, f"it stands behind {node.name!r} ({node.type})",
                    "a core of Speck has weights, then neurons, then perhaps a pool",
                    "put what is missing between",
                )  # fmt: skip


def _kernels(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Kernels are square and small, strides powers of two, nothing dilated or grouped."""
    for node in nodes_of(graph, "weights"):
        features, height, width = _kernel(graph, node)[1:]
        if node.type == "Conv2d" and height != width:
            yield _broken(node, f"its kernel is {height}x{width}", "kernels are square")
        if max(height, width) > KERNEL:
            yield _broken(node, f"its kernel is {height}x{width}", f"{KERNEL}x{KERNEL} is the most")
        if features > FEATURES:
            yield _broken(node, f"it has {features} features", f"{FEATURES} are the most")
        if node.type != "Conv2d":
            continue
        if node.array("bias").size != features:
            yield _broken(node, "it has one bias", "sinabs needs one for each feature")
        if not np.isin(node.array("stride"), STRIDES).all():
            yield _broken(node, "its stride is " + _text(node, "stride"), f"allowed are {STRIDES}")
        for key in ("dilation", "groups"):
            if (node.array(key) != 1).any():
                yield _broken(node, f"its {key} is {_text(node, key)}", "only 1 is possible")


def _pools(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Pools are square, without overlap and padding."""
    for node in nodes_of(graph, "pool"):
        for key in ("kernel_size", "stride"):
            if node.array(key).size == 1:
                got = f"its {key} is one number"
                yield _broken(node, got, "sinabs needs rows and columns", rule="pools")
        sides = np.unique(node.array("kernel_size"))
        if len(sides) > 1 or sides[0] not in POOL_SIDES:
            got = "its kernel is " + _text(node, "kernel_size")
            yield _broken(node, got, f"pools are square, of side {POOL_SIDES}", rule="pools")
        if (node.array("stride") != node.array("kernel_size")).any():
            got = "its stride is " + _text(node, "stride")
            yield _broken(node, got, "a pool's stride is its kernel", rule="pools")
        if node.array("padding").any():
            got = "its padding is " + _text(node, "padding")
            yield _broken(node, got, "sinabs ignores a pool's padding", rule="pools")


def _thresholds(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """One threshold a layer, and r = 1, which is not read."""
    for node in (n for n in graph.nodes.values() if n.type == "IF"):
        v_th, r = node.array("v_threshold"), node.array("r")
        if np.ptp(v_th):
            got, limit = f"its v_threshold is {spread(v_th)}", "a core of Speck has one threshold"
            yield _broken(node, got, limit, rule="thresholds")
        if (r != 1).any():
            got, limit = f"its r is {spread(r)}", "sinabs takes r as 1"
            yield _broken(node, got, limit, rule="thresholds")


def _memory(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Every layer fits one of the cores, and there are cores enough."""
    layers = nodes_of(graph, "weights")
    if len(layers) > CORES:
        got, limit = f"it has {len(layers)} layers of weights", f"Speck has {CORES} cores"
        yield issue("memory", None, got, limit, "leave layers out")
    for node in layers:
        channels, features, height, width = _kernel(graph, node)
        words = channels * 2 ** (ceil(log2(height * width)) + ceil(log2(features)))
        for after in behind(graph, node.name):
            shape = (*np.shape(after.values.get("v_threshold", 0)), 1, 1, 1)[:3]
            states = features * 2 ** (ceil(log2(shape[1])) + ceil(log2(shape[2])))
            if not any(words <= w * 1024 and states <= s * 1024 for w, s in MEMORIES):
                got = f"it takes {words / 1024:g} Ki words of weights, {states / 1024:g} of neurons"
                limit = f"cores hold {', '.join(f'{w} and {s}' for w, s in MEMORIES)}"
                yield _broken(node, got, limit, rule="memory")


def _rounded(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """What comes behind the file."""
    yield issue(
        "rounded", None, "its weights are floats and its time goes in steps",
        "DynapcnnNetwork rounds weights to 8 bits, and Speck works event by event", "compare"
        " what it predicts, not its spikes step by step", severity="advice",
    )  # fmt: skip


def _kernel(graph: Graph, node: Node) -> tuple[int, int, int, int]:
    """Channels, features, height and width of weights; a Linear is a convolution of one window."""
    shape = np.shape(node.values["weight"])
    if len(shape) == 4:
        return shape[1], shape[0], shape[2], shape[3]
    for source in graph.sources(node.name):
        before = graph.nodes[source]
        flattened = np.ravel(before.values.get("input_type", ()))
        if before.type == "Flatten" and len(flattened) == 3 and prod(flattened) == shape[1]:
            return int(flattened[0]), shape[0], int(flattened[1]), int(flattened[2])
    return prod(shape[1:]), shape[0], 1, 1


def _broken(node: Node, got: str, limit: str, *, rule: str = "kernels") -> Issue:
    return issue(rule, node, got, limit, "change the layer and retrain")


def _text(node: Node, key: str) -> str:
    return "x".join(str(int(value)) for value in np.ravel(node.array(key)))


def _load(graph: Graph) -> str:
    zero = resets(graph) == {"zero"}
    return LOAD.format(reset="MembraneReset()" if zero else "MembraneSubtract(float(v_th))")


READER = Reader(
    name="sinabs",
    chip="Speck",
    types=("Input", "Output", "Affine", "Conv2d", "IF", "SumPool2d", "Flatten"),
    refused={
        "Linear": ("sinabs reads it as nothing and says so nowhere", "write an Affine of bias 0,"
                   " as spikeport export --target speck does"),
        "AvgPool2d": ("sinabs reads it as nothing and says so nowhere", "write a SumPool2d, as"
                      " spikeport export --target speck does"),
        "LIF": ("neurons of Speck do not leak", "train neurons that keep all of their potential"
                " (beta 1)"),
    },
    resets=("zero", "subtract"),
    resets_by="subtracts until told otherwise, one rule a network",
    one_reset=True,
    rules=(chained, in_float32, _order, _kernels, _pools, _thresholds, _memory, _rounded),
    sources={
        "opened": OPENED_SOURCE,
        "types": "sinabs 3.1.3, nir.py; backend/dynapcnn/nir_graph_extractor.py (leak)",
        "input": "sinabs 3.1.3, backend/dynapcnn/io.py: its input are events",
        "starts": "sinabs 3.1.3, layers/stateful_layer.py",
        "resets": "sinabs 3.1.3, nir.py; backend/dynapcnn/chips/dynapcnn.py, return_to_zero",
        "chain": CHAIN_SOURCE,
        "numbers": "sinabs 3.1.3, nir.py, _import_sinabs_module: float()",
        "order": "sinabs 3.1.3, backend/dynapcnn/connectivity_specs.py, VALID_SINABS_EDGE_TYPES",
        "kernels": "sinabs 3.1.3, validate_memory_speck.py; chips/dynapcnn.py has no dilation",
        "pools": "sinabs 3.1.3, validate_memory_speck.py; dynapcnn_layer_utils.py; nir.py",
        "thresholds": "sinabs 3.1.3, chips/dynapcnn.py, threshold_high; nir.py",
        "memory": "sinabs 3.1.3, validate_memory_speck.py; chips/dynapcnn.py, get_constraints",
        "rounded": "sinabs 3.1.3, backend/dynapcnn/discretize.py",
    },
    load=_load,
)  # fmt: skip
