"""`sim.twin_rules.Assg` once more, compiled; tests hold it to its formula there."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeport.sim.kernel import compiled

BLOCK = 4096


@compiled
def sharpen(
    fired: Any, threshold: Any, unit: Any, mean: Any, spread: Any, memory: Any, rho: Any,
    omega: Any, slopes: Any,
) -> None:  # fmt: skip
    """Fill slopes ds/dv [T, B, n], and update the running means of |d| and of its deviation in
    place, both [B, T, n]. fired [T, B, n]: v before the reset; threshold, unit [n]; memory: share
    that the means keep, 1 to leave them as they are. All arrays and numbers of one float type."""
    steps, batch, n = fired.shape
    d, far = np.empty(BLOCK, fired.dtype), np.empty(BLOCK, fired.dtype)
    for b in range(batch):
        for t in range(steps):
            for low in range(0, n, BLOCK):
                part = slice(low, min(low + BLOCK, n))
                size = part.stop - low
                measure(fired[t, b, part], threshold[part], unit[part], d[:size], far[:size])
                learn(far[:size], mean[b, t, part], spread[b, t, part], memory)
                bend(d[:size], mean[b, t, part], spread[b, t, part], rho, omega, slopes[t, b, part])
                for j in range(size):
                    slopes[t, b, low + j] /= unit[low + j]


@compiled
def measure(fired: Any, threshold: Any, unit: Any, d: Any, far: Any) -> None:
    """d: distance to the threshold in thresholds; far: |d|."""
    for j in range(len(d)):
        d[j] = (fired[j] - threshold[j]) / unit[j]
    for j in range(len(d)):
        far[j] = abs(d[j])


@compiled
def learn(far: Any, mean: Any, spread: Any, memory: Any) -> None:
    """Carry the running means on by `far`."""
    new = far.dtype.type(1) - memory
    for j in range(len(far)):
        mean[j] = memory * mean[j] + new * far[j]
    if new > 0:
        for j in range(len(far)):
            spread[j] = memory * spread[j] + new * abs(far[j] - mean[j])


@compiled
def bend(d: Any, mean: Any, spread: Any, rho: Any, omega: Any, h: Any) -> None:
    """h: of arctangents as steep as the means allow."""
    kinds = d.dtype
    one, half, tiny = kinds.type(1), kinds.type(0.5), kinds.type(1e-4)
    turn = kinds.type(np.pi / 2)
    for j in range(len(d)):
        h[j] = omega / (mean[j] + rho * spread[j] + tiny)
    for j in range(len(d)):
        x = turn * h[j] * d[j]
        h[j] = half * h[j] / (one + x * x)
