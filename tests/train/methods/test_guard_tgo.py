"""Threshold guarding: the summed hinge, its schedule, and noise in training only."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from spikeport.train.methods.guard_tgo import GuardTgo
from spikeport.train.model import Record


def record(**membranes: torch.Tensor) -> Record:
    return Record(logits=torch.zeros(1), outputs=torch.zeros(1), spikes={}, membranes=membranes)


def test_the_hinge_by_hand_summed_over_layers(conv_net: Any, batch_of: Any) -> None:
    net = conv_net(v_th=2.0)
    made = record(
        lif1=torch.tensor([2.0, 2.5, 0.0, 1.8]).view(2, 2, 1),  # |U / v_th - 1|: 0, 0.25, 1, 0.1
        lif2=torch.tensor([5.0, 2.2]).view(2, 1, 1),  # 1.5, 0.1
    )
    step = replace(batch_of(net, progress=0.25), made=made)
    hinge = (0.3 + 0.05 + 0 + 0.2) / 4 + 0.2 / 2
    lam = 0.4 * (1 - math.cos(math.pi / 4)) / 2
    guard = GuardTgo(lam=0.4, delta=0.3)
    early = guard.penalty(step)
    assert early is not None
    assert float(early) == pytest.approx(lam * hinge, rel=1e-6)
    late = guard.penalty(replace(step, phase="quantised", progress=0.0))
    assert late is not None
    assert float(late) == pytest.approx(0.4 * hinge, rel=1e-6)


def test_weighs_nothing_at_first(conv_net: Any, batch_of: Any) -> None:
    assert GuardTgo().penalty(batch_of(conv_net(), progress=0.0)) is None
    assert GuardTgo(lam=0).penalty(batch_of(conv_net(), phase="quantised")) is None


def test_it_pushes_off_the_threshold_on_both_sides(conv_net: Any, batch_of: Any) -> None:
    u = torch.tensor([0.9, 1.2, 1.6]).view(1, 1, 3).requires_grad_()
    step = replace(batch_of(conv_net(), progress=1.0), made=record(lif1=u, lif2=u.detach() + 9))
    penalty = GuardTgo(lam=3.0, delta=0.5).penalty(step)
    assert penalty is not None
    penalty.backward()
    assert u.grad is not None
    torch.testing.assert_close(u.grad.flatten(), torch.tensor([1.0, -1.0, 0.0]))


def test_neurons_are_noisy_in_training_until_settled(conv_net: Any, batch_of: Any) -> None:
    net, quiet = conv_net(v_th=0.5), conv_net(v_th=0.5)
    guard = GuardTgo(noise=0.4)
    guard.prepare(net)
    assert net.layers.lif1.noise == net.layers.lif2.noise == pytest.approx(0.2)
    first, second = (batch_of(net).record.spikes["lif1"] for _ in range(2))
    assert not torch.equal(first, second)
    quiet.load_state_dict(net.state_dict())  # the norms have seen two batches
    assert torch.equal(batch_of(net.eval()).record.logits, batch_of(quiet.eval()).record.logits)
    guard.settle(net.train())
    assert net.layers.lif1.noise == 0.0
    first, second = (batch_of(net).record.spikes["lif1"] for _ in range(2))
    assert torch.equal(first, second)
