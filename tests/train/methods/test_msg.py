"""Masked gradients: who is masked, how often, and by which generator."""

from __future__ import annotations

import pytest
import torch

from spikeport.train.methods.msg import Msg


def masked(p: float, seed: int) -> torch.nn.Linear:
    layer = torch.nn.Linear(200, 100)
    layer.weight.grad, layer.bias.grad = torch.full((100, 200), 3.0), torch.ones(100)
    Msg(p=p).gradients(layer, torch.Generator().manual_seed(seed))
    return layer


def test_a_share_is_masked_and_the_rest_rescaled() -> None:
    layer = masked(0.25, seed=1)
    assert layer.weight.grad is not None
    values = set(layer.weight.grad.unique().tolist())
    assert values == {0.0, 4.0}
    assert float((layer.weight.grad == 0).double().mean()) == pytest.approx(0.25, abs=0.01)
    assert layer.bias.grad is not None
    assert torch.equal(layer.bias.grad, torch.ones(100))


def test_the_generator_decides_and_moves_on() -> None:
    first, same, other = (masked(0.5, seed=seed).weight.grad for seed in (1, 1, 2))
    assert first is not None
    assert same is not None
    assert other is not None
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    generator, masks = torch.Generator().manual_seed(1), []
    for _ in range(2):
        layer = torch.nn.Linear(20, 10)
        layer.weight.grad = torch.ones(10, 20)
        Msg().gradients(layer, generator)
        masks.append(layer.weight.grad)
    assert not torch.equal(*masks)


def test_masking_nothing_or_everything() -> None:
    layer = masked(0.0, seed=3)
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad, torch.full((100, 200), 3.0))
    with pytest.raises(ValueError, match="less than 1"):
        Msg(p=1.0)
    empty = torch.nn.Linear(2, 2)
    Msg().gradients(empty, torch.Generator())
    assert empty.weight.grad is None
