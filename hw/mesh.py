"""Where cores lie on a chip's mesh, and the way of a message between them.

Cores take tiles in the order of the placement, row by row, which is our choice: where Intel's
compiler puts them is not public. Messages go along the row, then along the column (XY routing).
Chips follow one another; nothing is known about ways between them, so that those have no hops here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """What a mesh looks like. columns: tiles a row. routing: in which order a message goes along
    the axes. `sources` holds one citation for every other field; a test fails when one is missing.
    """

    cores_per_tile: int
    columns: int
    routing: str
    sources: Mapping[str, str] = field(repr=False)


_LOIHI_1 = "SANA-FE 2.2.9 loihi.yaml"
_LOIHI_2 = "arXiv 2601.10035, sections II and VI, as quoted by others"
MESH = Mesh(  # of both chips
    cores_per_tile=4,
    columns=8,
    routing="XY",
    sources={
        "cores_per_tile": f"Loihi 1: {_LOIHI_1}, 4 cores a tile; Loihi 2: {_LOIHI_2}",
        "columns": f"Loihi 1: {_LOIHI_1}, width 8, height 4; Loihi 2: {_LOIHI_2}, 8 x 4 routers",
        "routing": f"Loihi 2: {_LOIHI_2}; Loihi 1 is taken to be alike",
    },
)

Node = tuple[str, int]  # "core" or "tile", and its number among those of all chips
Link = tuple[Node, Node]  # from, to


@dataclass(frozen=True, kw_only=True)
class Way:
    """A message's way: every link that it takes, and how many of them lead from tile to tile."""

    links: tuple[Link, ...]
    hops_x: int
    hops_y: int
    leaves_chip: bool


def tiles(cores: int) -> int:
    """Tiles of a chip of so many cores: whole rows, where they take more than one, as messages also
    turn in tiles whose cores are not to be used (Hala Point's 122 of 128)."""
    needed = -(-cores // MESH.cores_per_tile)
    return needed if needed <= MESH.columns else -(-needed // MESH.columns) * MESH.columns


def tile_of(core: int, cores: int) -> int:
    """The tile of `core`, with `cores` on a chip, both counted over all chips."""
    chip, own = divmod(core, cores)
    return chip * tiles(cores) + own // MESH.cores_per_tile


def position(tile: int, cores: int) -> tuple[int, int, int]:
    """Chip, row and column of a tile."""
    chip, own = divmod(tile, tiles(cores))
    return (chip, *divmod(own, MESH.columns))


def way(source: int, target: int, cores: int) -> Way:
    """The way from core to core: along the row, then along the column; no link to itself."""
    if source == target:
        return Way(links=(), hops_x=0, hops_y=0, leaves_chip=False)
    start, end = tile_of(source, cores), tile_of(target, cores)
    (chip, row, column), (other, to_row, to_column) = position(start, cores), position(end, cores)
    nodes: list[Node] = [("tile", start)]
    if chip == other:
        right, down = (1 if to_column > column else -1), (1 if to_row > row else -1)
        for _ in range(abs(to_column - column)):
            nodes.append(("tile", nodes[-1][1] + right))
        for _ in range(abs(to_row - row)):
            nodes.append(("tile", nodes[-1][1] + down * MESH.columns))
    inner = list(pairwise(nodes))
    ends: tuple[Link, Link] = (("core", source), nodes[0]), (("tile", end), ("core", target))
    return Way(
        links=(ends[0], *inner, ends[1]),
        hops_x=abs(to_column - column) if chip == other else 0,
        hops_y=abs(to_row - row) if chip == other else 0,
        leaves_chip=chip != other,
    )
