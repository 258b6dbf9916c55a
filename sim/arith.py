"""Integer primitives of a Loihi core, as Lava 0.10's `fixed_pt` models compute them.

Every function of states takes and returns 64-bit integer arrays and uses operators only, so that
the same formula runs on numpy arrays and torch tensors (the twin, quantisation-aware training).

Sources: lava-nc 0.10.0 `lava/proc/lif/models.py`, `lava/utils/weightutils.py`,
`lava/proc/conv/utils.py`, each measured against the running simulator.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# A numpy int64 array or a torch int64 tensor, the same kind in and out. No type says that numpy's
# and torch's operators do the same, and `sim` must not need torch: hence Any.
Ints: TypeAlias = Any

U_LIMIT = 1 << 23  # u wraps beyond +-2**23
V_LIMIT = (1 << 23) - 1  # v saturates at +-(2**23 - 1)
STATE_SHIFT = 6  # a and v_th enter the 24-bit state shifted left by 6
DECAY_ONE = 4096  # decays are 12-bit fractions
DECAY_MAX = DECAY_ONE - 1
V_TH_MAX = (1 << 17) - 1  # 17-bit mantissa
DELAY_MAX = 62  # steps beyond the one that every synapse costs; 6-bit field
DU_OFFSET = 1  # the current decay has a hidden +1, the voltage decay has none
WEIGHT_LIMIT = 256  # 8-bit magnitude plus sign
FLOAT32_EXACT = 1 << 24  # float32 holds every integer up to here
FLOAT64_EXACT = 1 << 53


def shift_to_zero(x: Ints, keep: Ints | int) -> Ints:
    """`x * keep / 4096`, rounded toward zero. keep: kept fraction, 0..4096."""
    product = x * keep
    magnitude = abs(product) >> 12
    sign = (product > 0) * 1 - (product < 0) * 1
    return sign * magnitude


def wrap_int32(x: Ints) -> Ints:
    """Two's complement wrap to 32 bits, which Lava's int32 arrays do silently."""
    return ((x + (1 << 31)) & ((1 << 32) - 1)) - (1 << 31)


def wrap_int24(x: Ints) -> Ints:
    """Two's complement wrap to 24 bits; Lava applies it to the output of `Conv` only."""
    return ((x + U_LIMIT) & (2 * U_LIMIT - 1)) - U_LIMIT


def wrap_u(x: Ints) -> Ints:
    """One wrap of the current into 24 bits, with Lava's asymmetry: -2**23 becomes +2**23.

    Further than one wrap out of range the value stays out of range, as in Lava.
    """
    x = x - (x > U_LIMIT) * (2 * U_LIMIT)
    return x + (x <= -U_LIMIT) * (2 * U_LIMIT)


def saturate_v(x: Ints) -> Ints:
    """Clip the membrane potential to +-(2**23 - 1)."""
    return x.clip(-V_LIMIT, V_LIMIT)


def shift_sum(total: Ints, w_exp: int) -> Ints:
    """Apply a weight exponent to an accumulated sum: left shift, or floor right shift.

    total: int64; narrower sums would lose bits before they are wrapped.
    """
    if w_exp >= 0:
        return wrap_int32(total << w_exp)
    return total >> -w_exp


def weight_on_chip(w: NDArray[Any]) -> NDArray[np.int16]:
    """What a Dense synapse holds after being given `w`, 8 weight bits, sign mode from the data.

    Mixed signs: clipped to [-256, 255], then floored to even (3 -> 2, -3 -> -4), because the
    lowest bit pays for the sign. One sign only: magnitude clipped to 255, nothing dropped.
    Source: lava-nc 0.10.0 `weightutils.truncate_weights`.
    """
    w = np.asarray(w)
    if w.dtype != np.int16:
        w = w.astype(np.int64).clip(-WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int16)
    if w.min(initial=0) >= 0:
        return w.clip(0, WEIGHT_LIMIT - 1)
    if w.max(initial=0) <= 0:
        return w.clip(1 - WEIGHT_LIMIT, 0)
    return (w.clip(-WEIGHT_LIMIT, WEIGHT_LIMIT - 1) >> 1) << 1
