"""Networks give what the user's own loop gives, and a record of it."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import snntorch
import torch
from torch import Tensor, nn

from spikeport.sim.net import Input
from spikeport.train.config import ModelConfig
from spikeport.train.encode import source
from spikeport.train.model import SpikingNet
from spikeport.train.networks import MODELS
from spikeport.train.neuron import Integrator, Lif

STEPS = 5
IMAGE = source("direct", (1, 8, 8))


def window(batch: int = 3, shape: tuple[int, ...] = (1, 8, 8)) -> Tensor:
    return torch.rand(STEPS, batch, *shape, generator=torch.Generator().manual_seed(2))


def users_net(**leaky: object) -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        snntorch.Leaky(beta=0.8, threshold=0.4, **leaky),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 3),
        snntorch.Leaky(beta=0.9, threshold=0.3, **leaky),
    )


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("init_hidden", [False, True])
def test_a_users_sequential_equals_the_users_loop(reset: str, init_hidden: bool) -> None:
    layers = users_net(reset_mechanism=reset, init_hidden=init_hidden)
    x = window()
    first, second = layers[1], layers[5]
    first.reset_mem()
    second.reset_mem()
    mem1 = mem2 = None
    wanted: dict[str, list[Tensor]] = {"1": [], "5": [], "mem": []}
    for frame in x:
        a = layers[0](frame)
        if init_hidden:
            s1 = first(a)
            s2 = second(layers[2:5](s1))
        else:
            mem1 = torch.zeros_like(a) if mem1 is None else mem1
            s1, mem1 = first(a, mem1)
            out = layers[2:5](s1)
            mem2 = torch.zeros_like(out) if mem2 is None else mem2
            s2, mem2 = second(out, mem2)
        for name, value in (("1", s1), ("5", s2), ("mem", first.mem)):
            wanted[name].append(value)
    net = SpikingNet(layers, input=IMAGE, steps=STEPS, readout="count")
    for _ in range(2):  # the second call must not go on from the first
        record = net(x)
        assert list(record.spikes) == list(record.membranes) == ["1", "5"]
        for name in ("1", "5"):
            torch.testing.assert_close(record.spikes[name], torch.stack(wanted[name]))
            assert 0.02 < float(record.spikes[name].detach().mean()) < 0.98
        torch.testing.assert_close(record.membranes["1"], torch.stack(wanted["mem"]))
        torch.testing.assert_close(record.logits, torch.stack(wanted["5"]).sum(0))


def test_synaptic_neurons_and_nested_sequentials() -> None:
    torch.manual_seed(1)
    pool = nn.AvgPool2d(2)
    block = nn.Sequential(OrderedDict(pool=pool, again=pool))
    syn = snntorch.Synaptic(alpha=0.7, beta=0.6, threshold=0.5, reset_mechanism="zero")
    layers = nn.Sequential(OrderedDict(block=block, flat=nn.Flatten(), fc=nn.Linear(4, 6), syn=syn))
    net = SpikingNet(layers, input=IMAGE, steps=STEPS, readout="count")
    assert [n for n, _ in net.named_layers()] == ["block.pool", "block.again", "flat", "fc", "syn"]
    x = window()
    u, v = torch.zeros(3, 6), torch.zeros(3, 6)
    spikes = []
    for frame in x:
        s, u, v = syn(layers.fc(pool(pool(frame)).flatten(1)), u, v)
        spikes.append(s)
    assert float(torch.stack(spikes).detach().mean()) > 0.01
    torch.testing.assert_close(net(x).spikes["syn"], torch.stack(spikes))


def test_membranes_after_the_reset_are_not_passed_off_as_before_it() -> None:
    net = SpikingNet(
        users_net(reset_delay=False, reset_mechanism="zero"), input=IMAGE, steps=STEPS,
        readout="count",
    )  # fmt: skip
    assert net(window()).membranes == {}


@pytest.mark.parametrize("name", ["dense", "conv"])
@pytest.mark.parametrize("readout", ["count", "last_v"])
def test_builders(name: str, readout: str) -> None:
    config = ModelConfig.model_validate(
        {"name": name, "channels": [3, 5], "hidden": 7, "readout": readout, "v_th": 0.6,
         "keep_v": 0.25, "surrogate": "atan", "surrogate_width": 2.0, "detach_reset": False}
    )  # fmt: skip
    net = MODELS[name](config, source("direct", (2, 8, 12)), steps=STEPS, classes=4)
    record = net(window(shape=(2, 8, 12)))
    hidden = ["lif1", "lif2"] if name == "conv" else ["lif1"]
    spiking = hidden + (["lif_out"] if readout == "count" else [])
    assert list(record.spikes) == list(record.membranes) == list(net.thresholds()) == spiking
    assert list(net.drives()) == hidden
    assert record.logits.shape == (3, 4)
    first = record.membranes["lif1"].shape
    assert first == ((STEPS, 3, 3, 8, 12) if name == "conv" else (STEPS, 3, 7))
    lif = net.layers.lif1
    assert (lif.keep_v, lif.detach_reset) == (0.25, False)
    assert float(lif.v_th.detach()) == pytest.approx(0.6)
    assert (lif.surrogate.name, lif.surrogate.width) == ("atan", 2.0)
    assert float(net.layers.norm1.weight.detach()[0]) == pytest.approx(0.6)


def test_last_v_logits_are_the_mean_current() -> None:
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), Integrator())
    x = window()
    net = SpikingNet(layers, input=IMAGE, steps=STEPS, readout="last_v")
    torch.testing.assert_close(net(x).logits, layers[1](x.flatten(2)).mean(0))


def test_predict_uses_running_statistics_and_leaves_the_mode_alone() -> None:
    torch.manual_seed(0)
    config = ModelConfig(name="conv")
    net = MODELS["conv"](config, IMAGE, steps=STEPS, classes=10).train()
    x = window(batch=6)
    net(x)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    classes = net.predict(x)
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert torch.equal(classes, torch.cat([net.predict(x[:, i : i + 1]) for i in range(6)]))
    assert torch.equal(classes, net.eval()(x).logits.argmax(1))


def make(*layers: nn.Module, readout: str = "count", steps: int = STEPS) -> SpikingNet:
    return SpikingNet(nn.Sequential(*layers), input=IMAGE, steps=steps, readout=readout)


@pytest.mark.parametrize(
    ("layers", "readout", "message"),
    [
        ([Lif(0.5)], "first_spike", r"^SpikingNet: readout is 'first_spike'; allowed are 'count'"),
        ([Lif(0.5)], "last_v", r"^SpikingNet: readout 'last_v' needs an Integrator as the last "
         r"layer, which is Lif$"),
        ([nn.Flatten()], "count", r"^SpikingNet: readout 'count' needs spiking neurons as the "
         r"last layer, which is Flatten$"),
        ([], "count", r"^SpikingNet: readout 'count' needs spiking .* which is NoneType$"),
        ([Integrator(), Lif(0.5)], "count", r"^layer '0' is an Integrator; it can only come last$"),
        ([nn.GRU(8, 8), Lif(0.5)], "count", r"^layer '0' is a GRU, which keeps a state we cannot "
         r"step; allowed are Lif, Leaky, Synaptic and layers without state$"),
        ([snntorch.Alpha(alpha=0.8, beta=0.7), Lif(0.5)], "count", r"^layer '0' is a Alpha, "),
    ],
)  # fmt: skip
def test_refuses_layers(layers: list[nn.Module], readout: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(*layers, readout=readout)


def test_refuses_shapes() -> None:
    net = make(nn.Flatten(), Lif(0.5))
    with pytest.raises(ValueError, match=r"^SpikingNet: input has shape \(4, 3, 1, 8, 8\); needed "
                       r"is \[5, B, 1, 8, 8\]$"):  # fmt: skip
        net(window()[:4])
    with pytest.raises(ValueError, match=r"^SpikingNet: input has shape \(5, 3, 8, 8\); needed is"):
        net(window()[:, :, 0])
    with pytest.raises(ValueError, match=r"^SpikingNet: steps is 0; it must be at least 1$"):
        make(Lif(0.5), steps=0)
    with pytest.raises(
        ValueError,
        match=r"^model 'conv' got input shape \(1, 8, 6\); it needs \(C, H, W\) with H and W "
        r"multiples of 4 for its pools and strides; use model 'dense' or pad the images$",
    ):
        MODELS["conv"](ModelConfig(name="conv"), Input(shape=(1, 8, 6)), steps=2, classes=3)
