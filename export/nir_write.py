"""A trained torch network as a NIR file.

What NIR can say is written as plain NIR: a reader that knows nothing of us gets a legal graph in
which weights, thresholds and time constants are right. What it cannot say (steps, kind of input,
readout, reset by subtraction, the exact decay, the scale of training) travels as JSON in the
metadata of its node under one key, `KEY`.

`dt_s` only gives NIR's time constants their unit: tau = dt / (1 - keep). With
r = tau / dt a forward Euler step of dt is the discrete neuron that was trained. By the rule "exact"
tau = -dt / ln(keep) and r = 1 / (1 - keep); `nir_dialects` says who wants that.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray
from torch import nn

from spikeport.export.convolutions import ungrouped
from spikeport.export.modules import Recorded, looped, wired
from spikeport.export.neurons import Unsupported
from spikeport.export.nir_conventions import steps_long
from spikeport.export.nir_dialects import DIALECTS, Dialect, spoken
from spikeport.export.nir_file import FORMAT, KEY
from spikeport.export.parts import Flat, Link, Part, Parts
from spikeport.export.passes import Gain, Stage
from spikeport.sim.files import atomic
from spikeport.sim.floating import NEVER
from spikeport.sim.net import FloatPopulation, Input
from spikeport.sim.synapse import FloatConv2d, FloatDense, FloatSumPool2d

Floats = NDArray[np.float64]

FOREVER = 1e12
"""Steps. NIR's time constant of a current or potential that does not leak, beside ones that do."""


def write(
    module: nn.Module,
    path: Path | str,
    *,
    dt_s: float,
    input: Input | None = None,
    steps: int | None = None,
    readout: str | None = None,
    sample: Any = None,
    target: str = "nir",
) -> nir.NIRGraph:
    """Write `module` to `path` and return the graph.

    module: a SpikingNet, which knows its input, steps and readout, or an nn.Sequential of torch
    and snnTorch layers, for which `input` and `steps` are needed ("count" is then the readout
    unless told otherwise), or any module with a forward of its own, for which `sample` is, see
    `export.compile`. dt_s: seconds per step. target: one of `nir_dialects.DIALECTS`. The file is
    read back and compared before it takes its place. Raises ValueError naming the layer that NIR
    or a chip cannot express.
    """
    parts, _ = parts_of(module, input=input, steps=steps, readout=readout, sample=sample)
    return write_parts(parts, path, dt_s=dt_s, target=target)


def write_parts(
    parts: Parts, path: Path | str, *, dt_s: float, target: str = "nir"
) -> nir.NIRGraph:
    """Write `parts` to `path`; see `write`."""
    if not (np.isfinite(dt_s) and dt_s > 0):
        raise ValueError(f"dt_s is {dt_s}; it must be a positive number of seconds")
    if target not in DIALECTS:
        raise ValueError(f"a file for {target!r} was asked for; allowed are {', '.join(DIALECTS)}")
    dialect = DIALECTS[target]
    graph = _graph(spoken(parts, dialect), dt_s, dialect)
    graph.metadata = _metadata(
        format=FORMAT, dt_s=float(dt_s), steps=int(parts.steps), **dialect.about,
        readout={"population": parts.output, "kind": parts.readout},
    )  # fmt: skip
    content = io.BytesIO()  # where the disk is full, the HDF5 library would end the process
    nir.write(content, graph)
    _compare(graph.to_dict(), nir.read(content).to_dict(), where="graph")
    with atomic(path) as temporary:
        temporary.write_bytes(content.getbuffer())
    return graph


def parts_of(
    module: nn.Module,
    *,
    input: Input | None,
    steps: int | None,
    readout: str | None,
    sample: Any = None,
) -> tuple[Parts, Recorded | None]:
    """The parts of any module, and what it did with `sample` where that was run."""
    if isinstance(module, nn.Sequential):
        if input is None or steps is None:
            missing = " and ".join(
                key for key, value in (("input", input), ("steps", steps)) if value is None
            )
            raise ValueError(f"a plain Sequential does not know its {missing}; give {missing}")
        return wired(module, input, steps=steps, readout=readout or "count"), None
    layers = getattr(module, "layers", None)
    known: Any = module
    if not isinstance(layers, nn.Sequential) or not isinstance(
        getattr(module, "input", None), Input
    ):
        return looped(module, sample, input=input, steps=steps, readout=readout)
    for name, value in (("input", input), ("steps", steps), ("readout", readout)):
        if value is not None and value != getattr(module, name):
            raise ValueError(
                f"{name} is {value}, but the network was built with {getattr(module, name)}; leave"
                " the argument out"
            )
    return wired(layers, known.input, steps=known.steps, readout=known.readout), None


def _graph(parts: Parts, dt_s: float, dialect: Dialect) -> nir.NIRGraph:
    source = parts.input
    about = _metadata(kind=source.kind, payload_bits=source.payload_bits, scale=source.scale)
    nodes: dict[str, nir.NIRNode] = {
        "input": nir.Input(input_type={"input": np.array(source.shape)}, metadata=about)
    }
    for name, part in parts.parts.items():
        nodes[name] = _node(part, dt_s, dialect)
    edges: list[tuple[str, str]] = []
    for link in parts.links:
        before = link.source
        steps = 0 if _closes_a_loop(link, parts) else link.delay
        if steps:
            before = _delay_name(link.source, steps, taken=parts)
            seconds = np.full(parts.shape(link.source), steps * dt_s)
            nodes[before] = nir.Delay(delay=seconds)
            edges.append((link.source, before))
        edges.append((before, link.target))
    nodes["output"] = nir.Output(output_type={"output": np.array(parts.shape(parts.output))})
    edges.append((parts.output, "output"))
    return nir.NIRGraph(nodes=nodes, edges=list(dict.fromkeys(edges)))


def _closes_a_loop(link: Link, parts: Parts) -> bool:
    """Whether `link` is the only way into a part that leads back to where it came from, and only
    there: readers give such a loop its one step by themselves."""
    return (
        link.delay == 1
        and [x for x in parts.links if x.target == link.target] == [link]
        and [x.target for x in parts.links if x.source == link.target] == [link.source]
    )


def _delay_name(source: str, steps: int, *, taken: Parts) -> str:
    name = f"{source}.delay{steps}"
    while name in taken.parts:
        name += "_"
    return name


def _metadata(**values: Any) -> dict[str, str]:
    return {KEY: json.dumps(values, sort_keys=True, allow_nan=False)}


def _node(part: Part, dt_s: float, dialect: Dialect) -> nir.NIRNode:
    if isinstance(part, Flat):
        return nir.Flatten(input_type={"input": np.array(part.source)}, start_dim=0, end_dim=-1)
    if isinstance(part, Gain):
        factor = np.broadcast_to(part.factor, int(np.prod(part.source)))
        return nir.Scale(scale=factor.reshape(part.source).copy())
    if isinstance(part, FloatPopulation):
        return _neurons(part, dt_s, dialect)
    if isinstance(part.synapse, FloatDense):
        if not part.bias.any() and not dialect.plain:
            return nir.Linear(weight=part.synapse.w.copy())
        bias = np.broadcast_to(part.bias, part.target).copy()
        return nir.Affine(weight=part.synapse.w.copy(), bias=bias)
    if isinstance(part.synapse, FloatSumPool2d):
        pool = part.synapse
        average = pool.w == 1 / np.prod(pool.kernel)
        return (nir.AvgPool2d if average else nir.SumPool2d)(
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


def _neurons(p: FloatPopulation, dt_s: float, dialect: Dialect) -> nir.NIRNode:
    about: dict[str, Any] = {
        "keep_u": p.keep_u.tolist(), "keep_v": p.keep_v.tolist(), "v_init": p.v_init.tolist(),
        "reset": p.reset, "fires": "v > v_threshold", "scale": p.scale, **dialect.about,
    }  # fmt: skip
    full = {name: _full(getattr(p, name), p) for name in ("v_th", "keep_u", "keep_v")}
    ones, zeros = np.ones(p.shape), np.zeros(p.shape)
    fires = not (p.v_th >= NEVER).all()
    values: dict[str, Any] = {"metadata": _metadata(**about)}
    if fires:
        values |= {"v_threshold": full["v_th"], "v_reset": zeros}
    if (full["keep_v"] == 1).all() and not p.keep_u.any():
        return (nir.IF if fires else nir.I)(r=ones, **values)
    lost = [np.maximum(1 - full[name], 1 / FOREVER) for name in ("keep_v", "keep_u")]
    r, w_in = (1 / share for share in lost)
    tau_mem, tau_syn = (steps_long(share, rule=dialect.rule) for share in lost)
    if dialect.filtered:
        # What r gains the other factor of NIR's input loses, so that all of it is gain = keep_u.
        values["metadata"] = _metadata(**about, gain=p.keep_u.tolist())
        w_in *= full["keep_u"] * r / (tau_mem - 1)
        r = tau_mem - 1
    values |= {"r": r, "v_leak": zeros}
    if not p.keep_u.any():
        return (nir.LIF if fires else nir.LI)(tau=dt_s * tau_mem, **values)
    values |= {"tau_mem": dt_s * tau_mem, "tau_syn": dt_s * tau_syn, "w_in": w_in}
    return (nir.CubaLIF if fires else nir.CubaLI)(**values)


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
