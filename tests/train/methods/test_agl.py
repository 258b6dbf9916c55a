"""LSG and MPD-AGL: widths against the published vectors, and where they come from."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.net import Input
from spikeport.train.blocks import Recurrent, Residual
from spikeport.train.methods.agl import Lsg, MpdAgl
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Integrator, Lif
from spikeport.train.norm import TdBatchNorm1d
from spikeport.train.window import Fixed


def normed(v_th: float = 0.5, *, norm: bool = True, steps: int = 3) -> SpikingNet:
    between = [TdBatchNorm1d(4, v_th=v_th)] if norm else []
    layers = nn.Sequential(nn.Linear(4, 4), *between, Lif(0.9, v_th=v_th), nn.Linear(4, 2))
    layers.append(Integrator())
    return SpikingNet(layers, input=Input(shape=(4,)), steps=steps, readout="last_v")


def neurons(net: SpikingNet) -> Lif:
    (found,) = (layer for layer in net.modules() if isinstance(layer, Lif))
    return found


def widths(net: SpikingNet) -> list[float]:
    lif = neurons(net)
    found: list[float] = lif.window.widths(net.steps, lif.v_th).tolist()
    return found


def test_the_published_widths() -> None:
    """methods.md vector 9: lam 1, leak 0.2, v_th 0.5; and LSG with leak 0.5."""
    net = normed(0.5)
    MpdAgl().prepare(net)
    assert neurons(net).keep_v == pytest.approx(0.2)
    assert widths(net) == pytest.approx([1.0, 1.0198039, 1.0198039])
    lsg = normed(0.5)
    Lsg(keep_v=0.5).prepare(lsg)
    assert widths(lsg) == pytest.approx([1.1180340] * 3)


@torch.no_grad()
def test_widths_follow_leak_and_norm() -> None:
    net = normed(0.5)
    MpdAgl(keep_v=0.3).prepare(net)
    lif, norm = neurons(net), net.layers[1]
    norm.weight.copy_(torch.tensor([0.2, 0.4, 1.0, 0.0]))
    lif.beta = torch.tensor(0.6)
    assert widths(net) == pytest.approx([0.8, *2 * [0.8 * math.sqrt(1.36)]])
    assert lif.surrogate.name == "rectangle"
    assert lif.surrogate.width == pytest.approx(0.8 * math.sqrt(1.36))
    norm.weight.fill_(-0.4)  # a gain may change its sign
    assert widths(net)[0] == pytest.approx(0.8)
    norm.weight.fill_(0.01)
    assert widths(net)[0] == pytest.approx(2 * 0.05 * 0.5)
    MpdAgl().settle(net)
    norm.weight.fill_(0.7)
    assert widths(net) == pytest.approx([2 * 0.025 * math.sqrt(1.36)] * 3)
    assert type(lif) is Lif


def test_where_no_norm_precedes_the_width_is_one() -> None:
    net = normed(0.5, norm=False)
    MpdAgl().prepare(net)
    assert widths(net) == [1, 1, 1]


def test_branches_that_are_added_up_spread_together() -> None:
    a, b = (TdBatchNorm1d(4, v_th=v_th) for v_th in (0.3, 0.4))
    block = Residual({"fc": nn.Linear(4, 4), "norm": a}, nn.Sequential(nn.Linear(4, 4), b))
    layers = nn.Sequential(block, Lif(0.5))
    net = SpikingNet(layers, input=Input(shape=(4,)), steps=2, readout="count")
    MpdAgl().prepare(net)
    assert widths(net) == pytest.approx([1.0, 1.0198039])


def by_hand(current: Tensor, free: Tensor, v_th: float, kappas: list[float]) -> Tensor:
    """Spikes of the published neuron, PLIF reset to zero, spikes detached in the reset."""
    tau, v, out = torch.sigmoid(free), torch.zeros_like(current[0]), []
    for i, kappa in zip(current, kappas, strict=True):
        u = tau * v + i
        d = u - v_th
        inside = (d.detach().abs() < kappa / 2).to(d)
        s = (d.detach() > 0).to(d) + inside / kappa * (d - d.detach())
        out.append(s)
        v = u * (1 - s.detach())
    return torch.stack(out)


@pytest.mark.parametrize("method", [Lsg(), MpdAgl()])
def test_gradients_are_those_of_the_equations(method: Lsg) -> None:
    torch.manual_seed(0)
    net = normed(0.5)
    method.prepare(net)
    with torch.no_grad():
        net.layers[1].weight.mul_(1.4)
    first = 1.4 if isinstance(method, MpdAgl) else math.sqrt(1.04)
    later = first * math.sqrt(1.04) if isinstance(method, MpdAgl) else first
    x = torch.randn(3, 32, 4)
    wanted_net, free = copy.deepcopy(net), neurons(net).parametrizations.beta.original
    own = free.detach().clone().requires_grad_()
    linear, norm, reader = (wanted_net.layers[i] for i in (0, 1, 3))
    spikes = by_hand(norm(linear(x)), own, 0.5, [first, later, later])
    reader(spikes).mean(0).square().sum().backward()
    net(x).logits.square().sum().backward()
    torch.testing.assert_close(free.grad, own.grad)
    torch.testing.assert_close(net.layers[0].weight.grad, linear.weight.grad)
    torch.testing.assert_close(net.layers[1].weight.grad, norm.weight.grad)
    assert float(free.grad.abs()) > 1e-4


@pytest.mark.parametrize("method", [Lsg(), MpdAgl()])
@torch.no_grad()
def test_settling_changes_no_logit(method: Lsg) -> None:
    net = normed().eval()
    method.prepare(net)
    neurons(net).beta = torch.tensor(0.37)
    x = torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(0))
    before, seen = net(x).logits, neurons(net).surrogate
    method.settle(net)
    assert torch.equal(net(x).logits, before)
    assert neurons(net).window == Fixed(seen)
    assert net.state_dict().keys() == normed().state_dict().keys()


def test_a_recurrent_population_has_no_first_step() -> None:
    layers = nn.Sequential(nn.Linear(4, 4), Recurrent(nn.Linear(4, 4, bias=False), Lif(0.5)))
    net = SpikingNet(layers, input=Input(shape=(4,)), steps=2, readout="count")
    with pytest.raises(
        ValueError,
        match=r"^methods\.mpd_agl: layer '1\.lif' is recurrent and runs one step at a time, where "
        r"the first cannot have a window of its own; use methods\.lsg$",
    ):
        MpdAgl().prepare(net)
    again = copy.deepcopy(layers)
    Lsg().prepare(SpikingNet(again, input=Input(shape=(4,)), steps=2, readout="count"))
    assert again[1].lif.surrogate.width == pytest.approx(2 * math.sqrt(1.04))
