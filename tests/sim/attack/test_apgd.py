"""APGD: its checkpoints, when it halves its steps, and a naive loop for one image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeport.sim.attack import Apgd, Budget, Pgd, attack
from spikeport.sim.attack.apgd import checkpoints, first_step, to_halve
from spikeport.sim.attack.losses import margin


def test_checkpoints_are_the_published_ones() -> None:
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert checkpoints(20) == (4, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)
    assert checkpoints(1) == (1,)


def test_a_step_is_halved_when_it_rises_too_seldom_or_stands_still() -> None:
    #              rises 4 of 4, 3 of 4, 2 of 4, 4 of 4 (old best is higher), the same, halved then
    losses = torch.tensor([
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, 1.0, 1.0, 1.0, 1.0],
        [2.0, 1.0, 0.5, 2.0, 2.0],
        [3.0, 2.0, 0.4, 3.0, 3.0],
        [4.0, 3.0, 2.0, 4.0, 4.0],
    ])  # fmt: skip
    best = torch.tensor([4.0, 3.0, 2.0, 9.0, 9.0])
    before = torch.tensor([1.0, 1.0, 1.0, 9.0, 9.0])
    was_halved = torch.tensor([False, False, False, False, True])

    def found(rho: float) -> list[bool]:
        flags = to_halve(losses, best=best, best_before=before, halved=was_halved, rho=rho)
        return flags.tolist()

    # "At most rho k rises" includes the bound: 3 of 4 at rho = 0.75 is too few.
    assert found(0.75) == [False, True, True, True, False]
    assert found(0.7) == [False, False, True, True, False]
    assert found(0.4) == [False, False, False, True, False]
    assert found(1.0) == [True] * 5


class Spy(nn.Module):
    """Keeps the images that a model is shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the model."""
        self.seen.append(x.detach().clone())
        logits: Tensor = self.model(x)
        return logits


def naive(
    model: nn.Module, x0: Tensor, y: int, *, start: Tensor, spec: Apgd, radius: int
) -> tuple[list[float], float]:
    """One image alone, step by step after the paper; its losses and the smallest margin."""
    low, high = (x0 - radius / 255).clamp(min=0), (x0 + radius / 255).clamp(max=1)
    label, eta = torch.tensor([y]), 2 * radius / 255

    def look(x: Tensor) -> tuple[float, Tensor, float]:
        image = ((x * 255).round() / 255).requires_grad_()
        logits = model(image)
        loss = F.cross_entropy(logits, label)
        (g,) = torch.autograd.grad(loss, image)
        return float(loss.detach()), g, float(margin(logits.detach(), label))

    def inside(x: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(x, low), high)

    x, old = start, start
    loss, g, least = look(x)
    least = min(least, float(margin(model(x0).detach(), label)))
    losses, top = [loss], (loss, x, g)
    last, top_then, kept = 0, loss, False
    for k in range(1, spec.steps + 1):
        zed = inside(x + eta * g.sign())
        a = 1.0 if k == 1 else 0.75
        x, old = inside(x + a * (zed - x) + (1 - a) * (x - old)), x
        loss, g, m = look(x)
        losses, least = [*losses, loss], min(least, m)
        top = max(top, (loss, x, g), key=lambda point: point[0])
        if k in checkpoints(spec.steps):
            rises = sum(losses[j] > losses[j - 1] for j in range(last + 1, k + 1))
            halve = rises <= spec.rho * (k - last) or (kept and top[0] <= top_then)
            if halve:
                eta, (_, x, g) = eta / 2, top
            last, top_then, kept = k, top[0], not halve
    return losses[:-1], least


@pytest.mark.parametrize(("steps", "rho"), [(30, 0.75), (12, 0.4)])
def test_it_climbs_like_a_naive_loop(conv: Any, steps: int, rho: float) -> None:
    model, spec, radius = conv.model.eval(), Apgd(steps=steps, rho=rho), 4
    survivors = 0
    for i in range(8):
        x, y, spy = conv.x[i : i + 1], conv.y[i : i + 1], Spy(model)
        result = attack(spy, x, y, spec, budget=Budget(eps=radius / 255), seed=5)
        assert (result.queries <= steps + 2).all()
        if result.fooled.any():
            continue
        survivors += 1
        start = spy.seen[1]
        assert ((start - x) * 255).abs().max().round() == radius  # on the ball's hull
        losses, least = naive(model, x, int(y), start=start, spec=spec, radius=radius)
        assert len(result.path) == steps
        # The loop goes on from the float start, of which the spy sees the rounded one.
        assert float(result.path[0]) == pytest.approx(losses[0], abs=1e-5)
        assert float(result.path[1:].max()) == pytest.approx(max(losses[1:]), rel=0.02)
        assert float(result.margin) == pytest.approx(least, abs=0.05)
    assert survivors >= 3


def test_the_first_step_crosses_the_whole_ball(linear: Any) -> None:
    budget, spy = Budget(eps=3 / 255), Spy(linear.model)
    attack(spy, linear.x, linear.y, Apgd(steps=2), budget=budget, seed=0)
    clean, start, first = spy.seen[:3]
    alone = start.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(linear.model(alone), linear.y), alone)
    assert len(first) == len(clean), "a sample fooled by its start is not shown again"
    assert torch.equal((first * 255).round(), ((clean * 255).round() + 3 * g.sign()).clamp(0, 255))
    assert first_step(3 / 255) == 6 / 255


def test_on_two_linear_classes_it_finds_the_optimum(linear: Any) -> None:
    model = nn.Linear(12, 2)
    model.load_state_dict({k: v[:2] for k, v in linear.model.state_dict().items()})
    y, budget = model(linear.x).argmax(1), Budget(eps=2 / 255)
    result = attack(model, linear.x, y, Apgd(steps=25), budget=budget, seed=0)
    w = model.weight.detach()
    downhill = torch.where(y[:, None] == 0, (w[1] - w[0]).sign(), (w[0] - w[1]).sign())
    best = ((linear.x * 255).round() + 2 * downhill).clamp(0, 255) / 255
    least = margin(model(best).detach(), y)
    stayed = ~result.fooled
    assert stayed.sum() >= 12
    assert torch.allclose(result.margin[stayed], least[stayed], atol=1e-5)
    assert torch.equal(result.fooled, least <= 0)


@pytest.mark.parametrize("radius", [6, 12, 20])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_it_is_as_strong_as_pgd_on_a_spiking_net(twin: Any, radius: int, loss: str) -> None:
    budget = Budget(eps=radius / 255)
    pgd, apgd = (
        attack(twin.model, twin.x, twin.y, kind(steps=20, loss=loss), budget=budget, seed=0)
        for kind in (Pgd, Apgd)
    )
    assert pgd.robust_accuracy < pgd.clean_accuracy or radius == 6
    assert apgd.robust_accuracy <= pgd.robust_accuracy + 1 / len(twin.x) + 1e-9


def test_its_settings_name_every_number() -> None:
    assert Apgd(steps=20, loss="dlr").settings(Budget(eps=8.4 / 255)) == {
        "attack": "apgd",
        "steps": 20,
        "restarts": 1,
        "loss": "dlr",
        "rho": 0.75,
        "first_step": 16 / 255,
    }


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(
        ValueError, match=r"apgd: rho is 1.5; allowed are 0..1, a share of the moves"
    ):
        Apgd(rho=1.5)
    with pytest.raises(ValueError, match="apgd: steps"):
        Apgd(steps=0)
    with pytest.raises(ValueError, match="apgd: restarts"):
        Apgd(restarts=0)
    with pytest.raises(ValueError, match="apgd: loss"):
        Apgd(loss="mse")
