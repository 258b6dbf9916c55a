"""OTTT's gradients against their formula, written out step by step."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import snntorch
import torch
from torch import Tensor, nn

from spikeport.sim.net import Input
from spikeport.sim.surrogate import Surrogate
from spikeport.train.blocks import Recurrent
from spikeport.train.methods.ottt import Ottt
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Integrator, Lif

KEEP = 0.6
TRIANGLE = Surrogate("triangle", 1.0)


def net_of(layers: list[tuple[str, nn.Module]], *, steps: int, readout: str) -> SpikingNet:
    carrier = Input(shape=(4,), kind="graded", payload_bits=8, scale=255.0)
    return SpikingNet(
        nn.Sequential(OrderedDict(layers)), input=carrier, steps=steps, readout=readout
    )


def two_layers(steps: int) -> SpikingNet:
    torch.manual_seed(2)
    return net_of(
        [
            ("fc1", nn.Linear(4, 5)), ("lif1", Lif(KEEP, v_th=0.4, surrogate=TRIANGLE)),
            ("fc2", nn.Linear(5, 3)), ("lif2", Lif(KEEP, v_th=0.2, surrogate=TRIANGLE)),
        ],
        steps=steps, readout="count",
    )  # fmt: skip


def by_hand(net: SpikingNet, x: Tensor, errors: Tensor) -> dict[str, Tensor]:
    """Weight gradients of sum_t <errors(t), s2(t)>: every step alone, weights by traces."""
    (w1, b1, w2, b2) = (p.detach() for p in net.parameters())
    size = x.shape[1]
    v1, v2, trace0, trace1 = torch.zeros(size, 5), torch.zeros(size, 3), 0 * x[0], torch.zeros(())
    found = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for t in range(len(x)):
        u1 = KEEP * v1 + x[t] @ w1.T + b1
        s1 = (u1 > 0.4).float()
        v1 = u1 * (1 - s1)
        u2 = KEEP * v2 + s1 @ w2.T + b2
        s2 = (u2 > 0.2).float()
        v2 = u2 * (1 - s2)
        trace0, trace1 = KEEP * trace0 + x[t], KEEP * trace1 + s1
        d2 = errors[t] * (1 - (u2 - 0.2).abs()).clamp_min(0)
        d1 = (d2 @ w2) * (1 - (u1 - 0.4).abs()).clamp_min(0)
        for name, d, trace in (("layers.fc2", d2, trace1), ("layers.fc1", d1, trace0)):
            found[f"{name}.weight"] += d.T @ trace
            found[f"{name}.bias"] += d.sum(0)
    return found


@pytest.mark.parametrize("expanded", [False, True])
def test_gradients_equal_the_formula(expanded: bool) -> None:
    net, generator = two_layers(5), torch.Generator().manual_seed(4)
    shape = (1, 6, 4) if expanded else (5, 6, 4)
    x = (torch.randint(0, 256, shape, generator=generator) / 255).expand(5, 6, 4)
    errors = torch.randn(5, 6, 3, generator=generator)
    plain = net(x).outputs.detach()
    Ottt().prepare(net)
    record = net(x)
    assert torch.equal(record.outputs.detach(), plain)
    assert 0.05 < float(record.spikes["lif1"].detach().mean()) < 0.95
    (record.outputs * errors).sum().backward()
    expected = by_hand(net, x, errors)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5)
        assert expected[name].any()


def test_one_step_is_plain_backpropagation_and_settling_takes_all_back() -> None:
    generator = torch.Generator().manual_seed(5)

    def gradients(net: SpikingNet, steps: int) -> list[Tensor]:
        x = torch.rand((steps, 6, 4), generator=generator.manual_seed(6))
        loss = (net(x).logits - 1).square().sum()
        return list(torch.autograd.grad(loss, list(net.parameters())))

    for steps, equal in ((1, True), (4, False)):
        net = two_layers(steps)
        plain = gradients(net, steps)
        Ottt().prepare(net)
        assert all(map(torch.equal, plain, gradients(net, steps))) is equal
        Ottt().settle(net)
        assert all(map(torch.equal, plain, gradients(net, steps)))
        assert not net.layers.lif1.detach_time
        assert not net._forward_pre_hooks


def test_the_readout_learns_from_the_step_itself(conv_net: Any, batch_of: Any) -> None:
    net = conv_net()
    Ottt().prepare(net)
    assert not net.layers.fc._forward_hooks  # no memory in a readout: no trace
    assert len(net.layers.conv1._forward_hooks) == len(net.layers.conv2._forward_hooks) == 1
    step = batch_of(net)
    loss = Ottt(a=0.2).task_loss(step)
    onehot = torch.eye(10)[step.y]
    by_step = [
        0.8 * torch.nn.functional.cross_entropy(z, step.y) + 0.2 * ((z - onehot) ** 2).mean()
        for z in step.record.outputs
    ]
    torch.testing.assert_close(loss, torch.stack(by_step).mean())
    loss.backward()
    assert all(p.grad is not None for p in net.parameters())


def test_evaluation_sees_nothing_of_it(conv_net: Any, batch_of: Any) -> None:
    net, plain = conv_net().eval(), conv_net().eval()
    Ottt().prepare(net)
    assert torch.equal(batch_of(net).record.outputs, batch_of(plain).record.outputs)


@pytest.mark.parametrize(
    ("name", "neurons"),
    [
        ("Recurrent", Recurrent(nn.Linear(4, 4, bias=False), Lif(0.5))),
        ("Leaky", snntorch.Leaky(0.5)),
    ],
)
def test_other_neurons_are_refused(name: str, neurons: nn.Module) -> None:
    layers = [("fc", nn.Linear(4, 4)), ("cell", neurons), ("out", nn.Linear(4, 2))]
    net = net_of([*layers, ("readout", Integrator())], steps=2, readout="last_v")
    with pytest.raises(
        ValueError,
        match=rf"^methods\.ottt: layer 'cell' is a {name}; it trains chains and residual blocks of "
        r"Lif neurons, so leave the method out$",
    ):
        Ottt().prepare(net)
