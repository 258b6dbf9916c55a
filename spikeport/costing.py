"""The `cost` command: what test vectors cost on a chip, between published sets of constants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw import rules, rules_place
from spikeport.hw.activity import Activity, activity
from spikeport.hw.constants import RuntimeConstants
from spikeport.hw.energy import Band, Estimate, band
from spikeport.hw.metrics import metrics
from spikeport.hw.place import Placement, place
from spikeport.hw.runtime import constants
from spikeport.hw.runtime import runtime as bound_of
from spikeport.hw.target import target as target_of
from spikeport.sim import bundle as bundles
from spikeport.sim import engine
from spikeport.sim.net import FixedNet
from spikeport.sim.text import aligned

TITLES = {
    "updates": "neuron updates", "active": "of active neurons", "spikes": "spikes",
    "synapses": "synaptic operations", "effective": "of weights that are not 0",
    "words": "words of synapse memory read", "sent": "messages between cores",
    "hops": "hops from tile to tile", "left": "messages to other chips",
}  # fmt: skip


def cost(
    folder: Path,
    *,
    target: str,
    samples: int = 0,
    fewest: bool = False,
    runtime: str | None = None,
    inputs: Path | None = None,
    pictures: Path | None = None,
) -> dict[str, Any]:
    """Operations, energy and time a sample of the bundle in `folder` on `target`; JSON-able.

    samples: how many of its test vectors run, 0 for all. runtime: constants of the max-affine
    model by name, which is left out without. inputs: an .npy file of integers [T, B, *shape],
    attacked images for example, that run beside them. pictures: a new folder for drawings. Raises
    ValueError in one sentence for what cannot be read or has no room.
    """
    bounds = constants(runtime) if runtime else None
    if samples < 0:
        raise ValueError(f"samples is {samples}; give 0 for all or a positive number")
    if pictures is not None and pictures.exists():
        raise ValueError(f"{pictures}: exists already; name a new folder")
    bundle, goal = bundles.read(folder), target_of(target)
    net = bundle.net
    placement = place(net, goal, way="fewest" if fewest else "compiled")
    for issue in rules_place.cores(len(placement.cores), goal):
        raise ValueError(str(issue))
    chip = replace(goal.chip, name=goal.name, cores=goal.cores)
    shown = {"vectors": bundle.vectors.inputs[:, : samples or None]}
    if inputs is not None:
        shown[str(inputs)] = _read(inputs, net)
    found = {name: _measured(net, x, placement) for name, x in shown.items()}
    told = {name: _told(*measured, bounds) for name, measured in found.items()}
    drawn: list[str] = []
    if pictures is not None:
        from spikeport.pictures import draw

        drawn = draw(pictures, found["vectors"][0], layer_table(told["vectors"]["layers"]), bounds)
    return {
        "target": goal.name, "digest": net.digest(), "cores": len(placement.cores),
        "of": goal.cores, "issues": [str(i) for i in rules.check(net, chip)], "runs": told,
        "pictures": drawn,
    }  # fmt: skip


def _read(path: Path, net: FixedNet) -> NDArray[np.int64]:
    """Input of `net` from an .npy file."""
    try:
        return net.input.check(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as problem:
        raise ValueError(f"{path}: holds no input of this network ({problem})") from None


def _measured(
    net: FixedNet, x: NDArray[Any], placement: Placement
) -> tuple[Activity, dict[str, float]]:
    trace = engine.run(net, x, record=True)
    found = activity(net, x, trace, placement)
    return found, metrics(net, trace, found)


def _told(
    found: Activity, figures: dict[str, float], bounds: RuntimeConstants | None
) -> dict[str, Any]:
    """A run as JSON."""
    totals = found.totals()
    totals |= {
        "synapses": totals["dense"] + totals["conv"], "hops": totals["hops_x"] + totals["hops_y"]
    }  # fmt: skip
    between = band(found)
    bound = bound_of(found, bounds) if bounds else None
    return {
        "samples": found.samples, "chip_steps": found.steps, "operations": totals,
        "neurobench": figures, "layers": _layers(found, between),
        "joules": between.joules, "seconds": between.seconds,
        "estimates": [_estimate(e) for e in between.estimates],
        "bound": bound and {
            "constants": bound.constants.name, "label": bound.label,
            "seconds": bound.seconds, "missing": bound.missing, "bound_by": bound.bound_by,
        },
    }  # fmt: skip


def _estimate(e: Estimate) -> dict[str, Any]:
    c = e.constants
    return {
        "name": c.name, "label": e.label, "chip": c.chip, "process": c.process,
        "voltage": c.voltage, "status": c.status, "joules": e.joules,
        "joules_most": float(e.each.max()), "joules_a_step": e.joules / len(e.steps),
        "seconds": e.seconds, "parts": dict(e.parts),
    }  # fmt: skip


def _layers(found: Activity, between: Band) -> list[dict[str, Any]]:
    """What the cores of each set of populations do and take, a sample."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, core in enumerate(found.placement.cores):
        groups.setdefault(core.populations, []).append(number)
    rows = []
    for names, at in groups.items():
        counts = {"spikes": found.spikes, "synapses": found.synapses, "sent": found.sent}
        each = [float(e.cores[at].sum()) for e in between.estimates]
        rows.append({
            "populations": list(names), "cores": len(at), "neurons": int(found.neurons[at].sum()),
            **{k: float(n[..., at].sum()) / found.samples for k, n in counts.items()},
            "joules": (min(each), max(each)),
        })  # fmt: skip
    return rows


def layer_table(layers: list[dict[str, Any]]) -> list[list[str]]:
    """What every layer does and takes a sample, as rows for people."""
    rows = [["layer", "cores", "neurons", "spikes", "synaptic operations", "messages", "joules"]]
    for row in layers:
        low, high = row["joules"]
        rows.append([
            " + ".join(row["populations"]), str(row["cores"]), f"{row['neurons']:,}",
            *(f"{row[key]:,.1f}" for key in ("spikes", "synapses", "sent")),
            f"{low:.3g} to {high:.3g}",
        ])  # fmt: skip
    return rows


def describe_cost(result: dict[str, Any]) -> str:
    """The summary for people."""
    lines = list(result["issues"])
    lines.append(f"{result['cores']} of {result['of']} cores of {result['target']}")
    for name, run in result["runs"].items():
        lines += ["", *_described(name, run)]
    lines += [f"wrote {path}" for path in result["pictures"]]
    return "\n".join(lines)


def _described(name: str, run: dict[str, Any]) -> list[str]:
    counts = run["operations"]
    table = [["mean of a sample", ""]]
    table += [[title, f"{counts[key]:,.1f}"] for key, title in TITLES.items()]
    for e in run["estimates"]:
        rows = [["joules, " + e["name"], f"{e['joules']:.3g}"]]
        rows += [[f"  {part}", f"{joules:.3g}"] for part, joules in e["parts"].items()]
        table += [*rows, ["seconds, " + e["name"], f"{e['seconds']:.3g}"]]
    (low, high), (soon, late) = run["joules"], run["seconds"]
    lines = [
        f"{name}: {run['samples']} samples of {run['chip_steps']} chip steps",
        aligned(table),
        aligned(layer_table(run["layers"])),
        f"between {low:.3g} and {high:.3g} J, {soon:.3g} and {late:.3g} s a sample, dynamic only:",
        *(f"  {e['label']}" for e in run["estimates"]),
    ]
    if run["bound"]:
        bound = run["bound"]
        missing = ", ".join(bound["missing"]) or "nothing"
        lines.append(
            f"at least {bound['seconds']:.3g} s a sample by the max-affine model, {bound['label']};"
            f" not known: {missing}"
        )
    return lines
