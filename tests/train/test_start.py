"""The calibrated start: fewer differing spikes than from the largest scale, on other images too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport.export import bounds
from spikeport.export import compile as compile_net
from spikeport.sim import reference
from spikeport.sim.chip import LOIHI_2
from spikeport.train.config import DIGITS, Config, load, override, to_toml
from spikeport.train.data import Dataset, load_for
from spikeport.train.floating import build as build_float
from spikeport.train.floating import fit_float
from spikeport.train.model import SpikingNet
from spikeport.train.quant import QuantNet
from spikeport.train.quantised import fit_quantised, load_quantised
from spikeport.train.start import choose_scales

CONFIG = override(
    load(DIGITS),
    ["model.channels=[4,8]", "encode.steps=4", "train.epochs=4", "quantise.epochs=0",
     "quantise.weight_bits=2"],
)  # fmt: skip
Trained = tuple[SpikingNet, Dataset, Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small net that knows digits, its data, and the folder of its run."""
    folder = tmp_path_factory.mktemp("run")
    data = load_for(CONFIG)
    net = build_float(CONFIG, data.shape, classes=10)
    return fit_float(CONFIG, data, folder, net=net, progress=False), data, folder


def window(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    x = torch.tensor(images).float() / 255
    return x.expand(4, *x.shape)


@torch.no_grad()
def far(model: QuantNet, net: SpikingNet, x: Tensor) -> tuple[float, float]:
    """Share of differing spikes, and of images on which both answer differently."""
    found, wanted = model.eval()(x), net.eval()(x)
    differing = [
        float((found.spikes[k] != s).sum() / (found.spikes[k] + s).sum())
        for k, s in wanted.spikes.items()
    ]
    other = (found.logits.argmax(1) != wanted.logits.argmax(1)).double().mean()
    return max(differing), float(other)


@pytest.mark.parametrize(("bits", "least"), [(2, 0.9), (3, 0.97), (8, 1.01)])
def test_scales_are_chosen_on_images_and_serve_others(
    trained: Trained, bits: int, least: float
) -> None:
    net, data, _ = trained
    model = QuantNet(net, LOIHI_2, weight_bits=bits)
    shown, unseen = window(data.x_train[:32]), window(data.x_val)
    before = far(model, net, unseen), far(model, net, shown)
    choose_scales(model, net, shown)
    after = far(model, net, unseen), far(model, net, shown)
    assert after[0][0] < least * before[0][0]
    assert after[0][1] <= before[0][1]
    layers = list(model.populations().values())
    if bits == 2:  # it pays to clip
        assert all(float(layer.scale().detach()) > 1.2 * layer.grid_limit() for layer in layers[1:])
    for layer in layers:
        wanted = float(layer.log_scale.exp().detach())
        assert float(layer.scale().detach()) == pytest.approx(wanted)
        assert wanted <= layer.safe_limit(wanted) * 1.00001


def test_the_chosen_scale_is_the_best_of_its_layer(trained: Trained) -> None:
    net, data, _ = trained
    model, x = QuantNet(net, LOIHI_2, weight_bits=3), window(data.x_train[:16])
    choose_scales(model, net, x)
    name, layer = next(iter(model.populations().items()))
    exact = net(x).spikes[name].detach()
    chosen = layer.log_scale.detach().clone()

    @torch.no_grad()
    def differing() -> float:
        found = model(x).spikes[name]
        return float((found != exact).sum() / (found + exact).sum())

    best = differing()
    for factor in (0.75, 0.9, 1.25, 1.6, 2.5):
        with torch.no_grad():
            layer.log_scale.copy_(chosen).add_(float(np.log(factor)))
        assert differing() > 0.9 * best  # but for luck between the scales that were tried


def test_what_starts_above_the_grid_is_what_is_exported(trained: Trained) -> None:
    net, data, _ = trained
    model = QuantNet(net, LOIHI_2, weight_bits=2)
    choose_scales(model, net, window(data.x_train[:16]))
    fixed = compile_net(model.spiking_net().eval(), target="loihi2", weight_bits=2).net
    assert fixed is not None
    assert bounds.prove(fixed) == []
    images = data.x_val[:20]
    trace = reference.run(fixed, np.broadcast_to(images, (4, *images.shape)).astype(np.int64))
    with torch.no_grad():
        record = model.eval()(window(images))
    for name, spikes in record.spikes.items():
        assert np.array_equal(spikes.flatten(2).numpy(), trace[name].spikes), name
        assert 0.01 < trace[name].spikes.mean() < 0.99


def again(trained: Trained, *settings: str) -> tuple[QuantNet, QuantNet, Config]:
    """The quantised phase of the trained run, and what is read from its folder."""
    net, data, folder = trained
    config = override(CONFIG, settings)
    (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")
    made = fit_quantised(config, data, folder, net=net, progress=False)
    return made, load_quantised(folder)[0], config


def test_a_start_without_training_is_kept(trained: Trained) -> None:
    made, read, _ = again(trained)
    largest, _, _ = again(trained, "quantise.start_images=0")
    pairs = zip(made.populations().values(), read.populations().values(), strict=True)
    for one, other in pairs:
        assert torch.equal(one.log_scale, other.log_scale)
        assert torch.equal(one.weights(), other.weights())
    for layer in largest.populations().values():
        assert float(layer.scale().detach()) <= layer.grid_limit() * 1.00001
    assert [float(p.log_scale.detach()) for p in largest.populations().values()] != [
        float(p.log_scale.detach()) for p in made.populations().values()
    ]
