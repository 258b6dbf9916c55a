"""Gradient attacks against closed forms and a naive loop of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeport.sim.attack import Bim, Budget, Fgsm, Noise, Pgd, Square, attack
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
