"""The `report` command: one HTML page about a bundle on a chip.

The page needs nothing but itself: drawings stand in it as SVG. It holds what `check` and `cost`
find, every number that they rest on with its source, and what the export wrote into the bundle. The
same bundle and the same question give the same bytes. Needs jinja2 and matplotlib, which the extra
`report` installs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spikeport import checking, costing
from spikeport.cost_report import cost_table, labels
from spikeport.costing import VECTORS, Costed
from spikeport.hw.constants import SETS, as_proxy
from spikeport.hw.mesh import MESH
from spikeport.hw.place import DoesNotFitError
from spikeport.hw.target import Target
from spikeport.hw.target import target as target_of
from spikeport.sim import bundle as bundles
from spikeport.sim.bundle import Bundle
from spikeport.sim.describe import describe
from spikeport.sim.files import refuse_taken, write_text
from spikeport.tables import describe_rung

NEEDED = ("jinja2", "matplotlib")
# By a number's name, or its beginning.
UNITS = {
    "joules_": "J", "seconds_": "s", "neuron": "s", "synapse": "s", "word": "s", "barrier": "s",
    "link_bits": "bit/s",
}  # fmt: skip
Rows = list[list[str]]


def report(
    folder: Path, out: Path, *, target: str, fewest: bool = False, **asked: Any
) -> dict[str, Any]:
    """Write the page about the bundle in `folder` on `target` to the new file `out`; a JSON
    summary. asked: what else `spikeport.costing.measured` may be asked.

    A network without room on the target gets a page without its cost, if all that was asked could
    be looked at. Raises ValueError in one sentence where `out` exists, a package is missing or
    something cannot be read.
    """
    refuse_taken(out, what="file")
    bundle, goal = bundles.read(folder), target_of(target)
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ValueError(
            f"a report needs {' and '.join(missing)}, not installed here; install spikeport[report]"
        )
    checked = checking.checked(bundle.net, goal, fewest=fewest)
    costed = None
    with suppress(DoesNotFitError):  # the rules say so
        costed = costing.measured(bundle, goal, fewest=fewest, **asked)
    write_text(out, page(bundle, goal, checked=checked, costed=costed))
    return {"passed": checked["passed"], "out": str(out), "target": goal.name}


def page(bundle: Bundle, goal: Target, *, checked: dict[str, Any], costed: Costed | None) -> str:
    """The page as HTML. checked: the result of `checking.checked`; costed: None where the network
    has no room."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = (files("spikeport") / "report.html").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        name=bundle.folder.resolve().name,
        target=goal.name,
        network=describe(bundle.net),
        digest=bundle.net.digest(),
        checked=checked,
        cost=costed and _cost(costed),
        chip=[
            *_numbers(("chip", goal.chip), ("core", goal.core), ("mesh", MESH)),
            ["chips", str(goal.chips), goal.source],
        ],
        exported=_exported(bundle),
        files=bundle.files,
    )


def _cost(costed: Costed) -> dict[str, Any]:
    """What the page shows of a cost: tables, drawings, and the numbers it rests on."""
    from spikeport.pictures import inline

    run, bounds = costed.result["runs"][VECTORS], costed.bounds
    return {
        "runs": costed.result["runs"],
        "table": cost_table(costed.result),
        "layers": costed.layers,
        "labels": labels(run),
        "estimates": _estimates(run["estimates"], costed.placement.target),
        "drawings": inline(costed.runs[VECTORS], bounds),
        "constants": _numbers(*((s.name, s) for s in SETS)),
        "bounds": _numbers((bounds.name, bounds)) if bounds else [],
    }


def _estimates(estimates: list[dict[str, Any]], goal: Target) -> Rows:
    """What each set of constants says of a sample, and what that stands for."""
    head = ["constants", "chip", "process", "voltage", "status", "J a sample", "s a sample"]
    return [head] + [
        [
            e["name"], e["chip"] + as_proxy(e["chip"], goal.chip.name), e["process"], e["voltage"],
            e["status"], f"{e['joules']:.3g}", f"{e['seconds']:.3g}",
        ]
        for e in estimates
    ]  # fmt: skip


def _numbers(*tables: tuple[str, Any]) -> Rows:
    """Every number of named tables that carry their `sources`: what it is, value, source."""
    return [["number", "value", "source"]] + [
        [f"{name}: {f.name}", _shown(f.name, getattr(table, f.name)), table.sources[f.name]]
        for name, table in tables
        for f in fields(table)
        if f.name != "sources"
    ]


def _shown(name: str, value: Any) -> str:
    """A value with its unit."""
    if isinstance(value, tuple) and name == "barrier":
        return ", ".join(f"{tiles} tiles: {_shown(name, seconds)}" for tiles, seconds in value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if value is None:
        return "not known"
    unit = UNITS.get(name) or UNITS.get(name.partition("_")[0] + "_", "")
    return f"{value:.6g} {unit}" if unit else str(value)


def _exported(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """What the export found, as far as the bundle holds it: title and text."""
    if "report.txt" in bundle.files:
        yield "Rounding, and the proof that nothing overflows", _text(bundle, "report.txt")
    if "fidelity.json" in bundle.files:
        yield "Fidelity at export", _fidelity(bundle)


def _fidelity(bundle: Bundle) -> str:
    """The comparisons that the export made, a line each."""
    text = _text(bundle, "fidelity.json")
    try:
        found = json.loads(text)
        lines = [describe_rung(rung) for rung in found["rungs"]]
        lines += [f"{each['rung']} did not run: {each['reason']}" for each in found["missing"]]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{bundle.path('fidelity.json')}: is damaged; export again") from None
    return "\n".join(lines) or "nothing was compared"


def _text(bundle: Bundle, name: str) -> str:
    try:
        return bundle.path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{bundle.path(name)}: is no UTF-8 text; export again") from None


def describe_page(result: dict[str, Any]) -> str:
    """The summary for people."""
    verdict = "fits" if result["passed"] else "does not fit"
    return f"wrote {result['out']}: the network {verdict} {result['target']}"
