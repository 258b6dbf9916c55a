"""Compiled parts of a replay: spread what changed, add it up, live through the changed neurons.

Rows are pairs of sample and neuron, b * n + i; values of a row lie together, [rows, T]. A dense
synapse is a convolution of 1x1 maps here. Sums are int32 and wrap, so that a sum of changes is
exact whatever its order: modulo 2**32 nothing is ever lost.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeport.sim.arith import U_LIMIT, V_LIMIT
from spikeport.sim.kernel import compiled, tick


@compiled
def flipped(x: Any, bit: Any, of_u: Any) -> Any:
    """`spikeport.sim.faults.stored.flipped_state` of one int32."""
    y = (((np.int64(x) ^ (np.int64(1) << bit)) + U_LIMIT) & (2 * U_LIMIT - 1)) - U_LIMIT
    if y == -U_LIMIT:
        y = np.int64(U_LIMIT if of_u else -V_LIMIT)
    return np.int32(y)


@compiled
def touch(rows: Any, mark: Any, touched: Any, count: Any) -> Any:
    """Add `rows` that bear no mark yet to the first `count` of `touched`; the new count."""
    for row in rows:
        if not mark[row]:
            mark[row] = 1
            touched[count] = row
            count += 1
    return count


@compiled
def spread(
    rows: Any, deltas: Any, w: Any, at: Any, delay: Any, sums: Any, mark: Any, touched: Any,
    count: Any,
) -> Any:  # fmt: skip
    """Add what changed values of a source change in the sums of its targets.

    rows: int64 [m] of the source; deltas: int32 [m, T]; w: int32 [C_in, kH, kW, C_out/groups]; at:
    int64 geometry, see `spikeport.sim.faults.links`; sums: int32 [B * n_out, T]; the rest as in
    `touch`, for rows of the target. Returns the new count.
    """
    s_y, s_x, p_y, p_x, d_y, d_x, height, width, out_height, out_width, per_in, n_in, n_out = at
    per_out, steps, pixels = w.shape[3], deltas.shape[1], out_height * out_width
    for r in range(len(rows)):
        sample, i = rows[r] // n_in, rows[r] % n_in
        channel, y, x = i // (height * width), i // width % height, i % width
        first = sample * n_out + channel // per_in * per_out * pixels
        for k_y in range(w.shape[1]):
            out_y = y + p_y - k_y * d_y
            if out_y < 0 or out_y % s_y or out_y // s_y >= out_height:
                continue
            for k_x in range(w.shape[2]):
                out_x = x + p_x - k_x * d_x
                if out_x < 0 or out_x % s_x or out_x // s_x >= out_width:
                    continue
                place = first + out_y // s_y * out_width + out_x // s_x
                for o in range(per_out):
                    weight = w[channel, k_y, k_x, o]
                    if weight:
                        row = place + o * pixels
                        for t in range(steps - delay):
                            sums[row, t + delay] += deltas[r, t] * weight
                        if not mark[row]:
                            mark[row] = 1
                            touched[count] = row
                            count += 1
    return count


@compiled
def reweigh(
    sent: Any, change: Any, out: Any, k_y: Any, k_x: Any, at: Any, delay: Any, sums: Any,
    mark: Any, touched: Any, count: Any,
) -> Any:  # fmt: skip
    """Add what `change` of the one weight at (out, ., k_y, k_x) changes in the sums.

    sent: int32 [B, H * W, T], the values of the channel that the weight sees; the rest as in
    `spread`.
    """
    s_y, s_x, p_y, p_x, d_y, d_x, height, width, out_height, out_width, _, _, n_out = at
    samples, _, steps = sent.shape
    for b in range(samples):
        for out_y in range(out_height):
            y = out_y * s_y + k_y * d_y - p_y
            if y < 0 or y >= height:
                continue
            for out_x in range(out_width):
                x = out_x * s_x + k_x * d_x - p_x
                if x < 0 or x >= width:
                    continue
                row = b * n_out + (out * out_height + out_y) * out_width + out_x
                any_sent = False
                for t in range(steps - delay):
                    value = sent[b, y * width + x, t]
                    sums[row, t + delay] += value * change
                    any_sent |= value != 0
                if any_sent and not mark[row]:
                    mark[row] = 1
                    touched[count] = row
                    count += 1
    return count


@compiled
def gather(
    raw: Any, sums: Any, rows: Any, left: Any, right: Any, wraps: Any, a: Any
) -> None:  # fmt: skip
    """Add what arrives in `rows` to `a` int32 [m, T], and clear their `sums`.

    raw, sums: int32 [B * n, T], plain sums and their changes; left, right: shifts; wraps: whether
    the sum wraps at 24 bits instead.
    """
    for m in range(len(rows)):
        row = rows[m]
        for t in range(a.shape[1]):
            total = np.int32(raw[row, t] + sums[row, t])
            sums[row, t] = 0
            if wraps:
                arrived = np.int32(((total + U_LIMIT) & (2 * U_LIMIT - 1)) - U_LIMIT)
            else:
                arrived = np.int32(np.int32(total << left) >> right)
            a[m, t] = np.int32(a[m, t] + arrived)


@compiled
def live(
    a: Any, rows: Any, keep_u: Any, keep_v: Any, threshold: Any, bias: Any, v_init: Any,
    subtract: Any, held: Any, strikes: Any, before: Any, spikes: Any, v_last: Any, v_sum: Any,
    differs: Any,
) -> None:  # fmt: skip
    """Run the neurons of `rows` over the sums `a` int32 [m, T] from the start.

    keep_u .. v_init: int32 [n], as in `spikeport.sim.neurons`; held: int8 [n], -1 free, 0 dead, 1
    stuck; strikes: int64 [k, 4] of (neuron, step, bit, 1 for u or 0 for v); before: uint8
    [B * n, T], the spikes without faults. Filled in: spikes uint8 [m, T]; v_last int32 [m]; v_sum
    int64 [m]; differs uint8 [m], whether a spike differs.
    """
    n = len(v_init)
    for m in range(len(rows)):
        row = rows[m]
        j = row % n
        u, v, total = np.int32(0), v_init[j], np.int64(0)
        for t in range(a.shape[1]):
            for k in range(len(strikes)):
                if strikes[k, 0] == j and strikes[k, 1] == t:
                    if strikes[k, 3]:
                        u = flipped(u, strikes[k, 2], True)
                    else:
                        v = flipped(v, strikes[k, 2], False)
            u, y, _, _ = tick(u, v, a[m, t], keep_u[j], keep_v[j], bias[j])
            fired = y > threshold[j]
            after = np.int32(y - threshold[j]) if subtract else np.int32(0)
            v = after if fired else y
            if held[j] == 0:
                u, v, fired = np.int32(0), np.int32(0), False
            spike = np.uint8(fired or held[j] == 1)
            total += v
            spikes[m, t] = spike
            if spike != before[row, t]:
                differs[m] = 1
        v_last[m], v_sum[m] = v, total
