"""Networks for the readers of other chips' NIR, and what spikeport says that they do.

Numbers of `exact_if` are multiples of a power of two, and thresholds lie between them, so that
every sum is exact in any precision and no potential ever meets its threshold.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import snntorch
import torch
from numpy.typing import NDArray
from torch import nn

from spikeport.export.parts import Link, Parts
from spikeport.export.passes import Stage
from spikeport.sim.net import FloatPopulation, Input
from spikeport.sim.synapse import FloatDense

Rng = np.random.Generator
STEPS = 24


def exact_if(seed: int) -> tuple[nn.Sequential, Input]:
    """Integrate-and-fire neurons in dense layers, or behind convolutions and average pools."""
    rng = np.random.default_rng(seed)
    reset = str(rng.choice(["zero", "subtract"]))
    layers: list[nn.Module] = []
    shape: tuple[int, ...] = (int(rng.integers(3, 9)),)
    if rng.random() < 0.6:
        shape = (int(rng.integers(1, 3)), 4, 4)
        channels = int(rng.integers(2, 4))
        layers += [
            _exact(rng, nn.Conv2d(shape[0], channels, 3, padding=1, bias=rng.random() < 0.5)),
            _integrator(rng, reset), nn.AvgPool2d(2), nn.Flatten(),
        ]  # fmt: skip
        width = channels * 4
    else:
        width = shape[0]
    for _ in range(int(rng.integers(1, 3))):
        wider = int(rng.integers(3, 9))
        layers.append(_exact(rng, nn.Linear(width, wider, bias=bool(rng.random() < 0.5))))
        layers.append(_integrator(rng, reset))
        width = wider
    return nn.Sequential(*layers).eval(), Input(shape=shape)


def _exact(rng: Rng, layer: Any) -> Any:
    with torch.no_grad():
        for part, least in ((layer.weight, -12), (layer.bias, -2)):
            if part is not None:
                part.copy_(torch.tensor(rng.integers(least, 21, part.shape) / 32))
    return layer


def _integrator(rng: Rng, reset: str) -> snntorch.Leaky:
    """Its threshold lies between two of the values that sums of weights or of their quarters have,
    also after it was subtracted in every step."""
    v_th = int(rng.integers(16, 64)) / 32 + 1 / 8192
    return snntorch.Leaky(1.0, threshold=v_th, reset_mechanism=reset, init_hidden=True)


def currents(seed: int, *, reset: str = "subtract") -> Parts:
    """Dense layers of neurons with a current of their own, each with decays and threshold of its
    own."""
    rng = np.random.default_rng(seed)
    widths = [int(w) for w in rng.integers(3, 9, rng.integers(3, 5))]
    parts: dict[str, Any] = {}
    links: list[Link] = []
    source = "input"
    for i, (n_in, n) in enumerate(pairwise(widths)):
        w = FloatDense(w=rng.normal(0.1, 0.5, (n, n_in)))
        bias = rng.normal(0, 0.05, n) if rng.random() < 0.5 else np.array(0.0)
        parts[f"w{i}"] = Stage(name=f"w{i}", source=(n_in,), synapse=w, bias=bias)
        parts[f"n{i}"] = FloatPopulation(
            name=f"n{i}", shape=(n,), v_th=rng.uniform(0.3, 1, n), reset=reset,
            keep_u=rng.uniform(0.4, 0.95, n), keep_v=rng.uniform(0.4, 0.99, n),
        )  # fmt: skip
        links += [Link(source=source, target=f"w{i}"), Link(source=f"w{i}", target=f"n{i}")]
        source = f"n{i}"
    return Parts(
        input=Input(shape=(widths[0],)), steps=STEPS, parts=parts, links=tuple(links),
        output=source, readout="count", layers={},
    )  # fmt: skip


def spikes(seed: int, shape: tuple[int, ...], *, samples: int = 1) -> NDArray[np.float64]:
    """Input [T, B, *shape] of 0 and 1."""
    rng = np.random.default_rng([seed, 7])
    return (rng.random((STEPS, samples, *shape)) < 0.4).astype(np.float64)
