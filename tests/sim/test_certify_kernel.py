"""The tick on intervals against the tick on every number in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spikeport.sim.certify_kernel import bound_reset, bound_u, bound_v
from spikeport.sim.lif import LifParameters, tick

HALF = 1 << 23
KEEPS = st.one_of(st.sampled_from([0, 1, 4095]), st.integers(0, 4095))
EDGES = [
    0, 64, HALF, HALF - 60, -HALF, 20 - HALF, 3 * HALF, -3 * HALF, (1 << 31) - 30, 30 - (1 << 31),
    (1 << 32) + HALF,
]  # fmt: skip


def ticked(u: Any, v: Any, a: Any, **change: Any) -> Any:
    p: dict[str, Any] = {"du": 0, "dv": 0, "v_th": 100, "bias": np.int64(0)} | change
    return tick(np.asarray(u, np.int64), np.asarray(v, np.int64), np.asarray(a), LifParameters(**p))


def check_u(*, centre: int, a: int, width: int, keep: int) -> None:
    """`bound_u` around `centre` is the hull of what every current in the interval becomes."""
    u = np.arange(centre, centre + width + 1)
    new = ticked(u, 0 * u, a, du=4095 - keep)
    low, high, wraps = bound_u(
        np.int64(u[0]), np.int64(u[-1]), np.int64(a), np.int64(a), np.int64(keep)
    )
    assert (low, high) == (new.u.min(), new.u.max())
    assert wraps >= new.wrapped.any()
    # 32 bits that wrapped first count too, although a run does not tell.
    assert wraps <= (new.wrapped.any() or abs(64 * a) > 1 << 31)


def check_v(*, v: int, u: int, width: int, keep: int, bias: int) -> None:
    values = np.arange(v, v + width + 1)
    # The decay of u takes nothing from what arrives at once.
    new = ticked(0 * values, values, u, dv=4096 - keep, bias=np.int64(bias))
    low, high, clips = bound_v(
        np.int64(v), np.int64(v + width), np.int64(u * 64), np.int64(u * 64), np.int64(keep),
        np.int64(bias),
    )  # fmt: skip
    assert (low, high) == (new.v_fired.min(), new.v_fired.max())
    assert clips == new.clipped.any()


def check_reset(*, low: int, high: int, v_th: int, subtract: bool) -> None:
    values = np.arange(low, high + 1)
    reset = "subtract" if subtract else "zero"
    new = ticked(0 * values, values, 0, v_th=v_th, reset=reset)
    found = bound_reset(np.int64(low), np.int64(high), np.int64(v_th << 6), subtract)
    assert found == (new.v.min(), new.v.max(), new.s.min(), new.s.max())


@given(st.sampled_from(EDGES), st.integers(-80, 80), st.integers(0, 90), KEEPS)
@example(HALF, 0, 0, 4095)
@example(-HALF, 0, 0, 4095)
@example((1 << 32) + HALF, 0, 2, 4095)
def test_current(edge: int, off: int, width: int, keep: int) -> None:
    a, rest = divmod(edge, 64)
    check_u(centre=rest + off, a=a, width=width, keep=keep)


@given(
    st.integers(-HALF + 1, HALF - 200),
    st.integers(1 - (1 << 17), 1 << 17),  # -(1 << 17) would wrap to 1 << 17
    st.integers(0, 90),
    st.integers(1, 4096),
    st.sampled_from([-(1 << 19), -7, 0, 4095 << 7]),
)
@example(HALF - 100, 0, 90, 4096, 50)
@example(1 - HALF, 0, 90, 4096, -50)
def test_potential(v: int, u: int, width: int, keep: int, bias: int) -> None:
    check_v(v=v, u=u, width=width, keep=keep, bias=bias)


@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("v_th", [0, 2])
def test_reset(subtract: bool, v_th: int) -> None:
    for low in range(-20, 300, 7):
        for high in range(low, 301, 5):
            check_reset(low=low, high=high, v_th=v_th, subtract=subtract)
    for low, high in ((127, 128), (128, 128), (128, 129), (129, 129), (0, 0), (0, 1), (1, 1)):
        check_reset(low=low, high=high, v_th=v_th, subtract=subtract)


def test_a_current_beyond_32_bits_may_be_anything() -> None:
    # a << 6 runs from -2**31 - 64 to 2**31: both ends jump, and all between them is there.
    a = 1 << 25
    low, high, wraps = bound_u(np.int64(0), np.int64(0), np.int64(-a - 1), np.int64(a), np.int64(0))
    # One wrap of 24 bits brings 32 bits nearer by 2**24, from either end.
    assert (low, high, wraps) == (-(1 << 31) + (1 << 24), (1 << 31) - 1 - (1 << 24), True)


@pytest.mark.parametrize(("first", "last"), [(0, 390_000), (-390_000, 390_000), (-390_000, 20)])
def test_a_wide_current_reaches_both_sides_of_the_jump(first: int, last: int) -> None:
    a = np.arange(first, last + 1)
    new = ticked(0 * a, 0 * a, a).u
    low, high, wraps = bound_u(
        np.int64(0), np.int64(0), np.int64(first), np.int64(last), np.int64(0)
    )
    # Sums enter 64 apart, the hull ends where the jump does.
    assert low <= new.min() < low + 64
    assert high - 64 < new.max() <= high
    assert wraps
