"""The `simulate` command: the bundle's test vectors on every backend, compared bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spikeport.backends import BACKENDS, check_timeout, ladder
from spikeport.backends import run as run_backend
from spikeport.sim import bundle as bundles
from spikeport.sim.bundle import Bundle
from spikeport.sim.fidelity import compare
from spikeport.sim.net import FloatNet
from spikeport.sim.trace import PopulationTrace, Trace
from spikeport.tables import describe_rung


def simulate(
    folder: Path,
    backends: Sequence[str] = (),
    *,
    lava_samples: int = 64,
    timeout_s: float = 600.0,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Compare `backends` (none: all) with the reference on the bundle's vectors; a JSON report.

    The first rung holds the reference to the spikes written at export. Raises ValueError for an
    unknown backend, LavaError when one was asked for that cannot run.
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
    report = ladder(
        bundle.net, inputs, backends or list(BACKENDS),
        floats=[] if backends else float_nets(bundle), labels=bundle.vectors.labels,
        lava_samples=lava_samples, timeout_s=timeout_s, progress=progress,
    )  # fmt: skip
    definition = run_backend(bundle.net, inputs, backend="reference")
    stored = compare(
        ("written at export", expected(bundle)), ("reference", definition),
        bundle.net.readout, potentials=False,
    )  # fmt: skip
    if bundle.net.readout.kind == "last_v":
        wanted, found = bundle.vectors.logits, definition.logits(bundle.net.readout)
        differing = int((wanted != found).sum())
        stored = replace(stored, state=found.size, differing_state=differing)
    return replace(report, rungs=(stored, *report.rungs)).to_json()


def expected(bundle: Bundle) -> Trace:
    """The bundle's test vectors as a trace; potentials are known for the readout only."""
    readout, logits = bundle.net.readout, np.asarray(bundle.vectors.logits)
    parts = {}
    for name, spikes in bundle.vectors.spikes.items():
        known = readout.kind == "last_v" and name == readout.population
        v_last = logits if known else np.zeros(spikes.shape[1:], np.int32)
        parts[name] = PopulationTrace(spikes=spikes, v_last=v_last)
    return Trace(populations=parts)


def float_nets(bundle: Bundle) -> list[tuple[str, FloatNet]]:
    """("float", before rounding) and ("quantised", rounded parameters, float arithmetic), as far
    as the bundle holds them."""
    from spikeport.export import nir_read

    names = (("float", "float.nir"), ("quantised", "net.nir"))
    nets = [
        (name, nir_read.read(bundle.path(file), input=bundle.net.input, steps=bundle.net.steps))
        for name, file in names
        if file in bundle.files
    ]
    return nets


def describe_report(report: dict[str, Any]) -> str:
    """The ladder for people."""
    lines = [describe_rung(rung) for rung in report["rungs"]]
    lines += [f"accuracy of {name}: {share:.2%}" for name, share in report["accuracy"].items()]
    lines += [f"{m['rung']}: not run: {m['reason']}" for m in report["missing"]]
    lines.append("all exact rungs hold" if report["passed"] else "an exact rung FAILED")
    return "\n".join(lines)
