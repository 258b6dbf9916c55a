"""Integer primitives against formulas written anew with Python's unbounded integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeport.sim import arith

EDGES = [0, 1, -1, 63, -64, 4095, -4096, 1 << 23, -(1 << 23), (1 << 31) - 1, -(1 << 31)]
STATES = st.one_of(st.sampled_from(EDGES), st.integers(-(1 << 31), (1 << 31) - 1))
KEPT = st.one_of(st.sampled_from([0, 1, 2048, 4095, 4096]), st.integers(0, 4096))
SUMS = st.one_of(st.sampled_from(EDGES), st.integers(-(1 << 52), 1 << 52))


def one(x: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([x], np.int64)


def wrapped(x: int, bits: int) -> int:
    """Two's complement, by counting whole turns."""
    turn = 1 << bits
    x %= turn
    return x - turn if x >= turn // 2 else x


@given(x=STATES, keep=KEPT)
def test_shift_to_zero_is_truncating_division(x: int, keep: int) -> None:
    exact = abs(x) * keep // 4096
    assert arith.shift_to_zero(one(x), keep)[0] == (exact if x >= 0 else -exact)


@given(x=SUMS)
def test_wraps_to_32_and_24_bits(x: int) -> None:
    assert arith.wrap_int32(one(x))[0] == wrapped(x, 32)
    assert arith.wrap_int24(one(x))[0] == wrapped(x, 24)


@given(x=STATES)
def test_wrap_u_turns_once(x: int) -> None:
    span = 1 << 24
    once = x - span if x > 1 << 23 else x
    expected = once + span if once <= -(1 << 23) else once
    assert arith.wrap_u(one(x))[0] == expected


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (8388608, 8388608),
        (8388609, -8388607),
        (-8388607, -8388607),
        (-8388608, 8388608),
        (3 * (1 << 23) + 64, 8388672),
    ],
)
def test_wrap_u_is_not_symmetric(x: int, expected: int) -> None:
    assert arith.wrap_u(one(x))[0] == expected


@given(x=SUMS)
def test_v_saturates_at_both_ends(x: int) -> None:
    assert arith.saturate_v(one(x))[0] == sorted([-8388607, x, 8388607])[1]


@given(total=STATES, w_exp=st.integers(-8, 7))
def test_exponent_shifts_the_sum_with_floor(total: int, w_exp: int) -> None:
    expected = wrapped(total * 2**w_exp, 32) if w_exp >= 0 else total // 2**-w_exp
    assert arith.shift_sum(one(total), w_exp)[0] == expected


@pytest.mark.parametrize(("w_exp", "expected"), [(-1, -3), (-8, -1), (0, -5), (2, -20)])
def test_exponent_on_minus_five(w_exp: int, expected: int) -> None:
    assert arith.shift_sum(one(-5), w_exp)[0] == expected


@pytest.mark.parametrize(
    ("given_weights", "held"),
    [
        (
            [21, -21, 20, -20, 255, -255, 300, -300, 1, -1],
            [20, -22, 20, -20, 254, -256, 254, -256, 0, -2],
        ),
        ([0, 1, 3, 255, 300], [0, 1, 3, 255, 255]),
        ([0, -1, -3, -255, -300], [0, -1, -3, -255, -255]),
        ([0, 0], [0, 0]),
        ([3, 5, -1], [2, 4, -2]),
    ],
    ids=["mixed", "excitatory", "inhibitory", "zero", "one negative weight changes all"],
)
def test_weights_on_chip(given_weights: list[int], held: list[int]) -> None:
    for kind in (np.int16, np.int64, np.float64):
        found = arith.weight_on_chip(np.array(given_weights, kind))
        assert found.dtype == np.int16
        assert found.tolist() == held


def test_weights_beyond_16_bits_are_clipped_not_wrapped() -> None:
    assert arith.weight_on_chip(np.array([65536, -65537])).tolist() == [254, -256]


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=20))
def test_doubled_weights_keep_full_signed_8_bits(w: list[int]) -> None:
    mixed = np.array([*w, -1, 1])
    total = one(int(arith.weight_on_chip(2 * mixed).sum()))
    assert arith.shift_sum(total, -1)[0] == mixed.sum()
