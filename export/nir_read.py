"""A NIR file as a FloatNet: the graph cut into populations, time discretised.

Three questions are answered elsewhere: what stands in the file (`nir_file`), what arrives at each
neuron node (`nir_paths`), what its neurons do in a step (`nir_neurons`), and how that becomes
populations and projections (`nir_wiring`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spikeport.export.nir_conventions import Conventions, chosen
from spikeport.export.nir_file import NEURONS, SILENT, Graph, Node, load
from spikeport.export.nir_neurons import Neurons, discretised
from spikeport.export.nir_paths import Arrival, arrivals
from spikeport.export.nir_shapes import attempt, input_shapes
from spikeport.export.nir_wiring import wired
from spikeport.sim.net import READOUTS, FloatNet, Input, Readout


@np.errstate(over="ignore", invalid="ignore")  # populations and synapses refuse what overflowed
def read(
    path: Path | str,
    *,
    dt_s: float | None = None,
    steps: int | None = None,
    input: Input | None = None,
    rule: str | None = None,
    reset: str | None = None,
    start: str = "zero",
    readout: str | None = None,
    round_delays: bool = False,
) -> FloatNet:
    """The network in NIR file `path`, all primitives of NIR 1.0 included.

    Files that `nir_write` made need no arguments. For others `steps` is needed, `dt_s` (seconds a
    step) where there are time constants or delays, and `input` unless it is binary spikes.
    rule: "euler" (a step loses dt/tau of a state) or "exact" (it loses 1 - exp(-dt/tau)); None for
    what our metadata say, else "euler".
    reset: "zero" or "subtract", which NIR cannot say; None for what our metadata say, else "zero".
    start: potentials begin at "zero" or at "leak", their v_leak; NIR cannot say.
    readout: "count", "first_spike", "last_v" or "sum_v"; None for what our metadata say, else
    "last_v" for I, LI and CubaLI and "count" for neurons that spike. round_delays: allow delays
    that are no whole number of steps. Raises FileNotFoundError or ValueError with one sentence
    that names file and node.
    """
    chosen("readout", readout, (None, *READOUTS))
    graph = load(path)
    steps = _steps(graph, steps)
    dt_s = graph.about.get("dt_s") if dt_s is None else dt_s
    rule = graph.about.get("rule", "euler") if rule is None else rule
    source = _input(graph, input)
    said = Conventions(dt_s=dt_s, rule=rule, reset=reset, start=start, round_delays=round_delays)
    arriving = arrivals(graph, said=said)
    output = _readout_node(graph, arriving)
    readout = _readout_kind(graph, graph.nodes[output], readout)
    read_v = output if readout in ("last_v", "sum_v") else None
    neurons = {
        name: attempt(graph, graph.nodes[name], _discretised, arriving[name], said, read_v)
        for name in arriving
        if graph.nodes[name].type in NEURONS
    }
    populations, projections = wired(graph, arriving, neurons)
    try:
        return FloatNet(
            input=source, populations=populations, projections=projections,
            readout=Readout(population=output, kind=readout), steps=steps,
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{graph.path}: {error}") from None


def _steps(graph: Graph, given: int | None) -> int:
    steps: int | None = graph.about.get("steps") if given is None else given
    if steps is None:
        raise ValueError(f"{graph.path}: does not say how many steps to run; give steps")
    return steps


def _readout_kind(graph: Graph, node: Node, wanted: str | None) -> str:
    silent = node.type in SILENT
    kind = wanted or graph.about.get("readout", {}).get("kind") or ("last_v" if silent else "count")
    if silent and kind in ("count", "first_spike"):
        raise ValueError(
            f"{graph.path}: node {node.name!r} ({node.type}): has no threshold, so readout"
            f" {kind!r} would read nothing; use 'last_v' or 'sum_v'"
        )
    return str(kind)


def _discretised(node: Node, arrival: Arrival, said: Conventions, read_v: str | None) -> Neurons:
    return discretised(node, arrival.shapes.file, said=said, read_v=node.name == read_v)


def _input(graph: Graph, given: Input | None) -> Input:
    inputs = [n for n in graph.nodes.values() if n.type == "Input"]
    if len(inputs) != 1:
        raise ValueError(f"{graph.path}: has {len(inputs)} Input nodes; exactly one is needed")
    node = inputs[0]
    ours = input_shapes(graph, node).ours
    if given is not None:
        if given.shape != ours:
            raise ValueError(f"{graph.path}: the input has shape {ours}, not {given.shape}")
        return given
    about = {k: v for k, v in node.about.items() if k in ("kind", "payload_bits", "scale")}
    return attempt(graph, node, lambda _: Input(shape=ours, **about))


def _readout_node(graph: Graph, arriving: Mapping[str, Arrival]) -> str:
    outputs = [name for name, n in graph.nodes.items() if n.type == "Output"]
    sources = [a for name in outputs for a in graph.sources(name)]
    if len(outputs) != 1 or len(sources) != 1:
        raise ValueError(
            f"{graph.path}: has {len(outputs)} Output nodes with {len(sources)} sources; exactly"
            " one of each is needed"
        )
    arrival = arriving[outputs[0]]
    plain = [r.source for r in arrival.routes if not r.chain and not r.delay]
    plain = [name for name in plain if graph.nodes[name].type in NEURONS]
    if len(arrival.routes) != 1 or not plain or arrival.constants:
        raise ValueError(
            f"{graph.path}: the output comes from {sources[0]!r}"
            f" ({graph.nodes[sources[0]].type}), which has no neurons; end the network with neurons"
            " that spike, or with I (r = 1) or LI to sum its values up"
        )
    return plain[0]
