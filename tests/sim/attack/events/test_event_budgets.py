"""The legal trains around a train, held to every train of tiny grids."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeport.sim.attack.events import FlipBudget, RetimingBudget
from spikeport.sim.attack.events.budget import flips_of
from spikeport.sim.attack.guard import EVENT_NORMS

STEPS, PLACES = 3, 2
CELLS = STEPS * PLACES
Train = tuple[int, ...]


def grid(train: Any) -> torch.Tensor:
    """[1, 3, 2] of six cells."""
    return torch.tensor([train], dtype=torch.float32).reshape(1, STEPS, PLACES)


def legal_trains(x0: Train, fields: dict[str, Any]) -> list[Train]:
    """Every train within a flip budget, found by trying all."""
    found = []
    for x in itertools.product(range(fields["largest"] + 1), repeat=CELLS):
        changed = [a != b for a, b in zip(x, x0, strict=True)]
        steps = [sum(changed[i : i + PLACES]) for i in range(0, CELLS, PLACES)]
        fits = sum(changed) <= fields["flips"]
        fits &= fields["per_step"] is None or max(steps) <= fields["per_step"]
        fits &= fields["add"] or all(a <= b for a, b in zip(x, x0, strict=True))
        fits &= fields["delete"] or all(a >= b for a, b in zip(x, x0, strict=True))
        if fits:
            found.append(x)
    return found


limits = st.fixed_dictionaries({
    "flips": st.integers(0, 4),
    "per_step": st.sampled_from([None, 1, 2]),
    "largest": st.integers(1, 2),
    "way": st.sampled_from([(True, True), (True, False), (False, True)]),
})  # fmt: skip


def fields_of(drawn: dict[str, Any]) -> dict[str, Any]:
    fields = dict(drawn)
    fields["add"], fields["delete"] = fields.pop("way")
    return fields


@given(drawn=limits, k0=st.lists(st.integers(0, 2), min_size=CELLS, max_size=CELLS),
       wish=st.lists(st.integers(-8, 16), min_size=CELLS, max_size=CELLS))  # fmt: skip
def test_legal_is_the_nearest_of_all_legal_trains(
    drawn: dict[str, Any], k0: list[int], wish: list[int]
) -> None:
    fields = fields_of(drawn)
    assert_nearest(FlipBudget(**fields), fields, k0, wish)


def assert_nearest(budget: Any, fields: dict[str, Any], k0: list[int], wish: list[int]) -> None:
    """Wishes are quarters, on which distances are exact."""
    x0 = tuple(min(k, fields["largest"]) for k in k0)
    x = [w / 4 for w in wish]
    legal = budget.legal(grid(x), grid(x0))
    found = tuple(int(v) for v in legal.flatten())
    every = legal_trains(x0, fields)
    assert found in every
    distances = [sum((a - b) ** 2 for a, b in zip(x, train, strict=True)) for train in every]
    assert sum((a - b) ** 2 for a, b in zip(x, found, strict=True)) == min(distances)
    assert torch.equal(budget.legal(legal, grid(x0)), legal)
    assert float(budget.measure(legal, grid(x0))) == sum(
        a != b for a, b in zip(found, x0, strict=True)
    )
    budget.check(legal)


@given(drawn=limits, gains=st.lists(
    st.sampled_from([-math.inf, *range(-3, 4)]), min_size=CELLS, max_size=CELLS
))  # fmt: skip
def test_chosen_cells_sum_to_the_most(drawn: dict[str, Any], gains: list[float]) -> None:
    fields = fields_of(drawn)
    chosen = FlipBudget(**fields).chosen(grid(gains)).flatten().tolist()
    per_step = fields["per_step"] or PLACES
    sums: dict[int, list[float]] = {}
    for mask in itertools.product((False, True), repeat=CELLS):
        steps = [sum(mask[i : i + PLACES]) for i in range(0, CELLS, PLACES)]
        gain = sum(g for g, m in zip(gains, mask, strict=True) if m)
        if sum(mask) <= fields["flips"] and max(steps) <= per_step and gain > -math.inf:
            sums.setdefault(sum(mask), []).append(gain)
    assert sum(chosen) == max(sums)
    assert sum(g for g, m in zip(gains, chosen, strict=True) if m) == max(sums[max(sums)])


def test_equal_cells_are_taken_in_their_order() -> None:
    chosen = FlipBudget(flips=2).chosen(grid([0, 1, 0, 1, 1, 0]))
    assert chosen.flatten().tolist() == [False, True, False, True, False, False]


def test_wishes_beyond_all_numbers_are_taken_as_they_are_meant() -> None:
    x0 = grid([0, 1, 0, 1, 0, 1])
    wish = grid([math.inf, math.inf, -math.inf, -math.inf, math.nan, math.nan])
    assert FlipBudget(flips=6).legal(wish, x0).flatten().tolist() == [1, 1, 0, 0, 0, 1]
    assert FlipBudget(flips=1).legal(wish, x0).flatten().tolist() == [1, 1, 0, 1, 0, 1]


def test_cells_are_aimed_as_far_as_they_may_go() -> None:
    x0, up = grid([0, 1, 2, 3, 1, 1]), grid([1, 1, 1, 1, -1, 0])
    both, add, delete = (
        FlipBudget(flips=1, largest=3, add=add, delete=delete)
        for add, delete in ((True, True), (True, False), (False, True))
    )
    assert both.aimed(up, x0).flatten().tolist() == [3, 3, 3, 3, 0, 1]
    assert add.aimed(up, x0).flatten().tolist() == [3, 3, 3, 3, 1, 1]
    assert delete.aimed(up, x0).flatten().tolist() == [0, 1, 2, 3, 0, 1]
    assert both.toggled(x0).flatten().tolist() == [3, 0, 0, 0, 0, 0]
    assert add.toggled(x0).flatten().tolist() == [3, 3, 3, 3, 3, 3]
    assert delete.toggled(x0).flatten().tolist() == [0, 0, 0, 0, 0, 0]


def test_radius_says_whether_anything_may_change() -> None:
    assert [FlipBudget(flips=k).radius for k in (0, 1, 9)] == [0, 1, 1]
    assert [RetimingBudget(eps=k, norm="moves").radius for k in (0, 1, 9)] == [0, 1, 1]


def test_norms_are_those_that_the_guard_knows() -> None:
    norms = [RetimingBudget(eps=1, norm=norm).norm for norm in ("shift", "total_shift", "moves")]
    assert (FlipBudget(flips=1).norm, *norms) == EVENT_NORMS


def retimings(x0: Train) -> dict[Train, list[list[int]]]:
    """Every train that moves of the packets of x0 lead to, with the shifts of each way there."""
    packets = [(s, j, x0[s * PLACES + j]) for s in range(STEPS) for j in range(PLACES)]
    packets = [packet for packet in packets if packet[2]]
    found: dict[Train, list[list[int]]] = {}
    for bins in itertools.product(range(STEPS), repeat=len(packets)):
        cells = [t * PLACES + j for t, (_, j, _) in zip(bins, packets, strict=True)]
        if len(set(cells)) == len(cells):
            x = [0] * CELLS
            for cell, (_, _, value) in zip(cells, packets, strict=True):
                x[cell] = value
            shifts = [abs(t - s) for t, (s, _, _) in zip(bins, packets, strict=True)]
            found.setdefault(tuple(x), []).append(shifts)
    return found


SIZES: dict[str, Callable[[list[int]], int]] = {
    "shift": lambda shifts: max(shifts, default=0),
    "total_shift": sum,
    "moves": lambda shifts: sum(s > 0 for s in shifts),
}
trains = st.lists(st.integers(0, 2), min_size=CELLS, max_size=CELLS)


@pytest.mark.parametrize("norm", SIZES)
@given(k0=trains, k=trains)
def test_a_retiming_is_as_large_as_the_smallest_way_to_it(
    norm: str, k0: list[int], k: list[int]
) -> None:
    assert_smallest(RetimingBudget, norm, tuple(k0))
    size = float(RetimingBudget(eps=1, norm=norm).measure(grid(k), grid(k0)))
    assert (size < math.inf) == (tuple(k) in retimings(tuple(k0)))


def assert_smallest(kind: Any, norm: str, k0: Train) -> None:
    every = retimings(k0)
    x = torch.cat([grid(train) for train in every])
    sizes = kind(eps=1, norm=norm).measure(x, grid(k0).expand_as(x))
    assert sizes.tolist() == [min(map(SIZES[norm], ways)) for ways in every.values()]


@pytest.mark.parametrize("norm", SIZES)
@given(k0=trains, wish=st.lists(st.integers(-2, 9), min_size=CELLS, max_size=CELLS),
       eps=st.integers(0, 3))  # fmt: skip
def test_legal_retimings_are_within_the_budget(
    norm: str, k0: list[int], wish: list[int], eps: int
) -> None:
    budget, x0 = RetimingBudget(eps=eps, norm=norm), grid(k0)
    x = torch.cat([grid([w / 3 for w in wish]), grid(k0).flip(1)])
    x0 = x0.expand_as(x)
    legal = budget.legal(x, x0)
    every = retimings(tuple(k0))
    for train in legal:
        ways = every[tuple(int(v) for v in train.flatten())]
        assert min(map(SIZES[norm], ways)) <= eps
    if budget.measure(x, x0)[1] <= eps:
        assert torch.equal(legal[1], x[1])
    assert torch.equal(budget.legal(legal, x0), legal)
    assert (eps > 0) or torch.equal(legal, x0)
    nearer = (legal - x).square().sum((1, 2)) <= (x0 - x).square().sum((1, 2)) + 1e-5
    assert nearer.all()


def test_illegal_retimings_become_the_moves_they_wish_for_most() -> None:
    x0 = grid([1, 2, 0, 0, 0, 0])
    wish = grid([0.1, 0.0, 0.9, 0.5, 0.0, 1.9])
    legal = RetimingBudget(eps=1, norm="moves").legal(wish, x0)
    assert legal.flatten().tolist() == [1, 0, 0, 0, 0, 2]  # 2 events to where 1.9 are wished for
    near = RetimingBudget(eps=1, norm="shift").legal(wish, x0)
    assert near.flatten().tolist() == [0, 0, 1, 2, 0, 0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FlipBudget(flips=-1), "^flip budget: flips is -1; allowed are 0.."),
        (lambda: FlipBudget(flips=1.5), "^flip budget: flips is 1.5; it must be a whole"),  # type: ignore[arg-type]
        (lambda: FlipBudget(flips=1, per_step=0), "^flip budget: per_step is 0; allowed are 1.."),
        (lambda: FlipBudget(flips=1, largest=0), "^flip budget: largest is 0; allowed are 1.."),
        (
            lambda: FlipBudget(flips=1, add=False, delete=False),
            "^flip budget: add and delete are both False; allow one, or use flips=0$",
        ),
        (
            lambda: RetimingBudget(eps=1, norm="linf"),
            "^retiming budget: norm is 'linf'; allowed are 'shift', 'total_shift', 'moves'$",
        ),
        (
            lambda: RetimingBudget(eps=-1, norm="shift"),
            "^retiming budget: eps is -1; allowed are 0..",
        ),
        (
            lambda: flips_of(RetimingBudget(eps=1, norm="shift"), "frame"),
            "^frame: the budget is a RetimingBudget; this attack flips cells; use FlipBudget$",
        ),
    ],
)
def test_bad_budgets_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


# What is wrong: (text, wrong text).
FAULTS = {
    "no limit a step": ("if self.per_step is not None:\n            by_step", (
        "if False:\n            by_step"
    )),
    "no limit": ("_top(gain.flatten(1), self.flips)", "_top(gain.flatten(1), 1 << 20)"),
    "wishes by their size": ("(wanted - x0) * (2 * x - wanted - x0)", "(wanted - x0).abs()"),
    "adds though barred": ("if self.add else x0", "if True else x0"),
    "deletes though barred": ("if self.delete else x0", "if True else x0"),
    "counts above the largest": ("full_like(x0, self.largest)", "full_like(x0, 9)"),
}  # fmt: skip
BUDGET_MODULES = ("sim.attack.events.placement", "sim.attack.events.budget")


def flips_agree(kind: Any) -> bool:
    """Whether a FlipBudget finds the nearest trains in a hundred random cases."""
    g = torch.Generator().manual_seed(0)
    for i in range(100):
        ways = [(True, True), (True, False), (False, True)]
        drawn = {"flips": i % 5, "per_step": (None, 1, 2)[i % 3], "largest": 1 + i % 2}
        fields = fields_of({**drawn, "way": ways[i // 3 % 3]})
        k0 = torch.randint(0, 3, (CELLS,), generator=g).tolist()
        wish = torch.randint(-8, 17, (CELLS,), generator=g).tolist()
        try:
            assert_nearest(kind(**fields), fields, k0, wish)
        except (AssertionError, ValueError):
            return False
    return True


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_planted_faults_of_flips_are_found(
    fault: str | None, planted: Callable[..., ModuleType]
) -> None:
    changes = [FAULTS[fault]] if fault else []
    assert flips_agree(planted(BUDGET_MODULES, *changes).FlipBudget) == (fault is None)


RETIMING_FAULTS = {
    "matched by time alone": (
        "homes = (-x0).argsort(dim=1, stable=True)", "homes = (x0 == 0).long().argsort(dim=1)",
    ),
    "empty cells are matched": (".abs() * (counts > 0)", ".abs()"),
    "the sum for the largest": ("size = shifts.amax(1)", "size = shifts.sum(1)"),
    "the largest for the sum": ("size = shifts.sum(1)", "size = shifts.amax(1)"),
    "left and entered cells": ("((x != x0) & (x0 > 0))", "(x != x0)"),
}  # fmt: skip


@pytest.mark.parametrize("fault", [None, *RETIMING_FAULTS])
def test_planted_faults_of_retimings_are_found(
    fault: str | None, planted: Callable[..., ModuleType]
) -> None:
    kind = planted(BUDGET_MODULES, *[RETIMING_FAULTS[f] for f in [fault] if f]).RetimingBudget
    g = torch.Generator().manual_seed(0)
    found = False
    for _ in range(15):
        k0 = tuple(torch.randint(0, 3, (CELLS,), generator=g).tolist())
        for norm in SIZES:
            try:
                assert_smallest(kind, norm, k0)
            except AssertionError:
                found = True
    assert found == (fault is not None)
