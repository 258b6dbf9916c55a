"""Sums over squares of maps and their adjoint, compiled; the inner passes of every pool.

Maps are rows of `width` numbers, one after another; neighbours in a row are `lanes` apart (the
number of channels where these come last, else 1). Squares are `pool` by `pool`, and `pool` divides
both sides, so that none goes over the end of a row or a map. What is given and filled are whole
rows of squares. `rows` is room for a `pool`-th of the maps: heights are summed first, over rows,
which are long.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeport.sim.kernel import compiled

BLOCK = 1 << 12


@compiled
def copy(x: Any, out: Any) -> None:
    """out = x; a loop, which is several times faster here than assigning slices."""
    for j in range(len(out)):
        out[j] = x[j]


@compiled
def add(x: Any, total: Any) -> None:
    """total += x."""
    for j in range(len(x)):
        total[j] += x[j]


@compiled
def gather(x: Any, pool: Any, width: Any, lanes: Any, factor: Any, rows: Any, out: Any) -> None:
    """out = `factor` times the sums over squares of x."""
    for y in range(len(x) // (pool * width)):
        first = y * pool * width
        total, row = rows[y * width : (y + 1) * width], x[first : first + width]
        other = x[first + width : first + 2 * width]
        for j in range(width):
            total[j] = row[j] + other[j]
        for k in range(2, pool):
            add(x[first + k * width : first + (k + 1) * width], total)
    if lanes == 1 and pool == 2:
        for j in range(len(out)):
            out[j] = (rows[2 * j] + rows[2 * j + 1]) * factor
        return
    for at in range(len(out) // lanes):
        square, left = out[at * lanes : (at + 1) * lanes], rows[at * pool * lanes :]
        right = left[lanes:]
        for c in range(lanes):
            square[c] = left[c] + right[c]
        for k in range(2, pool):
            add(left[k * lanes : (k + 1) * lanes], square)
        for c in range(lanes):
            square[c] *= factor


@compiled
def spread(g: Any, pool: Any, width: Any, lanes: Any, factor: Any, rows: Any, out: Any) -> None:
    """out = `factor` times what g holds for the square that a number belongs to."""
    if lanes == 1 and pool == 2:
        for j in range(len(g)):
            rows[2 * j] = rows[2 * j + 1] = g[j] * factor
    else:
        for at in range(len(g) // lanes):
            square, left = g[at * lanes : (at + 1) * lanes], rows[at * pool * lanes :]
            right = left[lanes:]
            for c in range(lanes):
                left[c] = right[c] = square[c] * factor
            for k in range(2, pool):
                copy(left[:lanes], left[k * lanes : (k + 1) * lanes])
    for y in range(len(out) // (pool * width)):
        row = rows[y * width : (y + 1) * width]
        for k in range(y * pool, (y + 1) * pool):
            copy(row, out[k * width : (k + 1) * width])


@compiled
def gather_all(x: Any, pool: Any, width: Any, out: Any) -> None:
    """`gather` of all of x with lanes and factor 1, a block at a time."""
    block = max(1, BLOCK // (pool * width)) * pool * width
    rows = np.empty(block // pool, x.dtype)
    for first in range(0, len(x), block):
        part = x[first : first + block]
        start = first // (pool * pool)
        sums = out[start : start + len(part) // (pool * pool)]
        gather(part, pool, width, 1, x.dtype.type(1), rows, sums)


@compiled
def spread_all(g: Any, pool: Any, width: Any, out: Any) -> None:
    """`spread` of all of g with lanes and factor 1, a block at a time."""
    block = max(1, BLOCK // (pool * width)) * pool * width
    rows = np.empty(block // pool, g.dtype)
    for first in range(0, len(out), block):
        part = out[first : first + block]
        start = first // (pool * pool)
        sums = g[start : start + len(part) // (pool * pool)]
        spread(sums, pool, width, 1, g.dtype.type(1), rows, part)
