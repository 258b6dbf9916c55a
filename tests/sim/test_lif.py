"""The tick against vectors taken from running Lava by hand, and properties of its states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spikeport.sim.lif import LifParameters, Tick, tick

DECAYS = st.one_of(st.sampled_from([0, 1, 2047, 4094, 4095]), st.integers(0, 4095))
CURRENTS = st.lists(st.integers(-(1 << 17), 1 << 17), min_size=1, max_size=20)


def parameters(**changed: Any) -> LifParameters:
    return LifParameters(**{"du": 4095, "dv": 2048, "v_th": 30, "bias": 0} | changed)


def ticks(a: list[int], *, p: LifParameters, u: int = 0, v: int = 0) -> list[Tick]:
    state, trace = (np.array([u]), np.array([v])), []
    for value in a:
        new = tick(*state, np.array([value]), p)
        state = (new.u, new.v)
        trace.append(new)
    return trace


def potentials(a: list[int], **settings: Any) -> list[int]:
    v = settings.pop("v", 0)
    return [int(new.v[0]) for new in ticks(a, p=parameters(**settings), v=v)]


def test_one_spike_leaks_away() -> None:
    decay = [1344, 672, 336, 168, 84, 42, 21, 10, 5, 2]
    assert potentials([0, 21] + [0] * 9) == [0, *decay]
    assert potentials([0, -21] + [0] * 9) == [0, *(-v for v in decay)]


@pytest.mark.parametrize(
    ("v", "expected"),
    [(1000, [500, 250, 125, 62, 31, 15, 7, 3, 1, 0]), (-3, [-1, 0])],
)
def test_leak_rounds_toward_zero(v: int, expected: list[int]) -> None:
    assert potentials([0] * len(expected), v=v) == expected


@pytest.mark.parametrize(("v", "dv", "expected"), [(-7, 1000, -5), (7, 1000, 5), (1, 1, 0)])
def test_leak_of_small_potentials(v: int, dv: int, expected: int) -> None:
    assert potentials([0], v=v, dv=dv) == [expected]


def test_bias_is_not_shifted() -> None:
    expected = [640, 960, 1120, 1200, 1240, 1260, 1270, 1275, 1277, 1278, 1279, 1279]
    assert potentials([0] * 12, bias=10 << 6) == expected
    assert potentials([1], bias=1) == [65]


@pytest.mark.parametrize(("a", "fires"), [(30, 0), (31, 1), (32, 1)])
def test_threshold_is_strict(a: int, fires: int) -> None:
    (new,) = ticks([a], p=parameters())
    assert (new.s[0], new.v[0]) == (fires, 0 if fires else 30 << 6)
    assert new.v_fired[0] == a << 6


@pytest.mark.parametrize(
    ("a", "u", "wrapped"),
    [
        (1 << 17, 8388608, False),
        ((1 << 17) + 1, -8388544, True),
        (-(1 << 17), 8388608, True),
        (3 * (1 << 17) + 1, 8388672, True),
        (1 << 25, -2130706432, True),  # -2**31 after the overflow, lifted by 2**24
    ],
)
def test_current_at_the_edges(a: int, u: int, wrapped: bool) -> None:
    (new,) = ticks([a], p=parameters())
    assert (new.u[0], bool(new.wrapped[0])) == (u, wrapped)


def test_current_decays_even_with_du_zero() -> None:
    trace = ticks([100, 0, 0], p=parameters(du=0))
    assert [int(new.u[0]) for new in trace] == [6400, 6398, 6396]
    assert [int(new.u[0]) for new in ticks([100, 0], p=parameters())] == [6400, 0]


def test_potential_is_clipped_and_still_fires_at_the_highest_threshold() -> None:
    up = ticks([131000, 131000], p=parameters(dv=0, v_th=131071))
    assert [bool(new.clipped[0]) for new in up] == [False, True]
    assert (up[1].v_fired[0], up[1].s[0]) == (8388607, 1)
    down = ticks([-131000, -131000], p=parameters(dv=0))
    assert (down[1].v[0], bool(down[1].clipped[0])) == (-8388607, True)


def test_reset_by_subtraction_happens_once() -> None:
    (new,) = ticks([100], p=parameters(v_th=30, reset="subtract"))
    assert (new.s[0], new.v[0]) == (1, (100 - 30) << 6)


@given(a=CURRENTS, du=DECAYS, dv=DECAYS, bias=st.integers(-524288, 524160))
def test_potential_stays_below_24_bits(a: list[int], du: int, dv: int, bias: int) -> None:
    for new in ticks(a, p=parameters(du=du, dv=dv, bias=bias)):
        assert abs(new.v_fired[0]) < 1 << 23
        assert new.v[0] == 0 or not new.s[0]


@given(a=CURRENTS, du=DECAYS, dv=DECAYS, cut=st.integers(0, 20))
def test_a_run_may_be_cut_anywhere(a: list[int], du: int, dv: int, cut: int) -> None:
    p = parameters(du=du, dv=dv)
    first = ticks(a[:cut], p=p)
    u, v = (int(first[-1].u[0]), int(first[-1].v[0])) if first else (0, 0)
    rest = ticks(a[cut:], p=p, u=u, v=v)
    assert [new.v[0] for new in ticks(a, p=p)] == [new.v[0] for new in first + rest]


@given(a=CURRENTS, du=DECAYS, dv=DECAYS, bias=st.integers(-4096, 4096))
def test_negated_input_negates_the_states(a: list[int], du: int, dv: int, bias: int) -> None:
    silent = {"du": du, "dv": dv, "v_th": 1 << 20}
    plus = ticks([x // 64 for x in a], p=parameters(bias=bias, **silent))
    minus = ticks([-(x // 64) for x in a], p=parameters(bias=-bias, **silent))
    assume(not any(new.wrapped[0] for new in plus))
    assert [(-new.u[0], -new.v[0]) for new in plus] == [(new.u[0], new.v[0]) for new in minus]


@given(u=st.integers(-(1 << 23) + 1, 1 << 23), du=DECAYS)
def test_current_without_input_falls_to_zero(u: int, du: int) -> None:
    (new,) = ticks([0], p=parameters(du=du), u=u)
    assert abs(new.u[0]) < abs(u) or u == 0
