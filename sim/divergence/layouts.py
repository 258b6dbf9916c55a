"""Ways in which a whole block of weights is often held differently: exponents, signs, axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import WEIGHT_LIMIT, shift_sum
from spikeport.sim.divergence.forced import Ints, product, raw_sum
from spikeport.sim.net import Projection
from spikeport.sim.reference import delivered
from spikeport.sim.synapse import Conv2d, Dense, Synapse, lowered

Sums = Callable[[], Ints]


def _product(w: NDArray[np.int64], s: Ints, *, w_exp: int = 0) -> Ints:
    return np.asarray(shift_sum(product(w, s), w_exp))


def layouts(p: Projection, s: Ints) -> Iterator[tuple[str, float, Sums]]:
    """Text, bits, and the sums [T, B, n] that would be delivered of source values `s`."""
    for text, bits, factor in (
        ("it is missing", 4.0, 0),
        ("it is there twice", 5.0, 2),
        ("its signs are turned", 4.0, -1),
    ):
        yield text, bits, partial(_delivered, p.synapse, s, factor)
    if isinstance(p.synapse, Dense):
        yield from _dense(p.synapse, s)
    elif isinstance(p.synapse, Conv2d):
        yield from _conv(p.synapse, s)
    else:
        own = p.synapse.w
        near = {*range(own - 8, own + 9), 1, 2 * own, own // 2} - {own}
        for w in sorted(near & set(range(-WEIGHT_LIMIT, WEIGHT_LIMIT))):
            pool = replace(p.synapse, w=w)
            text = f"the pool's weight is {w} instead of {own}"
            yield text, 4.0, partial(_delivered, pool, s, 1)


def _delivered(synapse: Synapse, s: Ints, factor: int) -> Ints:
    sums = delivered(lowered(synapse, s.shape[2:]), factor * raw_sum(synapse, s))
    return np.asarray(sums)


def _dense(synapse: Dense, s: Ints) -> Iterator[tuple[str, float, Sums]]:
    w, chip, w_exp = synapse.w.astype(np.int64), synapse.w_chip, synapse.w_exp
    for change in (-1, 1, -2, 2):
        text = f"the weight exponent is {w_exp + change} instead of {w_exp}"
        yield text, 2.0 + abs(change), partial(_product, chip, s, w_exp=w_exp + change)
    held = {
        "odd weights keep their lowest bit": w,
        "odd weights are rounded toward zero": np.sign(w) * (np.abs(w) // 2 * 2),
        "odd weights are rounded up": -(-w // 2 * 2),
        "weights are clipped to -128..127": chip.clip(-128, 127),
        "the second lowest bit is lost": chip // 4 * 4,
        "the inputs run backwards": chip[:, ::-1],
        "the outputs run backwards": chip[::-1],
    }
    if w.shape[0] == w.shape[1]:
        held["the matrix is transposed"] = chip.T
    if s.ndim == 5:
        order = np.arange(w.shape[1]).reshape(s.shape[2:]).transpose(1, 2, 0).ravel()
        held["the inputs are taken as HWC"] = chip[:, np.argsort(order)]
        held["the inputs were laid out as HWC"] = chip[:, order]
    for text, matrix in held.items():
        if not np.array_equal(matrix, chip):
            yield text, 3.0, partial(_product, matrix, s, w_exp=w_exp)
    if w_exp < 0:
        yield "each weight is shifted before the sum", 3.0, partial(_product, chip >> -w_exp, s)


def _conv(synapse: Conv2d, s: Ints) -> Iterator[tuple[str, float, Sums]]:
    w = np.asarray(synapse.w, np.int64)
    held = {
        "kernels are flipped (convolution, not correlation)": w[..., ::-1, ::-1],
        "weights are doubled": 2 * w,
        "weights are halved": w >> 1,
        "odd weights lose their lowest bit": w >> 1 << 1,
        "weights are clipped to -128..127": w.clip(-128, 127),
    }
    if w.shape[2] == w.shape[3]:
        held["kernels are transposed"] = w.swapaxes(2, 3)
    if w.shape[0] == w.shape[1]:
        held["input and output channels are swapped"] = w.swapaxes(0, 1)
    for text, kernel in held.items():
        legal = kernel.min() >= -WEIGHT_LIMIT and kernel.max() < WEIGHT_LIMIT
        if legal and not np.array_equal(kernel, w):
            yield text, 3.5, partial(_delivered, replace(synapse, w=kernel), s, 1)
