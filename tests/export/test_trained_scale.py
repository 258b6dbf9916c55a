"""After quantisation-aware training the exported integers fire exactly as the trained model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from spikeport.export import compile as compile_net
from spikeport.sim import reference
from spikeport.sim.chip import LOIHI_2
from spikeport.sim.net import Input
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Integrator, Lif
from spikeport.train.norm import TdBatchNorm2d
from spikeport.train.quant import QuantNet


@pytest.mark.parametrize("bits", [5, 8])
def test_export_gives_back_the_integers_of_training(bits: int) -> None:
    torch.manual_seed(bits)
    layers = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), TdBatchNorm2d(4), Lif(0.75, v_th=0.4),
        nn.AvgPool2d(2), nn.Conv2d(4, 6, 3, padding=1, bias=False), TdBatchNorm2d(6),
        Lif(0.6, v_th=0.3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 10), Integrator(),
    )  # fmt: skip
    source = Input(shape=(1, 8, 8), kind="graded", payload_bits=8, scale=255.0)
    net = SpikingNet(layers, input=source, steps=8, readout="last_v")
    for _ in range(30):
        net(torch.rand(8, 16, 1, 8, 8))
    net.eval()
    trained = QuantNet(net, LOIHI_2, weight_bits=bits).eval()
    compiled = compile_net(trained.spiking_net(), target="loihi2", weight_bits=bits)
    assert compiled.report is not None
    assert max(r.relative for r in compiled.report.rows) < 1e-6
    x = np.random.default_rng(bits).integers(0, 256, (8, 20, 1, 8, 8))
    trace = reference.run(compiled.net, x)
    with torch.no_grad():
        record = trained(torch.from_numpy(x / 255).float())
    for name, spikes in record.spikes.items():
        assert trace[name].spikes.mean() > 0.01
        assert np.array_equal(spikes.flatten(2).numpy(), trace[name].spikes), name
    scale = compiled.net.populations[-1].scale
    logits = trace.logits(compiled.net.readout) / (64 * scale * 8)
    assert record.logits.numpy() == pytest.approx(logits, rel=1e-4, abs=1e-5)
