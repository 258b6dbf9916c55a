"""The surrogates of `sim.surrogate` once more, compiled; tests hold each to its formula there."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeport.sim.kernel import compiled

KINDS = ("triangle", "rectangle", "atan", "sigmoid", "superspike", "gauss")
TRIANGLE, RECTANGLE, ATAN, SIGMOID, SUPERSPIKE, GAUSS = range(6)


@compiled
def slopes(kind: Any, width: Any, d: Any, h: Any) -> None:
    """h = `SURROGATES[KINDS[kind]](d, width)`, all of one float type. If `h` were `d`, compilers
    could not show that no entry needs another and would take them one by one."""
    kinds = h.dtype
    zero, one, two = kinds.type(0), kinds.type(1), kinds.type(2)
    if kind == TRIANGLE:
        scale = one / (width * width)
        for j in range(len(h)):
            h[j] = max(width - abs(d[j]), zero) * scale
    elif kind == RECTANGLE:
        half, height = width / two, one / width
        for j in range(len(h)):
            h[j] = height if abs(d[j]) < half else zero
    elif kind == ATAN:
        top, steep = width / two, kinds.type(np.pi / 2) * width
        for j in range(len(h)):
            x = steep * d[j]
            h[j] = top / (one + x * x)
    elif kind == SIGMOID:
        for j in range(len(h)):
            x = np.exp(-abs(width * d[j]))
            h[j] = width * x / ((one + x) * (one + x))
    elif kind == SUPERSPIKE:
        for j in range(len(h)):
            x = one + width * abs(d[j])
            h[j] = one / (x * x)
    else:
        top = width * kinds.type(1 / np.sqrt(2 * np.pi))
        for j in range(len(h)):
            x = width * d[j]
            h[j] = top * np.exp(-x * x / two)
