"""The margin in the chip's own units, and MPD-SGR, on quantised membranes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spikeport.sim.chip import LOIHI_2
from spikeport.train.methods import Methods
from spikeport.train.methods.base import Method, Step
from spikeport.train.methods.chip_margin import ChipMargin
from spikeport.train.methods.mpd_sgr import MpdSgr
from spikeport.train.model import SpikingNet
from spikeport.train.quant import QuantNet
from spikeport.train.start import choose_scales

Nets = Callable[..., SpikingNet]
Steps = Callable[..., Step]


@pytest.fixture
def model(conv_net: Nets, batch_of: Steps) -> QuantNet:
    """A conv net on 4-bit weights."""
    net = conv_net()
    made = QuantNet(net, LOIHI_2, weight_bits=4)
    x = batch_of(net, images=16).x
    choose_scales(made, net, x.expand(3, *x.shape))
    return made


def penalised(method: Method, step: Step) -> Tensor:
    found = method.penalty(step)
    assert found is not None
    return found


def test_acts_on_integers_only() -> None:
    methods = Methods(chip_margin=ChipMargin())
    assert methods.of_phase("float") == ()
    assert methods.of_phase("quantised") == (ChipMargin(),)


def test_one_lsb_is_the_next_integer_of_one_weight(model: QuantNet, batch_of: Steps) -> None:
    """Moved by one, a weight moves the first membrane behind a white image by 255 integers, and
    behind a spike by 1, over v_th."""
    step = batch_of(model, phase="quantised")
    for (name, layer), value in zip(
        list(model.populations().items())[:2], (255.0, 1.0), strict=True
    ):
        assert float(model.lsbs()[name].detach()) == pytest.approx(
            value / float(layer.threshold().detach())
        )
    name, layer = next(iter(model.populations().items()))
    white = torch.ones(3, 1, 1, 8, 8)
    before = model.eval()(white).membranes[name][0, 0, 0, 3, 3]
    (synapse,) = layer.synapses
    with torch.no_grad():
        q = synapse.integers(layer.scale())
        q[0, 0, 1, 1] += 1 if q[0, 0, 1, 1] < 7 else -1
        synapse.weight.copy_(q * synapse.step(float(layer.scale().detach())))
    after = model(white).membranes[name][0, 0, 0, 3, 3]
    assert float((after - before).abs().detach()) == pytest.approx(
        float(model.lsbs()[name].detach()), rel=1e-5
    )
    assert not next(iter(model.lsbs().values())).requires_grad
    assert step.record.membranes.keys() == model.lsbs().keys()


@pytest.mark.parametrize("lsb", [1.0, 2.5])
def test_the_hinge_by_hand(model: QuantNet, batch_of: Steps, lsb: float) -> None:
    step = batch_of(model, phase="quantised", images=2)
    means = []
    for name, u in step.record.membranes.items():
        v_th = float(model.populations()[name].threshold().detach())
        width = lsb * (255 if name.endswith("lif1") else 1) / v_th
        hinges = [max(0.0, 1 - abs(x - 1) / width) for x in u.detach().flatten().tolist()]
        means.append(sum(hinges) / len(hinges))
    wanted = 0.7 * sum(means) / len(means)
    assert wanted > 0
    found = penalised(ChipMargin(weight=0.7, lsb=lsb), step)
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-4)
    assert ChipMargin(weight=0).penalty(step) is None


@pytest.mark.parametrize("method", [ChipMargin(weight=1.0, lsb=4.0), MpdSgr(eta=1.0, gamma=0.5)])
def test_descending_on_the_penalty_empties_the_vicinity(
    model: QuantNet, batch_of: Steps, method: Method
) -> None:
    """Both see the quantised membranes and reach the weights through the rounding."""
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    first = None
    for _ in range(40):
        step = batch_of(model.train(), phase="quantised", images=16, progress=0.5)
        loss = penalised(method, step)
        first = float(loss.detach()) if first is None else first
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert first is not None
    last = penalised(method, batch_of(model.eval(), phase="quantised", images=16))
    assert float(last.detach()) < 0.7 * first


def test_the_margin_adds_to_the_loss(model: QuantNet, batch_of: Steps) -> None:
    """A width of many thresholds is a constant hinge: the penalty goes to its weight."""
    step = replace(batch_of(model, phase="quantised"), progress=0.0)
    assert float(penalised(ChipMargin(weight=0.3, lsb=1e6), step).detach()) == pytest.approx(
        0.3, abs=1e-3
    )
