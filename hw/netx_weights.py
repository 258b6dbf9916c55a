"""What becomes of a NetX file's dense weights on their way into Lava's synapses.

lava-dl 0.6 shifts a matrix up to fill the synapse and counts the bits it needs; Lava 0.10 looks at
the signs again, clips and drops bits. Both steps are followed here to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.lava_limits import LavaLimitError
from spikeport.sim.arith import WEIGHT_LIMIT, weight_on_chip

Matrix = NDArray[np.int64]

BITS = 8


@dataclass(frozen=True, kw_only=True)
class Held:
    """Matrices as Lava's synapses hold them, and the exponent of them all: the weights that
    count are `parts * 2**w_exp`. parts: int64, in -256..255. w_exp: -8..0."""

    parts: tuple[Matrix, ...]
    w_exp: int

    def changed(self, *weights: Matrix) -> int:
        """How many of `weights`, the matrices of the file, are held as something else."""
        pairs = zip(self.parts, weights, strict=True)
        return sum(int((part != w << -self.w_exp).sum()) for part, w in pairs)


def load(*weights: Matrix) -> Held:
    """What lava-dl and Lava hold of integer matrices [n_out, n_in] that are quantised together
    (a recurrent layer's two; else one).

    Raises LavaLimitError, half a sentence without a place, where nothing useful is left: NetX
    cannot load zeros, makes zeros of one-signed weights beyond 255 and nine-bit weights of odd
    ones.
    """
    joint = np.hstack(weights)
    low, high = int(joint.min()), int(joint.max())
    if low == high == 0:
        raise LavaLimitError("all weights are 0, which NetX cannot load; drop the layer")
    if low < 0 < high:
        weights = tuple(w.clip(-WEIGHT_LIMIT, WEIGHT_LIMIT - 2) for w in weights)
        low, high = max(low, -WEIGHT_LIMIT), min(high, WEIGHT_LIMIT - 2)
    signed = low < 0 <= high  # a layer whose largest weight is 0 counts as signed
    shift = int(np.floor(np.log2(_scale(low, high)))) + signed
    if shift < 0:
        raise LavaLimitError(
            f"weights span {low}..{high}; NetX makes zeros of weights of one sign beyond 255, so"
            " quantise to less"
        )
    joint = np.hstack(weights)
    zeros = next(n for n in range(BITS, -1, -1) if not (joint % (1 << n)).any())
    bits = BITS - shift - (zeros - signed)
    parts = tuple(_in_synapse(w << shift, bits) for w in weights)
    if any((part != weight_on_chip(part)).any() for part in parts):
        raise LavaLimitError(
            f"weights span {low}..{high} with odd ones; beyond -128..127 Lava's simulator keeps"
            " nine bits of them, which no chip has, so quantise to even weights"
        )
    if not any(part.any() for part in parts):
        raise LavaLimitError(
            f"weights span {low}..{high}; Lava makes zeros of all of them, so quantise to others"
        )
    return Held(parts=parts, w_exp=-shift)


def _scale(low: int, high: int) -> float:
    """By how much NetX could multiply weights in low..high."""
    if high < 0:
        return -256 / low
    if low >= 0:
        return 255 / high
    negative = -128 / low
    return min(127 / high, negative) if high else negative


def _in_synapse(w: Matrix, bits: int) -> Matrix:
    """`w` after Lava has clipped it and dropped all but `bits` bits; its signs decide how."""
    if w.min() < 0 < w.max():
        drop = BITS + 1 - bits
        return w.clip(-WEIGHT_LIMIT, WEIGHT_LIMIT - 1) >> drop << drop
    drop = BITS - bits
    if drop < 0:  # a shift by a negative number, which leaves nothing
        return np.zeros_like(w)
    magnitude = abs(w).clip(0, WEIGHT_LIMIT - 1) >> drop << drop
    return magnitude if w.max() > 0 else -magnitude
