"""Deflation against published vectors and an SVD."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from spikeport.train.methods.dsd import Dsd, deflated


def test_published_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, generator=generator) for n in (5, 7))
    rank_one = torch.outer(left, right)
    assert float(deflated(rank_one).abs().max()) < 1e-6 * float(rank_one.abs().max())
    torch.testing.assert_close(
        deflated(torch.diag(torch.tensor([3.0, 2, 1]))), torch.diag(torch.tensor([0.0, 2, 1]))
    )


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (1, 4), (8, 8)])
def test_equals_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s[0] = 0
    torch.testing.assert_close(deflated(matrix), u @ torch.diag(s) @ v, atol=1e-5, rtol=1e-5)


def test_gradients_of_weights_only_and_descent_is_kept(conv_net: Any, batch_of: Any) -> None:
    net = conv_net()
    step = batch_of(net)
    torch.nn.functional.cross_entropy(step.record.logits, step.y).backward()
    before = {name: p.grad.clone() for name, p in net.named_parameters()}
    Dsd().gradients(net, step.generator)
    for name, p in net.named_parameters():
        if p.ndim < 2:
            assert torch.equal(p.grad, before[name])
            continue
        assert torch.linalg.svdvals(p.grad.flatten(1))[0] == pytest.approx(
            torch.linalg.svdvals(before[name].flatten(1))[1].item(), rel=1e-4
        )
        inner, square = (before[name] * p.grad).sum(), p.grad.square().sum()
        torch.testing.assert_close(inner, square, rtol=1e-3, atol=1e-6)


def test_what_is_tiny_absent_or_not_finite_is_left_alone() -> None:
    layer = torch.nn.Linear(3, 2)
    for value in (1e-10, float("nan"), float("inf")):
        layer.weight.grad = torch.full((2, 3), value)
        Dsd().gradients(layer, torch.Generator())
        torch.testing.assert_close(
            layer.weight.grad, torch.full((2, 3), value), equal_nan=True, rtol=0, atol=0
        )
    layer.weight.grad = None
    Dsd().gradients(layer, torch.Generator())
    assert layer.weight.grad is None


def test_costs_less_than_a_decomposition() -> None:
    matrix = torch.randn((128, 1152), generator=torch.Generator().manual_seed(3))  # VGG-9
    ours = min(_seconds(lambda: deflated(matrix)) for _ in range(3))
    svd = min(_seconds(lambda: torch.linalg.svd(matrix, full_matrices=False)) for _ in range(3))
    assert ours < svd


def _seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
