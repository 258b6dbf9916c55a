"""RAT's update against its formula, and where it acts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeport.train.methods import Methods
from spikeport.train.methods.rat import Rat, drawn


def test_singular_values_are_drawn_to_one() -> None:
    torch.testing.assert_close(
        drawn(torch.diag(torch.tensor([2.0, 1.0, 0.5])), 0.1),
        torch.diag(torch.tensor([1.4, 1.0, 0.5375])),  # s + 0.1 (s - s^3)
    )


def test_convolutions_and_small_linear_layers_are_drawn_whole() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(6, 199))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    Rat(r=0.01).weights(net, torch.Generator())
    for name, p in net.named_parameters():
        w = before[name].flatten(1) if p.ndim > 1 else None
        expected = before[name] if w is None else 1.01 * w - 0.01 * w @ w.T @ w
        torch.testing.assert_close(p.detach().flatten(), expected.flatten())


def test_of_large_linear_layers_a_random_share_of_rows() -> None:
    def rows(seed: int) -> torch.Tensor:
        torch.manual_seed(0)
        layer = nn.Linear(50, 200)
        before = layer.weight.detach().clone()
        Rat(r=0.01).weights(layer, torch.Generator().manual_seed(seed))
        moved = (layer.weight.detach() != before).any(1)
        some = before[moved]
        torch.testing.assert_close(layer.weight.detach()[moved], drawn(some, 0.01))
        return moved

    first, same, other = rows(1), rows(1), rows(2)
    assert int(first.sum()) == 60
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_it_leaves_the_integers_alone() -> None:
    methods = Methods.model_validate({"rat": {}, "dsd": {}})
    assert [type(m).__name__ for m in methods.of_phase("quantised")] == ["Dsd"]
    with pytest.raises(ValueError, match=r"less than or equal to 0\.1"):
        Rat(r=0.5)
