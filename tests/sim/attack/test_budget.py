"""The legal images around an image."""

from __future__ import annotations

import pytest
import torch

from spikeport.sim.attack import Budget


@pytest.mark.parametrize("levels", [1, 3, 15, 100, 255, 65535])
def test_whole_steps_are_not_lost_to_rounding(levels: int) -> None:
    for k in range(min(levels, 300) + 1):
        assert Budget(eps=k / levels, levels=levels).steps == k


@pytest.mark.parametrize(("eps", "steps"), [(0.0, 0), (0.9, 0), (1.0, 1), (8.5, 8), (8.999, 8)])
def test_eps_between_grid_points_rounds_down(eps: float, steps: int) -> None:
    budget = Budget(eps=eps / 255)
    assert budget.steps == steps
    assert budget.radius == steps / 255
    assert Budget(eps=eps / 255, levels=None).radius == eps / 255


def test_legal_rounds_then_clips_to_ball_and_range() -> None:
    x0 = torch.tensor([[0.0, 3.0, 100.0, 255.0, 100.0]]) / 255
    x = torch.tensor([[-9.0, 3.4, 101.6, 290.0, 90.0]]) / 255
    legal = Budget(eps=2.7 / 255).legal(x, x0)
    assert torch.equal(legal, torch.tensor([[0.0, 3.0, 102.0, 255.0, 98.0]]) / 255)


def test_measure_counts_whole_steps_on_a_grid_and_distance_without() -> None:
    x0 = torch.tensor([[10.0, 20.0], [30.0, 40.0]]) / 255
    x = torch.tensor([[13.0, 15.0], [30.0, 40.0]]) / 255
    assert Budget(eps=0.1).measure(x, x0).tolist() == [5 / 255, 0.0]
    assert Budget(eps=0.1, levels=None).measure(x, x0).tolist() == pytest.approx([5 / 255, 0.0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"eps": -0.1}, r"^budget: eps is -0.1; allowed are 0..1, in pixels of \[0, 1\] \(8/255,"),
        ({"eps": 8.0}, "^budget: eps is 8.0; allowed are 0..1"),
        ({"eps": float("nan")}, "^budget: eps is nan; allowed are 0..1"),
        ({"eps": 0.1, "norm": "l2"}, "^budget: norm is 'l2'; allowed are 'linf'$"),
        ({"eps": 0.1, "levels": 0}, "^budget: levels is 0; allowed are 1..65536$"),
        ({"eps": 0.1, "levels": 25.5}, "^budget: levels is 25.5; it must be a whole number$"),
    ],
)
def test_bad_budgets_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(**fields)  # type: ignore[arg-type]


def test_no_grid_has_no_steps() -> None:
    with pytest.raises(ValueError, match=r"^budget: levels is None; grid steps need a grid"):
        _ = Budget(eps=0.1, levels=None).steps
