"""The record of a pass is of that pass, whenever, and in whatever mode, somebody looks at it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.net import Input
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Integrator, Lif

PIXELS = Input(shape=(1, 6, 6), kind="graded", payload_bits=8, scale=255.0)


def small(*, pool: nn.Module | None = None) -> SpikingNet:
    torch.manual_seed(3)
    lif = Lif(0.5, v_th=0.4, learn_v_th=True, v_init=0.2)
    layers = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), lif, pool or nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(36, 3), Integrator(),
    )  # fmt: skip
    return SpikingNet(layers, input=PIXELS, steps=4, readout="last_v")


@pytest.fixture
def x() -> Tensor:
    return torch.rand(4, 5, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def test_what_changes_after_the_pass_does_not_change_its_record(x: Tensor) -> None:
    net = small()
    early, late = net(x), net(x)
    wanted = early.membranes["1"], early.spikes["1"]
    lif: Any = net.layers[1]
    with torch.no_grad():
        lif.threshold.add_(0.3)
        lif.v_init.add_(0.3)
    assert not torch.equal(net(x).membranes["1"], wanted[0])
    assert torch.equal(late.membranes["1"], wanted[0])
    assert torch.equal(late.spikes["1"], wanted[1])
    gradients = [torch.autograd.grad(each["1"].sum(), lif.threshold)[0]
                 for each in (early.spikes, late.spikes)]  # fmt: skip
    assert gradients[0] != 0
    assert torch.equal(*gradients)


def test_a_look_without_graph_does_not_take_the_graph_away(x: Tensor) -> None:
    record = small()(x)
    with torch.no_grad():
        record.membranes["1"].mean()
        record.spikes["1"].mean()
    assert record.membranes["1"].requires_grad
    assert record.spikes["1"].requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_pass_without_graph_has_a_record_without_one(x: Tensor, mode: Any) -> None:
    net = small()
    with mode():
        record = net(x)
    assert not record.membranes["1"].requires_grad
    assert torch.equal(record.spikes["1"], net(x).spikes["1"])


def test_hooks_are_called_on_the_way(x: Tensor) -> None:
    net, called = small(), []
    plain = net(x)
    net.layers[2].register_forward_hook(lambda *_: called.append("pool"))
    net.layers[1].register_full_backward_hook(lambda *_: called.append("neurons"))
    hooked = net(x)
    assert called == ["pool"]
    assert torch.equal(hooked.logits, plain.logits)
    hooked.logits.sum().backward()
    assert called == ["pool", "neurons"]


def test_a_pool_of_another_kind_is_asked_itself(x: Tensor) -> None:
    class Doubled(nn.AvgPool2d):
        def forward(self, s: Tensor) -> Tensor:
            return 2 * super().forward(s)

    torch.testing.assert_close(
        small(pool=Doubled(2))(x).outputs - small().layers[4].bias,
        2 * (small()(x).outputs - small().layers[4].bias),
    )


def test_a_window_that_asks_for_gradients_gets_them_step_by_step(x: Tensor) -> None:
    """Even if it is one image, expanded, where other windows are one step."""
    net, found = small(), []
    for window in (x[:1].expand_as(x).detach(), x[:1].repeat(4, 1, 1, 1, 1)):
        window.requires_grad_()
        (net(window).logits ** 2).sum().backward()
        found.append(window.grad)
    assert found[1] is not None
    assert found[1][1:].abs().max() > 0
    torch.testing.assert_close(*found)


def test_copies_after_a_pass_give_the_same(x: Tensor) -> None:
    net = small()
    logits = net(x).logits
    logits.sum().backward()
    assert torch.equal(copy.deepcopy(net)(x).logits, logits)


def test_a_current_has_the_steps_of_its_window() -> None:
    lif, current = Lif(0.5), torch.zeros(3, 2, 2)
    message = r"^3 steps are given for 5; give all, or 1 for each of them$"
    with pytest.raises(ValueError, match=message):
        lif(current, 5)
    population = lif.meet(current, 5)
    with pytest.raises(ValueError, match=message):
        population.membrane(current)
