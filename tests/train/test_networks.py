"""Every network that a configuration can name: what it is made of, that it learns, and that its
integers reach the chip."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikeport.export import bounds
from spikeport.export import compile as compile_net
from spikeport.exporting import run_to_net
from spikeport.hw import rules
from spikeport.sim import engine
from spikeport.sim.chip import LOIHI_2
from spikeport.sim.net import Input
from spikeport.train import loop
from spikeport.train.blocks import Recurrent, Residual
from spikeport.train.config import Config, ModelConfig
from spikeport.train.encode import direct, source
from spikeport.train.model import SpikingNet
from spikeport.train.networks import MODELS
from spikeport.train.quant import QuantNet

STEPS, SAMPLES, CLASSES = 3, 12, 4


def build(name: str, carrier: Input, **settings: Any) -> SpikingNet:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"name": name, **settings})
    return MODELS[name](config, carrier, steps=STEPS, classes=CLASSES)


def small(name: str) -> SpikingNet:
    """A size for tests, counting spikes and summing pools where the name is odd."""
    odd = len(name) % 2
    return build(
        name, source("direct", (2, 8, 8)), width=1 / 32, hidden=16, channels=[4, 6], v_th=0.5,
        readout="count" if odd else "last_v", pool="sum" if odd else "average",
    )  # fmt: skip


def images() -> Tensor:
    return torch.rand(SAMPLES, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def learn(model: Any, x: Tensor, *, steps: int, lr: float) -> list[float]:
    y = torch.arange(SAMPLES) % CLASSES
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x).logits, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", MODELS)
def test_a_network_learns_and_its_integers_are_exported(name: str) -> None:
    net, x = small(name), direct(images(), STEPS)
    losses = learn(net, x, steps=6, lr=0.01)
    assert min(losses[1:]) < losses[0]
    with torch.no_grad():
        for _ in range(40):  # settle the norms, or evaluation would be silent
            net(x)
    model = QuantNet(net.eval(), LOIHI_2)
    for learned in (False, True):
        if learned:
            losses = learn(model.train(), x, steps=2, lr=0.01)
            assert np.isfinite(losses).all()
        compiled = compile_net(model.spiking_net().eval(), target="loihi2")
        fixed = compiled.net
        assert bounds.prove(fixed) == []
        rules.enforce(fixed, LOIHI_2)
        trace = engine.run(fixed, np.rint(x.numpy() * 255).astype(np.int64))
        with torch.no_grad():
            record = model.eval()(x)
        for layer, spikes in record.spikes.items():
            assert np.array_equal(spikes.flatten(2).numpy(), trace[layer].spikes), layer
        rates = [float(spikes.mean()) for spikes in record.spikes.values()]
        assert learned or sum(rate > 0.005 for rate in rates) >= 0.6 * len(rates), rates
    assert set(record.spikes) <= {
        p.name for p in compile_net(net, target="nir").float_net.populations
    }


def shapes(net: SpikingNet, kind: type) -> list[tuple[int, ...]]:
    return [tuple(layer.weight.shape) for _, layer in net.named_layers() if isinstance(layer, kind)]


def test_vgg11_is_the_published_one() -> None:
    net = build("vgg11", source("direct", (3, 32, 32)), width=1 / 8)  # of every number an eighth
    channels = [3, 8, 16, 32, 64, 64, 64, 64, 64]
    assert shapes(net, nn.Conv2d) == [(n, m, 3, 3) for m, n in itertools.pairwise(channels)]
    assert shapes(net, nn.Linear) == [(512, 1024), (512, 512), (4, 512)]
    order = [name for name, _ in net.named_layers() if name.startswith(("lif", "pool", "norm"))]
    assert " ".join(order) == (
        "norm1 lif1 pool1 norm2 lif2 norm3 lif3 pool2 norm4 lif4 norm5 lif5 norm6 lif6 pool3"
        " norm7 lif7 norm8 lif8 lif9 lif10"
    )


def test_vgg9_has_seven_convolutions_and_two_linear_layers() -> None:
    net = build("vgg9", source("direct", (1, 28, 28)), width=0.25)
    channels = [1, 16, 16, 32, 32, 64, 64, 64]
    assert shapes(net, nn.Conv2d) == [(n, m, 3, 3) for m, n in itertools.pairwise(channels)]
    assert shapes(net, nn.Linear) == [(256, 64 * 16), (4, 256)]  # 28 padded to 32, halved thrice


@pytest.mark.parametrize(
    ("name", "blocks", "channels", "head"),
    [
        ("sew_resnet18", 8, [4, 8, 16, 32], [(4, 32)]),
        ("sew_resnet19", 8, [8, 16, 32], [(16, 32), (4, 16)]),
    ],
)
def test_spiking_resnets(
    name: str, blocks: int, channels: list[int], head: list[tuple[int, int]]
) -> None:
    net = build(name, source("direct", (3, 16, 16)), width=1 / 16)
    found = [layer for layer in net.layers if isinstance(layer, Residual)]
    assert len(found) == blocks
    changed = [bool(len(block.shortcut)) for block in found]
    assert sum(changed) == len(channels) - 1
    outputs = {block.branch["conv2"].out_channels for block in found}
    assert sorted(outputs) == channels
    assert shapes(net, nn.Linear) == head
    last = 16 >> (len(channels) - 1)
    assert net.layers.pool.kernel_size == (last, last)
    assert all(f"{mark}{i}" in block.branch for block in found for mark in ("norm", "lif")
               for i in (1, 2))  # fmt: skip


def test_the_recurrent_network_takes_any_shape() -> None:
    for shape in ((24,), (2, 3, 4)):
        net = build("recurrent", Input(shape=shape), hidden=9, v_th=2.0, detach_reset=False)
        assert isinstance(net.layers.rec1, Recurrent)
        assert net.layers.rec1.lif.detach_reset is False
        assert float(net.layers.norm1.weight.detach()[0]) == pytest.approx(2 * 0.5**0.5)
        x = (torch.rand(STEPS, 5, *shape, generator=torch.Generator().manual_seed(2)) < 0.5).float()
        record = net(x)
        assert record.spikes["rec1.lif"].shape == (STEPS, 5, 9)
        assert record.outputs.shape == (STEPS, 5, CLASSES)
        assert compile_net(net, target="loihi2").net.shape_of("rec1.lif") == (9,)


def test_refuses_sides_that_pools_would_cut() -> None:
    with pytest.raises(
        ValueError,
        match=r"^model 'vgg9' got input shape \(1, 27, 28\); it needs \(C, H, W\) with H and W even"
        r" numbers that padding makes multiples of 8 for its pools and strides; use model 'dense' ",
    ):
        build("vgg9", Input(shape=(1, 27, 28)))
    with pytest.raises(ValueError, match=r"^model 'sew_resnet18' got input shape \(7,\); it needs"):
        build("sew_resnet18", Input(shape=(7,)))


@pytest.mark.parametrize("name", ["sew_resnet18", "recurrent"])
def test_a_run_is_exported_with_no_differing_spike(name: str, tmp_path: Path) -> None:
    tree = {
        "data": {"name": "digits", "train_images": 200, "test_images": 60},
        "encode": {"steps": 2},
        "model": {"name": name, "width": 1 / 64, "hidden": 16},
        "train": {"epochs": 2, "lr": 0.02, "seed": 3, "device": "cpu"},
        "quantise": {"target": "loihi2", "epochs": 1},
    }
    loop.fit(Config.model_validate(tree), tmp_path, progress=False)
    exported = run_to_net(tmp_path, target="loihi2")
    torch_float, _, exact = exported.rungs
    assert torch_float.spikes == exact.spikes > 0
    assert torch_float.differing < 1e-3 * torch_float.spikes
    assert (exact.differing, exact.differing_state, exact.predictions) == (0, 0, 0)
