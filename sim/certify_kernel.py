"""The tick of `sim.lif` on intervals, compiled: what a neuron can do when its input is bounded.

Every piece of the tick is monotone but for the wraps. A decay x -> x * keep / 4096 with keep >= 0,
rounded toward zero, never falls when x grows, because neither the product nor the rounding does;
adding, shifting left and saturating do not either. So the ends of an interval give the ends of the
result. The wraps are the identity with jumps, all of them downwards: an interval keeps its length
exactly if it holds no jump, and else reaches up to the top of one jump and down to the foot of one.

Intervals of whole populations are [low, high], both ends attainable in the worst case only: what
binds several neurons, or several steps, together is lost. Where a sum is the same unknown number
in every step, `sweep` keeps that: it runs one number, or one narrow cell of numbers, at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeport.sim.arith import (
    STATE_SHIFT,
    U_LIMIT,
    V_LIMIT,
    shift_to_zero,
    wrap_int32,
    wrap_u,
)
from spikeport.sim.kernel import compiled

INT32_LOW, INT32_HIGH = -(1 << 31), (1 << 31) - 1
SPAN_U = 2 * U_LIMIT
COUNT, LAST_V, SUM_V = 0, 1, 2  # places in READOUTS; the first spike is what is left

_decayed = compiled(shift_to_zero)
_wrapped = compiled(wrap_int32)
_wrapped_u = compiled(wrap_u)


@compiled
def bound_u(u_low: Any, u_high: Any, a_low: Any, a_high: Any, keep_u: Any) -> Any:
    """(low, high, whether it may wrap) of the current after a step; all int64."""
    low = _decayed(u_low, keep_u) + (a_low << STATE_SHIFT)
    high = _decayed(u_high, keep_u) + (a_high << STATE_SHIFT)
    if low > -U_LIMIT and high <= U_LIMIT:
        return low, high, False
    left, right = _wrapped(low), _wrapped(high)
    first, last = _wrapped_u(left), _wrapped_u(right)
    if last - first == high - low:
        return first, last, True
    if right - left != high - low:  # the jump of 32 bits is inside
        return INT32_LOW + SPAN_U, INT32_HIGH - SPAN_U, True
    # Both jumps inside 32 bits fall from U_LIMIT to 1 - U_LIMIT.
    return min(first, 1 - U_LIMIT), max(last, U_LIMIT), True


@compiled
def bound_v(v_low: Any, v_high: Any, u_low: Any, u_high: Any, keep_v: Any, bias: Any) -> Any:
    """(low, high, whether it may be clipped) of the potential before the reset; all int64."""
    # Nothing wraps: a current that stayed out of 24 bits is 2**24 short of 32 bits, and v and bias
    # are below 2**23 and 2**20.
    low = _decayed(v_low, keep_v) + u_low + bias
    high = _decayed(v_high, keep_v) + u_high + bias
    clipped = low < -V_LIMIT or high > V_LIMIT
    return max(min(low, V_LIMIT), -V_LIMIT), max(min(high, V_LIMIT), -V_LIMIT), clipped


@compiled
def bound_reset(low: Any, high: Any, threshold: Any, subtract: Any) -> Any:
    """(low, high) of the potential behind the reset, and whether it must and whether it may fire.

    A neuron that may do either was at `threshold` at most if it stayed silent, and above it, by one
    at least, if it fired.
    """
    if high <= threshold:
        return low, high, 0, 0
    if low > threshold:
        if subtract:
            return low - threshold, high - threshold, 1, 1
        return 0 * low, 0 * high, 1, 1
    if subtract:
        return min(low, 1), max(threshold, high - threshold), 0, 1
    return min(low, 0), threshold, 0, 1


@compiled
def bound_tick(
    u_low: Any, u_high: Any, v_low: Any, v_high: Any, a_low: Any, a_high: Any, keep_u: Any,
    keep_v: Any, threshold: Any, bias: Any, subtract: Any,
) -> Any:  # fmt: skip
    """One step of one neuron: (u_low, u_high, v_low, v_high, must fire, may fire, loose), where
    `loose` says that u may wrap or v may be clipped."""
    u_low, u_high, wraps = bound_u(u_low, u_high, a_low, a_high, keep_u)
    low, high, clips = bound_v(v_low, v_high, u_low, u_high, keep_v, bias)
    v_low, v_high, must, may = bound_reset(low, high, threshold, subtract)
    return u_low, u_high, v_low, v_high, must, may, wraps or clips


@compiled
def bound_steps(
    a_low: Any, a_high: Any, keep_u: Any, keep_v: Any, threshold: Any, bias: Any, v_init: Any,
    subtract: Any, start: Any, stop: Any, must: Any, may: Any, u_low: Any, u_high: Any, v_low: Any,
    v_high: Any, loose: Any,
) -> None:  # fmt: skip
    """Fill in steps start .. stop - 1, each from the one before.

    a_low, a_high: int64 [stop - start, B, n], sums of these steps. keep_u .. v_init: int32 [n].
    Results: must, may uint8, u_low .. v_high int32, [T, B, n]; loose bool [B, n].
    """
    for t in range(start, stop):
        for b in range(a_low.shape[1]):
            for j in range(len(v_init)):
                x_low, x_high = np.int64(0), np.int64(0)
                y_low, y_high = np.int64(v_init[j]), np.int64(v_init[j])
                if t:
                    x_low, x_high = np.int64(u_low[t - 1, b, j]), np.int64(u_high[t - 1, b, j])
                    y_low, y_high = np.int64(v_low[t - 1, b, j]), np.int64(v_high[t - 1, b, j])
                x_low, x_high, y_low, y_high, surely, maybe, out = bound_tick(
                    x_low, x_high, y_low, y_high, a_low[t - start, b, j], a_high[t - start, b, j],
                    np.int64(keep_u[j]), np.int64(keep_v[j]), np.int64(threshold[j]),
                    np.int64(bias[j]), subtract,
                )  # fmt: skip
                u_low[t, b, j], u_high[t, b, j] = x_low, x_high
                v_low[t, b, j], v_high[t, b, j] = y_low, y_high
                must[t, b, j], may[t, b, j] = surely, maybe
                loose[b, j] |= out


@compiled
def cell_shift(low: Any, high: Any, cells: Any) -> Any:
    """Smallest shift at which low .. high meets `cells` aligned cells of 1 << shift or fewer; two
    cells at least, because no such cell spans zero.

    Aligned cells nest: those of a wider interval hold those of a narrower one, so that a bound from
    more numbers is never tighter than one from fewer.
    """
    shift = 0
    while (high >> shift) - (low >> shift) >= cells:
        shift += 1
    return shift


@compiled
def sweep(
    a_low: Any, a_high: Any, keep_u: Any, keep_v: Any, threshold: Any, bias: Any, v_init: Any,
    subtract: Any, cells: Any, readout: Any, must: Any, may: Any, u_low: Any, u_high: Any,
    v_low: Any, v_high: Any, loose: Any, z_low: Any, z_high: Any,
) -> None:  # fmt: skip
    """As `bound_steps` over all steps, for sums a_low .. a_high int64 [B, n] that are one number
    each, the same in every step; exact where there are `cells` numbers or fewer.

    readout: place of the readout's kind in READOUTS; z_low, z_high int64 [B, n]: bounds of each
    neuron's score.
    """
    steps = len(must)
    for b in range(a_low.shape[0]):
        for j in range(a_low.shape[1]):
            shift = cell_shift(a_low[b, j], a_high[b, j], cells)
            first, last = a_low[b, j] >> shift, a_high[b, j] >> shift
            for cell in range(first, last + 1):
                low = max(a_low[b, j], cell << shift)
                high = min(a_high[b, j], ((cell + 1) << shift) - 1)
                fresh = cell == first
                x_low, x_high = np.int64(0), np.int64(0)
                y_low, y_high = np.int64(v_init[j]), np.int64(v_init[j])
                score_low, score_high = np.int64(0), np.int64(0)
                for t in range(steps):
                    x_low, x_high, y_low, y_high, surely, maybe, out = bound_tick(
                        x_low, x_high, y_low, y_high, low, high, np.int64(keep_u[j]),
                        np.int64(keep_v[j]), np.int64(threshold[j]), np.int64(bias[j]), subtract,
                    )  # fmt: skip
                    score_low = scored(score_low, surely, y_low, readout, steps - t)
                    score_high = scored(score_high, maybe, y_high, readout, steps - t)
                    widen(u_low, u_high, x_low, x_high, fresh, t, b, j)
                    widen(v_low, v_high, y_low, y_high, fresh, t, b, j)
                    widen(must, may, surely, maybe, fresh, t, b, j)
                    loose[b, j] |= out
                z_low[b, j] = score_low if fresh else min(z_low[b, j], score_low)
                z_high[b, j] = score_high if fresh else max(z_high[b, j], score_high)


@compiled
def widen(
    lows: Any, highs: Any, low: Any, high: Any, fresh: Any, t: Any, b: Any, j: Any
) -> None:  # fmt: skip
    """Make the interval at [t, b, j] hold low .. high, or just that if it is `fresh`."""
    lows[t, b, j] = low if fresh else min(lows[t, b, j], low)
    highs[t, b, j] = high if fresh else max(highs[t, b, j], high)


@compiled
def scored(score: Any, spike: Any, v: Any, readout: Any, left: Any) -> Any:
    """A neuron's score after one more step, with `left` steps from it to the end."""
    if readout == COUNT:
        return score + spike
    if readout == LAST_V:
        return v
    if readout == SUM_V:
        return score + v
    return left if spike and not score else score
