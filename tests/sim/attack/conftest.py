"""Small fixed models under attack, with images that each of them classifies rightly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport.sim.attack import (
    Apgd,
    ApgdTargeted,
    Attack,
    Bim,
    Fgsm,
    MiFgsm,
    Noise,
    Pgd,
    Rfgsm,
    SaPgd,
    SparseRs,
    Square,
)
from spikeport.sim.attack.losses import margin
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import Dense
from spikeport.sim.twin import Twin

LEVELS = 255

TEMPLATES = np.random.default_rng(8).choice([-1, 1], size=(4, 20))


@dataclass(frozen=True)
class Case:
    """A model with images [B, ...] on the 8-bit grid whose labels it gets right."""

    model: nn.Module
    x: Tensor
    y: Tensor


def case_for(model: nn.Module, shape: tuple[int, ...], *, count: int, seed: int) -> Case:
    """`count` random images on the grid, labelled by the model itself; ties are passed over.

    The last bias is first moved so that no class is preferred.
    """
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, LEVELS + 1, (8 * count, *shape), generator=g) / LEVELS
    model.eval()
    *_, last = model.modules()
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.sub_((model(x).mean(0) * 64).round() / 64)
        logits = model(x)
    y = logits.argmax(1)
    sure = (margin(logits, y) > 0).nonzero().squeeze(1)[:count]
    assert len(sure) == count
    return Case(model, x[sure], y[sure])


def fixed(model: nn.Module, *, seed: int, scale: float) -> nn.Module:
    """Fill the parameters with multiples of 1/64, so that sums are exact in any order."""
    g = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        drawn = torch.randn(p.shape, generator=g) * scale
        p.data = (drawn * 64).round() / 64
    return model


@pytest.fixture
def linear() -> Case:
    return case_for(fixed(nn.Linear(12, 4), seed=1, scale=1.0), (12,), count=24, seed=2)


@pytest.fixture
def conv() -> Case:
    layers = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(6 * 5 * 7, 5),
    )
    case = case_for(fixed(layers, seed=3, scale=0.3), (2, 5, 7), count=24, seed=4)
    case.model.train()  # attacks must switch it to eval mode themselves, and back
    return case


def whole(value: int) -> NDArray[np.int32]:
    """One integer for all neurons of a population."""
    return np.array(value, dtype=np.int32)


def make_net(*, steps: int) -> FixedNet:
    """20 pixels -> 24 -> 4 integer neurons, spike-count readout, graded 8-bit input.

    Six noisy templates a class, each exciting its class and inhibiting the others.
    """
    rng = np.random.default_rng(5)
    hidden = 2 * (np.repeat(20 * TEMPLATES, 6, axis=0) + rng.integers(-4, 5, size=(24, 20)))
    out = 2 * np.where(np.repeat(np.eye(4, dtype=bool), 6, axis=1), 40, -12)
    return FixedNet(
        input=Input(shape=(20,), kind="graded", payload_bits=8, scale=255.0),
        populations=(
            Population(name="hidden", shape=(24,), v_th=whole(9000), dv=whole(400)),
            Population(name="out", shape=(4,), v_th=whole(120), dv=whole(200), bias=whole(1000)),
        ),
        projections=(
            Projection(source="input", target="hidden", synapse=Dense(w=hidden)),
            Projection(source="hidden", target="out", synapse=Dense(w=out)),
        ),
        readout=Readout(population="out"),
        steps=steps,
    )


@pytest.fixture
def twin() -> Case:
    model = Twin(make_net(steps=12), surrogate=Surrogate("atan", 1.0))
    rng = np.random.default_rng(9)
    y = np.arange(24) % 4
    k = 128 + 50 * TEMPLATES[y] + rng.integers(-70, 71, size=(24, 20))
    return Case(model, torch.from_numpy(k).float() / LEVELS, torch.from_numpy(y))


@pytest.fixture
def twin_with() -> Callable[[Surrogate], Twin]:
    """`twin_with(surrogate)`: the net of `twin` with another surrogate."""
    return lambda surrogate: Twin(make_net(steps=12), surrogate=surrogate)


@pytest.fixture(params=["linear", "conv", "twin"])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def quick() -> dict[str, Attack]:
    """One cheap spec, away from the defaults, for every entry of ATTACKS."""
    return {
        "noise": Noise(draws=7),
        "fgsm": Fgsm(loss="dlr"),
        "bim": Bim(steps=4, step_size=0.03),
        "pgd": Pgd(steps=5, restarts=2),
        "apgd": Apgd(steps=5, restarts=2, rho=0.5),
        "square": Square(queries=30, share=0.5),
        "rfgsm": Rfgsm(loss="dlr"),
        "mi-fgsm": MiFgsm(steps=4, mu=0.7),
        "sa-pgd": SaPgd(steps=5, restarts=2),
        "apgd-t": ApgdTargeted(steps=4, targets=2, rho=0.5),
        "sparse-rs": SparseRs(queries=25, share=0.6),
    }
