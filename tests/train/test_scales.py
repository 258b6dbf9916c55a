"""The learned step against LSQ's formulas, and gradients that do not see the size of integers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.chip import LOIHI_2
from spikeport.sim.net import Input
from spikeport.sim.surrogate import Surrogate
from spikeport.train.machine import optimiser_of
from spikeport.train.model import Record, SpikingNet
from spikeport.train.neuron import Lif
from spikeport.train.phase import Phase
from spikeport.train.quant import QuantNet
from spikeport.train.quant_layer import QuantLayer
from spikeport.train.quant_synapse import QuantSynapse
from spikeport.train.scales import balance, balanced

STEPS = 4


def one_layer(weight: Tensor, bias: Tensor | None = None, *, v_th: float = 1.0) -> SpikingNet:
    """Binary input, one linear layer and neurons that lose half of v."""
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
    lif = Lif(0.5, v_th=v_th, surrogate=Surrogate("triangle", 1.0).in_units_of(1 / v_th))
    return SpikingNet(
        nn.Sequential(linear, lif), input=Input(shape=(weight.shape[1],)), steps=STEPS,
        readout="count",
    )  # fmt: skip


def only(model: QuantNet) -> tuple[QuantLayer, QuantSynapse]:
    (layer,) = model.populations().values()
    (synapse,) = layer.synapses
    assert isinstance(synapse, QuantSynapse)
    return layer, synapse


def test_the_step_has_the_gradient_of_lsq() -> None:
    """d(q s)/ds = round(w/s) - w/s on the grid, -q_max and q_max beyond its ends."""
    over = torch.tensor([[0.3, -1.7, 2.49, 5.0, -4.2, 0.0, 3.2]])
    s = torch.tensor(0.125, requires_grad=True)
    _, synapse = only(QuantNet(one_layer(over * 0.125), LOIHI_2, weight_bits=3))
    assert synapse.shift == 0
    quantised = synapse.integers(1 / s) * s
    found = [torch.autograd.grad(x, s, retain_graph=True)[0].item() for x in quantised[0]]
    wanted = [0.0 - 0.3, -2.0 + 1.7, 2.0 - 2.49, 3.0, -3.0, 0.0, 3.0]
    wanted[-1] = 3.0 - 3.2  # 3.2 rounds to 3, which is on the grid
    assert found == pytest.approx(wanted, abs=1e-5)


def test_gradient_descent_on_log_s_takes_the_steps_of_lsq() -> None:
    """ds = -lr g sum c (round(w/s) - w/s), g = 1 / sqrt(n q_max), for small lr."""
    torch.manual_seed(0)
    weight, c, lr, step = torch.randn(5, 8), torch.randn(5, 8), 1e-5, 0.3
    model = QuantNet(one_layer(weight), LOIHI_2, weight_bits=4)
    layer, _ = only(model)
    with torch.no_grad():
        layer.log_scale.fill_(-math.log(step))
    (c * layer.weights() / layer.scale()).sum().backward()
    assert layer.log_scale.grad is not None
    moved = step * (math.exp(lr * layer.log_scale.grad.item()) - 1)
    over = weight / step
    lsq = torch.where(over.round().abs() > 7, 7 * over.sign(), over.round() - over)
    g = 1 / math.sqrt(40 * 7)
    assert moved == pytest.approx(-lr * g * float((c * lsq).sum()), rel=1e-3)


def test_adam_moves_log_s_as_it_moves_weights() -> None:
    """Both by the learning rate over the weights' size, relative to what they are."""
    torch.manual_seed(1)
    weight = 0.2 * torch.randn(5, 8)
    model = QuantNet(one_layer(weight), LOIHI_2, weight_bits=3)
    layer, synapse = only(model)
    rms = float(weight.square().mean().sqrt())
    (key,) = model.paces()
    assert model.paces()[key] == pytest.approx(1 / rms)
    assert model.get_parameter(key) is layer.log_scale
    assert QuantNet(one_layer(weight), LOIHI_2, learn="none").paces() == {}
    phase = Phase(
        name="quantised", epochs=1, batch=2, lr=1e-3, weight_decay=0.0, seed=0, device="cpu",
        encoder="direct",
    )  # fmt: skip
    optimiser = optimiser_of(model, phase)
    for group in optimiser.param_groups:
        group["lr"] = phase.rate(0.0, after=0.1) * group.get("pace", 1.0)
    before, held = float(layer.log_scale.detach()), synapse.weight.detach().clone()
    (layer.weights() / layer.scale()).square().sum().backward()
    optimiser.step()
    assert abs(float(layer.log_scale.detach()) - before) == pytest.approx(1e-3 / rms, rel=1e-3)
    assert float((synapse.weight - held).abs().max().detach()) == pytest.approx(1e-3, rel=1e-2)


def test_balance_and_balanced() -> None:
    assert balance(0.5, weights=100, q_max=4) == pytest.approx(1 / (0.25 * 20))
    x = torch.tensor(3.0, requires_grad=True)
    y = balanced(x, 0.25)
    (y**2).backward()
    assert (y.item(), x.grad) == (3.0, torch.tensor(1.5))


def dyadic(scale: float) -> tuple[QuantNet, QuantLayer, QuantSynapse]:
    """Weights and biases on a grid of 1/16, so that S = 16 and 32 round nothing."""
    torch.manual_seed(3)
    weight, bias = (torch.randint(-40, 41, size) / 16 for size in ((6, 12), (6,)))
    model = QuantNet(one_layer(weight, bias), LOIHI_2)
    layer, synapse = only(model.eval())
    layer.v_th.requires_grad_(True)
    with torch.no_grad():
        layer.log_scale.fill_(math.log(scale))
    return model, layer, synapse


def back(model: QuantNet) -> Record:
    """A window through `model`, and a loss that reaches spikes and membranes."""
    draws = torch.Generator().manual_seed(4)
    x = torch.bernoulli(torch.full((STEPS, 7, 12), 0.4), generator=draws)
    record: Record = model(x)
    (membrane,) = record.membranes.values()
    (record.logits.square().sum() + (0.1 * membrane).square().sum()).backward()
    return record


def test_gradients_do_not_see_the_size_of_the_integers() -> None:
    model, layer, synapse = dyadic(16.0)
    double, twice, doubled = dyadic(32.0)
    first, second = back(model), back(double)
    assert torch.equal(layer.weights() * 2, twice.weights())
    assert torch.equal(layer.threshold() * 2, twice.threshold())
    assert torch.equal(first.logits, second.logits)
    pairs = [(synapse.weight, doubled.weight), (layer.bias, twice.bias), (layer.v_th, twice.v_th)]
    for one, other in pairs:
        assert one.grad is not None
        assert other.grad is not None
        assert one.grad.abs().max() > 0
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_a_factor_of_all_but_the_scale_changes_nothing(factor: float) -> None:
    """One of scale and threshold is free, so one of them is enough to learn."""
    model, layer, synapse = dyadic(16.0)
    other, scaled, same = dyadic(16.0 / factor)
    with torch.no_grad():
        for p in (same.weight, scaled.bias, scaled.v_th):
            p.mul_(factor)
    assert torch.equal(back(model).logits, back(other).logits)
    assert torch.equal(layer.weights(), scaled.weights())
    assert torch.equal(layer.threshold(), scaled.threshold())
    assert torch.equal(layer.biases(), scaled.biases())
    assert synapse.weight.grad is not None
    assert same.weight.grad is not None
    torch.testing.assert_close(same.weight.grad * factor, synapse.weight.grad)


@pytest.mark.parametrize(
    ("learn", "learned"), [("scale", (True, False)), ("threshold", (False, True)),
                           ("none", (False, False))],
)  # fmt: skip
def test_one_of_both_is_learned(learn: str, learned: tuple[bool, bool]) -> None:
    layer, _ = only(QuantNet(one_layer(torch.eye(3)), LOIHI_2, learn=learn))
    assert (layer.log_scale.requires_grad, layer.v_th.requires_grad) == learned


def test_both_are_not_learned() -> None:
    with pytest.raises(
        ValueError, match=r"^QuantNet: learn is 'both'; allowed are scale, threshold, none$"
    ):
        QuantNet(one_layer(torch.eye(3)), LOIHI_2, learn="both")
