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
from numpy.typing import NDArray

from spikeport.hw.activity import Activity
from spikeport.hw.constants import RuntimeConstants
from spikeport.hw.energy import band
from spikeport.hw.mesh import MESH, position, tile_of, tiles
from spikeport.hw.runtime import runtime
from spikeport.sim.bundle import replacing

# Where the four cores lie in their tile: x, y.
CORNERS = ((0.05, 0.05), (0.5, 0.05), (0.05, 0.5), (0.5, 0.5))
SIDE = 0.4
GAP = 1.0  # between chips, in tiles
SHAPES = 500  # cores that an SVG file draws one by one; more become an image in it
# Without a salt and with a date SVG files would differ from run to run; names are no formulae.
STYLE: dict[Any, Any] = {"svg.hashsalt": "spikeport", "font.size": 8, "text.parse_math": False}
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
NAMES = re.compile(r'( id="|url\(#|href="#)')  # in SVG, where names are given and meant


def check(folder: Path) -> None:
    """Raise ValueError in one sentence where `folder` exists already, nothing can be put into the
    folder around it, or matplotlib is missing."""
    if folder.exists():
        raise ValueError(f"{folder}: exists already; name a new folder")
    if not folder.parent.is_dir():
        raise ValueError(f"{folder}: the folder {folder.parent} does not exist; create it first")
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
    found = {"floor_plan": _floor_plan(activity), "energy": _energy(activity)}
    return found if constants is None else {**found, "roofline": _roofline(activity, constants)}


def _floor_plan(a: Activity) -> Any:
    """Every core in its place, once for each of load, traffic and energy."""
    from matplotlib.figure import Figure

    limits = a.placement.target.limits
    traffic = (a.received + a.outside + a.sent).sum(0).mean(0)
    panels: dict[str, NDArray[Any]] = {
        "load, share of the fullest limit": np.array(
            [core.use.share(limits) for core in a.placement.cores]
        ),
        "messages in and out, a sample": traffic,
        **{f"joules a sample, {e.constants.name}": e.cores for e in band(a).estimates},
    }
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(10, 3 * rows), layout="constrained")
    for i, (title, values) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, 2, i + 1)
        _cores(figure, axes, a, values)
        if title.startswith("messages"):
            most = _links(axes, a)
            title += f"\nlines: between tiles, the thickest {most:,.1f}" if most else ""
        axes.set_title(title)
    return figure


def _cores(figure: Any, axes: Any, a: Activity, values: NDArray[Any]) -> None:
    """Squares coloured by one value a core, and outlines of all tiles of the chips in use."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    per_chip, corner = a.placement.target.chip.cores, tile_corners(a)
    outlines = [Rectangle(at, 0.95, 0.95) for at in corner]
    many = len(values) > SHAPES
    tiled = PatchCollection(
        outlines, facecolor="none", edgecolor="lightgrey", linewidth=0.5, rasterized=many
    )
    axes.add_collection(tiled)
    squares = []
    for core in range(len(values)):
        x, y = corner[tile_of(core, per_chip)]
        dx, dy = CORNERS[core % per_chip % MESH.cores_per_tile]
        squares.append(Rectangle((x + dx, y + dy), SIDE, SIDE))
    filled = PatchCollection(squares, cmap="viridis", edgecolor="none", rasterized=many)
    filled.set_array(values)
    filled.set_clim(0, max(float(values.max()), 1e-30))
    axes.add_collection(filled)
    figure.colorbar(filled, ax=axes, shrink=0.8)
    axes.autoscale_view()
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.axis("off")


def tile_corners(a: Activity) -> list[tuple[float, float]]:
    """x and y of every tile of the chips in use, chips in rows that make about a square."""
    per_chip = a.placement.target.chip.cores
    chips = -(-len(a.neurons) // per_chip)
    each = [position(tile, per_chip)[1:] for tile in range(tiles(per_chip))]
    high, wide = (max(axis) + 1 + GAP for axis in zip(*each, strict=True))
    across = max(1, round((chips * high / wide) ** 0.5))
    return [
        (column + chip % across * wide, row + chip // across * high)
        for chip in range(chips)
        for row, column in each
    ]


def _links(axes: Any, a: Activity) -> float:
    """Lines between tiles, as thick as the messages a sample that both directions carry; the most
    that one carries."""
    corner = tile_corners(a)
    loads: dict[tuple[int, int], float] = {}
    for ((kind, start), (other, end)), messages in a.links.items():
        if kind == other == "tile":
            key = (min(start, end), max(start, end))
            loads[key] = loads.get(key, 0.0) + float(messages.sum()) / a.samples
    most = max(loads.values(), default=0.0)
    for (start, end), load in loads.items():
        ends = [corner[tile] for tile in (start, end)]
        xs, ys = ([at[i] + 0.475 for at in ends] for i in (0, 1))
        axes.plot(xs, ys, color="crimson", alpha=0.7, linewidth=0.3 + 3 * load / max(most, 1e-30))
    return most


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

    estimates = band(a).estimates
    names = [e.constants.name for e in estimates]
    figure = Figure(figsize=(7, 0.8 + 0.5 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(names))
    for part in estimates[0].parts:
        joules = np.array([e.parts[part] for e in estimates])
        axes.barh(names, joules, left=left, label=part)
        left += joules
    axes.set_xlabel("joules a sample, dynamic only")
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
        ylabel="seconds a chip step, at least",
    )
    figure.suptitle(fill(found.label, 90), fontsize="medium")
    if axes.has_data():
        _decades(axes)
        axes.legend()
    return figure


def _decades(axes: Any) -> None:
    """Logarithmic axes of whole decades, named in plain numbers: matplotlib's own are formulae,
    which `STYLE` switches off."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        low, high = np.floor(np.log10(axis.get_data_interval()))
        axes.set(**{f"{name}scale": "log", f"{name}lim": (10.0**low, 10.0 ** (high + 1))})
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
