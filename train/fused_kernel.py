"""A float population over a whole window, forward and backward, compiled.

All arrays are [T, n], contiguous and of one float type. Neurons are taken a block at a time, so
that the state of a block stays in the nearest cache for all its steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeport.sim.kernel import compiled

BLOCK = 2048


@compiled
def run_forward(
    current: Any, keep_v: Any, v_th: Any, v_init: Any, subtract: Any, noise: Any, membrane: Any,
    spikes: Any,
) -> None:  # fmt: skip
    """Fill `membrane` (U, before the reset) and `spikes` (0 or 1) from `current`.

    keep_v, v_th, v_init: scalars of the arrays' type. noise: added to U where it meets the
    threshold, or of size 0.
    """
    steps, n = current.shape
    v = np.empty(BLOCK, current.dtype)
    zero, one = current.dtype.type(0), current.dtype.type(1)
    jump = v_th if subtract else zero
    for first in range(0, n, BLOCK):
        size = min(BLOCK, n - first)
        v[:size] = v_init
        for t in range(steps):
            i, u, s = current[t, first:], membrane[t, first:], spikes[t, first:]
            for j in range(size):
                x = keep_v * v[j] + i[j]
                u[j] = x
                seen = x + noise[t, first + j] if noise.size else x
                fired = seen > v_th
                s[j] = one if fired else zero
                after = x - jump if subtract else zero
                v[j] = after if fired else x


@compiled
def run_backward(
    g_spikes: Any, g_membrane: Any, membrane: Any, seen: Any, spikes: Any, slope: Any, keep_v: Any,
    v_th: Any, v_init: Any, subtract: Any, detach_reset: Any, detach_time: Any, relative: Any,
    g_current: Any, g_keep: Any, g_th: Any, g_init: Any,
) -> None:  # fmt: skip
    """The adjoint of `run_forward`, time backward.

    g_spikes, g_membrane: gradients of the outputs. seen: the membrane as the threshold met it.
    slope: ds/dU there. Fills g_current, and adds to g_keep, g_th and g_init [n], the gradients of
    keep_v, v_th and v_init by neuron, each of size 0 where nobody asks.
    """
    steps, n = membrane.shape
    g_v = np.empty(BLOCK, membrane.dtype)
    zero, one = membrane.dtype.type(0), membrane.dtype.type(1)
    for first in range(0, n, BLOCK):
        size = min(BLOCK, n - first)
        g_v[:size] = zero
        for t in range(steps - 1, -1, -1):
            u, s, h = membrane[t, first:], spikes[t, first:], slope[t, first:]
            gs, gu, out = g_spikes[t, first:], g_membrane[t, first:], g_current[t, first:]
            if g_th.size:
                met = seen[t, first:]
                for j in range(size):
                    jump = v_th if subtract else u[j]
                    total = gs[j] if detach_reset else gs[j] - g_v[j] * jump
                    moved = total * h[j] * met[j] / v_th if relative else total * h[j]
                    g_th[first + j] -= moved + g_v[j] * s[j] if subtract else moved
            for j in range(size):
                jump = v_th if subtract else u[j]
                total = gs[j] if detach_reset else gs[j] - g_v[j] * jump
                passed = g_v[j] if subtract else g_v[j] * (one - s[j])
                g = gu[j] + total * h[j] + passed
                out[j] = g
                g_v[j] = zero if detach_time else keep_v * g
            if g_keep.size:
                for j in range(size):
                    before = v_init
                    if t:
                        x, fired = membrane[t - 1, first + j], spikes[t - 1, first + j]
                        before = x - fired * v_th if subtract else x * (one - fired)
                    g_keep[first + j] += out[j] * before
        if g_init.size:
            g_init[first : first + size] += g_v[:size]
