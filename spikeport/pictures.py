"""Drawings of what a network costs: floor plan, energy band, layer table, roofline. Needs
matplotlib, which the extra `pictures` installs. The same activity gives the same bytes."""

from __future__ import annotations

import re
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from spikeport.floor_plan import floor_plan
from spikeport.hw.activity import Activity
from spikeport.hw.constants import RuntimeConstants
from spikeport.hw.energy import band
from spikeport.hw.runtime import runtime
from spikeport.sim.bundle import replacing
from spikeport.sim.files import refuse_taken

# Without a salt and with a date SVG files would differ from run to run; names are no formulae.
STYLE: dict[Any, Any] = {"svg.hashsalt": "spikeport", "font.size": 8, "text.parse_math": False}
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
NAMES = re.compile(r'( id="|url\(#|href="#)')  # in SVG, where names are given and meant


def check(folder: Path) -> None:
    """Raise ValueError in one sentence where `folder` exists already, nothing can be put into the
    folder around it, or matplotlib is missing."""
    refuse_taken(folder, what="folder")
    if find_spec("matplotlib") is None:
        raise ValueError(
            "pictures need matplotlib, which is not installed; install spikeport[pictures]"
        )


def draw(
    folder: Path,
    activity: Activity,
    layers: list[list[str]],
    constants: RuntimeConstants | None,
) -> list[str]:
    """Write floor_plan, energy and layers, and with `constants` roofline, as .svg and .png into the
    new `folder`, which appears when it is complete; their paths. layers: the layer table, its head
    first. Raises ValueError as `check` does."""
    check(folder)
    from matplotlib import rc_context

    written = []
    with replacing(folder) as beside, rc_context(STYLE):
        for name, figure in {**figures(activity, constants), "layers": _table(layers)}.items():
            for kind, metadata in (("svg", NO_METADATA), ("png", {"Software": None})):
                path = beside / f"{name}.{kind}"
                figure.savefig(path, dpi=120, metadata=metadata, bbox_inches="tight")
                written.append(str(folder / f"{name}.{kind}"))
    return written


def inline(activity: Activity, constants: RuntimeConstants | None) -> dict[str, str]:
    """`figures` as SVG elements for one HTML page; their text stays text. Needs matplotlib."""
    from matplotlib import rc_context

    found = {}
    with rc_context({**STYLE, "svg.fonttype": "none"}):
        for name, figure in figures(activity, constants).items():
            content = StringIO()
            figure.savefig(content, format="svg", dpi=120, metadata=NO_METADATA)
            svg = content.getvalue()
            # What stands before <svg only files need. The drawings of a page share its names.
            found[name] = NAMES.sub(rf"\1{name}-", svg[svg.index("<svg") :])
    return found


def figures(activity: Activity, constants: RuntimeConstants | None) -> dict[str, Any]:
    """Drawings by name: floor_plan, energy and, with `constants`, roofline."""
    found = {"floor_plan": floor_plan(activity), "energy": _energy(activity)}
    return found if constants is None else {**found, "roofline": _roofline(activity, constants)}


def _table(rows: list[list[str]]) -> Any:
    """A table as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.4 + 0.25 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    axes.set_title("means of a sample")
    table = axes.table(cellText=rows[1:], colLabels=rows[0], loc="upper center")
    table.auto_set_column_width(range(len(rows[0])))
    for row in range(1, len(rows)):
        table[row, 0].set_text_props(horizontalalignment="left")
    return figure


def _energy(a: Activity) -> Any:
    """Joules a sample by each set of constants, and what they are spent on."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    estimates = band(a).estimates
    names = [e.constants.name for e in estimates]
    figure = Figure(figsize=(7, 0.8 + 0.5 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(names))
    for part in estimates[0].parts:
        joules = np.array([e.parts[part] for e in estimates])
        axes.barh(names, joules, left=left, label=part)
        left += joules
    axes.set_xlabel("energy a sample, dynamic only")
    axes.xaxis.set_major_formatter(EngFormatter(unit="J"))
    axes.set_xlim(0, max(1.05 * float(left.max()), 1e-30))
    axes.invert_yaxis()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _roofline(a: Activity, constants: RuntimeConstants) -> Any:
    """Every chip step by the work of its busiest core, under the terms that bound it. What takes no
    time has no place on a logarithmic axis."""
    from matplotlib.figure import Figure

    found = runtime(a, constants)
    work = a.synapses.max(-1).ravel()
    points = np.stack([np.maximum(work, 1), found.steps.ravel()], axis=1)
    points = np.unique(points[points[:, 1] > 0], axis=0)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    reach = np.array([1.0, max(2.0, float(work.max()))])
    if constants.synapse is not None:
        axes.plot(reach, reach * constants.synapse, label="synapses")
    for name in ("neurons", "barrier"):
        if name in found.terms:
            axes.plot(reach, np.full(2, found.terms[name].max()), "--", label=name)
    if len(points):
        axes.scatter(points[:, 0], points[:, 1], s=8, color="black", label="chip steps")
    axes.set(
        xlabel="synaptic operations of the busiest core in a chip step, at least 1",
        ylabel="time of a chip step, at least",
    )
    figure.suptitle(fill(found.label, 90), fontsize="medium")
    if axes.has_data():
        _decades(axes)
        axes.legend()
    return figure


def _decades(axes: Any) -> None:
    """Logarithmic axes of whole decades, named in plain numbers: matplotlib's own are formulae,
    which `STYLE` switches off."""
    from matplotlib.ticker import EngFormatter, NullFormatter, StrMethodFormatter

    ways = {"x": StrMethodFormatter("{x:,.0f}"), "y": EngFormatter(unit="s")}
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        low, high = np.floor(np.log10(axis.get_data_interval()))
        axes.set(**{f"{name}scale": "log", f"{name}lim": (10.0**low, 10.0 ** (high + 1))})
        axis.set_major_formatter(ways[name])
        axis.set_minor_formatter(NullFormatter())
