"""A float population over a whole window, forward and backward, compiled.

Currents are [T, n] and contiguous, all arrays of one float type; a `current` of one row stands for
all steps. Neurons are taken a block at a time, so that what a block needs stays in the nearest
cache for all its steps; the backward pass computes the potentials again there, which is cheaper
than to write them down and read them back. Spikes may leave averaged over squares of maps, `pool`
by `pool`, of rows of `width` neurons; a block then is so many rows that no square is cut. The
channels of maps come last, which puts neighbours in a row `lanes` apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeport.sim.kernel import compiled
from spikeport.sim.squares_kernel import add, copy, gather, spread
from spikeport.sim.surrogate_kernel import slopes

BLOCK = 4096


@compiled
def run_forward(
    current: Any, keep_v: Any, v_th: Any, v_init: Any, subtract: Any, noise: Any, block: Any,
    pool: Any, width: Any, lanes: Any, start: Any, stop: Any, membrane: Any, spikes: Any,
) -> None:  # fmt: skip
    """Fill `membrane` (U, before the reset) and `spikes` (0 or 1, or their averages), each unless
    of size 0, of the neurons from `start` to `stop`.

    keep_v, v_th, v_init: scalars of the arrays' type. noise: added to U where it meets the
    threshold, or of size 0.
    """
    steps = max(len(membrane), len(spikes))
    us, met = np.empty((steps, block), current.dtype), np.empty((steps, block), current.dtype)
    fired, rows = np.empty(block, current.dtype), np.empty(block // pool, current.dtype)
    share = current.dtype.type(1) / current.dtype.type(pool * pool)
    if noise.size == 0:
        met = us
    for first in range(start, stop, block):
        size = min(block, stop - first)
        live(current, keep_v, v_th, v_init, subtract, noise, first, size, us, met)
        for t in range(steps):
            if membrane.size:
                copy(us[t, :size], membrane[t, first : first + size])
            if spikes.size and pool > 1:
                above(met[t], v_th, fired[:size])
                area = pool * pool
                means = spikes[t, first // area : (first + size) // area]
                gather(fired[:size], pool, width, lanes, share, rows, means)
            elif spikes.size:
                above(met[t], v_th, spikes[t, first : first + size])


@compiled
def live(
    current: Any, keep_v: Any, v_th: Any, v_init: Any, subtract: Any, noise: Any, first: Any,
    size: Any, us: Any, met: Any,
) -> None:  # fmt: skip
    """Potentials `us` [T, block] of `size` neurons from the `first` on, before the reset, and what
    of them meets the threshold, `met` (the same array where there is no noise)."""
    zero = current.dtype.type(0)
    v = np.empty(size, current.dtype)
    v[:] = v_init
    for t in range(len(us)):
        i, u, m = current[min(t, len(current) - 1), first : first + size], us[t], met[t]
        for j in range(size):
            u[j] = keep_v * v[j] + i[j]
        if noise.size:
            m[:size] = u[:size] + noise[t, first : first + size]
        if subtract:
            for j in range(size):
                v[j] = u[j] - v_th if m[j] > v_th else u[j]
        else:
            for j in range(size):
                v[j] = zero if m[j] > v_th else u[j]


@compiled
def above(met: Any, v_th: Any, spikes: Any) -> None:
    """1 where the threshold is exceeded, else 0."""
    zero, one = met.dtype.type(0), met.dtype.type(1)
    for j in range(len(spikes)):
        spikes[j] = one if met[j] > v_th else zero


@compiled
def arrived(
    g_spikes: Any, t: Any, first: Any, pool: Any, width: Any, lanes: Any, rows: Any, g: Any
) -> None:  # fmt: skip
    """g = the gradient of the spikes of step t from neuron `first` on; 0 if g_spikes is empty."""
    size, area = len(g), pool * pool
    if g_spikes.size == 0:
        g[:] = g.dtype.type(0)
    elif pool > 1:
        share = g.dtype.type(1) / g.dtype.type(area)
        means = g_spikes[t, first // area : (first + size) // area]
        spread(means, pool, width, lanes, share, rows, g)
    else:
        copy(g_spikes[t, first : first + size], g)


@compiled
def left_behind(g: Any, keep: Any, g_v: Any) -> None:
    """g_v = the gradient of what the step before left, from `g`, that of this one's potentials."""
    for j in range(len(g)):
        g_v[j] = keep * g[j]


@compiled
def slopes_at(kind: Any, width: Any, met: Any, v_th: Any, unit: Any, d: Any, h: Any) -> None:
    """h = ds/dU where `met` meets the threshold; unit: distances d to it per membrane unit."""
    for j in range(len(d)):
        d[j] = (met[j] - v_th) * unit
    slopes(kind, width, d, h)
    for j in range(len(h)):
        h[j] *= unit


@compiled
def through_threshold(
    u: Any, met: Any, h: Any, g_v: Any, v_th: Any, unit: Any, subtract: Any, detach_reset: Any,
    relative: Any, g: Any, g_th: Any,
) -> None:  # fmt: skip
    """Turn g, the gradient of a step's spikes, into that of its potentials u, and take what it
    means for the threshold off g_th, unless of size 0. g_v: of what the step leaves behind."""
    zero, one = g.dtype.type(0), g.dtype.type(1)
    if not detach_reset:
        for j in range(len(g)):
            g[j] -= g_v[j] * (v_th if subtract else u[j])
    if g_th.size:
        for j in range(len(g)):
            moved = g[j] * h[j] * (met[j] * unit if relative else one)
            lost = g_v[j] if subtract and met[j] > v_th else zero
            g_th[j] -= moved + lost
    if subtract:
        for j in range(len(g)):
            g[j] = g[j] * h[j] + g_v[j]
    else:
        for j in range(len(g)):
            left = g_v[j]  # taken first: a load that depends on a choice is slow
            g[j] = g[j] * h[j] + (zero if met[j] > v_th else left)


@compiled
def add_kept(u: Any, met: Any, g: Any, v_th: Any, subtract: Any, g_keep: Any) -> None:
    """Add what the gradient g of a step's potentials means for the decay of those before, u."""
    zero = g.dtype.type(0)
    for j in range(len(g)):
        reset = u[j] - v_th if subtract else zero
        g_keep[j] += g[j] * (reset if met[j] > v_th else u[j])


@compiled
def run_backward(
    g_spikes: Any, g_membrane: Any, current: Any, noise: Any, kind: Any, widths: Any,
    relative: Any, keep_v: Any, v_th: Any, v_init: Any, subtract: Any, detach_reset: Any,
    detach_time: Any, block: Any, pool: Any, width: Any, lanes: Any, start: Any, stop: Any,
    g_current: Any, g_keep: Any, g_th: Any, g_init: Any,
) -> None:  # fmt: skip
    """The adjoint of `run_forward`, time backward, for the neurons from `start` to `stop`.

    g_spikes, g_membrane: gradients of the outputs, of size 0 where there are none. kind, widths
    [T], relative: of the surrogate. Fills g_current, [1, n] if the current is, and g_keep, g_th and
    g_init [n], the gradients of keep_v, v_th and v_init by neuron, each unless of size 0.
    """
    steps, kinds = len(widths), current.dtype
    us, met = np.empty((steps, block), kinds), np.empty((steps, block), kinds)
    if noise.size == 0:
        met = us
    h, g, g_v = np.empty(block, kinds), np.empty(block, kinds), np.empty(block, kinds)
    rows, d = np.empty(block // pool, kinds), np.empty(block, kinds)
    zero, one = kinds.type(0), kinds.type(1)
    unit = one / v_th if relative else one
    keep = zero if detach_time else keep_v
    for first in range(start, stop, block):
        size = min(block, stop - first)
        part = slice(first, first + size)
        live(current, keep_v, v_th, v_init, subtract, noise, first, size, us, met)
        g_v[:size] = zero
        if len(current) == 1:
            g_current[0, part] = zero
        for t in range(steps - 1, -1, -1):
            u, m = us[t], met[t]
            slopes_at(kind, widths[t], m[:size], v_th, unit, d[:size], h[:size])
            arrived(g_spikes, t, first, pool, width, lanes, rows, g[:size])
            through_threshold(
                u[:size], m[:size], h[:size], g_v[:size], v_th, unit, subtract, detach_reset,
                relative, g[:size], g_th[part] if g_th.size else g_th,
            )  # fmt: skip
            if g_membrane.size:
                add(g_membrane[t, part], g[:size])
            if len(current) == 1:
                add(g[:size], g_current[0, part])
            else:
                copy(g[:size], g_current[t, part])
            if g_keep.size and t:
                add_kept(us[t - 1], met[t - 1], g[:size], v_th, subtract, g_keep[part])
            elif g_keep.size:
                g_keep[part] += g[:size] * v_init
            left_behind(g[:size], keep, g_v[:size])
        if g_init.size:
            g_init[part] = g_v[:size]
