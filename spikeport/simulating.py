"""The `simulate` command: the bundle's test vectors on every backend, compared bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spikeport.backends import BACKENDS, explained, ladder
from spikeport.backends import run as run_backend
from spikeport.hw.lava_guard import check_timeout
from spikeport.sim import bundle as bundles
from spikeport.sim import recorded
from spikeport.sim.bundle import Bundle
from spikeport.sim.fidelity import Rung, compare
from spikeport.sim.net import FloatNet
from spikeport.sim.trace import PopulationTrace, Trace
from spikeport.tables import describe_rung


def simulate(
    folder: Path,
    backends: Sequence[str] = (),
    *,
    against: Path | None = None,
    lava_samples: int = 64,
    timeout_s: float = 600.0,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Compare `backends` (none: all) with the reference on the bundle's vectors; a JSON report.

    The first rung holds the reference to the spikes written at export. against: a file of spikes
    recorded elsewhere from the same vectors (see `sim.recorded`), which alone is then compared
    unless `backends` names some. Raises ValueError for an unknown backend, LavaError when one was
    asked for that cannot run.
    """
    for name in backends:
        if name not in BACKENDS:
            raise ValueError(f"backend is {name!r}; allowed are {', '.join(BACKENDS)}")
    if lava_samples < 1:
        raise ValueError(f"lava_samples is {lava_samples}; it must be at least 1")
    check_timeout(timeout_s)
    bundle = bundles.read(folder)
    inputs = bundle.vectors.inputs
    if "lava" in backends or "lava-inprocess" in backends:
        from spikeport.hw import lava_import

        lava_import.require()
    told = None if against is None else recorded_rung(bundle, against)
    alone = bool(backends) or told is not None
    report = ladder(
        bundle.net, inputs, backends if alone else list(BACKENDS),
        floats=[] if alone else float_nets(bundle), labels=bundle.vectors.labels,
        lava_samples=lava_samples, timeout_s=timeout_s, progress=progress,
    )  # fmt: skip
    definition = run_backend(bundle.net, inputs, backend="reference")
    stored = compare(
        ("written at export", expected(bundle)), ("reference", definition),
        bundle.net.readout, potentials=False,
    )  # fmt: skip
    if bundle.net.readout.of_potentials:
        wanted, found = bundle.vectors.logits, definition.logits(bundle.net.readout)
        differing = int((wanted != found).sum())
        stored = replace(stored, state=found.size, differing_state=differing)
    extra = () if told is None else (told,)
    return replace(report, rungs=(stored, *report.rungs, *extra)).to_json()


def recorded_rung(bundle: Bundle, path: Path) -> Rung:
    """The bundle's net against the run in file `path`, with the cause of a difference."""
    net = bundle.net
    observed = recorded.read(path, net)
    with_v = all(part.v is not None for part in observed.populations.values())
    if net.readout.of_potentials and not with_v:
        raise ValueError(
            f"{path}: holds no potentials, which readout {net.readout.kind!r} reads; record NAME.v"
            " of every population too"
        )
    part = observed[net.readout.population]
    steps, count = part.spikes.shape[:2]
    if steps != net.steps or count > bundle.vectors.samples:
        raise ValueError(
            f"{path}: holds {count} samples of {steps} steps; the bundle has"
            f" {bundle.vectors.samples} vectors of {net.steps} steps"
        )
    inputs = bundle.vectors.inputs[:, :count]
    definition = run_backend(net, inputs, backend="reference")
    rung = compare(("reference", definition), (path.name, observed), net.readout, potentials=with_v)
    return explained(rung, net, inputs, observed)


def expected(bundle: Bundle) -> Trace:
    """The bundle's test vectors as a trace; potentials are known for the readout only."""
    readout, logits = bundle.net.readout, np.asarray(bundle.vectors.logits)
    parts = {}
    for name, spikes in bundle.vectors.spikes.items():
        read = readout.kind if name == readout.population else ""
        v_last = logits if read == "last_v" else np.zeros(spikes.shape[1:], np.int32)
        v_sum = logits if read == "sum_v" else None
        parts[name] = PopulationTrace(spikes=spikes, v_last=v_last, v_sum=v_sum)
    return Trace(populations=parts)


def float_nets(bundle: Bundle) -> list[tuple[str, FloatNet]]:
    """("float", before rounding) and ("quantised", rounded parameters, float arithmetic), as far
    as the bundle holds them, in the words of the chip. A foreign file's network is the second."""
    from spikeport.export import nir_read
    from spikeport.export.prepare import prepared_as
    from spikeport.foreign import READING

    said: dict[str, Any] = {"input": bundle.net.input, "steps": bundle.net.steps}
    if READING in bundle.files:
        said |= json.loads(bundle.path(READING).read_text(encoding="utf-8"))
    names = (("float", "float.nir"), ("quantised", "net.nir"))
    return [
        (name, prepared_as(nir_read.read(bundle.path(file), **said), bundle.net))
        for name, file in names
        if file in bundle.files
    ]


def describe_report(report: dict[str, Any]) -> str:
    """The ladder for people."""
    lines = [describe_rung(rung) for rung in report["rungs"]]
    lines += [f"accuracy of {name}: {share:.2%}" for name, share in report["accuracy"].items()]
    lines += [f"{m['rung']}: not run: {m['reason']}" for m in report["missing"]]
    lines.append("all exact rungs hold" if report["passed"] else "an exact rung FAILED")
    return "\n".join(lines)
