"""SR: the quotient against a computation apart, and the slope it stands for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spikeport.train.methods.base import Step
from spikeport.train.methods.sr import Sr
from spikeport.train.model import Record


def on_its_way(method: Sr, step: Step) -> Step:
    step = replace(step, x=method.inputs(step))
    return replace(step, made=step.forward(step.x))


class Linear(torch.nn.Module):
    """z = x a with x [B, 1, 8, 8], as a model of one step without neurons."""

    steps = 1

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(a)

    def forward(self, x: Tensor) -> Record:
        z = x[0].flatten(1) @ self.a
        return Record(logits=z, outputs=z[None], spikes={}, membranes={})


def test_equals_the_quotient_by_hand(batch_of: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    model = Linear(torch.randn(64, 10, generator=generator) / 8)
    step = batch_of(model, images=5)
    step = replace(step, x=0.2 + 0.6 * step.x, encode=lambda x: x[None])  # no grid, no edge
    method = Sr(h=0.1, lam=3.0)
    penalty = method.penalty(on_its_way(method, step))
    assert penalty is not None
    penalty.backward()
    a, total = model.a.detach().requires_grad_(), torch.zeros(())
    for x, y in zip(step.x.flatten(1), step.y.tolist(), strict=True):
        z = x @ a
        m = max((k for k in range(10) if k != y), key=lambda k: float(z[k].detach()))
        away = (x + 0.1 * (a[:, y] - a[:, m]).detach().sign()) @ a  # p rises with z_y - z_m
        p, q = (torch.sigmoid(v[y] - v[m]) for v in (z, away))
        total = total + ((q - p) / 0.1) ** 2
    expected = 3.0 * total / 5
    expected.backward()  # both points count
    torch.testing.assert_close(penalty.detach(), expected.detach(), rtol=1e-4, atol=0)
    torch.testing.assert_close(model.a.grad, a.grad, rtol=1e-3, atol=1e-5)


def test_reaches_all_weights_and_leaves_pixels_in_range(conv_net: Any, batch_of: Any) -> None:
    net = conv_net()
    method = Sr(h=0.3, lam=1.0)
    penalty = method.penalty(on_its_way(method, batch_of(net, recorded=False)))
    assert penalty is not None
    penalty.backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters() if p.ndim > 1)
    assert method.inputs(batch_of(net, recorded=False)).is_leaf
    assert Sr(lam=0).penalty(batch_of(net)) is None


def test_after_adversarial_training_it_looks_at_the_images_trained_on(
    conv_net: Any, batch_of: Any
) -> None:
    method = Sr()
    step = on_its_way(method, batch_of(conv_net(), recorded=False))
    assert step.x.requires_grad
    (gradient,) = torch.autograd.grad(step.record.logits.sum(), step.x)
    assert gradient.any()
