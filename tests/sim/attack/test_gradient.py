"""Gradient attacks against closed forms and a naive loop of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeport.sim.attack import (
    Apgd,
    ApgdTargeted,
    Bim,
    Budget,
    Fgsm,
    MiFgsm,
    Noise,
    Pgd,
    Rfgsm,
    Square,
    attack,
)
from spikeport.sim.attack.losses import difference_of_logits_ratio, margin


def test_fgsm_on_a_linear_model_is_the_closed_form(linear: Any) -> None:
    budget = Budget(eps=3.9 / 255)  # small: nobody is fooled, so every sample shows its last image
    result = attack(linear.model, linear.x, linear.y, Fgsm(), budget=budget, seed=0)
    w = linear.model.weight.detach().double().numpy()
    z = linear.x.double().numpy() @ w.T + linear.model.bias.detach().double().numpy()
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(p)), linear.y.numpy()] -= 1
    k = np.rint(linear.x.numpy() * 255) + 3 * np.sign(p @ w)
    stayed = ~result.fooled.numpy()
    assert stayed.sum() >= 12
    # The margin falls on all of these, else the original would have been kept.
    assert np.array_equal(np.rint(result.x_adv.numpy() * 255)[stayed], np.clip(k, 0, 255)[stayed])


def naive(
    model: nn.Module, x0: Tensor, y: int, *, start: Tensor, steps: int, length: float, radius: int
) -> tuple[Tensor, float]:
    """Climb for one image alone; the judged image of smallest margin, and that margin."""
    low, high = (x0 - radius / 255).clamp(min=0), (x0 + radius / 255).clamp(max=1)
    label, x = torch.tensor([y]), start.clone()
    best, least = x0, float(margin(model(x0), label).detach())
    for i in range(steps + 1):
        image = ((x * 255).round() / 255).requires_grad_()
        logits = model(image)
        if (m := float(margin(logits, label).detach())) < least:
            best, least = image.detach(), m
        if least <= 0 or i == steps:
            break
        (g,) = torch.autograd.grad(F.cross_entropy(logits, label), image)
        x = torch.minimum(torch.maximum(x + length * g.sign(), low), high)
    return best, least


@pytest.mark.parametrize("radius", [9, 40])
def test_bim_and_fgsm_agree_with_a_naive_loop(case: Any, radius: int) -> None:
    model, budget = case.model.eval(), Budget(eps=radius / 255)
    bim = attack(model, case.x, case.y, Bim(steps=6, step_size=0.02), budget=budget, seed=0)
    fgsm = attack(model, case.x, case.y, Fgsm(), budget=budget, seed=0)
    for result, steps, length in ((bim, 6, 0.02), (fgsm, 1, radius / 255)):
        for i in range(len(case.x)):
            x0 = case.x[i : i + 1]
            best, least = naive(
                model, x0, int(case.y[i]), start=x0, steps=steps, length=length, radius=radius
            )
            assert float(result.margin[i]) == pytest.approx(least, abs=1e-5)
            assert torch.equal((result.x_adv[i] * 255).round(), (best[0] * 255).round())


def test_pgd_starts_at_random_and_climbs_like_the_naive_loop(conv: Any) -> None:
    starts: list[Tensor] = []
    model = conv.model.eval()

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            starts.append(x.detach().clone())
            logits: Tensor = model(x)
            return logits

    x, y, radius = conv.x[:1], conv.y[:1], 40
    spec = Pgd(steps=8, step_size=0.015)
    result = attack(Spy(), x, y, spec, budget=Budget(eps=radius / 255), seed=5)
    moved = (starts[1] - x) * 255
    assert moved.abs().max() <= radius + 1e-3
    assert moved.unique().numel() > 20
    # The spy sees the rounded start, the loop climbs from the float one: half a level apart.
    best, least = naive(model, x, int(y), start=starts[1], steps=8, length=0.015, radius=radius)
    assert float(result.margin) == pytest.approx(least, abs=0.05)
    assert ((result.x_adv - best).abs() * 255).max() <= 8


def test_step_sizes_are_resolved_in_the_settings() -> None:
    budget = Budget(eps=8.4 / 255)
    assert Fgsm().settings(budget)["step_size"] == 8 / 255
    assert Pgd(steps=20).settings(budget) == {
        "attack": "pgd",
        "steps": 20,
        "step_size": 2.5 * 8 / 255 / 20,
        "restarts": 1,
        "loss": "ce",
    }
    assert Bim(steps=7, step_size=0.01).settings(budget)["step_size"] == 0.01
    assert "step_size" not in Noise().settings(budget)


def test_path_records_the_loss_of_each_gradient(conv: Any) -> None:
    spec = Bim(steps=9)
    result = attack(conv.model, conv.x, conv.y, spec, budget=Budget(eps=10 / 255), seed=0, batch=10)
    assert result.path.shape == (9, len(conv.x))
    logits = conv.model.eval()(conv.x)
    assert torch.allclose(result.path[0], F.cross_entropy(logits, conv.y, reduction="none"))
    never = ~result.fooled
    assert not result.path[:, never].isnan().any()
    assert (result.path[-1, never] > result.path[0, never]).all()
    assert result.path[-1].isnan().any()


def test_dlr_value_scale_and_ties() -> None:
    z = torch.tensor([[5.0, 1.0, 4.0, 2.0], [0.0, 3.0, 3.0, 3.0]])
    y = torch.tensor([0, 1])
    assert difference_of_logits_ratio(z, y).tolist() == pytest.approx([-1 / 3, 0.0])
    assert difference_of_logits_ratio(1000 * z, y).tolist() == pytest.approx([-1 / 3, 0.0])


def test_saturated_cross_entropy_starves_and_dlr_does_not(linear: Any) -> None:
    class Loud(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = 1e6 * linear.model(x)
            return logits

    budget, spec = Budget(eps=60 / 255), Pgd(steps=20)
    starved = attack(Loud(), linear.x, linear.y, spec, budget=budget, seed=0)
    fed = attack(Loud(), linear.x, linear.y, replace(spec, loss="dlr"), budget=budget, seed=0)
    assert fed.robust_accuracy <= 0.6
    assert starved.robust_accuracy >= fed.robust_accuracy + 0.3


@pytest.mark.parametrize("spec", [Noise(draws=3), Square(queries=5)])
def test_a_plain_function_without_gradient_can_be_searched(spec: Any) -> None:
    x, y = torch.full((2, 3), 0.5, dtype=torch.float64), torch.tensor([0, 2])
    x = (x * 255).round() / 255
    result = attack(
        lambda x: torch.from_numpy(x.numpy() + np.eye(3)[[0, 2]][: len(x)]),
        x, y, spec, budget=Budget(eps=5 / 255), seed=0,
    )  # fmt: skip
    assert result.x_adv.dtype == torch.float64
    assert not result.fooled.any()


def spied(model: nn.Module, x: Tensor, y: Tensor, spec: Any, budget: Budget) -> tuple[Any, Any]:
    """What an attack shows `model`, the original first, and its result."""
    seen: list[Tensor] = []

    def spy(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        logits: Tensor = model(x)
        return logits

    return seen, attack(spy, x, y, spec, budget=budget, seed=3)


@pytest.mark.parametrize("radius", [8, 7])
def test_rfgsm_goes_half_way_at_random_and_half_up_the_gradient(conv: Any, radius: int) -> None:
    model, budget = conv.model.eval(), Budget(eps=radius / 255, levels=None)
    surest = margin(model(conv.x), conv.y).detach().argsort()[-4:]
    x, y = conv.x[surest], conv.y[surest]
    (_, start, last), result = spied(model, x, y, Rfgsm(), budget)
    assert (result.queries == 3).all()
    half = radius / 255 / 2
    noise = (start - x) / half
    inside = (x > half) & (x < 1 - half)
    assert torch.allclose(noise[inside].abs(), torch.ones(int(inside.sum())), atol=1e-4)
    assert torch.equal(start, (x + half * noise.sign()).clamp(0, 1))
    assert 0.4 < (noise[inside] > 0).float().mean() < 0.6
    image = start.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model(image), y, reduction="sum"), image)
    assert torch.allclose(last, (start + half * g.sign()).clamp(0, 1), atol=1e-7)
    assert ((last - x).abs() <= radius / 255 + 1e-6).all()
    assert Rfgsm().settings(budget) == {"attack": "rfgsm", "loss": "ce", "step_size": half}


def two_sides(classes: int) -> tuple[nn.Linear, Tensor, Tensor]:
    """A linear model on grey images that stay far from black and white, with labels it gives."""
    g = torch.Generator().manual_seed(12)
    model = nn.Linear(30, classes)
    model.weight.data = torch.randn(model.weight.shape, generator=g)
    x = 0.4 + 0.2 * torch.rand(40, 30, generator=g)
    model.requires_grad_(False)
    model.bias.copy_(-(x @ model.weight.T).mean(0))
    return model, x, model(x).argmax(1)


def least_margins(model: nn.Linear, x: Tensor, y: Tensor, eps: float, dual: int) -> Tensor:
    """Closed form: min over k of z_y - z_k - eps |w_y - w_k|, `dual` 2 for l2 and 1 for linf."""
    z, w = model(x).double(), model.weight.double()
    found = []
    for i, own in enumerate(y.tolist()):
        sides = [
            float(z[i, own] - z[i, k] - eps * (w[own] - w[k]).norm(p=dual))
            for k in range(len(w))
            if k != own
        ]
        found.append(min(sides))
    return torch.tensor(found)


EVERY_STEP = [
    Fgsm(), Bim(steps=8), Pgd(steps=20, step_size=0.05), MiFgsm(steps=8), Apgd(steps=20),
    ApgdTargeted(steps=20, loss="ce"),
]  # fmt: skip


@pytest.mark.parametrize(("norm", "dual", "eps"), [("l2", 2, 0.05), ("linf", 1, 0.01)])
@pytest.mark.parametrize("spec", EVERY_STEP, ids=lambda s: s.name)
def test_on_two_linear_classes_the_margin_moves_by_the_dual_norm(
    spec: Any, norm: str, dual: int, eps: float
) -> None:
    model, x, y = two_sides(2)
    budget = Budget(eps=eps, norm=norm, levels=None)
    least = least_margins(model, x, y, eps, dual)
    result = attack(model, x, y, spec, budget=budget, seed=0)
    assert torch.equal(result.fooled, least <= 0)
    assert (result.margin >= least - 1e-5).all()
    standing = ~result.fooled
    assert 10 <= standing.sum() <= 38
    assert torch.allclose(result.margin[standing], least[standing].float(), atol=1e-3)


@pytest.mark.parametrize(("norm", "dual", "eps"), [("l2", 2, 0.03), ("linf", 1, 0.006)])
def test_with_a_target_for_every_class_the_nearest_side_is_found(
    norm: str, dual: int, eps: float
) -> None:
    model, x, y = two_sides(6)
    budget = Budget(eps=eps, norm=norm, levels=None)
    least = least_margins(model, x, y, eps, dual)
    result = attack(model, x, y, ApgdTargeted(steps=30), budget=budget, seed=0)
    assert torch.equal(result.fooled, least <= 0)
    standing = ~result.fooled
    assert 4 <= standing.sum() <= 36
    assert (result.margin >= least - 1e-5).all()
    # The ratio's own optimum lies beside that of the margin, which is what is judged.
    gained = (result.clean_margin - result.margin) / (result.clean_margin - least)
    assert gained[standing].min() > 0.75
    assert gained[standing].mean() > 0.9


def test_in_l0_a_step_crosses_the_range_of_a_pixel_thrice() -> None:
    budget = Budget(eps=3, norm="l0")
    for spec in (Bim(steps=7), Pgd(steps=30), MiFgsm(steps=4)):
        assert spec.settings(budget)["step_size"] == 3.0
    assert Bim(step_size=0.5).settings(budget)["step_size"] == 0.5


def test_bad_settings_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^rfgsm: loss is 'mse'; allowed are 'ce', 'dlr', 'margin'$"
    ):
        Rfgsm(loss="mse")
    with pytest.raises(ValueError, match=r"^bim: step_size is 0; it must be above 0"):
        Bim(step_size=0)
