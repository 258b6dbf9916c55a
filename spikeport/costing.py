"""The `cost` command: what test vectors cost on a chip, between published sets of constants, and
how much more or less other inputs and faults make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport import fitting
from spikeport.cost_report import figures, layer_table
from spikeport.hw import rules_place
from spikeport.hw.activity import Activity, activity
from spikeport.hw.constants import RuntimeConstants
from spikeport.hw.energy import Band, Estimate, band
from spikeport.hw.metrics import metrics
from spikeport.hw.place import DoesNotFitError, Placement, place
from spikeport.hw.runtime import constants
from spikeport.hw.runtime import runtime as bound_of
from spikeport.hw.target import Target
from spikeport.hw.target import target as target_of
from spikeport.sim import bundle as bundles
from spikeport.sim import engine
from spikeport.sim.bundle import Bundle
from spikeport.sim.faults import KINDS, Fault, inject
from spikeport.sim.faults.fault import ON_PROJECTIONS, SPIKE
from spikeport.sim.files import read_array
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import Trace

VECTORS = "vectors"


@dataclass(frozen=True, kw_only=True)
class Costed:
    """A network placed on a target, and what each of its `runs` does there. bounds: constants of
    the max-affine model, None where nobody named any. result: all that in numbers, JSON-able."""

    placement: Placement
    bounds: RuntimeConstants | None
    runs: dict[str, Activity]
    result: dict[str, Any]

    @property
    def layers(self) -> list[list[str]]:
        """What every layer does for the test vectors, as rows for people."""
        return layer_table(self.result["runs"][VECTORS]["layers"])


def cost(
    folder: Path, *, target: str, pictures: Path | None = None, **asked: Any
) -> dict[str, Any]:
    """What `measured` finds of the bundle in `folder` on `target` when `asked`, JSON-able;
    pictures: a new folder for drawings of it.

    Raises ValueError in one sentence for what cannot be read, drawn or placed.
    """
    if pictures is None:
        return {**measured(bundles.read(folder), target_of(target), **asked).result, "pictures": []}
    from spikeport import pictures as drawings

    drawings.check(pictures)  # before anything takes long
    found = measured(bundles.read(folder), target_of(target), **asked)
    drawn = drawings.draw(pictures, found.runs[VECTORS], found.layers, found.bounds)
    return {**found.result, "pictures": drawn}


def measured(
    bundle: Bundle, goal: Target, *, samples: int = 0, fewest: bool = False,
    runtime: str | None = None, inputs: Path | None = None, eps: str | None = None,
    sponge: str | None = None, faults: Sequence[str] = (), seed: int | None = None,
) -> Costed:  # fmt: skip
    """Operations, energy and time a sample of `bundle` on `goal`.

    samples: how many of its test vectors run, 0 for all. runtime: constants of the max-affine
    model, by name or in a TOML file; the model is left out without. Beside the vectors run, where
    they are given, inputs: an .npy file of integers [T, B, *shape]; eps: the worst images within
    that radius, as the `faults` command finds them with `seed`; sponge: the images within that
    radius of the inputs, or of the vectors where there are none, that cost the most synaptic
    operations, as far as APGD finds them with `seed`; faults: the vectors under all of these, texts
    such as "stuck:lif1:3", where weights that are not 0 are counted as programmed. Raises
    ValueError in one sentence for what cannot be read, and DoesNotFitError where all that was asked
    is well and there is no room.
    """
    bounds = constants(runtime) if runtime else None
    if samples < 0:
        raise ValueError(f"samples is {samples}; give 0 for all or a positive number")
    drawn = _seed(seed, eps=eps, sponge=sponge)
    struck, net = [fault_of(text) for text in faults], bundle.net
    shown = {VECTORS: bundle.vectors.inputs[:, : samples or None]}
    words, usual = {VECTORS: "test vectors", "inputs": str(inputs)}, VECTORS
    if inputs is not None:
        shown["inputs"], usual = _read(inputs, net), "inputs"
    placement = place(net, goal, way="fewest" if fewest else "compiled")
    if issues := list(rules_place.cores(len(placement.cores), goal)):
        raise DoesNotFitError(issues, goal.name)
    if eps is not None:
        found = _attacks().fooling(bundle, samples, eps=eps, seed=drawn)
        shown["attacked"], words["attacked"] = found
    if sponge is not None:
        x, where = shown[usual], inputs or bundle.folder
        found = _attacks().costliest(bundle, placement, x, where=where, sponge=sponge, seed=drawn)
        shown["sponge"], words["sponge"] = found
    runs = {name: (x, engine.run(net, x, record=True)) for name, x in shown.items()}
    if struck:
        words["faults"], x = "; ".join(map(str, struck)), shown[VECTORS]
        runs["faults"] = x, inject.run(net, x, struck, cores=placement.neurons())
    done = {name: activity(net, *run, placement) for name, run in runs.items()}
    told = {
        name: {
            "shown": words[name], "against": usual if name == "sponge" else VECTORS,
            **_told(net, runs[name][1], a, bounds),
        }
        for name, a in done.items()
    }  # fmt: skip
    result = _result(net, placement, told)
    return Costed(placement=placement, bounds=bounds, runs=done, result=result)


def _seed(seed: int | None, **radii: str | None) -> int:
    """`seed`, after a look at the radii that ask for it; without any 0, which nobody draws from."""
    if all(text is None for text in radii.values()):
        return 0
    if seed is None:
        raise ValueError("cost: an attack within eps or sponge draws numbers; give it a seed")
    _attacks().check(**radii)
    return seed


def _attacks() -> ModuleType:
    """`spikeport.cost_attacks`, which needs torch."""
    from spikeport import cost_attacks

    return cost_attacks


def _result(net: FixedNet, placement: Placement, told: dict[str, Any]) -> dict[str, Any]:
    """All runs and by how much they differ, as JSON."""
    goal = placement.target
    return {
        "target": goal.name, "digest": net.digest(), "cores": len(placement.cores),
        "of": goal.cores, "issues": [str(i) for i in fitting.issues(net, goal.whole)], "runs": told,
        "changes": {
            name: _changes(told[run["against"]], run)
            for name, run in told.items() if name != VECTORS
        },
    }  # fmt: skip


def fault_of(text: str) -> Fault:
    """The fault that `text` names: kind:part, and what the kind needs beside, as the table of
    `spikeport.sim.faults.fault` has it, "weight:0:17:7" for bit 7. Raises ValueError in a sentence.
    """
    kind, _, rest = text.partition(":")
    needs = KINDS.get(kind, ())
    if kind in SPIKE:
        raise ValueError(
            f"--fault {text!r}: cost counts spikes where they are sent and cannot tell what happens"
            " to them on the way; name a fault of another kind"
        )
    part, *numbers = rest.rsplit(":", len(needs)) if needs else [rest]
    if kind not in KINDS or not part or len(numbers) != len(needs):
        forms = (":".join((k, "PART", *KINDS[k])) for k in KINDS if k not in SPIKE)
        raise ValueError(f"--fault {text!r}: write one of {', '.join(forms)}")
    if not all(number.isdecimal() for number in numbers):
        raise ValueError(f"--fault {text!r}: write {', '.join(needs)} as whole numbers from 0")
    numbered = kind in (*ON_PROJECTIONS, "core") and part.isdecimal()
    values: Any = dict(zip(needs, map(int, numbers), strict=True))
    return Fault(kind=kind, part=int(part) if numbered else part, **values)


def _read(path: Path, net: FixedNet) -> NDArray[np.int64]:
    """Input of `net` from an .npy file."""
    found = read_array(path)
    try:
        return net.input.check(found)
    except ValueError as problem:
        raise ValueError(f"{path}: holds no input of this network ({problem})") from None


def _told(
    net: FixedNet, trace: Trace, found: Activity, bounds: RuntimeConstants | None
) -> dict[str, Any]:
    """A run as JSON."""
    between = band(found)
    bound = bound_of(found, bounds) if bounds else None
    return {
        "samples": found.samples, "chip_steps": found.steps, "operations": found.totals(),
        "operations_by_step": {name: each.tolist() for name, each in found.per_step().items()},
        "neurobench": metrics(net, trace, found), "layers": _layers(found, between),
        "joules": between.joules, "seconds": between.seconds,
        "estimates": [_estimate(e) for e in between.estimates],
        "bound": bound and {
            "constants": bound.constants.name, "label": bound.label,
            "seconds": bound.seconds, "missing": bound.missing, "bound_by": bound.bound_by,
        },
    }  # fmt: skip


def _changes(usual: dict[str, Any], other: dict[str, Any]) -> dict[str, float | None]:
    """By how much each figure of a run differs from the usual one, as a share of that; None where
    the usual one is 0 and the other is not."""
    pairs = zip(figures(usual).items(), figures(other).values(), strict=True)
    return {
        key: (there - here) / here if here else (None if there else 0.0)
        for (key, (_, here)), (_, there) in pairs
    }


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
    rows = []
    for names, at in found.placement.groups().items():
        counts = {"spikes": found.spikes, "synapses": found.synapses, "sent": found.sent}
        each = [float(e.cores[at].sum()) for e in between.estimates]
        rows.append({
            "populations": list(names), "cores": len(at), "neurons": int(found.neurons[at].sum()),
            **{k: float(n[..., at].sum()) / found.samples for k, n in counts.items()},
            "joules": (min(each), max(each)),
        })  # fmt: skip
    return rows
