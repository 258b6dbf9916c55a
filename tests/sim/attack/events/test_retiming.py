"""Moved events: the strict placement held to its rules, and what the search follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from spikeport.sim.attack import attack
from spikeport.sim.attack.events import RandomRetiming, Retiming, RetimingBudget, placement
from spikeport.sim.attack.events.placement import Packets

NORMS = ("shift", "total_shift", "moves")


def placed_by_the_rules(x0: Tensor, wish: dict[Any, float], *, norm: str, eps: int) -> Tensor:
    """The greedy placement of arXiv 2602.03284 once more, packet by packet: x0 [T, N], wish of
    (home, place, step)."""
    packets = [(s, j) for s in range(len(x0)) for j in range(x0.shape[1]) if x0[s, j] > 0]
    moves = [(*p, t) for p in packets for t in range(len(x0)) if t != p[0]]
    moves = [move for move in moves if wish[move] > -math.inf]
    moves.sort(key=lambda m: (-wish[m], abs(m[2] - m[0])))
    where, left = {p: p[0] for p in packets}, eps
    for s, j, t in moves:
        reserved = {(s2, j2) for (s2, j2), t2 in where.items() if t2 == s2}
        occupied = {(t2, j2) for (s2, j2), t2 in where.items() if t2 != s2}
        if where[s, j] != s or (t, j) in reserved | occupied:
            continue
        spent = {"shift": 0, "total_shift": abs(t - s), "moves": 1}[norm]
        if spent > left or (norm == "shift" and abs(t - s) > eps):
            continue
        where[s, j], left = t, left - spent
    x = torch.zeros_like(x0)
    for (s, j), t in where.items():
        x[t, j] = x0[s, j]
    return x


def both(module: Any, g: torch.Generator, norm: str, eps: int) -> tuple[Tensor, Tensor]:
    """Two random samples placed by `module` and by the rules; many wishes are equal."""
    x0 = torch.randint(-2, 4, (2, 5, 3), generator=g).clamp(min=0).float()
    packets = module.Packets.of(x0)
    wish = torch.randint(-1, 4, (len(packets.home), 5), generator=g).float()
    wish = torch.where(wish < 0, -math.inf, wish)
    wanted = []
    for b in range(2):
        mine = {
            (int(packets.home[p]), int(packets.place[p]), t): float(wish[p, t])
            for p in (packets.sample == b).nonzero().flatten()
            for t in range(5)
        }
        wanted.append(placed_by_the_rules(x0[b], mine, norm=norm, eps=eps))
    return packets.placed(wish, norm=norm, eps=eps), torch.stack(wanted)


@given(seed=st.integers(0, 1 << 30), norm=st.sampled_from(NORMS), eps=st.integers(0, 6))
def test_packets_are_placed_by_the_rules(seed: int, norm: str, eps: int) -> None:
    found, wanted = both(placement, torch.Generator().manual_seed(seed), norm, eps)
    assert torch.equal(found, wanted)


FAULTS = {
    "homes are free at once": ("taken[bins[low:high], place[low:high]] = True", "pass"),
    "homes are never free": ("taken[bins[packet], place[packet]] = False", "pass"),
    "cells hold many": ("taken[t, place[packet]] = True", "pass"),
    "packets move twice": ("if moved[packet] or taken", "if taken"),
    "the longer first": ("np.lexsort((reach, ", "np.lexsort((-reach, "),
    "the least liked first": ("(reach, -wishes[", "(reach, wishes["),
    "the last of equals": ("_move(order, ", "_move(order[::-1], "),
    "the budget is not spent": ("used += cost", "pass"),
    "the first too dear ends it": (
        "(cost if kind == SHIFT else used + cost) > eps:\n            continue",
        "(cost if kind == SHIFT else used + cost) > eps:\n            break",
    ),
    "shifts add up": ("cost if kind == SHIFT else used + cost", "used + cost"),
    "moves cost their length": ("1 if kind == MOVES else abs(", "abs("),
    "barred moves are made": ("wishes[low:high] > -np.inf", "wishes[low:high] < np.inf"),
    "places share their time": ("taken[t, place[packet]]:", "taken[t].any():"),
}


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_planted_faults_of_the_placement_are_found(
    fault: str | None, planted: Callable[..., ModuleType]
) -> None:
    changes = [FAULTS[f] for f in [fault] if f]
    module = planted(("sim.attack.events.placement",), *changes)
    g = torch.Generator().manual_seed(0)
    pairs = [both(module, g, NORMS[i % 3], i // 3 % 6) for i in range(72)]
    assert all(torch.equal(*pair) for pair in pairs) == (fault is None)


def test_packets_say_where_they_are() -> None:
    x0 = torch.tensor([[[0.0, 2.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 3.0]]])
    packets = Packets.of(x0)
    assert packets.sample.tolist() == [0, 0, 1]
    assert packets.home.tolist() == [0, 1, 1]
    assert packets.place.tolist() == [1, 0, 1]
    assert packets.value.tolist() == [2, 1, 3]
    assert packets.distance.tolist() == [[0, 1], [1, 0], [1, 0]]
    assert packets.at(10 * x0).tolist() == [[20, 0], [0, 10], [0, 30]]
    summed = packets.summed(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    assert summed.tolist() == [[[3, 1], [4, 2]], [[0, 5], [0, 6]]]


class Timed(nn.Module):
    """Two classes; the first gains by how much each cell of a train is worth, w [T, n]."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, 2] of x [B, T, n]."""
        gain = (x * self.w).flatten(1).sum(1)
        return torch.stack([gain, torch.zeros_like(gain)], 1)


def sure(x: Tensor) -> Tensor:
    """A model that nothing fools, so that no sample leaves on the way."""
    found: Tensor = Timed(W)(x) + torch.tensor([20.0, 0.0])
    return found


W = torch.tensor([[9.0, 1.0], [5.0, 2.0], [-3.0, 9.0], [7.0, -6.0]])
X = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])


@pytest.mark.parametrize(
    ("norm", "eps", "best"),
    [
        ("shift", 1, 5 - 6.0),  # 0 -> 1 and 2 -> 3
        ("shift", 2, -3 - 6.0),  # 0 -> 2 and 2 -> 3
        ("total_shift", 1, 9 - 6.0),
        ("total_shift", 3, -3 - 6.0),
        ("moves", 1, 9 - 6.0),
        ("moves", 2, -3 - 6.0),
    ],
)
def test_the_best_retiming_of_a_linear_model_is_found(norm: str, eps: int, best: float) -> None:
    result = attack(
        sure, X, torch.tensor([0]), Retiming(steps=30), seed=0,
        budget=RetimingBudget(eps=eps, norm=norm),
    )  # fmt: skip
    assert float(result.margin) == 20 + best


def test_published_rule_moves_all_that_can_move() -> None:
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return sure(x)

    budget = RetimingBudget(eps=1, norm="shift")
    attack(model, X, torch.tensor([0]), Retiming(steps=1, sampled=False), budget=budget, seed=0)
    # Equal preferences: the shorter first, then the earlier packet, then the earlier step.
    assert seen[1].tolist() == [[[0, 0], [1, 1], [0, 0], [0, 0]]]


@pytest.mark.parametrize(
    ("norm", "over"), [("shift", 0.0), ("total_shift", 10 * 0.5), ("moves", 5 * 0.5)]
)
def test_penalties_are_those_of_the_paper(norm: str, over: float) -> None:
    x0 = torch.tensor([[[1.0], [2.0], [0.0]], [[0.0], [1.0], [0.0]]])
    # Sample 0: step 1 holds 1.5 packets; 1.5 steps of shift, or moves, against 1. Sample 1: none.
    share = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    budget = RetimingBudget(eps=1, norm=norm)
    found = Retiming(crowding=20.0)._penalty(share, Packets.of(x0), budget)
    assert float(found) == pytest.approx(20 * 0.5**2 / 3 + over)


def test_random_retimings_use_the_whole_reach(twin: Any) -> None:
    budget = RetimingBudget(eps=2, norm="shift")
    sizes = budget.measure(twin.attack(RandomRetiming(draws=40), budget).x_adv, twin.x)
    assert sizes.max() == 2
    moves = RetimingBudget(eps=3, norm="moves")
    found = twin.attack(RandomRetiming(draws=40), moves)
    far = RetimingBudget(eps=1, norm="shift").measure(found.x_adv, twin.x)
    assert far.max() >= 4  # of 7
    assert moves.measure(found.x_adv, twin.x).max() == 3


@pytest.mark.parametrize("spec", [Retiming(steps=3), RandomRetiming(draws=3)])
@pytest.mark.parametrize("shape", [(2, 4, 2), (2, 1, 2)])
def test_silence_and_single_steps_stay_as_they_are(spec: Any, shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    x[1, 0, 0] = shape[1] == 1
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 2))
    with torch.no_grad():
        y = model(x).argmax(1)
    result = attack(model, x, y, spec, budget=RetimingBudget(eps=2, norm="moves"), seed=0)
    assert torch.equal(result.x_adv, x)


def test_settings_name_the_weight_of_what_is_over_budget() -> None:
    found = Retiming(steps=3).settings(RetimingBudget(eps=1, norm="moves"))
    assert found["attack"] == "retiming"
    assert (found["steps"], found["excess"]) == (3, 5.0)
