"""A float population over a whole window, forward and backward, compiled.

All arrays are [T, n], contiguous and of one float type; a `current` of one row stands for all
steps. Neurons are taken a block at a time, so that what a block needs stays in the nearest cache
for all its steps; the backward pass computes the potentials again there, which is cheaper than to
write them down and read them back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeport.sim.kernel import compiled
from spikeport.sim.surrogate import SURROGATES

BLOCK = 512
KINDS = tuple(SURROGATES)
TRIANGLE, RECTANGLE, ATAN, SIGMOID, SUPERSPIKE, GAUSS = range(6)


@compiled
def run_forward(
    current: Any, keep_v: Any, v_th: Any, v_init: Any, subtract: Any, noise: Any, membrane: Any,
    spikes: Any,
) -> None:  # fmt: skip
    """Fill `membrane` (U, before the reset) and `spikes` (0 or 1), each unless of size 0.

    keep_v, v_th, v_init: scalars of the arrays' type. noise: added to U where it meets the
    threshold, or of size 0.
    """
    steps, n = max(len(membrane), len(spikes)), current.shape[1]
    kinds = current.dtype
    v, u, fired = np.empty(BLOCK, kinds), np.empty(BLOCK, kinds), np.empty(BLOCK, kinds)
    zero, one = kinds.type(0), kinds.type(1)
    for first in range(0, n, BLOCK):
        size = min(BLOCK, n - first)
        v[:size] = v_init
        for t in range(steps):
            i = current[min(t, len(current) - 1), first:]
            for j in range(size):
                u[j] = keep_v * v[j] + i[j]
            if membrane.size:
                membrane[t, first : first + size] = u[:size]
            for j in range(size):
                met = u[j] + noise[t, first + j] if noise.size else u[j]
                fired[j] = one if met > v_th else zero
            if spikes.size:
                spikes[t, first : first + size] = fired[:size]
            for j in range(size):
                v[j] = u[j] - v_th * fired[j] if subtract else u[j] * (one - fired[j])


@compiled
def slopes(kind: Any, width: Any, d: Any, h: Any) -> None:
    """h = `SURROGATES[KINDS[kind]](d, width)`, see there."""
    zero, one = d.dtype.type(0), d.dtype.type(1)
    if kind == TRIANGLE:
        scale = one / (width * width)
        for j in range(len(d)):
            h[j] = max(width - abs(d[j]), zero) * scale
    elif kind == RECTANGLE:
        half, height = width / d.dtype.type(2), one / width
        for j in range(len(d)):
            h[j] = height if abs(d[j]) < half else zero
    elif kind == ATAN:
        top, slope = width / d.dtype.type(2), d.dtype.type(np.pi / 2) * width
        for j in range(len(d)):
            x = slope * d[j]
            h[j] = top / (one + x * x)
    elif kind == SIGMOID:
        for j in range(len(d)):
            x = np.exp(-abs(width * d[j]))
            h[j] = width * x / ((one + x) * (one + x))
    elif kind == SUPERSPIKE:
        for j in range(len(d)):
            x = one + width * abs(d[j])
            h[j] = one / (x * x)
    else:
        top = width * d.dtype.type(1 / np.sqrt(2 * np.pi))
        for j in range(len(d)):
            x = width * d[j]
            h[j] = top * np.exp(-x * x / d.dtype.type(2))


@compiled
def run_backward(
    g_spikes: Any, g_membrane: Any, current: Any, noise: Any, kind: Any, widths: Any,
    relative: Any, keep_v: Any, v_th: Any, v_init: Any, subtract: Any, detach_reset: Any,
    detach_time: Any, g_current: Any, g_keep: Any, g_th: Any, g_init: Any,
) -> None:  # fmt: skip
    """The adjoint of `run_forward`, time backward.

    g_spikes, g_membrane: gradients of the outputs, of size 0 where there are none. kind, widths
    [T], relative: of the surrogate. Fills g_current, [1, n] if the current is, and g_keep, g_th and
    g_init [n], the gradients of keep_v, v_th and v_init by neuron, each unless of size 0.
    """
    steps, n = len(widths), current.shape[1]
    kinds = current.dtype
    us, ss = np.empty((steps, BLOCK), kinds), np.empty((steps, BLOCK), kinds)
    v, d, h, g, g_v = (np.empty(BLOCK, kinds), np.empty(BLOCK, kinds), np.empty(BLOCK, kinds),
                       np.empty(BLOCK, kinds), np.empty(BLOCK, kinds))  # fmt: skip
    zero, one = kinds.type(0), kinds.type(1)
    unit = one / v_th if relative else one
    for first in range(0, n, BLOCK):
        size = min(BLOCK, n - first)
        part = slice(first, first + size)
        v[:size] = v_init
        for t in range(steps):
            i, u, s = current[min(t, len(current) - 1), part], us[t], ss[t]
            for j in range(size):
                u[j] = keep_v * v[j] + i[j]
            met = d
            met[:size] = u[:size]
            if noise.size:
                met[:size] += noise[t, part]
            for j in range(size):
                s[j] = one if met[j] > v_th else zero
            for j in range(size):
                v[j] = u[j] - v_th * s[j] if subtract else u[j] * (one - s[j])
        g_v[:size] = zero
        if len(current) == 1:
            g_current[0, part] = zero
        for t in range(steps - 1, -1, -1):
            u, s = us[t], ss[t]
            for j in range(size):
                d[j] = u[j] - v_th
            if noise.size:
                d[:size] += noise[t, part]
            if relative:
                for j in range(size):
                    d[j] *= unit
            slopes(kind, widths[t], d[:size], h[:size])
            if g_spikes.size:
                g[:size] = g_spikes[t, part]
            else:
                g[:size] = zero
            if not detach_reset:
                for j in range(size):
                    g[j] -= g_v[j] * (v_th if subtract else u[j])
            for j in range(size):
                g[j] *= h[j] * unit
            if g_th.size:
                of_th = g_th[part]
                for j in range(size):
                    moved = g[j] * (d[j] + one) if relative else g[j]
                    of_th[j] -= moved + g_v[j] * s[j] if subtract else moved
            for j in range(size):
                g[j] += g_v[j] if subtract else g_v[j] * (one - s[j])
            if g_membrane.size:
                g[:size] += g_membrane[t, part]
            if len(current) == 1:
                g_current[0, part] += g[:size]
            else:
                g_current[t, part] = g[:size]
            if g_keep.size:
                of_keep, x, fired = g_keep[part], us[t - 1], ss[t - 1]
                for j in range(size):
                    after = x[j] - fired[j] * v_th if subtract else x[j] * (one - fired[j])
                    of_keep[j] += g[j] * (after if t else v_init)
            keep = zero if detach_time else keep_v
            for j in range(size):
                g_v[j] = keep * g[j]
        if g_init.size:
            g_init[part] = g_v[:size]
