"""Networks nobody has thought of: what training on integers computes is what the chip does.

Drawn layer by layer, so that failures shrink; weights, norms and scales are random and untrained,
which is harder on ranges than trained ones are.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from spikeport.export import compile as compile_net
from spikeport.sim import engine
from spikeport.sim.chip import TARGETS
from spikeport.sim.net import Input
from spikeport.train.blocks import Recurrent, Residual
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Integrator, Lif
from spikeport.train.norm import TdBatchNorm1d, TdBatchNorm2d
from spikeport.train.quant import QuantNet
from spikeport.train.scales import LEARNED

Layers = OrderedDict[str, nn.Module]
SIDE = 4


def lif(draw: st.DrawFn) -> Lif:
    v_th = draw(st.sampled_from([1.0, 0.3, 0.002, 70.0]))
    return Lif(
        draw(st.sampled_from([0.5, 0.0, 0.9, 1.0])),
        v_th=v_th,
        v_init=v_th * draw(st.sampled_from([0.0, 0.0, 0.7, -1.3])),
    )


def pool(draw: st.DrawFn) -> nn.AvgPool2d:
    return nn.AvgPool2d(2, divisor_override=draw(st.sampled_from([None, 1])))


def linear(draw: st.DrawFn, inputs: int, outputs: int) -> Layers:
    layers: Layers = OrderedDict(fc=nn.Linear(inputs, outputs, bias=draw(st.booleans())))
    if draw(st.booleans()):
        layers["norm"] = TdBatchNorm1d(outputs)
    return layers


def convolved(draw: st.DrawFn, inputs: int, outputs: int, *, stride: int = 1) -> Layers:
    size = draw(st.sampled_from([3, 1]))
    bias = draw(st.booleans())
    conv = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=bias)
    layers: Layers = OrderedDict(conv=conv)
    if draw(st.booleans()):
        layers["norm"] = TdBatchNorm2d(outputs)
    return layers


def residual(draw: st.DrawFn, channels: int, *, stride: int) -> Residual:
    """Spikes past the branch, or through neurons of their own; or currents, which add up."""
    branch = convolved(draw, channels, channels, stride=stride) | {"lif": lif(draw)}
    if stride == 1 and draw(st.booleans()):
        return Residual(branch)
    around = convolved(draw, channels, channels, stride=stride)
    if draw(st.booleans()):
        return Residual(branch, nn.Sequential(around | {"lif": lif(draw)}))
    last = convolved(draw, channels, channels)
    behind = branch | {f"{name}2": layer for name, layer in last.items()}
    return Residual(behind, nn.Sequential(around))


@st.composite
def spiking_nets(draw: st.DrawFn) -> SpikingNet:
    """Convolutions, blocks, pools; then dense or recurrent neurons; then a readout."""
    kind = draw(st.sampled_from(["graded", "spike"]))
    bits = draw(st.sampled_from([8, 1, 4])) if kind == "graded" else 1
    scale = draw(st.sampled_from([1.0, 2.0**bits - 1])) if kind == "graded" else 1.0
    channels, side = draw(st.integers(1, 2)), SIDE
    shape = (channels, side, side)
    carrier = Input(shape=shape, kind=kind, payload_bits=bits, scale=scale)
    layers: Layers = OrderedDict()
    if draw(st.booleans()):
        layers["pool0"], side = pool(draw), side // 2
    if draw(st.integers(0, 3)):
        layers |= convolved(draw, channels, 2) | {"lif": lif(draw)}
        channels = 2
        for i in range(draw(st.integers(0, 2))):
            stride = draw(st.integers(1, 2)) if side > 1 else 1
            block = residual(draw, channels, stride=stride)
            side = (side + stride - 1) // stride
            layers[f"block{i}"] = block
            if not isinstance([*block.branch.values()][-1], Lif):
                layers[f"lif{i}"] = lif(draw)
        if side > 1 and draw(st.booleans()):
            layers["pool1"], side = pool(draw), side // 2
    layers["flat"] = nn.Flatten()
    n = channels * side * side
    if draw(st.booleans()):
        layers |= {f"{name}1": layer for name, layer in linear(draw, n, 5).items()}
        neurons, n = lif(draw), 5
        loop = nn.Linear(5, 5, bias=False)
        layers["dense"] = Recurrent(loop, neurons) if draw(st.booleans()) else neurons
    layers |= {f"{name}_out": layer for name, layer in linear(draw, n, 3).items()}
    readout = draw(st.sampled_from(["last_v", "count"]))
    layers["out"] = Integrator() if readout == "last_v" else lif(draw)
    net = SpikingNet(
        nn.Sequential(layers), input=carrier, steps=draw(st.integers(1, 6)), readout=readout
    )
    scatter(net, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    return net.eval()


@torch.no_grad()
def scatter(net: SpikingNet, rng: np.random.Generator) -> None:
    """Weights of every size, a few large ones among small ones; norms that have seen anything."""
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, TdBatchNorm1d, TdBatchNorm2d)):
            for parameter in layer.parameters():
                spread = rng.standard_t(2, size=parameter.shape) * 10 ** rng.uniform(-2, 1)
                parameter.copy_(torch.from_numpy(spread))
        if isinstance(layer, (TdBatchNorm1d, TdBatchNorm2d)):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            shape = layer.running_mean.shape
            layer.running_mean.copy_(torch.from_numpy(rng.normal(size=shape)))
            layer.running_var.copy_(torch.from_numpy(rng.exponential(size=shape)))


def differing(net: SpikingNet, rng: np.random.Generator, target: str, **settings: Any) -> int:
    """Spikes and readout potentials in which the exported network differs from `QuantNet`."""
    chip = TARGETS[target]
    assert chip is not None
    model = QuantNet(net, chip, **settings).eval()
    with torch.no_grad():
        for layer in model.populations().values():
            layer.log_scale.add_(float(rng.choice([0, 0, rng.normal()])))
            layer.v_th.mul_(float(rng.choice([1, 1, rng.uniform(0.5, 2)])))
    x = rng.integers(0, net.input.largest + 1, (net.steps, 5, *net.input.shape))
    with torch.no_grad():
        record = model(torch.from_numpy(x / net.input.scale).float())
    bits = settings["weight_bits"]
    fixed = compile_net(model.spiking_net(), target=target, weight_bits=bits).net
    trace = engine.run(fixed, x)
    assert not any(trace.wraps.values())
    assert not any(trace.clips.values())
    found = sum(
        int((spikes.flatten(2).numpy() != trace[name].spikes).sum())
        for name, spikes in record.spikes.items()
    )
    if net.readout == "last_v":
        last = model.populations()["out"]
        v_last = record.logits.double() * net.steps * float(last.membrane_unit().detach())
        found += int((np.rint(v_last.numpy()) != trace["out"].v_last).sum())
    return found


@settings(max_examples=settings().max_examples // 5)  # each is compiled
@given(
    net=spiking_nets(),
    target=st.sampled_from(["loihi1", "loihi2", "lava"]),
    weight_bits=st.integers(2, 8),
    learn=st.sampled_from(LEARNED),
    netx_bias=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_spike_differs(
    net: SpikingNet, target: str, weight_bits: int, learn: str, netx_bias: bool, seed: int
) -> None:
    assume(target != "loihi1" or net.input.kind == "spike")  # its spikes carry no values
    rng = np.random.default_rng(seed)
    chosen = {"weight_bits": weight_bits, "learn": learn, "netx_bias": netx_bias}
    assert differing(net, rng, target, **chosen) == 0
