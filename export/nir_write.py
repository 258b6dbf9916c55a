"""A trained torch network as a NIR file.

What NIR can say is written as plain NIR: a reader that knows nothing of us gets a legal graph in
which weights, thresholds and time constants are right. What it cannot say (steps, kind of input,
readout, reset by subtraction, the exact decay, the scale of training) travels as JSON in the
metadata of its node under one key, `KEY`.

`dt_s` only gives NIR's time constants their unit: tau = dt / (1 - keep). With
r = tau / dt a forward Euler step of dt is the discrete neuron that was trained.
"""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray
from torch import nn

from spikeport.export.layers import Flat, Part, parts
from spikeport.export.neurons import Unsupported
from spikeport.export.nir_file import FORMAT, KEY
from spikeport.export.passes import Stage, ungrouped
from spikeport.sim.files import atomic
from spikeport.sim.floating import NEVER
from spikeport.sim.net import READOUTS, FloatPopulation, Input
from spikeport.sim.synapse import FloatConv2d, FloatDense, FloatSumPool2d

Floats = NDArray[np.float64]


def write(
    module: nn.Module,
    path: Path | str,
    *,
    dt_s: float,
    input: Input | None = None,
    steps: int | None = None,
    readout: str | None = None,
) -> nir.NIRGraph:
    """Write `module` to `path` and return the graph.

    module: a SpikingNet, which knows its input, steps and readout, or an nn.Sequential of torch
    and snnTorch layers, for which `input` and `steps` are needed ("count" is then the readout
    unless told otherwise). dt_s: seconds per step. The file is read back and compared before it
    takes its place. Raises ValueError naming the layer that NIR or a chip cannot express.
    """
    layers, input, steps, readout = _settled(module, input, steps, readout)
    if not (np.isfinite(dt_s) and dt_s > 0):
        raise ValueError(f"dt_s is {dt_s}; it must be a positive number of seconds")
    found = parts(layers, input.shape)
    last = found[-1]
    assert isinstance(last, FloatPopulation)
    _check_readout(last, readout)
    graph = _graph(found, input, dt_s)
    graph.metadata = _metadata(
        format=FORMAT, dt_s=float(dt_s), steps=int(steps),
        readout={"population": last.name, "kind": readout},
    )  # fmt: skip
    content = io.BytesIO()  # where the disk is full, the HDF5 library would end the process
    nir.write(content, graph)
    _compare(graph.to_dict(), nir.read(content).to_dict(), where="graph")
    with atomic(path) as temporary:
        temporary.write_bytes(content.getbuffer())
    return graph


def _settled(
    module: nn.Module, given: Input | None, steps: int | None, readout: str | None
) -> tuple[nn.Sequential, Input, int, str]:
    """Layers, input, steps and readout of a SpikingNet, or of a Sequential and the arguments."""
    if isinstance(module, nn.Sequential):
        if given is None or steps is None:
            raise ValueError("a plain Sequential does not know its input and steps; give both")
        return module, given, steps, readout or "count"
    layers = getattr(module, "layers", None)
    if not isinstance(layers, nn.Sequential) or not isinstance(
        getattr(module, "input", None), Input
    ):
        raise ValueError(
            f"a {type(module).__name__} cannot be exported; give a SpikingNet or an nn.Sequential"
            " of its layers"
        )
    for name, value in (("input", given), ("steps", steps), ("readout", readout)):
        if value is not None and value != getattr(module, name):
            raise ValueError(
                f"{name} is {value}, but the network was built with {getattr(module, name)}; leave"
                " the argument out"
            )
    known: Any = module
    return layers, known.input, known.steps, known.readout


def _check_readout(last: FloatPopulation, readout: str) -> None:
    if readout not in READOUTS:
        raise ValueError(f"readout is {readout!r}; allowed are {', '.join(map(repr, READOUTS))}")
    integrates = bool((last.v_th >= NEVER).all())
    if integrates != (readout == "last_v"):
        raise Unsupported(
            last.name, None,
            f"readout {readout!r} does not fit it: 'last_v' needs an Integrator as the last layer,"
            " 'count' and 'first_spike' need spiking neurons",
        )  # fmt: skip


def _graph(found: list[Part], source: Input, dt_s: float) -> nir.NIRGraph:
    about = _metadata(kind=source.kind, payload_bits=source.payload_bits, scale=source.scale)
    nodes: dict[str, nir.NIRNode] = {
        "input": nir.Input(input_type={"input": np.array(source.shape)}, metadata=about)
    }
    for part in found:
        nodes[part.name] = _node(part, dt_s)
    last = found[-1]
    assert isinstance(last, FloatPopulation)
    nodes["output"] = nir.Output(output_type={"output": np.array(last.shape)})
    names = list(nodes)
    return nir.NIRGraph(nodes=nodes, edges=list(pairwise(names)))


def _metadata(**values: Any) -> dict[str, str]:
    return {KEY: json.dumps(values, sort_keys=True, allow_nan=False)}


def _node(part: Part, dt_s: float) -> nir.NIRNode:
    if isinstance(part, Flat):
        return nir.Flatten(input_type={"input": np.array(part.source)}, start_dim=0, end_dim=-1)
    if isinstance(part, FloatPopulation):
        return _neurons(part, dt_s)
    if isinstance(part.synapse, FloatDense):
        if not part.bias.any():
            return nir.Linear(weight=part.synapse.w.copy())
        bias = np.broadcast_to(part.bias, part.target).copy()
        return nir.Affine(weight=part.synapse.w.copy(), bias=bias)
    if isinstance(part.synapse, FloatSumPool2d):
        pool = part.synapse
        return nir.AvgPool2d(
            kernel_size=np.array(pool.kernel), stride=np.array(pool.stride),
            padding=np.array(pool.padding),
        )  # fmt: skip
    return _conv(part, part.synapse)


def _conv(stage: Stage, conv: FloatConv2d) -> nir.Conv2d:
    """nir 1.0.8 gets the shapes of grouped convolutions and of oblong kernels wrong and then
    rejects the graph, so both are spelled with zeros; the metadata say how to undo it."""
    g = conv.geometry
    w = ungrouped(conv.w, g.groups)
    size, kernel = max(w.shape[2:]), w.shape[2:]
    if (kernel[0] - kernel[1]) % 2:
        raise Unsupported(
            stage.name, None,
            f"nir cannot hold a kernel of {kernel[0]}x{kernel[1]}; use one whose sides are equal,"
            " both odd or both even",
        )  # fmt: skip
    rim = [(size - k) // 2 for k in kernel]  # rows and columns of zeros on either side
    about = _metadata(groups=g.groups, rim=rim)
    per_channel = np.broadcast_to(stage.bias, int(np.prod(stage.target)))
    return nir.Conv2d(
        input_shape=stage.source[1:],
        weight=np.pad(w, ((0, 0), (0, 0), *((r, r) for r in rim))),
        stride=g.stride,
        padding=tuple(p + b * d for p, b, d in zip(g.padding, rim, g.dilation, strict=True)),
        dilation=g.dilation,
        groups=1,
        bias=per_channel.reshape(stage.target[0], -1)[:, 0].copy(),
        metadata=about,
    )


def _neurons(p: FloatPopulation, dt_s: float) -> nir.NIRNode:
    about = _metadata(
        keep_u=p.keep_u.tolist(), keep_v=p.keep_v.tolist(), v_init=p.v_init.tolist(),
        reset=p.reset, fires="v > v_threshold", scale=p.scale,
    )  # fmt: skip
    full = {name: _full(getattr(p, name), p) for name in ("v_th", "keep_u", "keep_v")}
    ones, zeros = np.ones(p.shape), np.zeros(p.shape)
    if (p.v_th >= NEVER).all():
        return nir.I(r=ones, metadata=about)
    for name in ("keep_u", "keep_v"):
        never_leaks = full[name] == 1
        if never_leaks.any() and not (never_leaks.all() and not p.keep_u.any()):
            raise Unsupported(
                p.name, None,
                f"{name} is 1 in a neuron whose time constant must be finite in NIR; use a value"
                " below 1, or 1 for the whole layer of Leaky neurons",
            )  # fmt: skip
    if (full["keep_v"] == 1).all():
        return nir.IF(r=ones, v_threshold=full["v_th"], v_reset=zeros, metadata=about)
    r, tau = 1 / (1 - full["keep_v"]), dt_s / (1 - full["keep_v"])
    if not p.keep_u.any():
        return nir.LIF(
            tau=tau, r=r, v_leak=zeros, v_threshold=full["v_th"], v_reset=zeros, metadata=about
        )
    return nir.CubaLIF(
        tau_syn=dt_s / (1 - full["keep_u"]), tau_mem=tau, r=r, v_leak=zeros,
        v_threshold=full["v_th"], v_reset=zeros, w_in=1 / (1 - full["keep_u"]), metadata=about,
    )  # fmt: skip


def _full(value: Floats, p: FloatPopulation) -> Floats:
    return np.broadcast_to(value, p.size).reshape(p.shape).copy()


def _compare(wrote: Any, read: Any, *, where: str) -> None:
    """Raise RuntimeError unless the dictionaries hold the same values, arrays bit for bit."""
    if isinstance(wrote, dict):
        if set(wrote) != set(read):
            raise RuntimeError(f"{where}: nir read back {sorted(read)} instead of {sorted(wrote)}")
        for key in wrote:
            _compare(wrote[key], read[key], where=f"{where}/{key}")
    elif not np.array_equal(np.asarray(wrote), np.asarray(read)):
        raise RuntimeError(f"{where}: nir read back other values than were written; file not kept")
