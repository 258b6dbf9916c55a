"""The tick of `sim.lif` once more, compiled: any number of steps of a population in one pass.

All arithmetic is int32 and wraps at 2**32 exactly where Lava's int32 arrays do, so the kernel needs
no proof of its own; tests hold it to `sim.lif.tick` bit for bit, wraps and clips included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

from spikeport.sim.arith import STATE_SHIFT, U_LIMIT, V_LIMIT

Function = TypeVar("Function", bound=Callable[..., Any])

# numba types Python literals as int64; int32 constants keep the vector loops narrow.
_LIMIT_U = np.int32(U_LIMIT)
_SPAN_U = np.int32(2 * U_LIMIT)
_LIMIT_V = np.int32(V_LIMIT)
_LOW_BITS = np.int32(4095)
_STATE = np.int32(STATE_SHIFT)
_TWELVE = np.int32(12)
_SIGN = np.int32(31)


# Python's check of every divisor for zero would keep loops from being vectorised.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def compiled(function: Function) -> Function:
    """`function` compiled without the GIL, cached on disk where a cache can be written."""
    try:
        return cast(Function, njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # numba found no folder to write to: compile again in every process
        return cast(Function, njit(**_OPTIONS)(function))


@compiled
def kept_part(x: Any, keep: Any) -> Any:
    """`x * keep / 4096` rounded toward zero for any int32 `x` and `keep` in 0..4096.

    With x = 4096 h + l the quotient is h keep + l keep / 4096, and neither product leaves int32.
    Negative x round up: 4095 is added before the last shift, without a branch.
    """
    low = np.int32(np.int32(x & _LOW_BITS) * keep)
    up = np.int32(np.int32(x >> _SIGN) & _LOW_BITS)
    high = np.int32(np.int32(x >> _TWELVE) * keep)
    return np.int32(high + np.int32(np.int32(low + up) >> _TWELVE))


@compiled
def tick(u: Any, v: Any, a: Any, keep_u: Any, keep_v: Any, bias: Any) -> Any:
    """One step of one neuron before its reset: (u, v, whether u wrapped, whether v was clipped)."""
    x = np.int32(np.int32(a << _STATE) + kept_part(u, keep_u))
    wrapped = np.int32((x > _LIMIT_U) | (x <= -_LIMIT_U))
    x = np.int32(x - _SPAN_U) if x > _LIMIT_U else x
    x = np.int32(x + _SPAN_U) if x <= -_LIMIT_U else x
    y = np.int32(np.int32(kept_part(v, keep_v) + x) + bias)
    clipped = np.int32((y > _LIMIT_V) | (y < -_LIMIT_V))
    return x, np.int32(min(max(y, -_LIMIT_V), _LIMIT_V)), wrapped, clipped


@compiled
def begin(
    row: Any, start: Any, v_init: Any, u: Any, v: Any, u_last: Any, v_last: Any, v_sum: Any,
    counts: Any,
) -> None:  # fmt: skip
    """Set u and v [n] of sample `row` to what step `start` finds; other names as below."""
    if start:
        u[:] = u_last[row]
        v[:] = v_last[row]
    else:
        u[:] = 0
        v[:] = v_init
        counts[row] = 0
        if v_sum.size:
            v_sum[row] = 0


@compiled
def run_population(
    a: Any, w_exp: Any, keep_u: Any, keep_v: Any, threshold: Any, bias: Any, v_init: Any,
    subtract: Any, first: Any, start: Any, stop: Any, spikes: Any, u_last: Any, v_last: Any,
    v_sum: Any, us: Any, vs: Any, counts: Any,
) -> None:  # fmt: skip
    """Run steps start .. stop - 1 over the sums `a` [T, b, n] of samples first .. first + b - 1.

    a: float32 (exact integers below 2**24) or int32. w_exp: shift of the sums. keep_u, keep_v,
    threshold (shifted), bias (shifted), v_init: int32 [n]. Results go to the rows of these samples:
    spikes uint8 [T, B, n], u_last and v_last int32 [B, n], v_sum int64 [B, n], us and vs int32
    [T, B, n], counts int64 [B, 2] (wraps of u, clips of v). Step 0 starts afresh, later ones from
    u_last and v_last; v_sum, us and vs, and u_last of a run in one piece, may be empty where nobody
    needs them.
    """
    left, right = np.int32(max(w_exp, 0)), np.int32(max(-w_exp, 0))
    u, v = np.empty_like(v_init), np.empty_like(v_init)
    for b in range(a.shape[1]):
        begin(first + b, start, v_init, u, v, u_last, v_last, v_sum, counts)
        wraps, clips = np.int64(0), np.int64(0)
        for t in range(start, stop):
            wrapped, clipped = np.int32(0), np.int32(0)
            for j in range(len(v_init)):
                x = np.int32(np.int32(np.int32(a[t, b, j]) << left) >> right)
                u[j], y, out_u, out_v = tick(u[j], v[j], x, keep_u[j], keep_v[j], bias[j])
                wrapped += out_u
                clipped += out_v
                fired = y > threshold[j]
                after = np.int32(y - threshold[j]) if subtract else np.int32(0)
                v[j] = after if fired else y
                spikes[t, first + b, j] = fired
            wraps, clips = wraps + wrapped, clips + clipped
            if v_sum.size:
                v_sum[first + b] += v
            if us.size:
                us[t, first + b], vs[t, first + b] = u, v
        if u_last.size:
            u_last[first + b] = u
        v_last[first + b] = v
        counts[first + b, 0] += wraps
        counts[first + b, 1] += clips
