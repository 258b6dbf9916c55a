"""Checks for masked gradients, each tested by a liar and by an honest figure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.attack import Budget, Effort, Noise, Pgd, Square, masking, run_checks
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.twin import Twin

EFFORT = Effort(
    pgd=Pgd(steps=10, restarts=2),
    square=Square(queries=80),
    noise=Noise(draws=30),
    epsilons=(0.0, 8 / 255, 0.5),
    ladder=(1, 10, 20),
)
BUDGET = Budget(eps=20 / 255)


def failures(model: Any, x: Tensor, y: Tensor, **more: Any) -> set[str]:
    """First words (C1, C2 ...) of the checks that fail."""
    found = run_checks(model, x, y, budget=BUDGET, seed=0, effort=EFFORT, **more)
    return {check.name.split()[0] for check in found if not check.passed}


def test_an_honest_undefended_model_passes_all(case: Any) -> None:
    assert failures(case.model, case.x, case.y) == set()


def test_checks_have_names_figures_and_sentences(linear: Any) -> None:
    found = run_checks(
        linear.model,
        linear.x,
        linear.y,
        budget=BUDGET,
        seed=0,
        effort=EFFORT,
        undefended=linear.model,
    )
    assert [c.name.split()[0] for c in found] == [f"C{i}" for i in range(11)]
    assert all(c.figures and len(c.sentence) > 30 for c in found)
    assert all(math.isfinite(value) for c in found for value in c.figures.values())


class Liar(nn.Module):
    """A model whose decision is honest and whose gradient is gone, in one of several ways."""

    def __init__(self, inner: nn.Module, disguise: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self.disguise = disguise

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the inner model in disguise."""
        return self.disguise(self.inner, x)


@pytest.mark.parametrize(
    "disguise",
    [
        lambda inner, x: inner((x * 16).round() / 16),
        lambda inner, x: inner(x.detach()),
    ],
    ids=["rounded", "detached"],
)
def test_models_without_gradient_are_found_out(conv: Any, disguise: Any) -> None:
    model = Liar(conv.model, disguise)
    y = model.eval()(conv.x).argmax(1)
    assert {"C2", "C6", "C7"} <= failures(model, conv.x, y)


def test_saturated_logits_are_found_out(linear: Any) -> None:
    model = Liar(linear.model, lambda inner, x: 1e6 * inner(x))
    assert "C6" in failures(model, linear.x, linear.y)


@pytest.mark.parametrize("surrogate", [Surrogate("triangle", 1.0), Surrogate("triangle", 1e-6)])
def test_the_twin_with_an_empty_window_is_found_out(
    twin: Any, twin_with: Callable[[Surrogate], Twin], surrogate: Surrogate
) -> None:
    # The same integers as the honest twin, decision for decision; only the gradient starves.
    starved = twin_with(surrogate)
    assert torch.equal(starved(twin.x), twin.model(twin.x))
    found = failures(starved, twin.x, twin.y)
    assert {"C6", "C7"} <= found
    assert {"C2", "C5"} & found


def test_probabilities_are_found_out(linear: Any) -> None:
    model = Liar(linear.model, lambda inner, x: inner(x).softmax(1))
    assert "C10" in failures(model, linear.x, linear.y)


def test_a_model_that_rolls_dice_is_found_out(linear: Any) -> None:
    g = torch.Generator().manual_seed(0)
    model = Liar(
        linear.model,
        lambda inner, x: inner(x) + 0.01 * torch.randn(len(x), 4, generator=g),
    )
    assert "C0" in failures(model, linear.x, linear.y)


def test_a_defended_twin_is_no_undefended_one(linear: Any) -> None:
    stubborn = Liar(linear.model, lambda inner, x: inner(x) + 1e3 * inner(x.round()).detach())
    y = stubborn(linear.x).argmax(1)
    assert "C8" in failures(linear.model, linear.x, y, undefended=stubborn)


@pytest.mark.parametrize(
    ("check", "passed"),
    [
        (masking.iterative(fgsm=0.5, pgd=0.504), True),
        (masking.iterative(fgsm=0.5, pgd=0.51), False),
        (masking.white_box(gradient=0.3, square=0.3), True),
        (masking.white_box(gradient=0.301, square=0.3), False),
        (masking.monotone((0, 0.1, 0.5), (0.9, 0.5, 0.1), chance=0.1), True),
        (masking.monotone((0, 0.1, 0.5), (0.9, 0.5, 0.11), chance=0.1), False),
        (masking.monotone((0, 0.1, 0.2, 0.5), (0.9, 0.5, 0.52, 0), chance=0.1), False),
        (masking.convergence((1, 7, 20), (0.5, 0.3, 0.3)), True),
        (masking.convergence((1, 7, 20), (0.5, 0.3, 0.2)), False),
        (masking.convergence((1, 7, 20, 50), (0.3, 0.2, 0.25, 0.25)), False),
        (masking.breaks_undefended(accuracy=0.05, eps=8 / 255), True),
        (masking.breaks_undefended(accuracy=0.06, eps=8 / 255), False),
        (masking.gradients(torch.tensor([0.0] + 99 * [1.0])), True),
        (masking.gradients(torch.tensor([0.0, 0.0] + 98 * [1.0])), False),
        (masking.raw_logits(torch.eye(3), accuracy=1.0), False),
        (masking.raw_logits(torch.tensor([[1.0, 0.0], [6.0, 0.0]]), accuracy=1.0), True),
    ],
)
def test_rules_on_figures(check: masking.Check, passed: bool) -> None:
    assert check.passed is passed


def test_random_search_counts_what_gradients_miss() -> None:
    noise, gradient = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    check = masking.random_search(noise=noise, gradient=gradient)
    assert not check.passed
    assert check.figures == {"missed": 1, "samples": 3}
    assert check.sentence == "noise fools 1 of 3 samples that gradient attacks miss"
    assert masking.random_search(noise=noise, gradient=noise).passed


@pytest.mark.parametrize(
    ("path", "fooled", "passed"),
    [
        ([[1.0, 1.0], [2.0, 1.5]], [False, False], True),
        ([[1.0, 1.0], [1.0, 1.0]], [False, False], False),
        ([[1.0, 1.0], [5.0, 0.9]], [False, False], False),
        ([[1.0, math.nan], [2.0, math.nan]], [False, True], True),
        ([[1.0, 1.0], [math.nan, math.nan]], [True, True], True),
    ],
)
def test_rising_loss(path: list[list[float]], fooled: list[bool], passed: bool) -> None:
    check = masking.rising_loss(torch.tensor(path), fooled=torch.tensor(fooled))
    assert check.passed is passed


def test_efforts_that_cannot_judge_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^effort: epsilons are \(0.1,\); the last must be at"):
        Effort(epsilons=(0.1,))
    with pytest.raises(ValueError, match=r"^effort: ladder is \(7, 1\); needed are two or more"):
        Effort(ladder=(7, 1))
    with pytest.raises(ValueError, match=r"^check C3: epsilons end at 0.4; one of at least 0.5"):
        masking.monotone((0.1, 0.4), (1, 0), chance=0.1)


def test_every_check_names_a_cause() -> None:
    assert list(masking.CAUSES) == [f"C{i}" for i in range(11)]
    check = masking.transferred(own=0.5, transfer=0.4, source="float")
    assert (check.passed, check.name) == (False, "C2 transfer")
    assert check.cause == masking.CAUSES["C2"]
    assert masking.transferred(own=0.4, transfer=0.4, source="float").passed


def test_the_slice_along_the_gradient_must_rise_more() -> None:
    up, flat = torch.tensor([[0.1, 0.2], [0.4, 0.1]]), torch.tensor([[0.0, 0.1], [0.1, -0.2]])
    check = masking.slice_of_loss(up, flat)
    assert check.passed
    assert check.figures == pytest.approx({"along": 0.3, "across": 0.1})
    assert not masking.slice_of_loss(flat, up).passed
    assert not masking.slice_of_loss(flat, flat).passed
    assert masking.slice_of_loss(torch.zeros(0, 0), torch.zeros(0, 0)).passed


def test_a_gradient_that_points_downhill_is_found_out(linear: Any) -> None:
    class Downhill(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            return -grads[0]

    class Liar9(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            """Honest logits."""
            logits: Tensor = linear.model(Downhill.apply(x))
            return logits

    assert "C9" in failures(Liar9(), linear.x, linear.y)
