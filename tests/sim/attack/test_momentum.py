"""MI-FGSM and SA-PGD against loops of their own, image by image, and what is wrong with mutants."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport.sim.attack import Apgd, Bim, Budget, MiFgsm, SaPgd, attack
from spikeport.sim.attack.losses import margin
from spikeport.sim.attack.momentum import in_means

Floats = NDArray[np.float64]
EPS = 0.15


class Wavy(nn.Module):
    """A smooth model in float64 whose class 0 leads by so much that no step takes the lead away,
    and whose gradient turns often; keeps the images that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(3)
        self.inner = torch.randn(12, 16, generator=g, dtype=torch.float64) * 4
        self.outer = torch.randn(16, 4, generator=g, dtype=torch.float64)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, 4]."""
        self.seen.append(x.detach().clone())
        lead = torch.tensor([40.0, 0, 0, 0], dtype=torch.float64)
        return (x @ self.inner).sin() @ self.outer + lead


@pytest.fixture
def wavy() -> tuple[Wavy, Tensor, Tensor]:
    x = 0.1 + 0.8 * torch.rand(5, 12, generator=torch.Generator().manual_seed(4)).double()
    return Wavy(), x, torch.zeros(5, dtype=torch.int64)


def slope(model: Wavy, x: Floats) -> Floats:
    """Gradient of one image's loss."""
    image = torch.from_numpy(x)[None].requires_grad_()
    value = F.cross_entropy(model(image), torch.tensor([0]))
    (g,) = torch.autograd.grad(value, image)
    found: Floats = g[0].numpy().copy()
    return found


def box(x: Floats, x0: Floats) -> Floats:
    """The nearest point of the ball and of [0, 1]."""
    return np.minimum(np.maximum(np.minimum(np.maximum(x, x0 - EPS), x0 + EPS), 0), 1)


def round_ball(x: Floats, x0: Floats) -> Floats:
    """The point of the l2 ball below `x`, then of [0, 1]."""
    delta = np.clip(x, 0, 1) - x0
    inside: Floats = x0 + delta * min(1.0, EPS / float(np.sqrt((delta**2).sum())))
    return inside


def mi_fgsm(model: Wavy, x0: Floats, spec: Any, norm: str) -> list[Floats]:
    """Every point after the first."""
    memory, x, found = np.zeros_like(x0), x0, []
    for _ in range(spec.steps):
        g = slope(model, x)
        memory = spec.mu * memory + g / np.abs(g).mean()
        length = EPS / spec.steps if spec.step_size is None else spec.step_size
        if norm == "linf":
            x = box(x + length * np.sign(memory), x0)
        else:
            x = round_ball(x + length * memory / np.sqrt((memory**2).sum()), x0)
        found.append(x)
    return found


def sa_pgd(model: Wavy, x0: Floats, start: Floats, steps: int, halved: tuple[int, ...]) -> Any:
    """Every point after the start, and the shares of the longest move that were taken."""
    m, v = np.zeros_like(x0), np.zeros_like(x0)
    x, eta, found, shares = start, EPS, [], []
    for k in range(1, steps + 1):
        g = slope(model, x)
        m = 0.5 * m + g / np.mean(np.abs(g))
        v = 0.8 * v + g**2 / np.mean(g**2)
        move = np.clip(eta * m / (np.sqrt(v) + 1e-12), -eta, eta)
        shares.append(np.abs(move) / eta)
        x = box(x + move, x0)
        found.append(x)
        if k in halved:
            eta = eta / 2
    return found, np.stack(shares)


def shown(spec: Any, wavy: Any, norm: str, run: Callable[..., Any] = attack) -> list[Tensor]:
    """What an attack shows the model, the original first."""
    model, x, y = wavy
    model.seen.clear()
    budget = Budget(eps=EPS, norm=norm, levels=None)
    result = run(model, x, y, spec, budget=budget, seed=2)
    assert not result.fooled.any()
    return list(model.seen)


def differs(points: list[Tensor], expected: list[Floats], row: int) -> bool:
    """Whether the points of sample `row` are not the expected ones."""
    assert len(points) == len(expected)
    return any(
        not np.allclose(p[row].numpy(), e, rtol=0, atol=1e-9)
        for p, e in zip(points, expected, strict=True)
    )


SPECS = [MiFgsm(steps=7, mu=0.6), MiFgsm(steps=5, step_size=0.06), MiFgsm(steps=6, mu=0.0)]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("spec", SPECS)
def test_mi_fgsm_is_the_published_loop(wavy: Any, spec: MiFgsm, norm: str) -> None:
    points = shown(spec, wavy, norm)[2:]  # the original is judged, then differentiated
    for i in range(len(wavy[1])):
        x0 = wavy[1][i].numpy()
        assert not differs(points, mi_fgsm(wavy[0], x0, spec, norm), i)


def test_without_memory_it_is_bim(wavy: Any) -> None:
    spec, plain = MiFgsm(steps=6, mu=0.0, step_size=0.04), Bim(steps=6, step_size=0.04)
    for a, b in zip(shown(spec, wavy, "linf"), shown(plain, wavy, "linf"), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


# 22 %, 19 %, 16 % ... of 20 moves.
HALVED = {20: (4, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20), 8: tuple(range(1, 9))}


def follows(wavy: Any, run: Callable[..., Any], spec: Any, steps: int) -> bool:
    """Whether an attack does what the loop of SA-PGD does, on every sample."""
    _, start, *points = shown(spec, wavy, "linf", run)
    agreed = True
    for i, x0 in enumerate(wavy[1].numpy()):
        expected, shares = sa_pgd(wavy[0], x0, start[i].numpy(), steps, HALVED[steps])
        assert (shares[0] > 1 - 1e-9).all()
        assert (shares[1:] < 0.9).any(), "all moves as long as allowed: nothing would be tested"
        agreed = agreed and not differs(points, expected, i)
    return agreed


@pytest.mark.parametrize("steps", [8, 20])
def test_sa_pgd_is_the_published_loop(wavy: Any, steps: int) -> None:
    assert follows(wavy, attack, SaPgd(steps=steps), steps)


MODULES = ("sim.attack.gradient", "sim.attack.apgd", "sim.attack.momentum", "sim.attack.run")
MUTANTS = {
    "memory kept whole": ("KEPT, KEPT_SQUARES = 0.5, 0.8", "KEPT, KEPT_SQUARES = 1.0, 0.8"),
    "squares forgotten sooner": ("KEPT, KEPT_SQUARES = 0.5, 0.8", "KEPT, KEPT_SQUARES = 0.5, 0.5"),
    "memory decays after the sum": ("KEPT * total + scaled", "KEPT * (total + scaled)"),
    "never halved": ("longest /= 2", "longest /= 1"),
    "halved where the loss fell": (
        "if move in judged:\n            longest",
        "if move in judged and (oracle.path[-1] < oracle.path[0]).all():\n            longest",
    ),
    "halved one move late": (
        "if move in judged:\n            longest",
        "if move - 1 in judged:\n            longest",
    ),
    "no limit": ("ahead.clamp(-longest, longest)", "ahead"),
    "no projection": (
        "oracle.budget.clip(x + ahead.clamp(-longest, longest), oracle.x0)",
        "x + ahead.clamp(-longest, longest)",
    ),
    "squares not scaled": ("in_means(scaled.square())", "scaled.square()"),
    "mean over the first axis too": (
        "mean = scaled.abs().flatten(1).mean(1)",
        "mean = scaled.abs().mean().expand(len(scaled))",
    ),
    "gradient not scaled": (
        "    return scaled / rows(torch.where(mean > 0, mean, 1), gradient)",
        "    return gradient",
    ),
    "first move twice as long": (
        "longest, judged = oracle.budget.radius,",
        "longest, judged = 2 * oracle.budget.radius,",
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_of_sa_pgd_is_caught(
    planted: Callable[..., ModuleType], wavy: Any, mutant: str
) -> None:
    wrong = planted(MODULES, MUTANTS[mutant])
    kind = wrong.ATTACKS["sa-pgd"]
    assert not follows(wavy, wrong.attack, kind(steps=20), 20)


MI_MUTANTS = {
    "memory forgotten": (
        "total = self.mu * total + in_means(gradient)",
        "total = in_means(gradient)",
    ),
    "gradients as large as they come": ("total + in_means(gradient)", "total + gradient"),
    "the new one decays": (
        "total = self.mu * total + in_means(gradient)",
        "total = total + self.mu * in_means(gradient)",
    ),
    "steps too long": ("budget, reach=1.0)", "budget, reach=2.5)"),
    "no projection": (
        "x = budget.clip(x + length * ahead, oracle.x0)",
        "x = x + 1.5 * length * ahead",
    ),
}


@pytest.mark.parametrize("mutant", MI_MUTANTS)
def test_a_mutant_of_mi_fgsm_is_caught(
    planted: Callable[..., ModuleType], wavy: Any, mutant: str
) -> None:
    wrong = planted(MODULES, MI_MUTANTS[mutant])
    caught = 0
    for norm in ("linf", "l2"):
        spec = wrong.ATTACKS["mi-fgsm"](steps=7, mu=0.6)
        points = shown(spec, wavy, norm, wrong.attack)[2:]
        for i, x0 in enumerate(wavy[1].numpy()):
            caught += differs(points, mi_fgsm(wavy[0], x0, spec, norm), i)
    assert caught


def test_sa_pgd_begins_with_a_step_of_the_whole_radius(conv: Any) -> None:
    seen: list[Tensor] = []
    model, budget = conv.model.eval(), Budget(eps=6 / 255)

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            logits: Tensor = model(x)
            return logits

    surest = int(margin(model(conv.x), conv.y).argmax())
    x, y = conv.x[surest][None], conv.y[surest][None]
    result = attack(Spy(), x, y, SaPgd(steps=1), budget=budget, seed=0)
    assert (result.queries == 3).all()
    clean, start, first = ((s * 255).round() for s in seen)
    assert (start - clean).abs().max() == 6
    image = seen[1].clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model(image), y), image)
    expected = torch.minimum(torch.maximum(start + 6 * g.sign(), clean - 6), clean + 6)
    # The attack goes on from the float start, half a grid step away from the rounded one.
    assert ((first - expected.clamp(0, 255)).abs() <= 1).all()
    assert SaPgd().settings(budget)["first_step"] == 6 / 255


def test_scaling_keeps_nothing_and_the_smallest_apart() -> None:
    g = torch.tensor([[0.0, 0.0], [1e-42, -3e-42], [3e38, 1e38], [2.0, -2.0]])
    found = in_means(g)
    assert found[0].tolist() == [0, 0]
    assert torch.allclose(found[2:], torch.tensor([[1.5, 0.5], [1.0, -1.0]]))
    assert found[1].tolist() == pytest.approx([0.5, -1.5], rel=1e-2)
    train = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(in_means(train).abs().mean((1, 2, 3, 4)), torch.ones(3))
    assert torch.allclose(in_means(train)[0], train[0] / train[0].abs().mean())


@pytest.mark.parametrize("kind", [SaPgd, MiFgsm])
def test_where_no_gradient_comes_the_image_stays_finite(kind: Any) -> None:
    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.ones(len(x)), 0 * x.sum(1), x[:, 0].clamp(2, 3)], 1) - 2

    x = torch.tensor([[0.25, 0.5]])
    budget = Budget(eps=0.125, levels=None)
    seen: list[Tensor] = []
    model = Flat()
    model.register_forward_hook(lambda *a: seen.append(a[1][0].detach().clone()))
    result = attack(model, x, torch.tensor([2]), kind(steps=4), budget=budget, seed=0)
    assert all(torch.equal(s, seen[1]) for s in seen[1:])
    assert not result.x_adv.isnan().any()
    assert (result.path == result.path[0]).all()


def test_sa_pgd_is_as_strong_as_apgd_on_a_spiking_net(twin: Any) -> None:
    budget = Budget(eps=20 / 255)
    found = [
        attack(twin.model, twin.x, twin.y, kind(steps=20), budget=budget, seed=0).robust_accuracy
        for kind in (SaPgd, Apgd)
    ]
    assert found[0] <= found[1] + 2 / len(twin.x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MiFgsm(mu=-0.1), "^mi-fgsm: mu is -0.1; allowed are numbers from 0, 1 keeps all$"),
        (lambda: MiFgsm(mu=float("nan")), "^mi-fgsm: mu is nan"),
        (lambda: MiFgsm(steps=0), "^mi-fgsm: steps is 0"),
        (lambda: MiFgsm(step_size=0.0), "^mi-fgsm: step_size is 0.0; it must be above 0"),
        (lambda: SaPgd(steps=0), "^sa-pgd: steps is 0"),
        (lambda: SaPgd(restarts=0), "^sa-pgd: restarts is 0"),
        (lambda: SaPgd(loss="mse"), "^sa-pgd: loss is 'mse'; allowed are 'ce', 'dlr', 'margin'$"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_sa_pgd_searches_linf_only(linear: Any) -> None:
    with pytest.raises(ValueError, match=r"^sa-pgd: the budget is one of l2; this attack searches"):
        attack(linear.model, linear.x, linear.y, SaPgd(), budget=Budget(eps=1, norm="l2"), seed=0)


def test_settings_say_how_long_the_steps_are() -> None:
    assert MiFgsm(steps=5).settings(Budget(eps=10.5 / 255)) == {
        "attack": "mi-fgsm", "steps": 5, "step_size": 10 / 255 / 5, "mu": 1.0, "loss": "ce",
    }  # fmt: skip
    assert MiFgsm(step_size=0.25).settings(Budget(eps=0.1))["step_size"] == 0.25
