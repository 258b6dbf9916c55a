"""Xylo (SYNS61201), through rockpool 3.1.0: dense layers of neurons with a current of their own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spikeport.export.nir_conventions import lost
from spikeport.export.nir_file import Graph, Node
from spikeport.handover_rules import (
    CHAIN_SOURCE,
    OPENED_SOURCE,
    Reader,
    behind,
    chained,
    in_float32,
    issue,
    nodes_of,
    size,
    spread,
)  # fmt: skip
from spikeport.hw.rule import Issue

INPUTS, OUTPUTS, HIDDEN = 16, 8, 1000
SAME = 1e-5  # relative, between steps that rockpool takes for the same; numpy's isclose
SHIFTED = 1e-3  # share of a state that Xylo's decay may be off before it is mentioned

LOAD = """\
import nir
import torch
from rockpool.nn.modules.torch import LIFTorch
from rockpool.nn.modules.torch.nir import from_nir

net = from_nir(nir.read("net.nir"))
for layer in net.modules():
    if isinstance(layer, LIFTorch):
        layer.max_spikes_per_dt = torch.tensor(1.0)  # at most one spike a step
# reset_state() of these layers before each further batch: currents and potentials stay
"""


def _biases(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Weights come without biases."""
    for node in nodes_of(graph, "weights"):
        if node.array("bias", default=0.0).any():
            yield issue(
                "biases", node, "it has a bias", "rockpool's mapper leaves biases of weights out",
                "train with bias=False",
            )  # fmt: skip
    for node in nodes_of(graph, "neurons"):
        if node.array("v_leak", default=0.0).any():
            yield issue(
                "biases", node, "its v_leak is not 0", "rockpool adds all of it in every step",
                "shift all potentials by it",
            )  # fmt: skip


def _channels(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Inputs, outputs and neurons fit, in two layers at least."""
    neurons = nodes_of(graph, "neurons")
    last = [n for n in neurons if any(b.type == "Output" for b in behind(graph, n.name))]
    inner = sum(size(node) for node in neurons if node not in last)
    counted = (
        ("input channels", sum(size(node) for node in nodes_of(graph, "Input")), INPUTS),
        ("output neurons", sum(size(node) for node in last), OUTPUTS),
        ("hidden neurons", inner, HIDDEN),
    )
    for what, found, most in counted:
        if found > most:
            got, limit = f"it has {found} {what}", f"Xylo has {most}"
            yield issue("channels", None, got, limit, "train a smaller network")
    if len(neurons) < 2:
        got = f"it has {len(neurons)} layer of neurons"
        yield issue("channels", None, got, "Xylo has hidden and output neurons", "add a layer")


def _names(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Input and Output are found by their names."""
    for node in nodes_of(graph, "Input", "Output"):
        if node.name != node.type.lower():
            yield issue(
                "names", node, f"the {node.type} is called so",
                f"rockpool's as_graph, which Xylo is mapped from, knows {node.type.lower()!r} only",
                "rename it",
            )  # fmt: skip


def _thresholds(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Spikes are counted in thresholds."""
    for node in nodes_of(graph, "neurons"):
        v_th = node.array("v_threshold", default=1.0)
        if v_th.min() <= 0:
            yield issue(
                "thresholds", node, f"its v_threshold is {spread(v_th)}",
                "rockpool divides potentials by it", "train with thresholds above 0",
            )  # fmt: skip


def _dynamics(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """Its neurons are the trained ones. What is meant for another rule gets no further advice."""
    neurons = [node for node in graph.nodes.values() if node.type == "CubaLIF"]
    dt_s = graph.about.get("dt_s")
    if not neurons:
        return
    if dt_s is not None and graph.about.get("rule") != "exact":
        yield issue(
            "time", None, "its time constants are meant for Euler steps and its r is tau / dt",
            "rockpool decays by exp(-dt / tau) and takes dt = tau_mem / (1 + r)",
            "export it with --target xylo",
        )  # fmt: skip
        return
    yield from _time(neurons, dt_s)
    yield from _gains(neurons)
    yield from _decays(neurons)


def _time(neurons: list[Node], dt_s: float | None) -> Iterator[Issue]:
    """The step that rockpool finds is the file's."""
    steps = [_steps_s(node) for node in neurons]
    first = steps[0].min() if dt_s is None else dt_s
    for node, found in zip(neurons, steps, strict=True):
        if not np.allclose(found, first, rtol=SAME, atol=0):
            yield issue(
                "time", node, f"r and tau_mem say steps of {spread(found)} s",
                f"rockpool needs one step for all, here {first:g} s",
                "export it with --target xylo, or give it r = tau_mem / dt - 1",
            )  # fmt: skip


def _gains(neurons: list[Node]) -> Iterator[Issue]:
    """As much of a spike arrives as NIR's equations let in."""
    for node in neurons:
        of_v, of_u = (
            lost(_steps_s(node), node.array(key), rule="exact") for key in ("tau_mem", "tau_syn")
        )
        gain = of_v * of_u * node.array("r") * node.array("w_in", default=1.0)
        if not np.allclose(gain, 1 - of_u, rtol=SAME, atol=0):
            yield issue(
                "gains", node, f"by r and w_in a spike arrives times {spread(gain)}",
                f"rockpool reads no w_in and lets it arrive times {spread(1 - of_u)}",
                "export it with --target xylo, or move the quotient from w_in into the weights"
                " before it",
            )  # fmt: skip


def _decays(neurons: list[Node]) -> Iterator[Issue]:
    """What Xylo's shifts make of the decays."""
    for node in neurons:
        for key in ("tau_mem", "tau_syn"):
            ratio = node.array(key) / _steps_s(node).min()
            if not ratio.min() > 1:
                yield issue(
                    "decays", node, f"{key} is {ratio.min():.3g} steps",
                    "Xylo's time constants are longer than a step", "train slower neurons",
                )  # fmt: skip
                continue
            keeps = 1 - lost(1.0, ratio, rule="exact")
            shifts = 1 - 0.5 ** np.rint(np.log2(ratio))
            worst = int(np.abs(keeps - shifts).argmax())
            if abs(keeps.flat[worst] - shifts.flat[worst]) > SHIFTED:
                yield issue(
                    "decays", node,
                    f"by {key} a step keeps {keeps.flat[worst]:.4g} of a state",
                    f"Xylo decays by a shift and keeps {shifts.flat[worst]:.4g}",
                    "train with shares of 1 - 1/2^n", severity="advice",
                )  # fmt: skip


def _rounded(graph: Graph, reader: Reader) -> Iterator[Issue]:
    """What comes behind the file."""
    yield issue(
        "rounded", None, "its weights are floats", "rockpool rounds them to 8 bits for the chip",
        "compare with XyloSim", severity="advice",
    )  # fmt: skip


def _steps_s(node: Node) -> NDArray[np.float64]:
    """Seconds a step, as rockpool concludes them; inf where r is -1."""
    return np.asarray(node.array("tau_mem") / (1 + node.array("r")))


def _load(graph: Graph) -> str:
    return LOAD


READER = Reader(
    name="rockpool",
    chip="Xylo",
    types=("Input", "Output", "Affine", "Linear", "CubaLIF"),
    refused={
        "LIF": ("rockpool asks it for tau_mem, which NIR calls tau, and stops", "train neurons"
                " with a current of their own (Synaptic)"),
    },
    resets=("subtract",),
    resets_by="always subtracts",
    one_reset=False,
    rules=(chained, in_float32, _names, _biases, _channels, _thresholds, _dynamics, _rounded),
    sources={
        "opened": OPENED_SOURCE,
        "types": "rockpool 3.1.0, nn/modules/torch/nir.py, _convert_nir_to_rockpool",
        "input": "rockpool 3.1.0, devices/xylo/syns61201/xylo_samna.py: a raster of events",
        "starts": "rockpool 3.1.0, nn/modules/torch/lif_torch.py, vmem",
        "resets": "rockpool 3.1.0, nn/modules/torch/lif_torch.py, LIFTorch.forward",
        "biases": "rockpool 3.1.0, xylo_mapper.py, weight_nodes_have_no_biases; nir.py",
        "channels": "rockpool 3.1.0, devices/xylo/syns61201/xylo_mapper.py, xylo_drc and mapper",
        "chain": CHAIN_SOURCE,
        "numbers": "rockpool 3.1.0, nn/modules/torch/nir.py, _to_tensor",
        "names": "rockpool 3.1.0, nn/modules/torch/nir.py, as_graph",
        "thresholds": "rockpool 3.1.0, nn/modules/torch/lif_torch.py, StepPWL.forward",
        "gains": "rockpool 3.1.0, nn/modules/torch/nir.py; lif_torch.py, LIFTorch.forward",
        "time": "rockpool 3.1.0, nn/modules/torch/nir.py; xylo_mapper.py, all_neurons_have_same_dt",
        "decays": "rockpool 3.1.0, xylo_graph_modules.py; transform/quantize_methods.py; "
                  "lif_torch.py, bitshift_to_decay",
        "rounded": "rockpool 3.1.0, transform/quantize_methods.py",
    },
    load=_load,
)  # fmt: skip
