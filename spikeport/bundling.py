"""From integers to a bundle on disk: rounding report, fidelity, NetX file, test vectors."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport import handover
from spikeport.export import bounds
from spikeport.export.prepare import prepared_as
from spikeport.export.report import report
from spikeport.export.witness import Witness, worst_input
from spikeport.hw import netx_file, rules
from spikeport.hw.lava_limits import LavaLimitError
from spikeport.sim import bundle, engine, fidelity, floating, reference
from spikeport.sim.chip import Chip
from spikeport.sim.describe import describe
from spikeport.sim.net import FixedNet, FloatNet
from spikeport.tables import describe_rung

BATCH = 128  # samples compared at once
TRIES = 64  # inputs tried to make an overflow happen
INTEGERS = "the file holds integers: nothing was rounded\n"


def checked(net: FixedNet, chip: Chip) -> FixedNet:
    """`net`, or ValueError naming what can overflow, for which input if one is found, or which
    rule of the chip it breaks."""
    if found := overflow(net):
        raise ValueError(f"{chip.name}: {found}")
    rules.enforce(net, chip)
    return net


def overflow(net: FixedNet) -> str | None:
    """What can overflow in `net`, and an input that makes it happen if one is found, in words."""
    risks = bounds.prove(net)
    if not risks:
        return None
    more = f" (and {len(risks) - 1} more)" if len(risks) > 1 else ""
    return f"{risks[0]}{more}; {_told(worst_input(net, risks[0], tries=TRIES))}"


def _told(witness: Witness) -> str:
    """Which input makes an overflow happen, in words."""
    if not witness.happens:
        return (
            f"none of {witness.tries} inputs tried does it, the furthest reaches {witness.reached}"
        )
    steps, active = len(witness.x), witness.x[witness.x > 0]
    return (
        f"it reaches {witness.reached} in step {witness.step} for an input with {active.size} of"
        f" {witness.x.size} values in {steps} steps above 0, the largest {active.max(initial=0)}"
        " (export.witness.worst_input returns it)"
    )


def against_fixed(float_net: FloatNet, net: FixedNet, inputs: NDArray[Any]) -> fidelity.Rung:
    """The float net against its integers, a rung that reports and fails nothing."""

    prepared = prepared_as(float_net, net)

    def rung(part: slice) -> fidelity.Rung:
        x = inputs[:, part]
        return fidelity.compare(
            ("FloatNet", floating.run(prepared, x / net.input.scale, record=False)),
            ("FixedNet", engine.run(net, x)),
            net.readout, exact=False, potentials=False,
        )  # fmt: skip

    return fidelity.in_batches(rung, samples=inputs.shape[1], batch=BATCH)


def noise(net: FixedNet, *, samples: int) -> NDArray[np.int64]:
    """Seeded noise over the whole input range, for a net that comes without images."""
    shape = (net.steps, samples, *net.input.shape)
    return np.random.default_rng(0).integers(0, net.input.largest + 1, shape)


def finish(
    net: FixedNet,
    float_net: FloatNet | None,
    folder: Path,
    *,
    target: str,
    files: Mapping[str, bytes],
    rungs: tuple[fidelity.Rung, ...],
    inputs: NDArray[Any],
    labels: NDArray[np.int64] | None,
    notes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Write the bundle: files, a NetX file where it can hold the net, reports, test vectors.

    float_net: what `net` was rounded from, None for a net that was integers from the start. notes:
    what the user should read beside the report.
    """
    rounding = None if float_net is None else report(float_net, net)
    ladder = fidelity.FidelityReport(rungs=rungs)
    trace = reference.run(net, inputs)
    vectors = bundle.Vectors(
        inputs=inputs,
        spikes={name: part.spikes for name, part in trace.populations.items()},
        logits=trace.logits(net.readout),
        labels=labels,
    )
    texts = {
        "report.txt": rounding.as_text() if rounding else INTEGERS,
        "report.json": rounding.as_json() if rounding else "{}",
        "fidelity.json": json.dumps(ladder.to_json(), indent=1),
        "network.txt": describe(net) + "\n",
    }
    netx, refused = _netx(net)
    written = bundle.write(folder, net, files={**files, **netx, **texts}, vectors=vectors)
    return {
        "passed": ladder.passed,
        "folder": str(folder),
        "target": target,
        "chip": net.chip.name,
        "digest": net.digest(),
        "files": list(written.files),
        "samples": vectors.samples,
        "netx_refused": refused,
        "notes": [*net.provenance.get("notes", ()), *notes],
        "fidelity": ladder.to_json(),
        "report": texts["report.txt"],
    }


def _netx(net: FixedNet) -> tuple[dict[str, bytes], str | None]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "net.net"
        try:
            netx_file.write(net, path)
        except LavaLimitError as refusal:
            return {}, str(refusal)
        return {path.name: path.read_bytes()}, None


def describe_export(result: dict[str, Any]) -> str:
    """The summary for people."""
    if result["files"] == ["net.nir"]:
        said = [handover.describe(result)] if result["target"] in handover.READERS else []
        return "\n".join([*said, f"wrote {result['folder']}/net.nir"])
    lines = [result["report"], *result["notes"]]
    lines += [describe_rung(rung) for rung in result["fidelity"]["rungs"]]
    lines.append(
        f"wrote {result['folder']} for {result['target']} (limits of {result['chip']}):"
        f" {', '.join(result['files'])}; {result['samples']} test vectors"
    )
    if result["netx_refused"]:
        lines.append(f"no NetX file: {result['netx_refused']}")
    return "\n".join(lines)
