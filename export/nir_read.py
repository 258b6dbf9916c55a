"""A NIR file as a FloatNet: the graph cut into populations, time discretised.

NIR neurons live in continuous time. One forward Euler step of dt turns

    LIF      tau dv/dt = (v_leak - v) + r i   into  keep_v = 1 - dt/tau, gain r dt/tau
    CubaLIF  tau_syn di/dt = -i + w_in s      into  keep_u = 1 - dt/tau_syn, gain w_in dt/tau_syn
    IF, I    dv/dt = r i                      into  v += r i: their time is counted in steps

Gains move into the incoming weights and biases, and v_leak into the bias. Files of our own carry
the decays that were trained, bit for bit; they must agree with the time constants beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.export.nir_file import FORMAT, NEURONS, Graph, Node, load
from spikeport.export.nir_nodes import stage_of
from spikeport.export.passes import Chain, Stage, as_dense, collapse, composed, scaled
from spikeport.sim.floating import NEVER
from spikeport.sim.net import FloatNet, FloatPopulation, FloatProjection, Input, Readout
from spikeport.sim.synapse import Shape

AGREE = 1e-9  # relative, between a decay of ours and the time constant beside it

Floats = NDArray[np.float64]


def read(
    path: Path | str,
    *,
    dt_s: float | None = None,
    steps: int | None = None,
    input: Input | None = None,
) -> FloatNet:
    """The network in NIR file `path`.

    Files that `nir_write` made need no arguments. For others `steps` is needed, `dt_s` (seconds a
    step) where there are LIF, LI or CubaLIF nodes, and `input` unless it is binary spikes.
    Supported are Input, Output, Affine, Linear, Conv2d, SumPool2d, AvgPool2d, Flatten, IF, LIF,
    CubaLIF, and I or LI as readout. Raises FileNotFoundError or ValueError with one sentence that
    names file and node.
    """
    graph = load(path)
    where = str(graph.path)
    if graph.about and graph.about.get("format") != FORMAT:
        raise ValueError(
            f"{where}: written in format {graph.about.get('format')}, this version reads {FORMAT};"
            " export it again"
        )
    dt_s = graph.about.get("dt_s", dt_s) if dt_s is None else dt_s
    steps = graph.about.get("steps", steps) if steps is None else steps
    if steps is None:
        raise ValueError(f"{where}: does not say how many steps to run; give steps")
    source = _input(graph, input)
    output = _readout_node(graph)
    populations: list[FloatPopulation] = []
    projections: list[FloatProjection] = []
    shapes = {"input": _Shapes(file=source.shape, ours=source.shape)}
    for node in graph.nodes.values():
        if node.type in NEURONS:
            neurons = _discretised(where, node, dt_s)
            paths = [_path(graph, node.name, before, shapes) for before in graph.sources(node.name)]
            population, wired = _wired(where, node, neurons, paths)
            populations.append(population)
            projections += wired
            shapes[node.name] = _Shapes(file=paths[0].arrives, ours=population.shape)
    kind = graph.about.get("readout", {}).get("kind")
    if kind is None:
        kind = "last_v" if graph.nodes[output].type in ("I", "LI") else "count"
    try:
        return FloatNet(
            input=source, populations=tuple(populations), projections=tuple(_aligned(projections)),
            readout=Readout(population=output, kind=kind), steps=steps,
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _input(graph: Graph, given: Input | None) -> Input:
    inputs = [n for n in graph.nodes.values() if n.type == "Input"]
    if len(inputs) != 1:
        raise ValueError(f"{graph.path}: has {len(inputs)} Input nodes; exactly one is needed")
    shape = tuple(int(n) for n in np.atleast_1d(inputs[0].values["shape"]))
    if given is not None:
        if given.shape != shape:
            raise ValueError(f"{graph.path}: the input has shape {shape}, not {given.shape}")
        return given
    about = {k: v for k, v in inputs[0].about.items() if k in ("kind", "payload_bits", "scale")}
    try:
        return Input(shape=shape, **about)
    except ValueError as error:
        raise ValueError(f"{graph.path}: node {inputs[0].name!r} (Input): {error}") from None


def _readout_node(graph: Graph) -> str:
    outputs = [name for name, n in graph.nodes.items() if n.type == "Output"]
    sources = [a for name in outputs for a in graph.sources(name)]
    if len(outputs) != 1 or len(sources) != 1:
        raise ValueError(
            f"{graph.path}: has {len(outputs)} Output nodes with {len(sources)} sources; exactly"
            " one of each is needed"
        )
    if graph.nodes[sources[0]].type not in NEURONS:
        raise ValueError(
            f"{graph.path}: the output comes from {sources[0]!r}"
            f" ({graph.nodes[sources[0]].type}), which has no neurons; end the network with LIF,"
            " IF, CubaLIF, I or LI"
        )
    return sources[0]


@dataclass(frozen=True, kw_only=True)
class _Shapes:
    """Shape of a source as the file sees it, and as we do, who keep maps maps behind a Flatten."""

    file: Shape
    ours: Shape


@dataclass(frozen=True, kw_only=True)
class _Path:
    """All linear nodes between two populations, composed; `arrives`: their output in the file."""

    source: str
    stage: Stage
    arrives: Shape


def _path(graph: Graph, target: str, before: str, shapes: Mapping[str, _Shapes]) -> _Path:
    """The path that enters neurons `target` through node `before`, walked back to its source."""
    nodes: list[Node] = []
    while graph.nodes[before].type not in (*NEURONS, "Input"):
        nodes.insert(0, graph.nodes[before])
        sources = graph.sources(before)
        if len(sources) != 1:
            raise ValueError(
                f"{graph.path}: node {before!r} ({graph.nodes[before].type}) has {len(sources)}"
                " sources; only neurons may have other than one"
            )
        before = sources[0]
    source = "input" if graph.nodes[before].type == "Input" else before
    chain: Chain = ()
    shape = shapes[source].file
    for node in nodes:
        try:
            stage = stage_of(node, shape)
        except ValueError as error:
            raise ValueError(f"{graph.path}: node {node.name!r} ({node.type}): {error}") from None
        shape = (int(np.prod(shape)),) if stage is None else stage.target
        chain = chain if stage is None else (*chain, stage)
    try:
        stage = composed(shapes[source].ours, _unflattened(chain, shapes[source].ours))
    except ValueError as error:
        raise ValueError(f"{graph.path}: node {target!r}: {error}") from None
    return _Path(source=source, stage=stage, arrives=shape)


def _unflattened(chain: Chain, source: Shape) -> Chain:
    """Stages with their true source shapes: dense ones flatten by themselves, in C order."""
    result: Chain = ()
    for stage in chain:
        result = (*result, replace(stage, source=source))
        source = stage.target
    return result


@dataclass(frozen=True, kw_only=True)
class _Neurons:
    """Discrete neurons: decays kept, gain of the incoming current, bias, threshold; () or [n]."""

    size: int
    keep_u: Floats
    keep_v: Floats
    gain: Floats
    bias: Floats
    v_th: Floats
    about: Mapping[str, Any]


def _discretised(where: str, node: Node, dt_s: float | None) -> _Neurons:
    where = f"{where}: node {node.name!r} ({node.type})"
    sizes = {np.size(v) for v in node.values.values()}
    size = max(sizes)
    if not sizes <= {1, size}:
        raise ValueError(f"{where}: parameters have {sorted(sizes)} values; all must agree")
    if node.array("v_reset", default=0.0).any():
        raise ValueError(f"{where}: v_reset is not 0; chips reset to 0, shift all potentials by it")
    keep_u, gain = np.array(0.0), node.array("r").reshape(-1)
    keep_v, bias = np.array(1.0), np.array(0.0)
    if node.type not in ("I", "IF"):
        if dt_s is None:
            raise ValueError(f"{where}: does not say how long a step is; give dt_s in seconds")
        share = _share(where, node, "tau_mem" if node.type == "CubaLIF" else "tau", dt_s)
        keep_v, gain = 1 - share, gain * share
        bias = node.array("v_leak").reshape(-1) * share
    if node.type == "CubaLIF":
        share = _share(where, node, "tau_syn", dt_s)
        keep_u, gain = 1 - share, gain * share * node.array("w_in", default=1.0).reshape(-1)
    v_th = np.array(NEVER) if node.type in ("I", "LI") else node.array("v_threshold").reshape(-1)
    neurons = _Neurons(
        size=size, keep_u=collapse(keep_u), keep_v=collapse(keep_v), gain=collapse(gain),
        bias=collapse(bias), v_th=collapse(v_th), about=node.about,
    )  # fmt: skip
    return _exact(where, neurons) if node.about else neurons


def _share(where: str, node: Node, key: str, dt_s: float | None) -> Floats:
    """dt / tau, which one Euler step loses."""
    tau = node.array(key).reshape(-1)
    if dt_s is None or not dt_s > 0 or (tau < dt_s * (1 - AGREE)).any():
        raise ValueError(
            f"{where}: {key} is {tau.min():g} s and a step {dt_s} s; a step must be positive and"
            " not longer than the time constant"
        )
    return np.minimum(dt_s / tau, 1.0)


def _exact(where: str, neurons: _Neurons) -> _Neurons:
    """The decays our writer recorded, after checking them against the time constants."""
    keep_u, keep_v = (np.array(neurons.about.get(k, np.nan)) for k in ("keep_u", "keep_v"))
    pairs = ((keep_u, neurons.keep_u), (keep_v, neurons.keep_v), (np.array(1.0), neurons.gain))
    sizes = {1, neurons.size}
    if not all(
        exact.size in sizes and np.allclose(exact, found, rtol=AGREE, atol=AGREE)
        for exact, found in pairs
    ):
        raise ValueError(
            f"{where}: time constants and the decays in the metadata disagree; the file was edited"
            " or dt_s is not the one it was written with"
        )
    return replace(neurons, keep_u=keep_u, keep_v=keep_v, gain=np.array(1.0))


def _wired(
    where: str, node: Node, neurons: _Neurons, paths: list[_Path]
) -> tuple[FloatPopulation, list[FloatProjection]]:
    where = f"{where}: node {node.name!r} ({node.type})"
    if not paths:
        raise ValueError(f"{where}: has no source; connect or remove it")
    stages = [scaled(path.stage, neurons.gain) for path in paths]
    if len({stage.target for stage in stages}) > 1:
        stages = [as_dense(stage) for stage in stages]
    shape = stages[0].target
    size = int(np.prod(shape))
    if neurons.size not in (1, size):
        raise ValueError(f"{where}: has {neurons.size} neurons, but {size} values arrive")
    from_affine = np.asarray(sum(stage.bias for stage in stages))
    if from_affine.any() and neurons.keep_u.any():
        raise ValueError(
            f"{where}: a bias arrives in a current with memory, but on chips the bias enters the"
            " potential; remove the bias of the layer before it, or set tau_syn to one step"
        )
    bias = collapse(np.asarray(from_affine + neurons.bias))
    about = neurons.about
    try:
        population = FloatPopulation(
            name=node.name, shape=shape, v_th=neurons.v_th, keep_u=neurons.keep_u,
            keep_v=neurons.keep_v, bias=bias, v_init=np.array(about.get("v_init", 0.0)),
            reset=about.get("reset", "zero"), scale=about.get("scale"),
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    projections = [
        FloatProjection(source=path.source, target=node.name, synapse=stage.synapse)
        for path, stage in zip(paths, stages, strict=True)
    ]
    return population, projections


def _aligned(projections: list[FloatProjection]) -> list[FloatProjection]:
    """Shorter paths get the delay that brings all inputs of a population to the same step."""
    depth = {"input": 0}
    for p in projections:  # targets come in order, sources before them
        depth[p.target] = max(depth.get(p.target, 0), depth[p.source] + 1)
    return [replace(p, delay=depth[p.target] - depth[p.source] - 1) for p in projections]
