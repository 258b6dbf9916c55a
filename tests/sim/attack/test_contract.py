"""What every attack promises, on a linear, a convolutional and an integer spiking model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.attack import (
    ATTACKS,
    Apgd,
    ApgdTargeted,
    Budget,
    Noise,
    Pgd,
    SaPgd,
    attack,
    sweep,
)
from spikeport.sim.attack.losses import margin

BUDGET = Budget(eps=20.5 / 255)
BUDGETS = {"linf": BUDGET, "l2": Budget(eps=0.3, norm="l2"), "l0": Budget(eps=4, norm="l0")}
SMALLEST = {"linf": 20 / 255, "l2": 0.25, "l0": 3}  # what the largest change reaches at least

every_attack = pytest.mark.parametrize("name", ATTACKS)
every_search = pytest.mark.parametrize(
    ("name", "norm"), [(name, norm) for name, kind in ATTACKS.items() for norm in kind.norms]
)


def budget_for(name: str) -> Budget:
    """Of the first norm that an attack searches."""
    return BUDGETS[ATTACKS[name].norms[0]]


def test_every_attack_has_a_row_here(quick: dict[str, Any]) -> None:
    assert list(quick) == list(ATTACKS)
    assert all(type(spec) is ATTACKS[name] for name, spec in quick.items())
    assert all(spec != ATTACKS[name]() for name, spec in quick.items())


def change(x_adv: Tensor, x: Tensor, norm: str) -> Tensor:
    """Size of each sample's change, float64 [B], by other means than the attacks'."""
    delta = (x_adv.double() - x.double()).reshape(len(x), x.shape[1] if x.ndim == 4 else 1, -1)
    if norm == "l0":
        return torch.stack([d.any(0).sum() for d in delta]).double()
    return delta.abs().amax((1, 2)) if norm == "linf" else delta.square().sum((1, 2)).sqrt()


@every_search
@pytest.mark.parametrize("levels", [255, 15, None])
def test_stays_within_budget_and_on_the_grid(
    name: str, norm: str, levels: int | None, case: Any, quick: dict[str, Any]
) -> None:
    x = case.x if levels != 15 else (case.x * 15).round() / 15
    y = case.model.eval()(x).argmax(1)
    budget = replace(BUDGETS[norm], levels=levels)
    result = attack(case.model, x, y, quick[name], budget=budget, seed=1)
    assert result.x_adv.shape == x.shape
    assert result.x_adv.dtype == x.dtype
    assert 0 <= result.x_adv.min() <= result.x_adv.max() <= 1
    found = change(result.x_adv, x, norm)
    assert (found <= budget.eps + (0 if norm == "l0" else 1e-6)).all()
    if norm == "linf" and levels:
        largest = {255: 20, 15: 1}[levels]
        assert budget.measure(result.x_adv, x).max() == largest / levels <= BUDGET.eps
    elif (name, norm) not in (("bim", "l2"), ("noise", "l2")):  # those may stay short of it
        assert found.max() >= SMALLEST[norm]
    if levels:
        k = (result.x_adv * levels).double()
        assert (k - k.round()).abs().max() < 1e-4


@every_search
@pytest.mark.parametrize("levels", [255, None])
def test_without_budget_nothing_changes(
    name: str, norm: str, levels: int | None, case: Any, quick: dict[str, Any]
) -> None:
    # Not the float nearest to k / 255, yet on the grid: even those bits are kept.
    x = torch.nextafter(case.x, torch.full_like(case.x, 0.5))
    budget = Budget(eps=0, norm=norm, levels=levels)
    result = attack(case.model, x, case.y, quick[name], budget=budget, seed=1)
    assert torch.equal(result.x_adv, x)
    assert result.robust_accuracy == result.clean_accuracy
    assert (result.queries == 1).all()


@every_search
def test_a_sample_does_not_care_for_its_neighbours(
    name: str, norm: str, case: Any, quick: dict[str, Any]
) -> None:
    def run(rows: Tensor, batch: int) -> Any:
        x, y, budget = case.x[rows], case.y[rows], BUDGETS[norm]
        return attack(case.model, x, y, quick[name], budget=budget, seed=3, batch=batch)

    rows = torch.arange(len(case.x))
    straight, again = run(rows, 256), run(rows, 256)
    assert torch.equal(straight.x_adv, again.x_adv)
    assert torch.equal(straight.queries, again.queries)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    for other in (run(order, 256), run(order, 5)):
        assert torch.equal(other.x_adv, straight.x_adv[order])
        assert torch.allclose(other.margin, straight.margin[order], atol=1e-5, rtol=0)
        assert torch.equal(other.queries, straight.queries[order])
    alone = run(rows[7:8], 256)
    assert torch.equal(alone.x_adv, straight.x_adv[7:8])


@pytest.mark.parametrize("name", [k for k in ATTACKS if k not in ("fgsm", "bim", "mi-fgsm")])
def test_another_seed_searches_elsewhere(name: str, linear: Any, quick: dict[str, Any]) -> None:
    one, two = (
        attack(linear.model, linear.x, linear.y, quick[name], budget=budget_for(name), seed=seed)
        for seed in (0, 1)
    )
    assert not torch.equal(one.x_adv, two.x_adv)


class Restless(nn.Module):
    """A model that counts its calls in a buffer and swaps another buffer for a new tensor."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the inner model."""
        assert not self.training
        assert not any(p.requires_grad for p in self.parameters())
        self.calls += 1
        self.last = x.detach().mean().reshape(1)
        logits: Tensor = self.inner(x)
        return logits


@every_attack
def test_model_and_data_are_left_as_found(name: str, conv: Any, quick: dict[str, Any]) -> None:
    model = Restless(conv.model).train()
    model.inner[1].eval()  # type: ignore[index]
    weight = model.inner[0].weight  # type: ignore[index]
    weight.grad = torch.full_like(weight, 7.0)
    model.inner[0].bias.requires_grad_(False)  # type: ignore[index]
    tensors = {**model.state_dict(keep_vars=True), "x": conv.x, "y": conv.y, "grad": weight.grad}
    before = {key: value.detach().clone() for key, value in tensors.items()}
    modes = [m.training for m in model.modules()]
    flags = [p.requires_grad for p in model.parameters()]
    attack(model, conv.x, conv.y, quick[name], budget=budget_for(name), seed=0)
    after = {**model.state_dict(keep_vars=True), "x": conv.x, "y": conv.y, "grad": weight.grad}
    assert all(after[key] is tensors[key] for key in tensors)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == flags
    assert sum(p.grad is not None for p in model.parameters()) == 1


def test_model_is_restored_after_an_error(conv: Any) -> None:
    with pytest.raises(ValueError, match="a label is 9"):
        attack(conv.model, conv.x, conv.y + 9 - conv.y[0], Noise(), budget=BUDGET, seed=0)
    assert all(m.training for m in conv.model.modules())
    assert all(p.requires_grad for p in conv.model.parameters())


@every_search
def test_the_verdict_is_the_models_own(
    name: str, norm: str, case: Any, quick: dict[str, Any]
) -> None:
    result = attack(case.model, case.x, case.y, quick[name], budget=BUDGETS[norm], seed=0)
    with torch.no_grad():
        clean, attacked = case.model.eval()(case.x), case.model(result.x_adv)
    assert torch.allclose(result.margin, margin(attacked, case.y), atol=1e-5)
    assert torch.allclose(result.clean_margin, margin(clean, case.y), atol=1e-5)
    assert torch.equal(result.fooled, result.margin <= 0)
    assert (result.margin <= result.clean_margin).all()
    assert result.robust_accuracy == pytest.approx(float((result.margin > 0).float().mean()))


@pytest.mark.parametrize("name", [k for k in ATTACKS if "linf" in ATTACKS[k].norms])
def test_success_is_nested_over_budgets(name: str, case: Any, quick: dict[str, Any]) -> None:
    epsilons = (0.0, 2 / 255, 20 / 255, 60 / 255)
    found = sweep(case.model, case.x, case.y, quick[name], epsilons=epsilons, levels=255, seed=0)
    accuracies = found.robust_accuracies
    assert list(accuracies) == sorted(accuracies, reverse=True)
    assert accuracies[0] == found.results[0].clean_accuracy > accuracies[-1]
    for small, large in pairwise(found.fooled):
        assert (large | ~small).all()
    assert all((row | ~r.fooled).all() for row, r in zip(found.fooled, found.results, strict=True))


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "apgd", "mi-fgsm", "sa-pgd", "apgd-t"])
@pytest.mark.parametrize(("model", "radius"), [("linear", 30), ("conv", 10), ("twin", 20)])
def test_gradients_beat_noise(
    name: str, model: str, radius: int, request: pytest.FixtureRequest, quick: dict[str, Any]
) -> None:
    case, budget = request.getfixturevalue(model), Budget(eps=radius / 255)
    spec: Any = replace(quick[name], loss="ce")
    noise = attack(case.model, case.x, case.y, Noise(draws=50), budget=budget, seed=0)
    found = attack(case.model, case.x, case.y, spec, budget=budget, seed=0)
    assert found.robust_accuracy <= noise.robust_accuracy - 0.15


@pytest.mark.parametrize(
    "more",
    [
        lambda k: Pgd(steps=3, restarts=k),
        lambda k: Apgd(steps=3, restarts=k),
        lambda k: Noise(draws=5 * k),
        lambda k: SaPgd(steps=3, restarts=k),
        lambda k: ApgdTargeted(steps=3, restarts=k, targets=2),
        lambda k: ApgdTargeted(steps=3, targets=k),
    ],
)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_restarts_are_never_weaker(more: Callable[[int], Any], norm: str, case: Any) -> None:
    if norm not in more(1).norms:
        return
    budget = Budget(eps={"linf": 6 / 255, "l2": 0.1}[norm], norm=norm)
    runs = [attack(case.model, case.x, case.y, more(k), budget=budget, seed=0) for k in (1, 2, 5)]
    for few, many in pairwise(runs):
        assert (many.fooled | ~few.fooled).all()
        assert (many.margin <= few.margin).all()
    # What more targets gain is in `test_apgd.py`: the first is most often the worst.
    assert (runs[-1].margin < runs[0].margin).any() or runs[0].spec.name == "apgd-t"


def test_ties_and_clean_errors_count_as_fooled() -> None:
    x = torch.tensor([[10.0, 10.0], [10.0, 20.0], [30.0, 20.0]]) / 255
    y = torch.tensor([0, 0, 0])
    result = attack(nn.Identity(), x, y, Noise(draws=3), budget=Budget(eps=1 / 255), seed=0)
    assert result.fooled.tolist() == [True, True, False]
    assert result.queries.tolist() == [1, 1, 4]
    assert torch.equal(result.x_adv[:2], x[:2])
    assert result.clean_accuracy == result.robust_accuracy == pytest.approx(1 / 3)
    assert result.success_rate == 0


def test_equal_images_see_equal_draws_and_labels_separate_them(linear: Any) -> None:
    x = linear.x[:1].repeat(3, 1)
    y = linear.y[:1].repeat(3)
    result = attack(linear.model, x, y, Noise(draws=4), budget=BUDGET, seed=0)
    assert torch.equal(result.x_adv[0], result.x_adv[2])
