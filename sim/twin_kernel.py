"""The passes of the twins over time, compiled: integer and float neurons, and the adjoint of both.

Sums and spikes are floats, because torch multiplies floats; between them integer neurons live by
`sim.kernel.tick`, so they are the chip's bit for bit. Neurons are taken a block at a time, so that
their state stays in the nearest cache for all steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeport.sim.kernel import compiled, tick
from spikeport.sim.squares_kernel import add, copy
from spikeport.sim.surrogate_kernel import slopes

BLOCK = 4096

PERIOD = 1 << 26  # sums that differ by it are the same in 32 bits, once shifted by STATE_SHIFT


@compiled
def live_integers(
    a: Any, keep_u: Any, keep_v: Any, threshold: Any, bias: Any, v_init: Any, subtract: Any,
    resume: Any, spikes: Any, fired: Any, u_last: Any, v_last: Any, v_sum: Any, counts: Any,
) -> None:  # fmt: skip
    """Live through the steps of `spikes` [T, B, n] by sums a [T, B, n], or [1, B, n] for each step.

    keep_u, keep_v, threshold (shifted), bias (shifted), v_init: int32 [n]. Filled: spikes and fired
    (v before the reset), both of a's float type; u_last float64, v_last of a's type, v_sum float64,
    all [B, n]; counts int64 [2] (wraps of u, clips of v). With `resume`, u_last and v_last hold
    the state to begin with.
    """
    steps, batch, n = spikes.shape
    # Loops over few arrays, all near: over more of them compilers do not prove that none overlap.
    x, u, v, y, total = (
        np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32),
        np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int64),
    )  # fmt: skip
    for b in range(batch):
        for low in range(0, n, BLOCK):
            size = min(BLOCK, n - low)
            part = slice(low, low + size)
            k_u, k_v, th, shift = keep_u[part], keep_v[part], threshold[part], bias[part]
            for j in range(size):
                u[j] = np.int32(u_last[b, low + j]) if resume else np.int32(0)
                v[j] = np.int32(v_last[b, low + j]) if resume else v_init[low + j]
                total[j] = 0
            for t in range(steps):
                arrive(a[t if len(a) > 1 else 0, b, part], x[:size])
                wraps, clips = ticks(u[:size], v[:size], x, k_u, k_v, shift, y)
                counts[0] += wraps
                counts[1] += clips
                fire(y[:size], th, subtract, v[:size], spikes[t, b, part], fired[t, b, part])
                add(v[:size], total[:size])
            keep(u[:size], v[:size], total[:size], u_last[b, part], v_last[b, part], v_sum[b, part])


@compiled
def keep(u: Any, v: Any, total: Any, u_last: Any, v_last: Any, v_sum: Any) -> None:
    """Write down the state that a block ends with."""
    copy(u, u_last)
    copy(v, v_last)
    copy(total, v_sum)


@compiled
def arrive(a: Any, x: Any) -> None:
    """x = sums `a`, floats that carry integers, as the chip's int32 shifts them."""
    period, share = a.dtype.type(PERIOD), a.dtype.type(1 / PERIOD)
    for j in range(len(x)):
        x[j] = np.int32(a[j] - np.trunc(a[j] * share) * period)


@compiled
def ticks(u: Any, v: Any, x: Any, keep_u: Any, keep_v: Any, bias: Any, y: Any) -> Any:
    """Carry u on by one step of sums x, and v to `y`, which is before the reset; how many wrapped
    and were clipped."""
    wraps, clips = np.int32(0), np.int32(0)
    for j in range(len(u)):
        u[j], y[j], wrapped, clipped = tick(u[j], v[j], x[j], keep_u[j], keep_v[j], bias[j])
        wraps += wrapped
        clips += clipped
    return wraps, clips


@compiled
def live_floats(
    a: Any, keep_u: Any, keep_v: Any, threshold: Any, bias: Any, v_init: Any, subtract: Any,
    resume: Any, spikes: Any, fired: Any, u_last: Any, v_last: Any, v_sum: Any,
) -> None:  # fmt: skip
    """`live_integers` for neurons as `sim.floating` defines them; all arrays of one float type."""
    steps, batch, n = spikes.shape
    kind = a.dtype
    zero = kind.type(0)
    u, v, y, total = (
        np.empty(BLOCK, kind), np.empty(BLOCK, kind), np.empty(BLOCK, kind), np.empty(BLOCK, kind),
    )  # fmt: skip
    for b in range(batch):
        for low in range(0, n, BLOCK):
            size = min(BLOCK, n - low)
            part = slice(low, low + size)
            k_u, k_v, th, shift = keep_u[part], keep_v[part], threshold[part], bias[part]
            for j in range(size):
                total[j] = zero
                u[j] = u_last[b, low + j] if resume else zero
            for j in range(size):
                v[j] = v_last[b, low + j] if resume else v_init[low + j]
            for t in range(steps):
                row = a[t if len(a) > 1 else 0, b, part]
                s, f = spikes[t, b, part], fired[t, b, part]
                step(u[:size], v[:size], row, k_u, k_v, shift, y[:size])
                fire(y[:size], th, subtract, v[:size], s, f)
                add(v[:size], total[:size])
            keep(u[:size], v[:size], total[:size], u_last[b, part], v_last[b, part], v_sum[b, part])


@compiled
def step(u: Any, v: Any, a: Any, keep_u: Any, keep_v: Any, bias: Any, y: Any) -> None:
    """Carry u on by one step of sums `a`, and v to `y`, which is before the reset."""
    for j in range(len(u)):
        u[j] = keep_u[j] * u[j] + a[j]
    for j in range(len(y)):
        y[j] = keep_v[j] * v[j] + u[j] + bias[j]


@compiled
def fire(y: Any, threshold: Any, subtract: Any, v: Any, spikes: Any, fired: Any) -> None:
    """v after the reset, `spikes` and, as they are, `fired`, from `y`, v before the reset."""
    zero, one = spikes.dtype.type(0), spikes.dtype.type(1)
    for j in range(len(y)):
        spikes[j] = one if y[j] > threshold[j] else zero
    copy(y, fired)
    silence = y.dtype.type(0)
    for j in range(len(y)):
        after = y.dtype.type(y[j] - threshold[j]) if subtract else silence
        v[j] = after if y[j] > threshold[j] else y[j]


@compiled
def slopes_at(
    kind: Any, width: Any, given: Any, fired: Any, threshold: Any, unit: Any, d: Any, h: Any
) -> None:  # fmt: skip
    """h = ds/dv where v is `fired` before the reset, or as `given`, if that is not of size 0; d:
    the distance to the threshold."""
    if len(given):
        for j in range(len(h)):
            h[j] = given[j]
        return
    for j in range(len(d)):
        d[j] = (fired[j] - threshold[j]) / unit[j]
    slopes(kind, width, d, h)
    for j in range(len(h)):
        h[j] /= unit[j]


@compiled
def leave(
    g: Any, g_u: Any, g_v: Any, keep_u: Any, keep_v: Any, gain: Any, adds: Any, g_a: Any
) -> None:
    """Carry `g`, the gradient of v before the reset, to the state one step before, g_u and g_v, and
    to the sums, whose gradient is set or, if it `adds`, added to."""
    for j in range(len(g)):
        g_u[j] += g[j]
        g_v[j] = keep_v[j] * g[j]
    if adds:
        for j in range(len(g)):
            g_a[j] += g_u[j] * gain
    else:
        for j in range(len(g)):
            g_a[j] = g_u[j] * gain
    for j in range(len(g)):
        g_u[j] *= keep_u[j]


@compiled
def look_back(
    fired: Any, kind: Any, width: Any, slopes: Any, g_spikes: Any, g_fired: Any, g_v_sum: Any,
    keep_u: Any, keep_v: Any, threshold: Any, unit: Any, rate: Any, offset: Any, gain: Any,
    subtract: Any, detach_reset: Any, g_a: Any, g_u: Any, g_v: Any, g_threshold: Any, g_bias: Any,
) -> None:  # fmt: skip
    """The adjoint of both, with the surrogate of that `kind` and `width` (`surrogate_kernel`), or
    with `slopes` ds/dv [T or 1, B, n] if they are not of size 0.

    fired, g_spikes [T, B, n], g_fired (or of size 0) and g_v_sum [B, n] (or of size 0): v before
    the reset, and gradients of the results. g_u, g_v [B, n]: those of the last state, replaced by
    those of the first. keep_u, keep_v, threshold, unit (of d) [n]. A threshold moves a
    spike by fired * rate + offset [n] times the slope. gain: v per unit of a sum. Filled: g_a,
    [T, B, n] or [1, B, n] for the sum of all steps. Added to, if not of size 0: g_threshold and
    g_bias, float64 [n].
    """
    (steps, batch, n), kinds = fired.shape, fired.dtype
    zero = kinds.type(0)
    through, g = np.empty(BLOCK, kinds), np.empty(BLOCK, kinds)
    d, h = np.empty(BLOCK, kinds), np.empty(BLOCK, kinds)
    for b in range(batch):
        for low in range(0, n, BLOCK):
            size = min(BLOCK, n - low)
            k_u, k_v, th, per = keep_u[low:], keep_v[low:], threshold[low:], unit[low:]
            gu, gv = g_u[b, low:], g_v[b, low:]
            for t in range(steps - 1, -1, -1):
                f, gs = fired[t, b, low:], g_spikes[t, b, low:]
                given = slopes[min(t, len(slopes) - 1), b, low:] if slopes.size else h[:0]
                slopes_at(kind, width, given, f, th, per, d[:size], h[:size])
                if g_v_sum.size:
                    for j in range(size):
                        gv[j] += g_v_sum[b, low + j]
                for j in range(size):
                    left, jump = gv[j], th[j] if subtract else f[j]
                    through[j] = (gs[j] if detach_reset else gs[j] - left * jump) * h[j]
                    resets = f[j] > th[j] and not subtract
                    g[j] = through[j] + (zero if resets else left)
                if g_fired.size:
                    for j in range(size):
                        g[j] += g_fired[t, b, low + j]
                if g_bias.size:
                    for j in range(size):
                        g_bias[low + j] += g[j]
                if g_threshold.size:
                    for j in range(size):
                        moved = through[j] * (f[j] * rate[low + j] + offset[low + j])
                        kept = gv[j] if subtract and f[j] > th[j] and not detach_reset else zero
                        g_threshold[low + j] -= moved + kept
                at = t if len(g_a) > 1 else 0
                adds = len(g_a) < steps and t < steps - 1
                leave(g[:size], gu, gv, k_u, k_v, gain, adds, g_a[at, b, low:])
