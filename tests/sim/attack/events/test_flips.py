"""Flips by gradient and at random."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from spikeport.sim.attack import attack
from spikeport.sim.attack.events import FlipBudget, Flips, RandomFlips
from spikeport.sim.attack.losses import margin

FLIP_MODULES = ("sim.attack.events.flips",)


class Sure:
    """A linear model of two classes, w [cells], too sure to be fooled; every train it is shown."""

    def __init__(self, w: Tensor) -> None:
        self.w, self.seen = w, []  # type: ignore[var-annotated]

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, 2] of x [B, T, n]."""
        self.seen.append(x.detach().clone())
        gain = x.flatten(1) @ self.w
        return torch.stack([gain + 1e4, torch.zeros_like(gain)], 1)


def run(spec: Any, budget: Any, x: Tensor, w: Tensor) -> tuple[Any, Sure]:
    model = Sure(w)
    y = torch.zeros(len(x), dtype=torch.int64)
    return attack(model, x, y, spec, budget=budget, seed=0), model


def least(x0: Tensor, w: Tensor, budget: Any) -> Tensor:
    """The lowest w x of all trains within a budget without limit a step: the best cells, summed."""
    highest, lowest = (w < 0) & budget.add, (w > 0) & budget.delete
    drop = torch.where(highest, w * (budget.largest - x0), torch.where(lowest, -w * x0, 0 * x0))
    return (w * x0).sum(1) + drop.sort(1).values[:, : budget.flips].sum(1)


WAYS = pytest.mark.parametrize("way", [{}, {"add": False}, {"delete": False}, {"largest": 3}])


@WAYS
@pytest.mark.parametrize("flips", [1, 4, 100])
def test_one_round_is_the_optimum_of_a_linear_model(way: dict[str, Any], flips: int) -> None:
    assert is_optimal(Flips, way, flips)


def is_optimal(kind: Any, way: dict[str, Any], flips: int) -> bool:
    g = torch.Generator().manual_seed(flips)
    budget = FlipBudget(flips=flips, **way)
    x = torch.randint(0, budget.largest + 1, (6, 3, 4), generator=g).float()
    w = torch.randint(-50, 51, (12,), generator=g).float()
    result, _ = run(kind(steps=1), budget, x, w)
    return torch.equal(result.margin - 1e4, least(x.flatten(1), w, budget))


def test_steps_take_no_more_than_their_share() -> None:
    x, w = torch.zeros(1, 3, 2), torch.tensor([-9.0, -8.0, -7.0, -6.0, -5.0, -4.0])
    result, _ = run(Flips(steps=1), FlipBudget(flips=4, per_step=1), x, w)
    assert result.x_adv.tolist() == [[[1, 0], [1, 0], [1, 0]]]


def test_without_noise_or_memory_the_search_stands_still_on_a_linear_model() -> None:
    x, w = torch.zeros(1, 3, 2), torch.tensor([-9.0, -8.0, -7.0, -6.0, -5.0, -4.0])
    _, still = run(Flips(steps=6, noise=0.0), FlipBudget(flips=2), x, w)
    assert len({tuple(s.flatten().tolist()) for s in still.seen[2:]}) == 1
    _, moving = run(Flips(steps=6, noise=1.0), FlipBudget(flips=2), x, w)
    assert len({tuple(s.flatten().tolist()) for s in moving.seen[2:]}) > 1


def test_later_rounds_leave_the_plateau_of_the_first(twin: Any) -> None:
    budget = FlipBudget(flips=6)
    still, moving = (twin.attack(Flips(noise=noise), budget) for noise in (0.0, 0.3))
    assert moving.robust_accuracy < still.robust_accuracy
    assert moving.margin.mean() < still.margin.mean() - 0.1


def test_noise_prefers_large_gains() -> None:
    x, w = torch.zeros(1, 1, 2), torch.tensor([-2.0, -1.0])
    _, model = run(Flips(steps=500, noise=1.0), FlipBudget(flips=1), x, w)
    first = torch.cat(model.seen[2:])[:, 0, 0].mean()
    assert float(first) == pytest.approx(2 / 3, abs=0.07)  # P(log 2 + G1 > G2), G Gumbel


FAULTS = {
    "the gradient for the gain": ("gain = gradient * (target - x0)", "gain = gradient.abs()"),
    "losses for gains": ("budget.aimed(gradient, x0)", "budget.aimed(-gradient, x0)"),
    "the least of gains": ("gain.clamp_min(TINY).log()", "-gain"),
}


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_planted_faults_are_found(fault: str | None, planted: Callable[..., ModuleType]) -> None:
    kind = planted(FLIP_MODULES, *[FAULTS[f] for f in [fault] if f]).Flips
    ways: list[dict[str, Any]] = [{}, {"add": False}, {"delete": False}, {"largest": 3}]
    optimal = [is_optimal(kind, way, flips) for way in ways for flips in (1, 4, 100)]
    assert all(optimal) == (fault is None)


@WAYS
@pytest.mark.parametrize("flips", [1, 4])
def test_random_flips_use_the_whole_budget(way: dict[str, Any], flips: int) -> None:
    budget = FlipBudget(flips=flips, **way)
    x = torch.randint(0, budget.largest + 1, (6, 4, 4), generator=torch.Generator().manual_seed(0))
    _, model = run(RandomFlips(draws=20), budget, x.float(), torch.zeros(16))
    for shown in model.seen[1:]:
        assert (budget.measure(shown, x.float()) == flips).all()
    changed = torch.stack(model.seen[1:]) != x
    could = {"add": x > 0, "delete": x < budget.largest}
    free = could["add"] if not budget.add else could["delete"] if not budget.delete else x >= 0
    assert not changed.any(0)[~free].any()
    assert (changed.any(0)[free].float().mean()) > 0.5


def test_counts_go_both_ways() -> None:
    x = torch.ones(1, 4, 4)
    _, model = run(RandomFlips(draws=20), FlipBudget(flips=4, largest=3), x, torch.zeros(16))
    assert set(torch.cat(model.seen).flatten().tolist()) == {0.0, 1.0, 3.0}


def test_a_search_keeps_most_of_its_best_flips() -> None:
    x, w = torch.zeros(1, 8, 8), -torch.arange(64.0)
    budget = FlipBudget(flips=10)
    (noise, blind), (search, seeing) = (
        run(RandomFlips(draws=200, keep=keep), budget, x, w) for keep in (0.0, 0.8)
    )
    assert float(search.margin) < float(noise.margin) - 100

    def overlap(seen: list[Tensor]) -> float:
        best, shared = seen[1], []
        for trial in seen[2:]:
            shared.append(float((trial * best).sum()))
            best = trial if (trial.flatten() @ w) <= (best.flatten() @ w) else best
        return sum(shared) / len(shared)

    assert 7.5 < overlap(seeing.seen) < 8.8  # 8 kept, some of the 2 drawn again
    assert overlap(blind.seen) < 2.5


def test_a_flip_is_tried_at_the_models_own_margin(linear: Any) -> None:
    result = linear.attack(Flips(steps=3), FlipBudget(flips=3))
    with torch.no_grad():
        assert torch.equal(result.margin, margin(linear.model(result.x_adv), linear.y))
