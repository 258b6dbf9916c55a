"""Adversarial training: what it trains on, and that it is worth it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from spikeport.train.methods import Methods
from spikeport.train.methods.adversarial import Adversarial


def test_the_defaults_are_the_published_ones() -> None:
    attack = Adversarial()
    assert (attack.eps, attack.alpha, attack.steps) == (2 / 255, 1 / 255, 2)
    assert attack.random_start
    assert attack.share == 1.0


def test_the_loss_rises(conv_net: Any, batch_of: Any) -> None:
    net = conv_net().eval()
    step = batch_of(net, images=32)
    found = Adversarial(eps=0.1, alpha=0.05, steps=4).inputs(step)
    clean, attacked = (
        functional.cross_entropy(step.forward(x).logits.detach(), step.y) for x in (step.x, found)
    )
    assert float(attacked) > float(clean) + 0.03


def test_a_share_of_the_batch(conv_net: Any, batch_of: Any) -> None:
    step = batch_of(conv_net(), images=10)
    found = Adversarial(share=0.3).inputs(step)
    moved = (found != step.x).flatten(1).any(1)
    assert moved.tolist() == [True] * 3 + [False] * 7
    assert torch.equal(Adversarial(share=0.01).inputs(step), step.x)


@pytest.mark.parametrize("encoder", ["direct", "poisson"])
def test_works_for_any_code_of_images(encoder: str, conv_net: Any, batch_of: Any) -> None:
    step = batch_of(conv_net(), encoder=encoder)
    found = Adversarial(eps=0.05, alpha=0.05).inputs(step)
    assert (found != step.x).any()
    assert float((found - step.x).abs().max()) <= 0.05 + 1e-6


def test_trades_wants_clean_images() -> None:
    with pytest.raises(
        ValueError,
        match=r"methods\.adversarial and methods\.trades both set the training images; keep one",
    ):
        Methods.model_validate({"adversarial": {}, "trades": {}})
