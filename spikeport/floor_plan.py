"""The floor plan: every core in its place, once for the layers and once for each figure of a core.
Needs matplotlib, as all `spikeport.pictures` do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.activity import Activity
from spikeport.hw.energy import band
from spikeport.hw.mesh import MESH, position, tile_of, tiles
from spikeport.hw.place import Placement

# Where the four cores lie in their tile: x, y.
CORNERS = ((0.05, 0.05), (0.5, 0.05), (0.05, 0.5), (0.5, 0.5))
SIDE, TILE = 0.4, 0.95
GAP = 1.0  # between chips, in tiles
SHAPES = 500  # cores that an SVG file draws one by one; more become an image in it
LINES, NAMED, LETTERS = 16, 31, 24  # of the legend: a column, layers in all, a name
Each = NDArray[Any]


def floor_plan(a: Activity) -> Any:
    """Figure of the layers on their cores, and under it the load, traffic and energy of cores."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    placement = a.placement
    limits = placement.target.limits
    panels: dict[str, Each] = {
        "load, share of the fullest limit": np.array(
            [core.use.share(limits) for core in placement.cores]
        ),
        "messages in and out, a sample": (a.received + a.outside + a.sent).sum(0).mean(0),
        **{f"joules a sample, {e.constants.name}": e.cores for e in band(a).estimates},
    }
    rows = 1 + -(-len(panels) // 2)
    figure = Figure(figsize=(10, 3 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, 2)
    tile_at = tile_corners(placement)
    core_at = core_corners(placement, tile_at)
    _layers(figure.add_subplot(grid[0, :]), placement, tile_at, core_at)
    for i, (title, values) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[1 + i // 2, i % 2])
        filled = _cores(axes, tile_at, core_at, cmap="viridis")
        filled.set_array(values)
        filled.set_clim(0, max(float(values.max()), 1e-30))
        unit = EngFormatter(unit="J") if title.startswith("joules") else None
        figure.colorbar(filled, ax=axes, shrink=0.65, format=unit)
        if title.startswith("messages"):
            most = _links(axes, a, tile_at)
            title += f"\nlines: between tiles, the thickest {most:,.1f}" if most else ""
        axes.set_title(title)
    return figure


def tile_corners(placement: Placement) -> Each:
    """float64 [tiles, 2]: x and y of every tile of the chips in use, chips in rows that make about
    a square."""
    per_chip = placement.target.chip.cores
    each = np.array([position(tile, per_chip)[:0:-1] for tile in range(tiles(per_chip))])
    wide, high = each.max(0) + 1 + GAP
    chip = np.arange(-(-len(placement.cores) // per_chip))
    across = max(1, round((len(chip) * high / wide) ** 0.5))
    first = np.stack([chip % across * wide, chip // across * high], axis=1)
    return np.asarray((first[:, None] + each).reshape(-1, 2))


def core_corners(placement: Placement, tile_at: Each) -> Each:
    """float64 [cores, 2]: x and y of every core in use; `tile_at` as `tile_corners` has it."""
    cores, per_chip = range(len(placement.cores)), placement.target.chip.cores
    inside = [CORNERS[core % per_chip % MESH.cores_per_tile] for core in cores]
    return np.asarray(tile_at[[tile_of(core, per_chip) for core in cores]] + inside)


def _cores(axes: Any, tile_at: Each, core_at: Each, **look: Any) -> Any:
    """Squares for all cores, and outlines of all tiles; what draws the cores."""
    (left, top), (right, bottom) = tile_at.min(0), tile_at.max(0) + 1
    axes.set(xlim=(left - 0.2, right + 0.2), ylim=(bottom + 0.2, top - 0.2), aspect="equal")
    axes.axis("off")
    many = len(core_at) > SHAPES
    _squares(
        axes, tile_at, TILE, rasterized=many, facecolor="none", edgecolor="lightgrey", linewidth=0.5
    )
    return _squares(axes, core_at, SIDE, rasterized=many, edgecolor="none", **look)


def _squares(axes: Any, at: Each, side: float, **look: Any) -> Any:
    """One square drawn at each of `at` [n, 2], its corner: far faster than n shapes."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path
    from matplotlib.transforms import Affine2D, AffineDeltaTransform

    drawn = PathCollection(
        [Path.unit_rectangle()], offsets=at, offset_transform=axes.transData, **look
    )
    drawn.set_transform(Affine2D().scale(side) + AffineDeltaTransform(axes.transData))
    return axes.add_collection(drawn, autolim=False)


def _layers(axes: Any, placement: Placement, tile_at: Each, core_at: Each) -> None:
    """What every core holds: a colour and, where there is room, a number each set of populations
    that share a core, and beside the plan their names."""
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    groups = placement.groups()
    colours = colormaps["tab20"](np.arange(20))
    number = np.empty(len(core_at), int)
    for i, cores in enumerate(groups.values()):
        number[cores] = i
    look = colours[number % len(colours)]
    _cores(axes, tile_at, core_at, facecolor=look)
    if len(core_at) <= SHAPES:
        size = min(7.0, 60 / float(np.ptp(tile_at[:, 1]) + 1))
        for (x, y), own in zip(core_at + SIDE / 2, number, strict=True):
            axes.text(x, y, str(own + 1), ha="center", va="center", fontsize=size)
    names = [" + ".join(names) for names in groups]
    entries = [
        Patch(
            color=colours[i % len(colours)],
            label=f"{i + 1}  {name if len(name) <= LETTERS else name[: LETTERS - 1] + '…'}",
        )
        for i, name in enumerate(names[:NAMED])
    ]
    if len(names) > NAMED:
        entries.append(Patch(color="none", label=f"and {len(names) - NAMED} more"))
    axes.set_title("layers by their cores")
    axes.legend(
        handles=entries, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False,
        ncols=-(-len(entries) // LINES),
    )  # fmt: skip


def _links(axes: Any, a: Activity, tile_at: Each) -> float:
    """Lines between tiles, as thick as the messages a sample that both directions carry; the most
    that one carries."""
    from matplotlib.collections import LineCollection

    loads: dict[tuple[int, int], float] = {}
    for ((kind, start), (other, end)), messages in a.links.items():
        if kind == other == "tile":
            key = (min(start, end), max(start, end))
            loads[key] = loads.get(key, 0.0) + float(messages.sum()) / a.samples
    if not loads:
        return 0.0
    each = np.array(list(loads.values()))
    most = float(each.max())
    width = 0.3 + 3 * each / max(most, 1e-30)
    ends = tile_at[np.array(list(loads))] + TILE / 2
    axes.add_collection(
        LineCollection(
            ends, colors="crimson", alpha=0.7, linewidths=width, rasterized=len(each) > SHAPES
        ),
        autolim=False,
    )
    return most
