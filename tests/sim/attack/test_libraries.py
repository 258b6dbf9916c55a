"""Other libraries attack the twin as it is: torchattacks, Foolbox and ART."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from spikeport.sim.attack import Bim, Budget, Fgsm, attack
from spikeport.sim.attack.losses import margin

EPS = 20 / 255
BUDGET = Budget(eps=EPS, levels=None)


def by_torchattacks(model: Any, x: Tensor, y: Tensor, *, steps: int) -> Tensor:
    """Adversarial images of FGSM or BIM."""
    library = pytest.importorskip("torchattacks")
    maps = x.reshape(len(x), 1, 1, -1)  # it wants images

    class Flat(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            """Logits of the images as vectors."""
            logits: Tensor = model(images.flatten(1))
            return logits

    one = library.FGSM(Flat(), eps=EPS)
    many = library.PGD(Flat(), eps=EPS, alpha=2.5 * EPS / steps, steps=steps, random_start=False)
    found: Tensor = (one if steps == 1 else many)(maps, y).flatten(1)
    return found


def by_foolbox(model: Any, x: Tensor, y: Tensor, *, steps: int) -> Tensor:
    """Adversarial images of FGSM or BIM."""
    library = pytest.importorskip("foolbox")
    wrapped = library.PyTorchModel(model.eval(), bounds=(0, 1), device="cpu")
    one = library.attacks.LinfFastGradientAttack(random_start=False)
    many = library.attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=2.5 * EPS / steps, steps=steps, random_start=False
    )
    _, found, _ = (one if steps == 1 else many)(wrapped, x, y, epsilons=EPS)
    result: Tensor = found
    return result


def by_art(model: Any, x: Tensor, y: Tensor, *, steps: int) -> Tensor:
    """Adversarial images of FGSM or BIM."""
    pytest.importorskip("art")
    from art.attacks.evasion import BasicIterativeMethod, FastGradientMethod
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        model, loss=torch.nn.CrossEntropyLoss(), input_shape=x.shape[1:], nb_classes=4,
        clip_values=(0.0, 1.0), device_type="cpu",
    )  # fmt: skip
    if steps == 1:
        tool = FastGradientMethod(wrapped, eps=EPS)
    else:
        tool = BasicIterativeMethod(
            wrapped, eps=EPS, eps_step=2.5 * EPS / steps, max_iter=steps, verbose=False
        )
    return torch.from_numpy(tool.generate(x.numpy(), y.numpy()))


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("library", [by_torchattacks, by_foolbox, by_art])
def test_it_finds_what_ours_finds(twin: Any, library: Callable[..., Tensor], steps: int) -> None:
    x_adv = library(twin.model, twin.x, twin.y, steps=steps).detach()
    assert BUDGET.measure(x_adv, twin.x).max() <= EPS + 1e-6
    theirs = margin(twin.model(x_adv), twin.y) > 0
    spec = Fgsm() if steps == 1 else Bim(steps=steps)
    ours = attack(twin.model, twin.x, twin.y, spec, budget=BUDGET, seed=0)
    if steps == 1:
        # Pixels whose gradient is 0 apart, it is the same image.
        assert (theirs == ~ours.fooled).float().mean() > 0.95
    else:
        assert float(theirs.float().mean()) >= ours.robust_accuracy - 0.05  # ours keeps the worst
        assert float(theirs.float().mean()) < ours.clean_accuracy - 0.3
