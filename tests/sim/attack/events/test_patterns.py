"""Frame, corner and dash: which cells they light."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from spikeport.sim.attack import attack
from spikeport.sim.attack.events import Corner, Dash, FlipBudget, Frame
from spikeport.sim.attack.events.patterns import Pattern

MANY = FlipBudget(flips=1 << 20)


def shown(spec: Any, *, shape: tuple[int, ...], budget: Any = MANY, x: Any = None) -> list[Tensor]:
    """The trains [T, C, H, W] that a pattern shows a model that nothing fools."""
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x[0].clone())
        return torch.tensor([[1.0, 0.0]]).expand(len(x), 2)

    x = torch.zeros(1, *shape) if x is None else x
    attack(model, x, torch.tensor([0]), spec, budget=budget, seed=0)
    return seen[1:]


def drawn(picture: Tensor) -> list[str]:
    return ["".join(".#"[int(v)] for v in row) for row in picture]


def test_a_frame_lights_the_border_in_every_step_and_polarity() -> None:
    thin, thick = shown(Frame(width=2), shape=(3, 2, 5, 6))
    for t in range(3):
        for c in range(2):
            assert drawn(thin[t, c]) == ["######", "#....#", "#....#", "#....#", "######"]
            assert drawn(thick[t, c]) == ["######", "######", "##..##", "######", "######"]


def test_corners_take_turns_and_grow() -> None:
    seen = shown(Corner(size=2), shape=(2, 2, 3, 4))
    assert len(seen) == 8
    assert all((train == train[0, 0]).all() for train in seen)
    assert [drawn(train[0, 0]) for train in seen] == [
        ["##..", "....", "...."],
        ["..##", "....", "...."],
        ["....", "....", "..##"],
        ["....", "....", "##.."],
        ["###.", "###.", "...."],
        [".###", ".###", "...."],
        ["....", ".###", ".###"],
        ["....", "###.", "###."],
    ]


def test_a_dash_stays_then_moves_on_by_two() -> None:
    first, second = shown(Dash(hold=2, starts=2), shape=(7, 2, 2, 5))
    left, right = [["##...", "....."], 2 * ["....."]], [2 * ["....."], ["...##", "....."]]
    on = [drawn(first[t, 0]) + drawn(first[t, 1]) for t in range(7)]
    blank = "....."
    assert on[0] == on[1] == ["##...", blank, blank, blank]
    assert on[2] == on[3] == ["..##.", blank, blank, blank]
    assert on[4] == on[5] == [blank, blank, "....#", blank]
    assert on[6] == [blank, "##...", blank, blank]
    assert drawn(second[0, 0]) == [blank, "##..."]
    assert drawn(second[6, 0]) == ["##...", blank]
    assert left != right


def test_overlapping_events_are_one() -> None:
    x = torch.zeros(1, 1, 1, 3, 3)
    x[0, 0, 0, 0, 0], x[0, 0, 0, 1, 1] = 2, 3
    (train,) = shown(Frame(), shape=(), x=x, budget=FlipBudget(flips=99, largest=3))
    assert train[0, 0].tolist() == [[2, 1, 1], [1, 3, 1], [1, 1, 1]]


def test_what_the_budget_does_not_allow_is_not_shown() -> None:
    (few,) = shown(Frame(), shape=(2, 1, 3, 3), budget=FlipBudget(flips=4))
    assert [drawn(step[0]) for step in few] == [["###", "#..", "..."], ["...", "...", "..."]]
    (spread,) = shown(Frame(), shape=(2, 1, 3, 3), budget=FlipBudget(flips=9, per_step=2))
    assert [drawn(step[0]) for step in spread] == 2 * [["##.", "...", "..."]]


def test_patterns_end_when_the_sample_is_fooled() -> None:
    def model(x: Tensor) -> Tensor:
        lit = x[:, 0, 0, -1].sum(1)  # the bottom row
        return torch.stack([1 - lit, torch.zeros_like(lit)], 1)

    x = torch.zeros(2, 3, 2, 4, 4)
    result = attack(model, x, torch.tensor([0, 0]), Corner(), budget=MANY, seed=0)
    assert result.fooled.all()
    assert result.queries.tolist() == [4, 4]  # the third corner is at the bottom
    assert result.x_adv[0, 0, 0, -1].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("spec", [Frame(), Corner(), Dash()])
def test_vectors_and_bans_on_adding_are_refused(spec: Any) -> None:
    name = spec.name
    message = rf"^{name}: trains have shape \(1, 3, 4\); needed are maps \[B, T, C, H, W\]$"
    with pytest.raises(ValueError, match=message):
        shown(spec, shape=(3, 4))
    message = f"^{name}: the budget forbids to add events and this attack only adds; set add=True$"
    with pytest.raises(ValueError, match=message):
        shown(spec, shape=(3, 1, 4, 4), budget=FlipBudget(flips=9, add=False))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Frame(width=0), "^frame: width is 0; allowed are 1.."),
        (lambda: Corner(size=0), "^corner: size is 0; allowed are 1.."),
        (lambda: Dash(hold=0), "^dash: hold is 0; allowed are 1.."),
        (lambda: Dash(starts=0), "^dash: starts is 0; allowed are 1.."),
    ],
)
def test_bad_patterns_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_pattern_must_say_which() -> None:
    class Blank(Pattern):
        name = "blank"

    with pytest.raises(NotImplementedError, match=r"^pattern 'blank' has no patterns; write"):
        shown(Blank(), shape=(1, 1, 2, 2))
