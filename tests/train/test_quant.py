"""The quantised model and the network exported from it are one: spikes, logits, every integer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikeport.export import bounds
from spikeport.export import compile as compile_net
from spikeport.sim import reference
from spikeport.sim.chip import LOIHI_2
from spikeport.sim.net import Input
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import Dense
from spikeport.train.checkpoint import facts
from spikeport.train.config import DIGITS, Config, load, override
from spikeport.train.data import Dataset
from spikeport.train.data import load as load_data
from spikeport.train.encode import ENCODERS
from spikeport.train.floating import build as build_float
from spikeport.train.floating import fit_float
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import LEAST_V_TH, Integrator, Lif
from spikeport.train.norm import TdBatchNorm1d, TdBatchNorm2d
from spikeport.train.quant import QuantNet
from spikeport.train.quant_layer import QuantLayer
from spikeport.train.quant_synapse import QuantSynapse
from spikeport.train.quantised import build, fit_quantised
from spikeport.train.scales import balance

STEPS = 5


def pixels(*shape: int) -> Input:
    return Input(shape=shape, kind="graded", payload_bits=8, scale=255.0)


def spiking(source: Input, readout: str, *layers: nn.Module) -> SpikingNet:
    """A network of `layers` whose norms have seen something."""
    net = SpikingNet(nn.Sequential(*layers), input=source, steps=STEPS, readout=readout)
    with torch.no_grad():
        for _ in range(20):
            net(torch.rand(STEPS, 8, *source.shape))
    return net.eval()


def conv_net() -> SpikingNet:
    return spiking(
        pixels(1, 8, 8), "last_v",
        nn.Conv2d(1, 4, 3, padding=1), TdBatchNorm2d(4), Lif(0.75, v_th=0.4), nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), TdBatchNorm2d(6), Lif(0.6, v_th=0.3),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 10), Integrator(),
    )  # fmt: skip


def strided_net() -> SpikingNet:
    """Pools before the first weights and one behind the other, stride, no leak, a spike count."""
    return spiking(
        pixels(2, 12, 12), "count",
        nn.AvgPool2d(2), nn.Conv2d(2, 4, 3, stride=(1, 2), padding=1), Lif(1.0, v_th=0.2),
        nn.AvgPool2d((2, 1)), nn.AvgPool2d((1, 3)), nn.Flatten(),
        nn.Linear(12, 8), Lif(0.0, v_th=0.1),
        nn.Linear(8, 5), Lif(0.9, v_th=0.1),
    )  # fmt: skip


def count_net() -> SpikingNet:
    return spiking(
        Input(shape=(1, 6, 6)), "count",
        nn.Flatten(), nn.Linear(36, 24, bias=False), TdBatchNorm1d(24, v_th=2.0),
        Lif(0.9, v_th=2.0),
        nn.Dropout(0.5), nn.Linear(24, 10), Lif(0.5, v_th=0.3),
    )  # fmt: skip


def wide_net() -> SpikingNet:
    """So many inputs of eight bits that sums must be shifted."""
    return spiking(
        pixels(1, 28, 28), "last_v",
        nn.Flatten(), nn.Linear(784, 30), TdBatchNorm1d(30), Lif(0.3), nn.Linear(30, 10),
        Integrator(),
    )  # fmt: skip


def biased_net(factor: float) -> SpikingNet:
    net = spiking(
        pixels(1, 4, 4), "last_v",
        nn.Flatten(), nn.Linear(16, 20), Lif(0.5, v_th=0.5 * max(factor, 1)), nn.Linear(20, 10),
        Integrator(),
    )  # fmt: skip
    with torch.no_grad():
        for layer in net.layers:
            if isinstance(layer, nn.Linear):
                layer.bias.uniform_(-factor, factor)
    return net


NETS: dict[str, Callable[[], SpikingNet]] = {
    "conv": conv_net,
    "strided": strided_net,
    "count": count_net,
    "wide": wide_net,
    "big bias": lambda: biased_net(30.0),
    "small bias": lambda: biased_net(1e-3),
}


def shown(source: Input, *, samples: int = 24) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(3)
    return rng.integers(0, source.largest + 1, (STEPS, samples, *source.shape))


def units(x: np.ndarray[Any, Any], source: Input) -> Tensor:
    return torch.from_numpy(x / source.scale).float()


def learn(model: QuantNet, *, steps: int, lr: float = 0.02) -> list[float]:
    """A few optimiser steps on random labels; the losses."""
    x = units(shown(model.input), model.input)
    classes = model(x).logits.shape[1]
    y = torch.arange(x.shape[1]) % classes
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x).logits, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    model(x)  # holds thresholds at their least
    return losses


def parts(model: QuantNet) -> list[QuantLayer]:
    return list(model.populations().values())


def synapse(layer: QuantLayer) -> QuantSynapse:
    """The only one of `layer`."""
    (found,) = layer.synapses
    assert isinstance(found, QuantSynapse)
    return found


def check_export(model: QuantNet, *, bits: int, rates: bool = True) -> None:
    """Exporting the model gives its integers, proves them safe, and they fire as the model does."""
    net = compile_net(model.spiking_net().eval(), target="loihi2", weight_bits=bits).net
    assert net is not None
    assert bounds.prove(net) == []
    for layer, population in zip(parts(model), net.populations, strict=True):
        (projection,) = net.incoming(population.name)
        assert (population.v_th == int(layer.threshold())).all()
        per_map = population.size // len(layer.bias)
        biases = layer.biases().detach().repeat_interleave(per_map)
        assert np.array_equal(np.broadcast_to(population.bias_shifted, biases.shape), biases)
        assert (population.du == 4095).all()
        assert (population.dv == layer.dv).all()
        weights = layer.weights().detach().numpy()
        held = projection.synapse
        if isinstance(held, Dense):
            chip = held.w_chip * 2.0 ** (held.w_exp + synapse(layer).shift)
        else:
            chip = np.asarray(held.w, float)
        if not synapse(layer).pools:
            assert np.array_equal(chip, weights)
        assert set(np.unique(chip)) == set(np.unique(weights))
    x = shown(net.input)
    trace = reference.run(net, x)
    assert not any(trace.wraps.values())
    assert not any(trace.clips.values())
    with torch.no_grad():
        record = model.eval()(units(x, net.input))
    for name, spikes in record.spikes.items():
        assert np.array_equal(spikes.flatten(2).numpy(), trace[name].spikes), name
        assert not rates or 0.01 < trace[name].spikes.mean() < 0.99, name
    logits = trace.logits(net.readout)
    unit = 1.0
    if model.readout == "last_v":
        unit = 64 * net.populations[-1].scale * STEPS
        assert not trace[net.populations[-1].name].spikes.any()
    assert record.logits.numpy() == pytest.approx(logits / unit, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("netx_bias", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", NETS)
def test_the_export_is_the_model(name: str, bits: int, netx_bias: bool) -> None:
    torch.manual_seed(1)
    model = QuantNet(NETS[name](), LOIHI_2, weight_bits=bits, netx_bias=netx_bias)
    check_export(model, bits=bits, rates=bits == 8)
    before = [float(layer.log_scale.detach()) for layer in parts(model)]
    learn(model.train(), steps=3)
    after = [float(layer.log_scale.detach()) for layer in parts(model)]
    assert before != after
    check_export(model, bits=bits, rates=False)


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("name", NETS)
def test_integers_are_in_the_chips_ranges(name: str, bits: int) -> None:
    torch.manual_seed(2)
    model = QuantNet(NETS[name](), LOIHI_2, weight_bits=bits)
    for layer in parts(model):
        q, v_th, bias = layer.weights(), layer.threshold(), layer.biases()
        assert torch.equal(q, q.round())
        assert 0 < q.abs().max() <= 2 ** (bits - 1) - 1
        assert v_th == v_th.round()
        assert 1 <= v_th <= 131071
        assert (v_th == 131071) == (not layer.spiking)
        assert torch.equal(bias % 64, torch.zeros_like(bias))
        exponent = next(
            e for e in range(8) if not (bias % 2**e).any() and bias.abs().max() / 2**e < 4096
        )
        assert exponent <= 7


def test_the_wide_layer_shifts_its_sums() -> None:
    model = QuantNet(wide_net(), LOIHI_2)
    assert [synapse(layer).shift > 0 for layer in parts(model)] == [True, False]
    assert all(synapse(layer).shift == 0 for layer in parts(QuantNet(conv_net(), LOIHI_2))[:2])


def test_rounding_that_adds_up_cannot_overflow() -> None:
    """Hundreds of weights a little above half a step, all rounded away from zero."""
    net = spiking(pixels(784), "last_v", nn.Linear(784, 2), Lif(0.5), nn.Linear(2, 2), Integrator())
    first = net.layers[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.weight.fill_(-0.95)
        first.weight[:, 0] = 1.0
        first.bias.zero_()
    model = QuantNet(net, LOIHI_2, weight_bits=2)
    layer = parts(model)[0]
    assert float(layer.scale().detach()) < layer._range_limit()
    check_export(model, bits=2, rates=False)


@pytest.mark.parametrize("name", NETS)
def test_sums_fit_the_bits_of_the_chip(name: str) -> None:
    """Those of Loihi 1, and of a chip with fewer."""
    limits = []
    for sum_bits in (32, 22, 18):
        torch.manual_seed(6)
        chip = dataclasses.replace(LOIHI_2, sum_bits=sum_bits)
        model = QuantNet(NETS[name](), chip, weight_bits=8)
        limits.append([layer._range_limit() for layer in parts(model)])
        net = compile_net(model.spiking_net().eval(), target="loihi2", weight_bits=8).net
        assert net is not None
        assert bounds.prove(dataclasses.replace(net, chip=chip)) == []
    assert all(wide >= narrow for wide, narrow in zip(*limits[:2], strict=True))
    assert (limits[2] != limits[0]) == (name != "big bias")


def test_membranes_are_in_thresholds() -> None:
    torch.manual_seed(4)
    model = QuantNet(count_net(), LOIHI_2)
    record = model(units(shown(model.input), model.input))
    assert list(record.membranes) == list(record.spikes) == list(model.thresholds())
    assert all(float(v_th) == 1 for v_th in model.thresholds().values())
    assert model.drives() == {}
    for name, membrane in record.membranes.items():
        assert torch.equal((membrane > 1).float(), record.spikes[name])
    # A neuron starts from zero, so its first membrane is its current over the threshold.
    layer, first = parts(model)[0], units(shown(model.input), model.input)[0].flatten(1)
    current = first @ layer.weights().T + layer.biases() / 64
    found = record.membranes[next(iter(record.membranes))][0]
    torch.testing.assert_close(found, current / layer.threshold())


@pytest.mark.parametrize("learn", ["scale", "threshold"])
@pytest.mark.parametrize("name", NETS)
def test_gradients_reach_every_parameter(name: str, learn: str) -> None:
    torch.manual_seed(5)
    model = QuantNet(NETS[name](), LOIHI_2, learn=learn)
    logits = model(units(shown(model.input), model.input)).logits
    nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64)).backward()
    for layer in parts(model):
        learned = ["synapses.0.weight", "bias"]
        learned += ["log_scale"] * (learn == "scale")
        learned += ["v_th"] * (learn == "threshold" and layer.spiking)
        for key in learned:
            grad = layer.get_parameter(key).grad
            assert grad is not None, key
            assert torch.isfinite(grad).all(), key
            assert grad.abs().max() > 0, key
        assert [key for key, p in layer.named_parameters() if p.grad is not None] == [
            key for key, _ in layer.named_parameters() if key in learned
        ]


def test_what_is_not_to_be_learned_stays() -> None:
    torch.manual_seed(6)
    model = QuantNet(conv_net(), LOIHI_2, learn="none")
    before = [(float(p.log_scale.detach()), float(p.v_th.detach())) for p in parts(model)]
    learn(model, steps=2)
    assert before == [(float(p.log_scale.detach()), float(p.v_th.detach())) for p in parts(model)]


def test_the_scale_has_no_gradient_where_nothing_is_rounded() -> None:
    """A common factor of weights, bias and threshold changes no spike: only errors of rounding
    give the scale something to learn from, as in LSQ."""
    torch.manual_seed(7)
    lif = Lif(1.0, surrogate=Surrogate("atan", 2.0))
    net = spiking(Input(shape=(16,)), "count", nn.Linear(16, 8), lif)
    model = QuantNet(net, LOIHI_2)
    (layer,) = parts(model)
    layer.v_th.requires_grad_(True)
    with torch.no_grad():
        layer.log_scale.sub_(0.3)  # away from the limit, which moves with the weights
    x = units(shown(model.input), model.input)

    def scale_gradient() -> float:
        layer.log_scale.grad = None
        (model(x).logits * torch.arange(8.0)).sum().backward()
        assert layer.log_scale.grad is not None
        step = 1 / float(layer.scale().detach())
        return abs(layer.log_scale.grad.item()) / balance(step, weights=128, q_max=127)

    rough = scale_gradient()
    scale = float(layer.scale().detach())
    with torch.no_grad():
        synapse(layer).weight.copy_(layer.weights() / scale)
        layer.bias.copy_(layer.biases() / (64 * scale))
        layer.v_th.copy_(layer.threshold() / scale)
    exact = scale_gradient()
    layer.v_th.grad = None
    (model(x).logits * torch.arange(8.0)).sum().backward()
    assert layer.v_th.grad is not None
    alone = abs(float(layer.v_th.grad * layer.v_th.detach()))  # the threshold's share of it
    assert exact < 1e-4 * alone
    assert rough > 10 * exact


def test_thresholds_stay_positive() -> None:
    torch.manual_seed(8)
    model = QuantNet(count_net(), LOIHI_2, learn="threshold")
    with torch.no_grad():
        for layer in parts(model):
            layer.v_th.fill_(-3.0)
    model(units(shown(model.input), model.input))
    for layer in parts(model):
        assert float(layer.v_th.detach()) == pytest.approx(LEAST_V_TH)
        assert layer.scale() > 0


def test_the_neurons_differentiate_as_those_they_come_from() -> None:
    def gradient(detach: bool) -> Tensor:
        torch.manual_seed(9)
        lif = Lif(0.8, v_th=0.5, surrogate=Surrogate("atan", 3.0), detach_reset=detach)
        net = spiking(pixels(9), "count", nn.Linear(9, 6), lif)
        model = QuantNet(net, LOIHI_2)
        assert parts(model)[0].surrogate == Surrogate("atan", 1.5)
        plain = parts(model)[0].plain()["1"]
        assert isinstance(plain, Lif)
        assert plain.detach_reset == detach
        assert plain.surrogate.width == pytest.approx(3.0, rel=1e-3)
        model(units(shown(model.input), model.input)).logits.sum().backward()
        grad = synapse(parts(model)[0]).weight.grad
        assert grad is not None
        return grad

    assert not torch.allclose(gradient(True), gradient(False))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)], "layer '2' (BatchNorm1d) cannot"),
        ([nn.Linear(4, 4), nn.ReLU()], "layer '1' (ReLU) cannot be trained on the chip's integers"),
        ([nn.Linear(4, 4), nn.Linear(4, 4)], "layer '1' (Linear) cannot be trained on the chip's"),
        ([nn.BatchNorm1d(4), nn.Linear(4, 4)], "layer '0' (BatchNorm1d) cannot be trained"),
    ],
)  # fmt: skip
def test_refuses_chains_that_it_cannot_fold(layers: list[nn.Module], message: str) -> None:
    net = SpikingNet(
        nn.Sequential(*layers, Lif(0.5)), input=pixels(4), steps=STEPS, readout="count"
    )
    with pytest.raises(ValueError, match=r".") as refusal:
        QuantNet(net, LOIHI_2)
    assert str(refusal.value).startswith(message)
    assert str(refusal.value).endswith(
        "cannot be trained on the chip's integers at this place; use pool, flatten, linear or conv,"
        " batch norm, Lif, residual blocks of these and Recurrent"
    )


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            nn.AvgPool2d(2, padding=1),
            "layer '0': pooling with padding, ceil_mode or a divisor_override other than 1 has no"
            " exact integer form here; use plain averages, or plain sums with divisor_override=1",
        ),
        (
            nn.AvgPool2d(3, stride=2),
            "layer '0': pooling 3 with stride 2 overlaps, so weights behind it add up"
            " beyond their bits; use a stride as large as the window",
        ),
        (
            nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"),
            "layer '0': padding is (1, 1) with 'reflect', but chips pad with silence by a number"
            " of pixels; use padding=(y, x) and zeros",
        ),
        (
            nn.Conv2d(1, 2, 3, padding="same"),
            "layer '0': padding is 'same' with 'zeros', but chips pad with silence by a number"
            " of pixels; use padding=(y, x) and zeros",
        ),
    ],
)
def test_refuses_geometry_that_chips_lack(layer: nn.Module, message: str) -> None:
    layers = nn.Sequential(layer, Lif(0.5)) if isinstance(layer, nn.Conv2d) else None
    layers = layers or nn.Sequential(layer, nn.Conv2d(1, 2, 3), Lif(0.5))
    net = SpikingNet(layers, input=pixels(1, 8, 8), steps=STEPS, readout="count")
    with pytest.raises(ValueError, match=r".") as refusal:
        QuantNet(net, LOIHI_2)
    assert str(refusal.value) == message


@pytest.mark.parametrize("bits", [1, 9])
def test_refuses_other_weight_bits(bits: int) -> None:
    with pytest.raises(ValueError, match=rf"^weight_bits is {bits}; loihi2 allows 2\.\.8$"):
        QuantNet(count_net(), LOIHI_2, weight_bits=bits)


# The phase of a run.

SMALL = ["train.epochs=1", "model.name=dense", "model.hidden=24", "encode.steps=3",
         "quantise.weight_bits=4", "quantise.epochs=3", "methods.mpd_sgr.eta=0.1"]  # fmt: skip


@pytest.fixture(scope="module")
def config() -> Config:
    return override(load(DIGITS), SMALL)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = load_data("digits", seed=0)
    return dataclasses.replace(data, x_train=data.x_train[:256], y_train=data.y_train[:256])


def loss_of(model: QuantNet, data: Dataset) -> float:
    x = ENCODERS["direct"](torch.tensor(data.x_train).float() / 255, model.steps, None)
    with torch.no_grad():
        logits = model.eval()(x).logits
    return float(nn.functional.cross_entropy(logits, torch.tensor(data.y_train)))


def fresh(config: Config, data: Dataset) -> SpikingNet:
    return build_float(config, data.shape, classes=data.classes)


def test_training_on_integers_lowers_the_loss(
    config: Config, digits: Dataset, tmp_path: Path
) -> None:
    config = override(config, ["quantise.epochs=2", "quantise.lr=0.05", "train.batch=16"])
    before = loss_of(build(config, fresh(config, digits).eval()), digits)
    model = fit_quantised(config, digits, tmp_path, net=fresh(config, digits), progress=False)
    assert loss_of(model, digits) < 0.95 * before
    assert math.isfinite(before)
    check_export_runs(model)


def check_export_runs(model: QuantNet) -> None:
    net = compile_net(model.spiking_net().eval(), target="loihi2", weight_bits=4).net
    assert net is not None
    assert bounds.prove(net) == []


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


class Stopped(Exception):
    """Stands for the kill signal."""


def test_a_resumed_phase_equals_an_uninterrupted_one(
    config: Config, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    for folder in (whole, torn):
        folder.mkdir()
        (folder / "config.toml").write_text(
            "\n".join(DIGITS.read_text().splitlines()), encoding="utf-8"
        )
        fit_float(config, digits, folder, net=fresh(config, digits), progress=False)
    one = fit_quantised(config, digits, whole, net=fresh(config, digits), progress=False)

    original = QuantNet.forward
    calls = {"train": 0}

    def dying(self: QuantNet, x: Tensor) -> Any:
        calls["train"] += self.training
        if calls["train"] > 5:  # four batches an epoch: in the second
            raise Stopped
        return original(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(QuantNet, "forward", dying)
        with pytest.raises(Stopped):
            fit_quantised(config, digits, torn, net=fresh(config, digits), progress=False)
    assert facts(torn / "quantised.safetensors")["epoch"] == 1
    torch.manual_seed(5)  # a resumed process has another random state
    again = fit_quantised(
        config, digits, torn, net=fresh(config, digits), resume=True, progress=False
    )
    assert same(one, again)
    assert facts(torn / "quantised.safetensors")["epoch"] == 3


def test_looking_at_a_network_does_not_change_it() -> None:
    model = QuantNet(conv_net(), LOIHI_2).eval()
    x = units(shown(model.input), model.input)
    for drop in np.linspace(0.01, 1.0, 60):  # scales within their limit, of which some round
        with torch.no_grad():
            for layer in parts(model):
                layer.log_scale.copy_(layer.scale().log() - drop)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        model(x)
        assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
