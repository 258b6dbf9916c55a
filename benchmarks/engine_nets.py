"""The networks of the engine's benchmark, and the same networks in other libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import snntorch
import torch
from numpy.typing import NDArray

from spikeport.sim import engine
from spikeport.sim.arith import DECAY_MAX, DECAY_ONE
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, Dense, SumPool2d, Synapse, lowered

SEED, DV = 7, 400
RATES = (0.02, 0.1, 0.3)
CLASSES = 10
Forward = Callable[[], Any]


def chain(
    shape: tuple[int, ...], layers: list[tuple[str, Synapse, int]], *, steps: int
) -> FixedNet:
    """`layers`, each (name, synapse, threshold), one behind the other; pools forget at once."""
    populations, projections = [], []
    source, before = "input", shape
    for name, synapse, v_th in layers:
        before = synapse.output_shape(before)
        dv = DECAY_MAX if isinstance(synapse, SumPool2d) else DV
        populations.append(Population(name=name, shape=before, v_th=v_th, dv=dv))
        projections.append(Projection(source=source, target=name, synapse=synapse))
        source = name
    return FixedNet(
        input=Input(shape=shape), populations=tuple(populations), projections=tuple(projections),
        readout=Readout(population=source), steps=steps,
    )  # fmt: skip


def dense_net() -> FixedNet:
    """784-512-10, T = 16."""
    rng = np.random.default_rng(SEED)
    hidden, out = (rng.integers(-60, 61, shape) for shape in ((512, 784), (CLASSES, 512)))
    return chain((784,), [("hidden", Dense(w=hidden), 100), ("out", Dense(w=out), 330)], steps=16)


def conv_net() -> FixedNet:
    """28 x 28 pixels, two convolutions of 5 x 5 with a pool behind each, T = 8."""
    rng = np.random.default_rng(SEED)
    shapes = ((16, 1, 5, 5), (32, 16, 5, 5), (CLASSES, 512))
    first, second, out = (rng.integers(-60, 61, shape) for shape in shapes)
    pool = SumPool2d(kernel=(2, 2), stride=(2, 2))
    return chain(
        (1, 28, 28),
        [
            ("conv1", Conv2d(w=first), 80), ("pool1", pool, 0), ("conv2", Conv2d(w=second), 500),
            ("pool2", pool, 0), ("out", Dense(w=out), 250),
        ],
        steps=8,
    )  # fmt: skip


def shown(net: FixedNet, batch: int, rate: float) -> NDArray[np.uint8]:
    """Input spikes uint8 [T, batch, *shape] of the given rate."""
    rng = np.random.default_rng((SEED, round(1000 * rate)))
    return (rng.random((net.steps, batch, *net.input.shape)) < rate).astype(np.uint8)


def products(net: FixedNet, x: NDArray[Any]) -> dict[str, Forward]:
    """The bare float32 products on the sources that the network really sees: by numpy, where all
    are dense, by torch, and by torch on maps with the channels last."""
    trace = engine.run(net, x)
    sources = []
    for p in net.projections:
        s = x if p.source == "input" else trace[p.source].spikes
        sources.append(s.reshape(-1, *net.shape_of(p.source)).astype(np.float32))
    parts = [lowered(p.synapse, net.shape_of(p.source)) for p in net.projections]
    by_torch, channels_last = (_bare(parts, sources, last=last) for last in (False, True))
    if not all(isinstance(part, Dense) for part in parts):
        return {"products_torch": by_torch, "products_channels_last": channels_last}
    weights = [part.held.T.astype(np.float32) for part in parts if isinstance(part, Dense)]
    pairs = list(zip(sources, weights, strict=True))
    return {"products_numpy": lambda: [s @ w for s, w in pairs], "products_torch": by_torch}


def _bare(parts: list[Any], sources: list[NDArray[np.float32]], *, last: bool) -> Forward:
    calls = []
    for part, s in zip(parts, sources, strict=True):
        spikes = torch.from_numpy(s)
        if isinstance(part, Dense):
            w = torch.from_numpy(part.held.T.astype(np.float32))
            calls.append((torch.mm, (spikes.reshape(len(spikes), -1), w), {}))
            continue
        layout = torch.channels_last if last else torch.contiguous_format
        w = torch.from_numpy(part.w.astype(np.float32)).to(memory_format=layout)
        arguments = (spikes.to(memory_format=layout), w)
        calls.append((torch.nn.functional.conv2d, arguments, asdict(part.geometry)))

    def run() -> list[Any]:
        with torch.no_grad():
            return [f(*arguments, **settings) for f, arguments, settings in calls]

    return run


def _sizes(part: Conv2d) -> tuple[int, int, tuple[int, ...]]:
    """Channels in and out, and kernel, of a convolution as torch and lava-dl take them."""
    return part.w.shape[1] * part.geometry.groups, len(part.w), part.w.shape[2:]


def snntorch_forward(net: FixedNet, x: NDArray[Any]) -> Forward:
    """The same network in float: Linear or Conv2d and Leaky in a loop over the steps."""
    modules, leakies = [], []
    for population, projection in zip(net.populations, net.projections, strict=True):
        part = lowered(projection.synapse, net.shape_of(projection.source))
        module: Any
        if isinstance(part, Dense):
            linear = torch.nn.Linear(*part.w.shape[::-1], bias=False)
            module, w = torch.nn.Sequential(torch.nn.Flatten(), linear), part.held
            linear.weight.data = torch.from_numpy(w.astype(np.float32))
        else:
            module = torch.nn.Conv2d(*_sizes(part), **asdict(part.geometry), bias=False)
            module.weight.data = torch.from_numpy(part.w.astype(np.float32))
        modules.append(module)
        beta, threshold = float(population.keep_v.mean()) / DECAY_ONE, float(population.v_th)
        leakies.append(snntorch.Leaky(beta=beta, threshold=threshold, reset_mechanism="zero"))
    spikes = torch.from_numpy(x.astype(np.float32))

    @torch.no_grad()
    def forward() -> Any:
        states = [leaky.reset_mem() for leaky in leakies]
        counts: Any = 0
        for s in spikes:
            for i, (module, leaky) in enumerate(zip(modules, leakies, strict=True)):
                s, states[i] = leaky(module(s), states[i])
            counts = counts + s
        return counts

    return forward


def lava_dl_forward(net: FixedNet, x: NDArray[Any]) -> Forward:
    """The same network of lava-dl's CUBA blocks, which quantise weights and states to the chip's
    grid in every forward pass (source: lava-dl 0.6.0, `lava.lib.dl.slayer.block.cuba`)."""
    from lava.lib.dl.slayer.block import cuba

    blocks = []
    for population, projection in zip(net.populations, net.projections, strict=True):
        neuron = {
            "threshold": 1.0, "current_decay": 1.0,
            "voltage_decay": 1 - float(population.keep_v.mean()) / DECAY_ONE,
        }  # fmt: skip
        synapse = projection.synapse
        if isinstance(synapse, SumPool2d):
            windows = (synapse.kernel, synapse.stride, synapse.padding)
            blocks.append(cuba.Pool(neuron, *windows))
            continue
        if isinstance(synapse, Dense):
            blocks += [cuba.Flatten()] if len(net.shape_of(projection.source)) == 3 else []
            block, w = cuba.Dense(neuron, *synapse.w.shape[::-1]), synapse.held
        else:
            block = cuba.Conv(neuron, *_sizes(synapse), **asdict(synapse.geometry))
            w = synapse.w
        found = torch.from_numpy(w.astype(np.float32)) / float(population.v_th)
        block.synapse.weight.data = found.reshape(block.synapse.weight.shape)
        blocks.append(block)
    spikes = torch.from_numpy(np.moveaxis(x, 0, -1).astype(np.float32))
    model = torch.nn.Sequential(*blocks)

    @torch.no_grad()
    def forward() -> Any:
        return model(spikes)

    return forward
