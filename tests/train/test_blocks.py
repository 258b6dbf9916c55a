"""Residual blocks and recurrent populations do what the loop that one would write does."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import pytest
import snntorch
import torch
from torch import Tensor, nn

from spikeport.sim.net import Input
from spikeport.sim.surrogate import Surrogate
from spikeport.train.blocks import Recurrent, Residual, named_layers, through
from spikeport.train.encode import direct, source
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Integrator, Lif
from spikeport.train.norm import TdBatchNorm2d
from spikeport.train.surrogate import spike_function

STEPS = 5


def lif(**settings: Any) -> Lif:
    return Lif(0.75, v_th=0.2, **settings)


def residual_net() -> SpikingNet:
    torch.manual_seed(0)
    around = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 1, stride=2), lif=lif()))
    layers: dict[str, nn.Module] = {
        "stem": nn.Conv2d(1, 3, 3, padding=1),
        "lif": lif(),
        "same": Residual(OrderedDict(conv=nn.Conv2d(3, 3, 3, padding=1), lif=lif())),
        "down": Residual(OrderedDict(conv=nn.Conv2d(3, 4, 3, 2, 1), lif=lif()), around),
        "flat": nn.Flatten(),
        "fc": nn.Linear(64, 5),
        "out": Integrator(),
    }
    carrier = source("direct", (1, 8, 8))
    return SpikingNet(
        nn.Sequential(OrderedDict(layers)), input=carrier, steps=STEPS, readout="last_v"
    )


def window(*shape: int) -> Tensor:
    return torch.rand(STEPS, 4, *shape, generator=torch.Generator().manual_seed(1))


def test_spikes_of_branch_and_shortcut_add_up() -> None:
    net, x = residual_net(), window(1, 8, 8)
    layers = net.layers

    def each(layer: nn.Module, x: Tensor) -> Tensor:
        return torch.stack([layer(step) for step in x])

    first = layers.lif(each(layers.stem, x))
    same = layers.same.lif(each(layers.same.conv, first)) + first
    short = layers.down.shortcut
    half = layers.down.lif(each(layers.down.conv, same)) + short.lif(each(short.conv, same))
    wanted = each(layers.fc, half.flatten(2)).mean(0)
    record = net(x)
    torch.testing.assert_close(record.logits, wanted)
    assert half.max() == 2
    spiking = ["lif", "same.lif", "down.lif", "down.shortcut.lif"]
    assert list(record.spikes) == list(record.membranes) == list(net.thresholds()) == spiking
    for name, spikes in record.spikes.items():
        assert set(spikes.unique().tolist()) == {0.0, 1.0}, name
        assert torch.equal((record.membranes[name] > 0.2).float(), spikes), name
        assert net.layers.get_submodule(name) is dict(net.named_layers())[name]


def test_through_visits_layers_in_order_and_adds() -> None:
    net = residual_net()
    text = through(
        net.layers._modules, "x", visit=lambda name, _, x: f"{name}({x})",
        add=lambda a, b: f"[{a} + {b}]",
    )  # fmt: skip
    same = "[same.lif(same.conv(lif(stem(x)))) + lif(stem(x))]"
    half = f"[down.lif(down.conv({same})) + down.shortcut.lif(down.shortcut.conv({same}))]"
    assert text == f"out(fc(flat({half})))"
    names = [name for name, _ in named_layers(net.layers._modules)]
    assert names[2:4] == ["same.conv", "same.lif"]
    assert names[-6:-3] == ["down.lif", "down.shortcut.conv", "down.shortcut.lif"]


def test_a_norm_drives_the_neurons_right_behind_it_only() -> None:
    def normed(mark: str) -> dict[str, nn.Module]:
        return {f"conv{mark}": nn.Conv2d(1, 1, 1), f"norm{mark}": TdBatchNorm2d(1)}

    both = Residual(normed("a"), nn.Sequential(OrderedDict(normed("b"))))
    alone = Residual({**normed("c"), "lif_c": lif()})
    layers = nn.Sequential(OrderedDict(both=both, lif=lif(), alone=alone, **normed("d"), l=lif()))
    net = SpikingNet(layers, input=Input(shape=(1, 4, 4)), steps=STEPS, readout="count")
    assert list(net.drives()) == ["alone.lif_c", "l"]


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("v_init", [0.0, 0.25])
def test_a_recurrent_population_equals_snntorchs_loop(detach: bool, v_init: float) -> None:
    torch.manual_seed(2)
    loop, x = nn.Linear(6, 6, bias=False), window(6) * 0.4
    shape = Surrogate("atan", 3.0)
    ours = Recurrent(loop, lif(detach_reset=detach, surrogate=shape, v_init=v_init))
    theirs = snntorch.Leaky(
        beta=0.75, threshold=0.2, reset_mechanism="none", spike_grad=spike_function(shape)
    )
    v, s, spikes, membranes = torch.full((4, 6), v_init), torch.zeros(4, 6), [], []
    for a in x:
        u = 0.75 * v + a + loop(s)
        s = theirs.spike_grad(u - 0.2)
        v = u * (1 - (s.detach() if detach else s))
        spikes.append(s)
        membranes.append(u)
    found = ours(x)
    torch.testing.assert_close(found, torch.stack(spikes))
    torch.testing.assert_close(ours.membrane, torch.stack(membranes))
    assert 0.1 < float(found.detach().mean()) < 0.9
    weight = torch.rand_like(found)
    (wanted,) = torch.autograd.grad((torch.stack(spikes) * weight).sum(), loop.weight)
    (gradient,) = torch.autograd.grad((found * weight).sum(), loop.weight)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)
    assert copy.deepcopy(ours).membrane.numel() == 0


def test_what_a_loop_leaves_follows_the_neurons_settings() -> None:
    """Reset by subtraction, no gradient through time."""
    torch.manual_seed(3)
    neurons = lif()
    neurons.reset_mechanism, neurons.detach_time = "subtract", True
    layer, x = Recurrent(nn.Linear(6, 6, bias=False), neurons), (window(6) * 0.4).requires_grad_()
    v, s = torch.zeros(4, 6), torch.zeros(4, 6)
    found = layer(x)
    for t, a in enumerate(x.detach()):
        u = 0.75 * v + a + layer.loop(s)
        s = (u > 0.2).float()
        v = u - 0.2 * s
        torch.testing.assert_close(found[t], s)
    with torch.no_grad():
        layer.loop.weight.zero_()
    layer(x)[-1].sum().backward()
    assert x.grad is not None
    assert x.grad[-1].any()
    assert not x.grad[:-1].any()


def test_a_still_image_is_worked_on_once() -> None:
    net = residual_net()
    seen: list[int] = []
    net.layers.stem.register_forward_hook(lambda _, x, __: seen.append(len(x[0])))
    still = direct(window(1, 8, 8)[0], STEPS)
    one, all_steps = net(still), net(still.clone())
    assert seen == [4, 4 * STEPS]
    torch.testing.assert_close(one.logits, all_steps.logits)
    for name, spikes in all_steps.spikes.items():
        assert torch.equal(one.spikes[name], spikes)
        torch.testing.assert_close(one.membranes[name], all_steps.membranes[name])
    weight = net.layers.stem.weight
    (a,), (b,) = (torch.autograd.grad(r.logits.square().sum(), weight) for r in (one, all_steps))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_norm_counts_a_still_image_once() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 2, 1), TdBatchNorm2d(2), Lif(0.5))
    net = SpikingNet(layers, input=source("direct", (1, 2, 2)), steps=STEPS, readout="count")
    other = copy.deepcopy(net)
    still = direct(window(1, 2, 2)[0], STEPS)
    net(still)
    other(still.clone())
    one, all_steps = net.layers[1], other.layers[1]
    torch.testing.assert_close(one.running_mean, all_steps.running_mean)
    n, variance = 16, (all_steps.running_var - 0.9) / 0.1  # momentum 0.1 from 1
    wanted = variance * (n * STEPS - 1) / (n * STEPS) * n / (n - 1)
    torch.testing.assert_close((one.running_var - 0.9) / 0.1, wanted, rtol=1e-4, atol=1e-6)


def test_refuses_loops() -> None:
    with pytest.raises(ValueError, match=r"^Recurrent: the loop leads from 4 neurons to 5; it "):
        Recurrent(nn.Linear(4, 5, bias=False), lif())
    with pytest.raises(ValueError, match=r"^Recurrent: the loop has a bias beside that of the "):
        Recurrent(nn.Linear(4, 4), lif())


def test_a_sum_of_spikes_cannot_be_read() -> None:
    block = Residual(OrderedDict(conv=nn.Conv2d(1, 1, 1), lif=lif()))
    layers = nn.Sequential(nn.Conv2d(1, 1, 1), lif(), block)
    with pytest.raises(ValueError, match=r"the last layer, which is Residual$"):
        SpikingNet(layers, input=Input(shape=(1, 4, 4)), steps=STEPS, readout="count")
