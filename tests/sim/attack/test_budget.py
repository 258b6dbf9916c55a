"""The legal images around an image."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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
        ({"eps": 0.1, "norm": "l3"}, "^budget: norm is 'l3'; allowed are 'linf', 'l2', 'l0'$"),
        ({"eps": -1.0, "norm": "l2"}, "^budget: eps is -1.0; in l2 allowed are numbers from 0$"),
        ({"eps": float("inf"), "norm": "l2"}, "^budget: eps is inf; in l2 allowed are numbers"),
        ({"eps": 1.5, "norm": "l0"}, "^budget: eps in l0 \\(pixels\\) is 1.5; it must be"),
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


pixels = st.integers(0, 255)


@pytest.mark.parametrize("norm", ["linf", "l2", "l0"])
@given(
    k0=st.lists(pixels, min_size=6, max_size=6), wanted=st.lists(
        st.floats(-0.5, 1.5, width=32), min_size=6, max_size=6
    ), eps=st.integers(0, 3), levels=st.sampled_from([255, 15, None]),
)  # fmt: skip
def test_legal_images_lie_within_the_budget(
    norm: str, k0: list[int], wanted: list[float], eps: int, levels: int | None
) -> None:
    size = eps / 10 if norm == "linf" else eps
    budget = Budget(eps=size, norm=norm, levels=levels)
    x0 = torch.tensor([k0]) % ((levels or 255) + 1) / (levels or 255)
    legal = budget.legal(torch.tensor([wanted]), x0)
    budget.check(legal)
    assert float(budget.measure(legal, x0)) <= size + (1e-6 if levels is None else 1e-12)
    if size == 0:
        assert torch.equal(legal, x0)
    again = budget.legal(legal, x0)
    assert torch.equal(again, legal) if levels else torch.allclose(again, legal, atol=1e-6)


def test_l2_is_the_length_of_the_change_and_moves_shrink_to_it() -> None:
    x0, x = torch.zeros(1, 2), torch.tensor([[0.6, 0.8]])
    budget = Budget(eps=0.5, norm="l2", levels=None)
    assert float(budget.measure(x, x0)) == pytest.approx(1.0)
    assert budget.legal(x, x0).tolist() == [pytest.approx([0.3, 0.4])]
    assert budget.ascent(10 * x).tolist() == [pytest.approx([0.6, 0.8])]
    assert budget.hull(x, x0).tolist() == [pytest.approx([0.3, 0.4])]


def test_l2_uses_its_budget_up_to_rounding_on_a_grid() -> None:
    g = torch.Generator().manual_seed(0)
    x0 = torch.full((16, 784), 128 / 255)
    budget = Budget(eps=2.0, norm="l2")
    moved = budget.legal(x0 + torch.randn(x0.shape, generator=g), x0)
    assert budget.measure(moved, x0).min() > 1.8


def test_l0_keeps_the_pixels_that_change_most_with_all_their_channels() -> None:
    x0 = torch.zeros(1, 2, 1, 3)
    x = torch.tensor([[[[0.2, 0.8, 0.4]], [[0.9, 0.0, 0.4]]]])
    budget = Budget(eps=2, norm="l0", levels=10)
    assert budget.radius == 1
    legal = budget.legal(x, x0)
    assert legal.flatten().tolist() == pytest.approx([0.2, 0.8, 0.0, 0.9, 0.0, 0.0])
    assert budget.measure(legal, x0).tolist() == [2.0]
    assert budget.ascent(torch.tensor([[4.0, -8.0]])).tolist() == [[0.5, -1.0]]


def test_channels_make_one_pixel_only_in_l0() -> None:
    x0, x = torch.zeros(1, 2, 1, 1), torch.full((1, 2, 1, 1), 0.3)
    sizes = [
        float(Budget(eps=1, norm=norm, levels=10).measure(x, x0)) for norm in ("linf", "l2", "l0")
    ]
    assert sizes == pytest.approx([0.3, 0.3 * 2**0.5, 1.0])
