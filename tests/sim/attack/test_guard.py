"""Bad input ends in one sentence, before or while the model runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.attack import Bim, Budget, Fgsm, Noise, Pgd, Square, attack, sweep
from spikeport.sim.attack.guard import logits_in_batches

X = torch.tensor([[0.0, 51.0, 255.0], [10.0, 20.0, 30.0]]) / 255
Y = torch.tensor([2, 1])


def changed(value: float) -> Tensor:
    """X with one other pixel."""
    x = X.clone()
    x[1, 1] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (
            changed(1.01),
            Y,
            r"^attack: x spans 0\.\.1\.01; allowed are pixels in \[0, 1\], with any",
        ),
        (changed(-0.5), Y, r"^attack: x spans -0\.5\.\.1; allowed are pixels in"),
        (changed(float("nan")), Y, "^attack: x holds NaN or infinity; repair the images first$"),
        (changed(float("inf")), Y, "^attack: x holds NaN or infinity"),
        (changed(0.4 / 255), Y, r"^attack: a pixel of x lies 0\.4 steps off the grid k/255; round"),
        ((X * 255).to(torch.uint8), Y, r"^attack: x is torch\.uint8; needed is a float tensor"),
        (X.numpy(), Y, "^attack: x is ndarray; needed is a float tensor"),
        (X[:, :, None], Y, r"^attack: x has shape \(2, 3, 1\); allowed are \[B, n\] and"),
        (X[:0], Y[:0], r"^attack: x has shape \(0, 3\); allowed are .* none empty$"),
        (X, Y[:1], r"^attack: y has shape \(1,\); needed is \(2,\), one label a sample$"),
        (X, Y.float(), r"^attack: y is torch\.float32; needed is an int64 tensor of labels$"),
        (X, [2, 1], "^attack: y is list; needed is an int64 tensor"),
        (X, torch.tensor([0, 3]), r"^attack: a label is 3; the model has classes 0\.\.2$"),
        (X, torch.tensor([-1, 1]), r"^attack: a label is -1; the model has classes 0\.\.2$"),
    ],
)
def test_bad_batches_are_refused(x: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attack(nn.Identity(), x, y, Noise(), budget=Budget(eps=0.1), seed=0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda x: x[:, 0],
            r"^attack: the model gives logits of shape \(2,\) for 2 samples; needed",
        ),
        (lambda x: x[:, :1], r"^attack: the model gives logits of shape \(2, 1\) for 2 samples"),
        (lambda x: x[:1], r"^attack: the model gives logits of shape \(1, 3\) for 2 samples"),
        (lambda x: x / 0, "^attack: the model gives NaN or infinite logits; repair the model"),
    ],
)
def test_bad_logits_are_refused(model: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attack(model, X, Y, Noise(), budget=Budget(eps=0.1), seed=0)


@pytest.mark.parametrize("spec", [Fgsm(), Bim(), Pgd()])
@pytest.mark.parametrize(
    "model",
    [
        lambda x: x.detach() + torch.eye(3)[[2, 1]],
        lambda x: torch.eye(3, requires_grad=True)[[2, 1]],
    ],
)
def test_gradient_attacks_refuse_models_without_gradient(model: Any, spec: Any) -> None:
    message = "^attack: the model passes no gradient to its input; use 'noise' or 'square', or"
    with pytest.raises(ValueError, match=message):
        attack(model, X, Y, spec, budget=Budget(eps=0.1), seed=0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Pgd(steps=0), "^pgd: steps is 0; allowed are 1.."),
        (lambda: Pgd(restarts=0), "^pgd: restarts is 0; allowed are 1.."),
        (lambda: Pgd(loss="mse"), "^pgd: loss is 'mse'; allowed are 'ce', 'dlr', 'margin'$"),
        (lambda: Pgd(step_size=-2.0), "^pgd: step_size is -2.0; it must be above 0, or None to"),
        (lambda: Bim(step_size=0.0), "^bim: step_size is 0.0; it must be above 0, or None to"),
        (
            lambda: Bim(steps=2.5),  # type: ignore[arg-type]
            "^bim: steps is 2.5; it must be a whole number$",
        ),
        (lambda: Fgsm(loss=""), "^fgsm: loss is ''; allowed are 'ce', 'dlr', 'margin'$"),
        (lambda: Noise(draws=-3), "^noise: draws is -3; allowed are 1.."),
        (lambda: Square(queries=0), "^square: queries is 0; allowed are 1.."),
        (lambda: Square(share=0.0), "^square: share is 0.0; allowed are 0..1, above 0$"),
    ],
)
def test_bad_specs_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_things_that_are_no_spec_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^attack: spec is 'pgd'; needed is an Attack, such as "):
        attack(nn.Identity(), X, Y, "pgd", budget=Budget(eps=0.1), seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("epsilons", [(), (0.1, 0.1), (0.2, 0.1)])
def test_sweeps_must_grow(epsilons: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"^sweep: epsilons are .*; they must grow strictly$"):
        sweep(nn.Identity(), X, Y, Noise(), epsilons=epsilons, levels=255, seed=0)


def test_dlr_needs_three_classes() -> None:
    with pytest.raises(
        ValueError, match=r"^attack: loss 'dlr' needs at least 3 classes, the model"
    ):
        attack(lambda x: x[:, :2], X, Y * 0 + 1, Fgsm(loss="dlr"), budget=Budget(eps=0.1), seed=0)


def test_logits_in_batches_are_those_of_the_whole(linear: Any) -> None:
    whole = linear.model(linear.x)
    parts = logits_in_batches(linear.model, linear.x, batch=7)
    assert torch.allclose(whole, parts)
    assert not parts.requires_grad
