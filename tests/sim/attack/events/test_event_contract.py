"""What every attack on trains of events promises, on linear and integer spiking models."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.attack import attack
from spikeport.sim.attack.events import (
    EVENT_ATTACKS,
    FlipBudget,
    Flips,
    RandomFlips,
    RandomRetiming,
    Retiming,
    RetimingBudget,
    Sda,
    SpikeFool,
)
from spikeport.sim.attack.losses import margin

every_attack = pytest.mark.parametrize("name", EVENT_ATTACKS)


def test_every_attack_has_a_row_here(quick: dict[str, Any]) -> None:
    assert list(quick) == list(EVENT_ATTACKS)
    assert all(type(spec) is EVENT_ATTACKS[name] for name, spec in quick.items())
    assert all(spec != EVENT_ATTACKS[name]() for name, spec in quick.items())


def assert_legal(x_adv: Tensor, x: Tensor, budget: Any) -> None:
    """By other means than the budget's own: loops over samples and places."""
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert torch.equal(x_adv, x_adv.round())
    for new, old in zip(x_adv, x, strict=True):
        if isinstance(budget, FlipBudget):
            assert 0 <= new.min() <= new.max() <= budget.largest
            by_step = [int((a != b).sum()) for a, b in zip(new, old, strict=True)]
            assert sum(by_step) <= budget.flips
            assert budget.per_step is None or max(by_step) <= budget.per_step
            assert budget.add or (new <= old).all()
            assert budget.delete or (new >= old).all()
        else:
            spent = [
                cost(a.tolist(), b.tolist(), budget.norm)
                for a, b in zip(new.flatten(1).T, old.flatten(1).T, strict=True)
            ]
            assert (max(spent) if budget.norm == "shift" else sum(spent)) <= budget.eps


def cost(new: list[float], old: list[float], norm: str) -> int:
    """What it takes at one place; fails where the counts are not the same ones."""
    assert sorted(new) == sorted(old)
    if norm == "moves":
        return sum(a != b and b > 0 for a, b in zip(new, old, strict=True))
    shifts = []
    for value in set(old) - {0.0}:
        times = [[t for t, a in enumerate(train) if a == value] for train in (new, old)]
        shifts += [abs(a - b) for a, b in zip(*times, strict=True)]
    return max(shifts, default=0) if norm == "shift" else sum(shifts)


@every_attack
def test_stays_within_the_budget(name: str, quick: dict[str, Any], searches: Any) -> None:
    for case, budget in searches(name):
        result = case.attack(quick[name], budget, seed=1)
        assert_legal(result.x_adv, case.x, budget)
        assert (result.x_adv != case.x).any()
        budget.check(result.x_adv)


@every_attack
def test_without_budget_nothing_changes(name: str, quick: dict[str, Any], searches: Any) -> None:
    for case, budget in searches(name):
        field = "flips" if isinstance(budget, FlipBudget) else "eps"
        result = case.attack(quick[name], replace(budget, **{field: 0}))
        assert torch.equal(result.x_adv, case.x)
        assert result.robust_accuracy == result.clean_accuracy
        assert (result.queries == 1).all()


@every_attack
def test_a_sample_does_not_care_for_its_neighbours(
    name: str, quick: dict[str, Any], searches: Any
) -> None:
    for case, budget in searches(name):
        rows = torch.arange(len(case.x))
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))

        def run(rows: Tensor, batch: int, case: Any = case, budget: Any = budget) -> Any:
            part = replace(case, x=case.x[rows], y=case.y[rows])
            return part.attack(quick[name], budget, seed=3, batch=batch)

        straight, again = run(rows, 256), run(rows, 256)
        assert torch.equal(straight.x_adv, again.x_adv)
        assert torch.equal(straight.queries, again.queries)
        for other in (run(order, 256), run(order, 5)):
            assert torch.equal(other.x_adv, straight.x_adv[order])
            assert torch.equal(other.margin, straight.margin[order])
            assert torch.equal(other.queries, straight.queries[order])
        assert torch.equal(run(rows[7:8], 256).x_adv, straight.x_adv[7:8])


@pytest.mark.parametrize("spec", [RandomFlips(draws=5), Flips(steps=5)])
def test_another_seed_flips_elsewhere(spec: Any, twin: Any) -> None:
    one, two = (twin.attack(spec, FlipBudget(flips=4), seed=seed) for seed in (0, 1))
    assert not torch.equal(one.x_adv, two.x_adv)


@pytest.mark.parametrize("spec", [RandomRetiming(draws=5), Retiming(steps=5)])
def test_another_seed_moves_elsewhere(spec: Any, twin: Any) -> None:
    budget = RetimingBudget(eps=2, norm="shift")
    one, two = (twin.attack(spec, budget, seed=seed) for seed in (0, 1))
    assert not torch.equal(one.x_adv, two.x_adv)


class Restless(nn.Module):
    """A model that counts its calls in a buffer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the inner model."""
        assert not self.training
        assert not any(p.requires_grad for p in self.parameters())
        self.calls += 1
        logits: Tensor = self.inner(x)
        return logits


@every_attack
def test_model_and_data_are_left_as_found(name: str, quick: dict[str, Any], searches: Any) -> None:
    for case, budget in searches(name):
        model = Restless(case.model).train()
        tensors = {**model.state_dict(keep_vars=True), "x": case.x, "y": case.y}
        before = {key: value.detach().clone() for key, value in tensors.items()}
        attack(model, case.x, case.y, quick[name], budget=budget, seed=0)
        assert all(torch.equal(tensors[key], before[key]) for key in before)
        assert all(m.training for m in model.modules())
        assert all(p.requires_grad and p.grad is None for p in model.parameters())


@every_attack
def test_the_verdict_is_the_models_own(name: str, quick: dict[str, Any], searches: Any) -> None:
    for case, budget in searches(name):
        result = case.attack(quick[name], budget)
        with torch.no_grad():
            clean, attacked = case.model(case.x), case.model(result.x_adv)
        assert torch.equal(result.margin, margin(attacked, case.y))
        assert torch.equal(result.clean_margin, margin(clean, case.y))
        assert torch.equal(result.fooled, result.margin <= 0)
        assert (result.margin <= result.clean_margin).all()


class Counting(nn.Module):
    """Counts how often each sample is shown; samples are told apart by their labels' places."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.shown = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the inner model."""
        self.shown += len(x)
        logits: Tensor = self.inner(x)
        return logits


@every_attack
def test_every_train_shown_is_counted(name: str, quick: dict[str, Any], searches: Any) -> None:
    case, budget = searches(name)[0]
    model = Counting(case.model)
    result = attack(model, case.x, case.y, quick[name], budget=budget, seed=0)
    assert int(result.queries.sum()) == model.shown > 2 * len(case.x)


GROWING = {
    "random-flips": lambda k: RandomFlips(draws=10 * k),
    "a search": lambda k: RandomFlips(draws=10 * k, keep=0.7),
    "flips": lambda k: Flips(steps=4 * k),
    "sda": lambda k: Sda(steps=k, first=4),
    "spikefool": lambda k: SpikeFool(steps=k),
    "random-retiming": lambda k: RandomRetiming(draws=10 * k),
    "retiming": lambda k: Retiming(steps=4 * k),
    "published retiming": lambda k: Retiming(steps=3 * k - 2, sampled=False),
}


@pytest.mark.parametrize("name", GROWING)
def test_more_rounds_are_never_weaker(name: str, twin: Any) -> None:
    budget = RetimingBudget(eps=2, norm="shift") if "timing" in name else FlipBudget(flips=8)
    runs = [twin.attack(GROWING[name](k), budget) for k in (1, 2, 5)]
    for few, many in pairwise(runs):
        assert (many.fooled | ~few.fooled).all()
        assert (many.margin <= few.margin).all()
    assert (runs[-1].margin < runs[0].margin).any()


@pytest.mark.parametrize("flips", [3, 6, 10])
def test_gradients_beat_random_flips(flips: int, twin: Any) -> None:
    budget = FlipBudget(flips=flips)
    noise, search, greedy = (
        twin.attack(spec, budget)
        for spec in (RandomFlips(draws=100), RandomFlips(draws=200, keep=0.8), Flips(steps=100))
    )
    assert search.robust_accuracy < noise.robust_accuracy
    assert greedy.robust_accuracy <= noise.robust_accuracy - 0.15
    assert greedy.margin.mean() < noise.margin.mean() - 0.3


def test_sda_beats_random_flips(twin: Any) -> None:
    budget = FlipBudget(flips=10)
    noise, sparse = twin.attack(RandomFlips(draws=100), budget), twin.attack(Sda(steps=4), budget)
    assert sparse.robust_accuracy <= noise.robust_accuracy - 0.1
    lost = noise.fooled & sparse.fooled
    assert lost.sum() >= 8
    sizes = [budget.measure(r.x_adv, twin.x)[lost].mean() for r in (noise, sparse)]
    assert sizes[1] < sizes[0] - 1


@pytest.mark.parametrize(
    ("norm", "eps"), [("shift", 1), ("shift", 2), ("total_shift", 16), ("moves", 8)]
)
def test_gradients_beat_random_retiming(norm: str, eps: int, twin: Any) -> None:
    budget = RetimingBudget(eps=eps, norm=norm)
    noise = twin.attack(RandomRetiming(draws=100), budget)
    found = twin.attack(Retiming(steps=100), budget)
    assert found.robust_accuracy <= noise.robust_accuracy - 0.1
    assert found.margin.mean() < noise.margin.mean() - 0.2


@pytest.mark.parametrize("name", ["flips", "sda", "spikefool", "frame", "random-flips"])
def test_other_budgets_are_refused(name: str, quick: dict[str, Any], maps: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}: the budget is one of moves; this attack"):
        maps.attack(quick[name], RetimingBudget(eps=1, norm="moves"))


@pytest.mark.parametrize("name", ["retiming", "random-retiming"])
def test_flip_budgets_are_refused(name: str, quick: dict[str, Any], twin: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}: the budget is one of flips; this attack"):
        twin.attack(quick[name], FlipBudget(flips=1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandomFlips(draws=0), "^random-flips: draws is 0; allowed are 1.."),
        (lambda: RandomFlips(keep=1.0), "^random-flips: keep is 1.0; allowed are 0..1, below 1$"),
        (lambda: Flips(steps=0), "^flips: steps is 0; allowed are 1.."),
        (lambda: Flips(memory=1.0), "^flips: memory is 1.0; allowed are 0..1, below 1$"),
        (lambda: Flips(noise=-1.0), "^flips: noise is -1.0; allowed are numbers from 0$"),
        (lambda: Flips(loss="mse"), "^flips: loss is 'mse'; allowed are 'ce', 'dlr', 'margin'"),
        (lambda: Sda(steps=0), "^sda: steps is 0; allowed are 1.."),
        (lambda: Sda(first=0), "^sda: first is 0; allowed are 1.."),
        (lambda: SpikeFool(steps=0), "^spikefool: steps is 0; allowed are 1.."),
        (lambda: SpikeFool(classes=0), "^spikefool: classes is 0; allowed are 1.."),
        (lambda: SpikeFool(reach=0.0), "^spikefool: reach is 0.0; it must be a positive number$"),
        (lambda: RandomRetiming(draws=0), "^random-retiming: draws is 0; allowed are 1.."),
        (lambda: Retiming(steps=0), "^retiming: steps is 0; allowed are 1.."),
        (lambda: Retiming(length=0.0), "^retiming: length is 0.0; it must be a positive number$"),
        (lambda: Retiming(temperature=-1.0), "^retiming: temperature is -1.0; it must be a pos"),
        (lambda: Retiming(crowding=-1.0), "^retiming: crowding is -1.0; allowed are numbers from"),
        (
            lambda: Retiming(loss="mse"),
            "^retiming: loss is 'mse'; allowed are 'ce', 'dlr', 'margin'",
        ),
    ],
)
def test_bad_specs_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


X = torch.zeros(2, 3, 4)
Y = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[0], r"^attack: x has shape \(3, 4\); allowed are \[B, T, n\] and \[B, T, C, H, W\], no"),
        (X[..., None], r"^attack: x has shape \(2, 3, 4, 1\); allowed are \[B, T, n\]"),
        (X.long(), "^attack: x is torch.int64; needed is a float tensor with whole counts of ev"),
        (X + 0.5, "^attack: a cell of x holds 0.5 events; allowed are whole counts from 0; bin"),
        (X - 1, "^attack: a cell of x holds -1 events; allowed are whole counts from 0"),
        (X + 2, r"^attack: a cell of x holds 2 events; allowed are 0\.\.1; set the budget's la"),
        (X / 0, "^attack: x holds NaN or infinity; repair the trains first$"),
    ],
)
def test_bad_trains_are_refused(x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attack(nn.Flatten(), x, Y, RandomFlips(), budget=FlipBudget(flips=1), seed=0)
