"""Images made worse: inside the ball, by the gradient, and without a trace in the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from spikeport.train.methods.adversarial import Adversarial
from spikeport.train.methods.perturb import Perturbing, evaluating
from spikeport.train.methods.sr import Sr


@pytest.mark.parametrize("random_start", [True, False])
def test_stays_in_the_ball_and_among_the_pixels(
    conv_net: Any, batch_of: Any, random_start: bool
) -> None:
    step = batch_of(conv_net(), recorded=False)
    x = torch.where(step.x < 0.5, step.x * 0.1, 1 - step.x * 0.1)
    attack = Perturbing(eps=0.03, alpha=0.02, steps=4, random_start=random_start)
    found = attack.climb(step, x, lambda z: functional.cross_entropy(z, step.y))
    assert float((found - x).abs().max()) <= 0.03 + 1e-6
    assert 0 <= float(found.min())
    assert float(found.max()) <= 1
    assert not found.requires_grad


def test_without_random_start_the_first_step_is_fgsm(conv_net: Any, batch_of: Any) -> None:
    step = batch_of(conv_net().eval(), recorded=False)

    def loss(z: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(z, step.y, reduction="sum")

    x = step.x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(step.forward(x).logits), x)
    fgsm = Perturbing(eps=0.1, alpha=0.1, steps=1, random_start=False)
    expected = (step.x + 0.1 * gradient.sign()).clamp(0, 1)
    torch.testing.assert_close(fgsm.climb(step, step.x, loss), expected)
    assert (gradient != 0).any()


def test_a_random_start_needs_no_gradient(conv_net: Any, batch_of: Any) -> None:
    step = batch_of(conv_net(), recorded=False)
    x = torch.full_like(step.x, 0.5)
    found = Perturbing(eps=0.2).climb(step, x, lambda z: z.sum() * 0)
    again = batch_of(conv_net(), recorded=False)
    same = Perturbing(eps=0.2).climb(again, x, lambda z: z.sum() * 0)
    assert -0.2 - 1e-6 <= float((found - x).min()) < -0.19
    assert 0.19 < float((found - x).max()) <= 0.2 + 1e-6
    assert torch.equal(found, same)


def test_the_model_comes_out_as_it_went_in(conv_net: Any, batch_of: Any) -> None:
    net = conv_net()
    step = batch_of(net, recorded=False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    Adversarial(steps=3).inputs(step)
    assert net.training
    assert net.layers.norm1.training
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_mode_comes_back_after_an_error(conv_net: Any, batch_of: Any) -> None:
    step = batch_of(conv_net(), recorded=False)

    def fail(_: torch.Tensor) -> torch.Tensor:
        assert not step.model.training
        raise ValueError("no loss today")

    with pytest.raises(ValueError, match="no loss today"), evaluating(step):
        Perturbing().climb(step, step.x, fail)
    assert step.model.training


def test_event_frames_are_refused(conv_net: Any, batch_of: Any) -> None:
    frames = replace(batch_of(conv_net()), x=torch.zeros(2, 3, 1, 8, 8))
    for method in (Adversarial(), Sr()):
        with pytest.raises(
            ValueError,
            match=r"^methods\.adversarial, trades and sr move pixels of images \[B, C, H, W\], but "
            r"x is \(2, 3, 1, 8, 8\); leave them out to train on event frames$",
        ):
            method.inputs(frames)
