"""APGD: its checkpoints, when it halves its steps, and a naive loop for one image."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeport.sim.attack import Apgd, ApgdTargeted, Budget, Pgd, attack
from spikeport.sim.attack.apgd import checkpoints, first_step, runners_up, to_halve
from spikeport.sim.attack.losses import margin, targeted_entropy, targeted_ratio


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


def ratio(z: Any, y: int, t: int) -> float:
    """AutoAttack's targeted loss of one sample, from its sorted logits."""
    z = np.asarray(z, dtype=float)
    s = np.sort(z)
    return float(-(z[y] - z[t]) / (s[-1] - 0.5 * (s[-3] + s[-4]) + 1e-12))


def test_the_targeted_ratio_is_autoattacks() -> None:
    g = torch.Generator().manual_seed(1)
    z = 5 * torch.randn(60, 6, generator=g, dtype=torch.float64)
    y, t = torch.randint(0, 6, (2, 60), generator=g)
    expected = [ratio(*sample) for sample in zip(z.tolist(), y.tolist(), t.tolist(), strict=True)]
    assert targeted_ratio(z, y, t).tolist() == pytest.approx(expected)
    assert targeted_ratio(7 * z, y, t).tolist() == pytest.approx(expected)
    assert targeted_entropy(z, y, t).tolist() == pytest.approx(
        (z.gather(1, t[:, None])[:, 0] - z.exp().sum(1).log()).tolist()
    )
    four = torch.tensor([[5.0, 1.0, 4.0, 2.0]])
    found = targeted_ratio(four, torch.tensor([0]), torch.tensor([2]))
    assert found.tolist() == pytest.approx([-1 / 3.5])


def test_the_targeted_ratio_is_flat_where_one_class_alone_spikes() -> None:
    z = torch.tensor([[12.0, 0.0, 0.0, 0.0]], requires_grad=True)
    y, t = torch.tensor([0]), torch.tensor([2])
    (g,) = torch.autograd.grad(targeted_ratio(z, y, t).sum(), z)
    assert float(g[0, 0]) == 0
    (g,) = torch.autograd.grad(targeted_entropy(z, y, t).sum(), z)
    assert float(g[0, 0]) < -0.9


def test_targets_are_the_other_classes_by_their_clean_logits() -> None:
    z = torch.tensor([[5.0, 1.0, 4.0, 2.0], [0.0, 3.0, 3.0, 9.0], [0.0, 0.0, 0.0, 1.0]])
    assert runners_up(z, torch.tensor([0, 3, 3])).tolist() == [[2, 3, 1], [1, 2, 0], [0, 1, 2]]


class Recorder(nn.Module):
    """Keeps the images that it is shown; pixel k drives logit k of 6, unless `mixed`."""

    def __init__(self, *, mixed: bool = False) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(3)
        drawn = torch.randn(6, 10, generator=g, dtype=torch.float64)
        self.w = drawn if mixed else torch.eye(10, dtype=torch.float64)[:6]
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, 6], the first class ahead."""
        self.seen.append(x.detach().clone())
        return x @ self.w.T + torch.eye(6, dtype=torch.float64)[0] * 9


def climbs(
    run: Callable[..., Any], kind: Any, targets: int, restarts: int, steps: int = 3
) -> list[tuple[int, ...]]:
    """For each climb, the class whose pixel it left brightest against the original, by sample."""
    model = Recorder()
    x = torch.rand(4, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    y = torch.zeros(4, dtype=torch.int64)
    spec = kind(steps=steps, targets=targets, restarts=restarts, loss="ce")
    result = run(model, x, y, spec, budget=Budget(eps=0.3, levels=None), seed=0)
    assert not result.fooled.any()
    points = model.seen[1:]
    found = []
    for i in range(0, len(points), steps + 1):
        found.append(tuple((points[i + steps] - x)[:, :6].argmax(1).tolist()))
    return found


def ranked(targets: int) -> list[tuple[int, ...]]:
    """Of each climb of a restart, the class aimed at, by a sort of numpy's."""
    x = torch.rand(4, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    z = Recorder()(x).numpy()
    order = np.argsort(-z, axis=1)
    assert (order[:, 0] == 0).all()
    return [tuple(order[:, 1 + i].tolist()) for i in range(targets)]


@pytest.mark.parametrize(("targets", "restarts", "each"), [(1, 1, 1), (3, 2, 3), (9, 1, 5)])
def test_every_target_has_its_climb_the_runner_up_first(
    targets: int, restarts: int, each: int
) -> None:
    assert climbs(attack, ApgdTargeted, targets, restarts) == ranked(each) * restarts


MODULES = ("sim.attack.losses", "sim.attack.oracle", "sim.attack.apgd", "sim.attack.run")
MUTANTS = {
    "least likely first": (
        "descending=True, stable=True)[:, :-1]",
        "descending=False, stable=True)[:, 1:]",
    ),
    "its own class too": ("return others.argsort", "return logits.argsort"),
    "one target for all": ("target[oracle.alive])", "target[:1].expand(len(y)))"),
    "away from the target": (
        "return -cross_entropy(logits, target)",
        "return cross_entropy(logits, target)",
    ),
    "away from the label only": (
        "return -cross_entropy(logits, target)",
        "return cross_entropy(logits, y)",
    ),
    "one target fewer": ("oracle.y)[:, : self.targets]", "oracle.y)[:, : self.targets - 1]"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_of_the_targets_is_caught(planted: Callable[..., ModuleType], mutant: str) -> None:
    wrong = planted(MODULES, MUTANTS[mutant])
    assert climbs(wrong.attack, wrong.ATTACKS["apgd-t"], 3, 1) != ranked(3)


def test_targets_stay_with_their_samples_when_others_leave(conv: Any) -> None:
    """Some are fooled on the way; the rest must climb as if they had been alone."""
    model, budget = conv.model.eval(), Budget(eps=3 / 255)
    spec = ApgdTargeted(steps=8, targets=3)
    together = attack(model, conv.x, conv.y, spec, budget=budget, seed=0)
    assert 4 < together.fooled.sum() < 20
    assert len(together.queries.unique()) >= 3
    for i in (~together.fooled).nonzero()[:3]:
        alone = attack(model, conv.x[i], conv.y[i], spec, budget=budget, seed=0)
        assert torch.equal(alone.x_adv, together.x_adv[i])
        assert torch.allclose(alone.path, together.path[:, i], atol=1e-5)


def test_it_is_at_least_as_strong_as_apgd_with_the_untargeted_ratio(conv: Any) -> None:
    budget = Budget(eps=4 / 255)
    plain = attack(conv.model, conv.x, conv.y, Apgd(steps=20, loss="dlr"), budget=budget, seed=0)
    aimed = attack(conv.model, conv.x, conv.y, ApgdTargeted(steps=20), budget=budget, seed=0)
    assert aimed.robust_accuracy <= plain.robust_accuracy
    assert plain.robust_accuracy < plain.clean_accuracy


@pytest.mark.parametrize(
    ("few", "more"), [({"targets": 2}, {"targets": 2, "restarts": 5}), ({"targets": 1}, {})]
)
def test_more_targets_and_restarts_find_more(
    conv: Any, few: dict[str, Any], more: dict[str, Any]
) -> None:
    budget = Budget(eps=4 / 255)
    one, five = (
        attack(
            conv.model, conv.x, conv.y, ApgdTargeted(steps=3, **kind), budget=budget, seed=0
        ).margin
        for kind in (few, more)
    )
    assert (five <= one).all()
    assert (five < one).any()


def test_three_classes_are_too_few_for_the_targeted_ratio(linear: Any) -> None:
    three = nn.Linear(12, 3)
    three.load_state_dict({k: v[:3] for k, v in linear.model.state_dict().items()})
    y, budget = three(linear.x).argmax(1), Budget(eps=4 / 255)
    with pytest.raises(
        ValueError,
        match=r"^attack: targeted loss 'dlr' needs at least 4 classes, the model has 3; use loss",
    ):
        attack(three, linear.x, y, ApgdTargeted(steps=2), budget=budget, seed=0)
    result = attack(three, linear.x, y, ApgdTargeted(steps=2, loss="ce"), budget=budget, seed=0)
    assert result.robust_accuracy < 1


def test_targeted_settings() -> None:
    assert ApgdTargeted(targets=4).settings(Budget(eps=0.25, norm="l2")) == {
        "attack": "apgd-t", "steps": 100, "restarts": 1, "targets": 4, "loss": "dlr", "rho": 0.75,
        "first_step": 0.5,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"^apgd-t: targets is 0; allowed are 1"):
        ApgdTargeted(targets=0)
    with pytest.raises(ValueError, match=r"^apgd-t: loss is 'kl'; allowed are 'ce', 'dlr'$"):
        ApgdTargeted(loss="kl")
    with pytest.raises(
        ValueError, match=r"^apgd-t: rho is -1; allowed are 0..1, a share of the mo"
    ):
        ApgdTargeted(rho=-1)
    with pytest.raises(ValueError, match=r"^apgd-t: steps is 0"):
        ApgdTargeted(steps=0)


def test_in_l2_it_climbs_like_a_naive_loop() -> None:
    model = Recorder(mixed=True)
    x0 = 0.2 + 0.6 * torch.rand(1, 10, generator=torch.Generator().manual_seed(9)).double()
    budget = Budget(eps=0.3, norm="l2", levels=None)
    attack(model, x0, torch.tensor([0]), Apgd(steps=12), budget=budget, seed=0)
    points = [p.numpy()[0] for p in model.seen[1:]]
    first, w, eta = points[0], model.w.numpy(), 0.6
    assert np.linalg.norm(first - x0.numpy()[0]) == pytest.approx(0.3)

    def slope(x: Any) -> tuple[float, Any]:
        z = x @ w.T + 9 * np.eye(6)[0]
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        return -float(np.log(p[0])), (p - np.eye(6)[0]) @ w

    def inside(x: Any) -> Any:
        delta = np.clip(x, 0, 1) - x0.numpy()[0]
        return x0.numpy()[0] + delta * min(1.0, 0.3 / np.linalg.norm(delta))

    x = old = first
    (loss, g), losses = slope(x), []
    losses.append(loss)
    top, last, top_then, kept = (loss, x, g), 0, loss, False
    for k in range(1, 13):
        zed = inside(x + eta * g / np.linalg.norm(g))
        a = 1.0 if k == 1 else 0.75
        x, old = inside(x + a * (zed - x) + (1 - a) * (x - old)), x
        assert np.allclose(points[k], x, atol=1e-9), k
        loss, g = slope(x)
        losses.append(loss)
        top = max(top, (loss, x, g), key=lambda point: point[0])
        if k in checkpoints(12):
            rises = sum(losses[j] > losses[j - 1] for j in range(last + 1, k + 1))
            halve = rises <= 0.75 * (k - last) or (kept and top[0] <= top_then)
            if halve:
                eta, (_, x, g) = eta / 2, top
            last, top_then, kept = k, top[0], not halve
