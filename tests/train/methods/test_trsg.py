"""TrSG against its published vector and its own neuron, and what is left of it when settled."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikeport.sim.net import Input
from spikeport.train import checkpoint
from spikeport.train.blocks import Recurrent, Residual
from spikeport.train.methods import Methods
from spikeport.train.methods.trsg import Trsg
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Integrator, Lif
from spikeport.train.norm import TdBatchNorm1d, TdBatchNorm2d


def net_of(*layers: nn.Module, shape: tuple[int, ...], steps: int = 4) -> SpikingNet:
    chain = nn.Sequential(*layers)
    readout = "last_v" if isinstance(layers[-1], Integrator) else "count"
    return SpikingNet(chain, input=Input(shape=shape), steps=steps, readout=readout)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def eye(n: int) -> nn.Linear:
    layer = nn.Linear(n, n, bias=False)
    nn.init.eye_(layer.weight)
    return layer


def test_the_published_vector_from_input_to_readout() -> None:
    """A = v_th s, dA/dU and dA/dv_th for v_th 0.8 (methods of arXiv 2511.08708)."""
    lif = Lif(0.5, v_th=0.8)
    net = net_of(eye(9), lif, eye(9), Integrator(), shape=(9,), steps=1)
    Trsg(decay_input=False).prepare(net)
    net.double()
    at = float(lif.v_th.detach())  # 0.8, rounded
    u = torch.tensor([[[-0.2, 0.39, 0.41, 0.79, at, 0.81, 1.19, 1.21, 2.0]]], dtype=torch.float64)
    u.requires_grad_()
    amplitudes = net(u).logits[0]
    assert amplitudes.detach().tolist() == pytest.approx([0, 0, 0, 0, 0, 0.8, 0.8, 0.8, 0.8])
    free = lif.parametrizations.threshold.original
    by_neuron = [torch.autograd.grad(a, (u, free), retain_graph=True) for a in amplitudes]
    d_u = [float(g[0][0, 0, j]) for j, g in enumerate(by_neuron)]
    d_v_th = [float(g[1] / torch.sigmoid(free.detach())) for g in by_neuron]
    assert d_u == pytest.approx([0, 0, 1, 1, 1, 1, 1, 0, 0])
    wanted = [0, 0, -0.5125, -0.9875, -1, -0.0125, -0.4875, 1, 1]
    assert d_v_th == pytest.approx(wanted, abs=1e-6)


class Rounded(torch.autograd.Function):
    """Round, straight through."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        return grads[0]


def published(
    current: Tensor, w: Tensor, theta: Tensor, *, decay_input: bool, detach_reset: bool
) -> Tensor:
    """Amplitudes [T, B, n] of the published neuron, but reset to zero: k = sigmoid(w),
    v_th = softplus(theta), A = v_th round(clamp(U / v_th - 1/2, 0, 1))."""
    k, v_th = torch.sigmoid(w), nn.functional.softplus(theta)
    v, out = torch.zeros_like(current[0]), []
    for i in current:
        u = v + k * (i - v) if decay_input else v * (1 - k) + i
        q = Rounded.apply((u / v_th - 0.5).clamp(0, 1))
        out.append(v_th * q)
        v = u * (1 - (q.detach() if detach_reset else q))
    return torch.stack(out)


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_outputs_and_all_gradients_are_those_of_the_published_neuron(
    decay_input: bool, detach_reset: bool
) -> None:
    lif = Lif(0.7, v_th=0.6, detach_reset=detach_reset)
    layers = (nn.Linear(6, 5), lif, nn.Linear(5, 3), Integrator())
    torch.manual_seed(0)
    for layer in (layers[0], layers[2]):
        layer.reset_parameters()
    first, second = (
        x.detach().clone().requires_grad_() for x in (layers[0].weight, layers[2].weight)
    )
    biases = [layers[0].bias.detach().clone().requires_grad_(), layers[2].bias.detach().clone()]
    net = net_of(*layers, shape=(6,))
    Trsg(decay_input=decay_input).prepare(net)
    assert lif.keep_v == pytest.approx(0.7)
    assert float(lif.v_th.detach()) == pytest.approx(0.6)
    x = 4 * normal(4, 8, 6)
    w = torch.tensor(-float(torch.logit(torch.tensor(0.7)))).requires_grad_()
    theta = torch.tensor(0.6).expm1().log().requires_grad_()
    amplitudes = published(
        x @ first.T + biases[0], w, theta, decay_input=decay_input, detach_reset=detach_reset
    )
    wanted = (amplitudes @ second.T + biases[1]).mean(0)
    logits = net(x).logits
    torch.testing.assert_close(logits, wanted)
    assert 0.1 < float((amplitudes > 0).float().mean()) < 0.9
    logits.square().sum().backward()
    wanted.square().sum().backward()
    ours = dict(net.layers.named_parameters())

    def gradient(name: str) -> Tensor:
        (found,) = (p.grad for n, p in ours.items() if n in (name, _free(name)))
        assert found is not None
        return found

    close = partial(torch.testing.assert_close, rtol=2e-4, atol=1e-5)
    assert w.grad is not None
    close(gradient("0.weight"), first.grad)
    close(gradient("0.bias"), biases[0].grad)
    close(gradient("2.weight"), second.grad)
    close(gradient("1.beta"), -w.grad)
    close(gradient("1.threshold"), theta.grad)


def _free(name: str) -> str:
    layer, part = name.split(".")
    return f"{layer}.parametrizations.{part}.original"


def chain() -> SpikingNet:
    return net_of(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), TdBatchNorm2d(4), Lif(0.5, v_th=0.3),
        nn.AvgPool2d(2), nn.Conv2d(4, 3, 3, padding=1), Lif(0.4, v_th=0.1), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(12, 5), Integrator(), shape=(1, 8, 8),
    )  # fmt: skip


def residual() -> SpikingNet:
    branch: dict[str, nn.Module] = {
        "conv": nn.Conv2d(4, 4, 3, padding=1),
        "norm": TdBatchNorm2d(4),
        "lif": Lif(0.6, v_th=0.3),
    }
    return net_of(
        nn.Conv2d(1, 4, 3, padding=1), TdBatchNorm2d(4), Lif(0.5, v_th=0.3), Residual(branch),
        nn.Flatten(), nn.Linear(256, 5), Integrator(), shape=(1, 8, 8),
    )  # fmt: skip


def recurrent() -> SpikingNet:
    loop = nn.Linear(12, 12, bias=False)
    return net_of(
        nn.Flatten(), nn.Linear(64, 12), TdBatchNorm1d(12), Recurrent(loop, Lif(0.5, v_th=0.2)),
        nn.Linear(12, 6), TdBatchNorm1d(6), Lif(0.8, v_th=0.1), shape=(1, 8, 8),
    )  # fmt: skip


NETS: list[Callable[[], SpikingNet]] = [chain, residual, recurrent]


def trained(make: Callable[[], SpikingNet], method: Trsg) -> SpikingNet:
    """A net whose parameters have moved since `prepare`, and whose norms have seen images."""
    torch.manual_seed(3)
    net = make()
    method.prepare(net)
    with torch.no_grad():
        for seed, parameter in enumerate(net.parameters()):
            parameter.add_(0.15 * normal(*parameter.shape, seed=seed))
        for seed in range(20):
            net(10 * normal(4, 6, 1, 8, 8, seed=seed).abs())
    return net.eval()


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("make", NETS)
@torch.no_grad()
def test_settling_changes_no_spike_and_no_logit(
    make: Callable[[], SpikingNet], decay_input: bool
) -> None:
    method = Trsg(decay_input=decay_input)
    with torch.enable_grad():
        net = trained(make, method)
    learned = [(layer.keep_v, float(layer.v_th.detach())) for _, layer in lifs(net)]
    x = 10 * normal(4, 16, 1, 8, 8, seed=9).abs()
    before = net(x)
    method.settle(net)
    after = net(x)
    assert torch.equal(before.logits, after.logits)
    for name, spikes in before.spikes.items():
        assert torch.equal(spikes, after.spikes[name])
        assert set(spikes.unique().tolist()) == {0, 1}
    assert not any(parametrize.is_parametrized(m) for m in net.modules())
    assert net.state_dict().keys() == make().state_dict().keys()
    assert [(layer.keep_v, float(layer.v_th.detach())) for _, layer in lifs(net)] == learned
    for _, layer in lifs(net):
        assert type(layer) is Lif
        assert {"beta", "threshold"} <= dict(layer.named_buffers()).keys()
    starts = [(layer.keep_v, float(layer.v_th.detach())) for _, layer in lifs(make())]
    assert all(
        abs(k - start_k) > 1e-3 and abs(v - start_v) > 1e-3
        for (k, v), (start_k, start_v) in zip(learned, starts, strict=True)
    )


def lifs(net: SpikingNet) -> list[tuple[str, Lif]]:
    return [(name, layer) for name, layer in net.named_layers() if isinstance(layer, Lif)]


def test_folding_is_the_amplitude_in_the_next_weights_and_the_gain_in_the_norm() -> None:
    net = trained(chain, Trsg())
    layers = net.layers
    gain, v_th = 1 - layers[2].keep_v, float(layers[2].v_th.detach())
    norm = layers[1].parametrizations
    weight, bias = norm.weight.original.detach().clone(), norm.bias.original.detach().clone()
    reader = layers[4].parametrizations.weight
    free = (reader.original * (1 - layers[5].keep_v) * v_th).detach().clone()
    Trsg().settle(net)
    torch.testing.assert_close(layers[1].weight, weight * gain)
    torch.testing.assert_close(layers[1].bias, bias * gain)
    torch.testing.assert_close(layers[4].weight, free)


def test_what_penalties_see_of_a_norm_is_the_current_that_arrives() -> None:
    net = chain()
    Trsg().prepare(net)
    drive = net.drives()["2"]
    assert drive.deviation.tolist() == pytest.approx([0.5] * 4)
    assert drive.keep_v == 0.5


def test_populations_that_are_added_up_share_a_threshold() -> None:
    net = residual()
    net.layers[2].threshold.fill_(0.7)
    Trsg().prepare(net)
    first, second = (layer for _, layer in lifs(net))
    assert first.parametrizations.threshold.original is second.parametrizations.threshold.original
    assert float(second.v_th.detach()) == pytest.approx(0.7)
    assert first.parametrizations.beta.original is not second.parametrizations.beta.original


def test_spikes_that_are_counted_leave_as_one() -> None:
    net = trained(recurrent, Trsg())
    logits = net(10 * normal(4, 16, 1, 8, 8, seed=2).abs()).logits.detach()
    assert float(net.layers[-1].v_th.detach()) != pytest.approx(0.1)
    assert float(logits.max()) > 0
    assert torch.equal(logits, logits.round())


def test_a_saved_net_comes_back(tmp_path: Path) -> None:
    net = trained(chain, Trsg())
    checkpoint.save(tmp_path / "a.safetensors", net, facts={})
    other = chain()
    Trsg().prepare(other)
    checkpoint.load(tmp_path / "a.safetensors", other)
    x = normal(4, 5, 1, 8, 8, seed=1)
    assert torch.equal(net(x).logits, other.eval()(x).logits)
    assert (
        float(other.layers[2].v_th.detach())
        == float(net.layers[2].v_th.detach())
        != pytest.approx(0.3)
    )


def test_refusals() -> None:
    net = net_of(nn.Linear(3, 3), Lif(1 - 1e-10), shape=(3,))  # 1 in single precision
    with pytest.raises(
        ValueError,
        match=r"^methods\.trsg, layer '1': the share kept per step starts at 1\.0, which a learned "
        r"leak never leaves or reaches; start between 0 and 1$",
    ):
        Trsg().prepare(net)
    bare = net_of(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False), Lif(0.5), shape=(3,))
    with pytest.raises(
        ValueError,
        match=r"^methods\.trsg: the current of layer '2' comes from a layer without weights, so "
        r"that its gain has no place; set methods\.trsg\.decay_input = false$",
    ):
        Trsg().prepare(bare)
    split = Residual({"a": Lif(0.5)}, nn.Sequential(OrderedDict(b=Lif(0.5))))
    forked = net_of(nn.Linear(3, 3), split, nn.Linear(3, 2), Integrator(), shape=(3,))
    with pytest.raises(
        ValueError,
        match=r"the current of layer '1\.a' comes from a layer that \['1\.a', '1\.shortcut\.b'\] "
        r"share, so that its gain has no place",
    ):
        Trsg().prepare(forked)
    odd = net_of(nn.Linear(3, 3), nn.ReLU(), Lif(0.5), shape=(3,))
    with pytest.raises(
        ValueError,
        match=r"^layer '1' \(ReLU\): methods that change neurons need nets of Lif and linear "
        r"layers, a norm only behind a linear one; leave them out here$",
    ):
        Trsg().prepare(odd)


@pytest.mark.parametrize("other", ["lsg", "mpd_agl", "dsatgo"])
def test_only_one_method_learns_leaks(other: str) -> None:
    with pytest.raises(ValidationError, match=r"methods\.\w+ and methods\.\w+ both set the leak; "):
        Methods.model_validate({"trsg": {}, other: {}})
