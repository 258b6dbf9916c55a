"""DS-ATGO: thresholds and windows by hand, what evaluation uses, what the collapse leaves."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.net import Input
from spikeport.train import checkpoint
from spikeport.train.blocks import Recurrent
from spikeport.train.methods.dsatgo import AdaptiveLif, Dsatgo, window_width
from spikeport.train.methods.mp_init import MpInit
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Integrator, Lif
from spikeport.train.norm import TdBatchNorm1d


def net_of(v_th: float = 1.0, *, detach_reset: bool = True, steps: int = 3) -> SpikingNet:
    torch.manual_seed(0)
    lif = Lif(0.9, v_th=v_th, detach_reset=detach_reset)
    layers = nn.Sequential(nn.Linear(4, 6), TdBatchNorm1d(6, v_th=v_th), lif, nn.Linear(6, 2))
    layers.append(Integrator())
    return SpikingNet(layers, input=Input(shape=(4,)), steps=steps, readout="last_v").train()


def adaptive(net: SpikingNet) -> AdaptiveLif:
    (found,) = (layer for layer in net.modules() if isinstance(layer, AdaptiveLif))
    return found


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_published_widths_and_firing_probability() -> None:
    """methods.md vector 10."""
    assert window_width(0.5, 1.0, k0=1.0) == pytest.approx(0.5378828)
    assert window_width(1.5, 1.0, k0=1.0) == pytest.approx(1.4621172)
    assert window_width(0.5, 1.0, k0=2.0) == pytest.approx(2 * 0.5378828)
    assert window_width(0.1, 100.0, k0=2.0) == pytest.approx(2e-3)
    lif = AdaptiveLif(Lif(0.0), steps=1, k0=1.0, width="theta").train()
    rate = lif(images(1, 400, 500)).mean()
    assert float(rate) == pytest.approx(0.1586553, abs=2e-3)


def by_hand(
    current: Tensor, free: Tensor, v_th: float, *, code: bool, detach_reset: bool
) -> tuple[Tensor, list[float]]:
    """Spikes of the published neuron in training, and its thresholds."""
    tau, v, out, thetas = torch.sigmoid(free), torch.zeros_like(current[0]), [], []
    for i in current:
        u = tau * v + i
        deviation = float(u.detach().std(correction=0))
        theta = max(float(u.detach().mean()) + deviation, 0.1 * v_th)
        k = 2.0 * (1 + float(torch.tensor((deviation if code else theta) - v_th).tanh()))
        d = u - theta
        inside = (d.detach().abs() < k / 2).to(d)
        s = (d.detach() > 0).to(d) + inside / k * (d - d.detach())
        out.append(s)
        thetas.append(theta)
        v = u * (1 - (s.detach() if detach_reset else s))
    return torch.stack(out), thetas


@pytest.mark.parametrize("width", ["theta", "deviation"])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_training_is_the_published_neuron(width: str, detach_reset: bool) -> None:
    net = net_of(0.6, detach_reset=detach_reset)
    method = Dsatgo.model_validate({"k0": 2.0, "width": width, "keep_v": 0.4})
    method.prepare(net)
    lif, x = adaptive(net), images(3, 40, 4)
    free = lif.parametrizations.beta.original
    own, twin = free.detach().clone().requires_grad_(), copy.deepcopy(net)
    assert float(torch.sigmoid(own.detach())) == pytest.approx(0.4)
    linear, norm, reader = (twin.layers[i] for i in (0, 1, 3))
    spikes, thetas = by_hand(
        norm(linear(x)), own, 0.6, code=width == "deviation", detach_reset=detach_reset
    )
    record = net(x)
    assert torch.equal(record.spikes["2"], spikes.detach().round())
    record.logits.square().sum().backward()
    reader(spikes).mean(0).square().sum().backward()
    torch.testing.assert_close(free.grad, own.grad)
    torch.testing.assert_close(net.layers[0].weight.grad, linear.weight.grad)
    wanted = [0.9 * 0.6 + 0.1 * theta for theta in thetas]
    assert lif.running.tolist() == pytest.approx(wanted)
    assert float(net.thresholds()["2"]) == pytest.approx(sum(wanted) / 3)


def test_evaluation_uses_what_was_running_and_leaves_it() -> None:
    net = net_of().eval()
    Dsatgo().prepare(net)
    lif, x = adaptive(net), images(3, 40, 4)
    lif.running = torch.tensor([0.3, 0.8, 5.0])
    with torch.no_grad():
        record = net(x)
    u = record.membranes["2"].detach()
    assert torch.equal(record.spikes["2"], (u > lif.running.view(3, 1, 1)).float())
    assert lif.running.tolist() == pytest.approx([0.3, 0.8, 5.0])
    assert 0 < float(record.spikes["2"][0].mean()) < 1
    v = u[0] * (1 - record.spikes["2"][0])
    torch.testing.assert_close(u[1], lif.keep_v * v + net.layers[1](net.layers[0](x))[1].detach())


def test_potentials_below_zero_do_not_make_resting_neurons_fire() -> None:
    lif = AdaptiveLif(Lif(0.5, v_th=2.0), steps=2, k0=1.0, width="theta").train()
    spikes = lif(-torch.ones(2, 5, 4))
    assert not spikes.any()
    assert lif.running.tolist() == pytest.approx([0.9 * 2 + 0.1 * 0.2] * 2)


def test_a_still_current_and_noise_and_no_past() -> None:
    lif = AdaptiveLif(Lif(0.5), steps=3, k0=1.0, width="theta").eval()
    x = images(1, 5, 4)
    assert torch.equal(lif(x, steps=3), lif(x.expand(3, 5, 4)))
    lif.train()
    lif.detach_time = True
    current = images(3, 50, 4).requires_grad_()
    lif(current)
    (gradient,) = torch.autograd.grad(lif.membrane[2].sum(), current)
    assert not gradient[:2].any()
    assert bool((gradient[2] == 1).all())
    torch.manual_seed(0)
    quiet = lif(current)
    lif.noise = 3.0
    assert not torch.equal(lif(current), quiet)
    assert copy.deepcopy(lif).membrane.shape == (0,)


def test_the_collapse_is_one_plain_threshold(tmp_path: Path) -> None:
    net = net_of(0.8)
    methods = (Dsatgo(k0=1.5), MpInit())
    for method in methods:
        method.prepare(net)
    for seed in range(4):
        net(images(3, 40, 4, seed=seed))
    checkpoint.save(tmp_path / "a.safetensors", net, facts={})
    lif, start = adaptive(net), float(adaptive(net).v_init)
    mean, keep_v = float(lif.running.mean()), lif.keep_v
    assert start != 0
    for method in methods:
        method.settle(net)
    plain = net.layers[2]
    assert type(plain) is Lif
    assert (plain.keep_v, float(plain.v_th.detach())) == pytest.approx((keep_v, mean))
    assert float(plain.v_init) == start
    assert plain.surrogate.name == "rectangle"
    assert plain.surrogate.width == pytest.approx(window_width(mean, 0.8, k0=1.5))
    assert not plain._forward_hooks
    assert net.state_dict().keys() == net_of().state_dict().keys()
    other = net_of(0.8)
    for method in methods:
        method.prepare(other)
    checkpoint.load(tmp_path / "a.safetensors", other)
    assert torch.equal(adaptive(other).running, lif.running)
    for method in methods:
        method.settle(other)
    x = images(3, 9, 4)
    assert torch.equal(other.eval()(x).logits, net.eval()(x).logits)


def test_refusals() -> None:
    layers = nn.Sequential(nn.Linear(4, 4), Recurrent(nn.Linear(4, 4, bias=False), Lif(0.5)))
    net = SpikingNet(layers, input=Input(shape=(4,)), steps=2, readout="count")
    with pytest.raises(
        ValueError,
        match=r"^methods\.dsatgo: layer '1\.lif' is recurrent and runs one step at a time, where "
        r"no step can have a threshold of its own; leave the method out$",
    ):
        Dsatgo().prepare(net)
    lif = AdaptiveLif(Lif(0.5), steps=3, k0=1.0, width="theta")
    with pytest.raises(
        ValueError,
        match=r"^methods\.dsatgo: a window of 2 steps reached neurons with 3 thresholds; give "
        r"windows as long as in training$",
    ):
        lif(torch.ones(2, 1, 4))
