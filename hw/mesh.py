"""Where cores lie on a chip's mesh, and the way of a message between them.

Both chips have tiles of four cores, 8 tiles a row, with XY routing (Loihi 2: arXiv 2601.10035,
sections II and VI, as quoted by others; Loihi 1: SANA-FE 2.2.9 loihi.yaml, width 8, height 4).
Cores take tiles in the order of the placement, row by row, which is our choice: where Intel's
compiler puts them is not public. Chips follow one another; nothing is known about ways between
them, so that those have no hops here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

CORES_PER_TILE = 4
COLUMNS = 8

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
    """Tiles of a chip of so many cores."""
    return -(-cores // CORES_PER_TILE)


def tile_of(core: int, cores: int) -> int:
    """The tile of `core`, with `cores` on a chip, both counted over all chips."""
    chip, own = divmod(core, cores)
    return chip * tiles(cores) + own // CORES_PER_TILE


def position(tile: int, cores: int) -> tuple[int, int, int]:
    """Chip, row and column of a tile."""
    chip, own = divmod(tile, tiles(cores))
    return (chip, *divmod(own, COLUMNS))


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
            nodes.append(("tile", nodes[-1][1] + down * COLUMNS))
    inner = list(pairwise(nodes))
    ends: tuple[Link, Link] = (("core", source), nodes[0]), (("tile", end), ("core", target))
    return Way(
        links=(ends[0], *inner, ends[1]),
        hops_x=abs(to_column - column) if chip == other else 0,
        hops_y=abs(to_row - row) if chip == other else 0,
        leaves_chip=chip != other,
    )
