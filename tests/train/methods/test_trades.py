"""TRADES: the divergence by hand, and the penalty as a difference between two passes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from spikeport.train.methods.perturb import evaluating
from spikeport.train.methods.trades import Trades, divergence


def test_divergence_by_hand() -> None:
    clean = torch.tensor([[0.0, math.log(3.0)], [1.0, 1.0]])  # (1/4, 3/4), (1/2, 1/2)
    other = torch.tensor([[0.0, 0.0], [math.log(4.0), 0.0]])  # (1/2, 1/2), (4/5, 1/5)
    first = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    second = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    assert float(divergence(clean, other)) == pytest.approx((first + second) / 2, rel=1e-6)
    assert float(divergence(clean, clean)) == pytest.approx(0, abs=1e-7)


def test_the_penalty_is_beta_times_it(conv_net: Any, batch_of: Any) -> None:
    values = []
    for beta in (2.0, 5.0):
        net = conv_net()
        penalty = Trades(beta=beta, eps=0.1, alpha=0.05, steps=3).penalty(batch_of(net, images=16))
        assert penalty is not None
        values.append(float(penalty.detach()))
        penalty.backward()
        assert all(p.grad is not None for p in net.parameters())
        assert net.training
    assert values[0] > 0.01
    assert values[1] == pytest.approx(2.5 * values[0], rel=1e-5)
    assert Trades(beta=0).penalty(batch_of(conv_net())) is None


def test_both_passes_count(conv_net: Any, batch_of: Any) -> None:
    """KL(p(x) || p(x')), written out, of the images that it climbs to from the same draws."""
    method = Trades(beta=4.0, eps=0.1, alpha=0.05, steps=2)
    net, twin = conv_net(), conv_net()
    penalty = method.penalty(batch_of(net, images=16))
    assert penalty is not None
    penalty.backward()
    step = batch_of(twin, images=16)
    with evaluating(step):
        start = step.forward(step.x).logits.detach()
        found = method.climb(step, step.x, lambda z: divergence(start, z) * len(z))
    log_p, log_q = (z.log_softmax(1) for z in (step.record.logits, step.forward(found).logits))
    expected = 4.0 * (log_p.exp() * (log_p - log_q)).sum(1).mean()
    expected.backward()
    torch.testing.assert_close(penalty.detach(), expected.detach(), rtol=1e-4, atol=0)
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)


def test_it_climbs_the_divergence(conv_net: Any, batch_of: Any) -> None:
    weak, strong = (
        Trades(eps=0.2, alpha=alpha, steps=4).penalty(batch_of(conv_net(), images=32))
        for alpha in (1e-9, 0.1)
    )
    assert weak is not None
    assert strong is not None
    assert float(strong.detach()) > 1.5 * float(weak.detach())


def test_passes_through_learned_thresholds_twice(conv_net: Any, batch_of: Any) -> None:
    """Both graphs hold the thresholds, which a forward pass must not write to."""
    net = conv_net()
    net.layers.lif1.threshold = torch.nn.Parameter(torch.tensor(1.0))
    step = batch_of(net)
    penalty = Trades().penalty(step)
    assert penalty is not None
    (penalty + step.record.logits.sum()).backward()
    assert net.layers.lif1.threshold.grad is not None
