"""Drawings of what a network costs: floor plan, layer table, roofline. Needs matplotlib, which the
extra `pictures` installs. The same activity gives the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.activity import Activity
from spikeport.hw.constants import RuntimeConstants
from spikeport.hw.energy import band
from spikeport.hw.mesh import CORES_PER_TILE, position, tile_of, tiles
from spikeport.hw.runtime import runtime

# Where the four cores lie in their tile: x, y.
CORNERS = ((0.05, 0.05), (0.5, 0.05), (0.05, 0.5), (0.5, 0.5))
SIDE = 0.4
GAP = 1.0  # between chips, in tiles


def draw(
    folder: Path,
    activity: Activity,
    layers: list[list[str]],
    constants: RuntimeConstants | None,
) -> list[str]:
    """Write floor_plan and layers, and with `constants` roofline, as .svg and .png into a new
    `folder`; their paths. layers: the layer table, its head first. Raises ValueError where
    matplotlib is missing."""
    try:
        from matplotlib import rc_context
    except ImportError:
        raise ValueError(
            "pictures need matplotlib, which is not installed; install spikeport[pictures]"
        ) from None
    folder.mkdir(parents=True)
    written = []
    # Without a salt and with a date SVG files would differ from run to run.
    with rc_context({"svg.hashsalt": "spikeport", "font.size": 8}):
        drawn = {"floor_plan": _floor_plan(activity), "layers": _table(layers)}
        if constants is not None:
            drawn["roofline"] = _roofline(activity, constants)
        for name, figure in drawn.items():
            for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                path = folder / f"{name}.{kind}"
                figure.savefig(path, dpi=120, metadata=metadata)
                written.append(str(path))
    return written


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
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        _cores(figure, axes, a, values)
        if title.startswith("messages"):
            _links(axes, a)
        axes.set_title(title)
    return figure


def _cores(figure: Any, axes: Any, a: Activity, values: NDArray[Any]) -> None:
    """Squares coloured by one value a core, and outlines of all tiles of the chips in use."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    per_chip = a.placement.target.chip.cores
    chips = -(-len(values) // per_chip)
    outlines = [
        Rectangle(_corner(tile, per_chip), 0.95, 0.95) for tile in range(chips * tiles(per_chip))
    ]
    axes.add_collection(PatchCollection(outlines, facecolor="none", edgecolor="lightgrey"))
    squares = []
    for core in range(len(values)):
        x, y = _corner(tile_of(core, per_chip), per_chip)
        dx, dy = CORNERS[core % per_chip % CORES_PER_TILE]
        squares.append(Rectangle((x + dx, y + dy), SIDE, SIDE))
    filled = PatchCollection(squares, cmap="viridis", edgecolor="none")
    filled.set_array(values)
    filled.set_clim(0, max(float(values.max()), 1e-30))
    axes.add_collection(filled)
    figure.colorbar(filled, ax=axes, shrink=0.8)
    axes.autoscale_view()
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.axis("off")


def _corner(tile: int, per_chip: int) -> tuple[float, float]:
    """x and y of a tile, chips below one another."""
    chip, row, column = position(tile, per_chip)
    _, last, _ = position(tiles(per_chip) - 1, per_chip)
    return float(column), row + chip * (last + 1 + GAP)


def _links(axes: Any, a: Activity) -> None:
    """Lines between tiles, as thick as what both directions carry."""
    per_chip = a.placement.target.chip.cores
    loads: dict[tuple[int, int], float] = {}
    for ((kind, start), (other, end)), messages in a.links.items():
        if kind == other == "tile":
            key = (min(start, end), max(start, end))
            loads[key] = loads.get(key, 0.0) + float(messages.sum())
    most = max(loads.values(), default=1.0) or 1.0
    for (start, end), load in loads.items():
        ends = [_corner(tile, per_chip) for tile in (start, end)]
        xs, ys = ([at[i] + 0.475 for at in ends] for i in (0, 1))
        axes.plot(xs, ys, color="crimson", alpha=0.7, linewidth=0.3 + 3 * load / most)


def _table(rows: list[list[str]]) -> Any:
    """A table as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.4 + 0.25 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    axes.table(cellText=rows[1:], colLabels=rows[0], loc="center")
    return figure


def _roofline(a: Activity, constants: RuntimeConstants) -> Any:
    """Every chip step by the work of its busiest core, under the terms that bound it."""
    from matplotlib.figure import Figure

    found = runtime(a, constants)
    work = a.synapses.max(-1).ravel()
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    reach = np.array([1.0, max(2.0, float(work.max()))])
    if constants.synapse is not None:
        axes.plot(reach, reach * constants.synapse, label="synapses")
    for name in ("neurons", "barrier"):
        if name in found.terms:
            axes.plot(reach, np.full(2, found.terms[name].max()), "--", label=name)
    axes.scatter(np.maximum(work, 1), found.steps.ravel(), s=8, color="black", label="chip steps")
    axes.set(
        xscale="log", yscale="log", xlabel="synaptic operations of the busiest core",
        ylabel="seconds, at least", title=found.label,
    )  # fmt: skip
    axes.legend()
    return figure
