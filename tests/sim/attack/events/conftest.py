"""Small fixed models of spike trains, with trains that each of them classifies rightly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport.sim.attack import attack
from spikeport.sim.attack.events import (
    Corner,
    Dash,
    FlipBudget,
    Flips,
    Frame,
    RandomFlips,
    RandomRetiming,
    Retiming,
    RetimingBudget,
    Sda,
    Shown,
    SpikeFool,
)
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import Dense
from spikeport.sim.twin import Twin

STEPS, PLACES, CLASSES = 8, 16, 4
VOLLEYS = (1, 4, 6)
GROUPS = np.random.default_rng(8).permuted(np.tile(np.arange(PLACES) < 8, (CLASSES, 1)), axis=1)


@dataclass(frozen=True)
class Case:
    """A model with trains [B, T, ...] whose labels it gets right."""

    model: nn.Module
    x: Tensor
    y: Tensor

    def attack(self, spec: Any, budget: Any, *, seed: int = 0, **options: Any) -> Any:
        """`attack` on all trains."""
        return attack(self.model, self.x, self.y, spec, budget=budget, seed=seed, **options)


def whole(value: int) -> NDArray[np.int32]:
    """One integer for all neurons of a population."""
    return np.array(value, dtype=np.int32)


def make_net(shape: tuple[int, ...]) -> FixedNet:
    """16 places -> 24 -> 4 integer neurons that leak fast, spike-count readout.

    Six noisy detectors a class, each excited by the volleys of its group and inhibited by the rest.
    """
    rng = np.random.default_rng(5)
    signs = np.where(np.repeat(GROUPS, 6, axis=0), 1, -1)
    hidden = 2 * (16 * signs + rng.integers(-5, 6, size=(6 * CLASSES, PLACES)))
    out = 2 * np.where(np.repeat(np.eye(CLASSES, dtype=bool), 6, axis=1), 40, -12)
    return FixedNet(
        input=Input(shape=shape, kind="spike"),
        populations=(
            Population(name="hidden", shape=(24,), v_th=whole(125), dv=whole(2000)),
            Population(name="out", shape=(CLASSES,), v_th=whole(100), dv=whole(400)),
        ),
        projections=(
            Projection(source="input", target="hidden", synapse=Dense(w=hidden)),
            Projection(source="hidden", target="out", synapse=Dense(w=out)),
        ),
        readout=Readout(population="out"),
        steps=STEPS,
    )


def volleys(y: NDArray[np.int64], *, seed: int) -> NDArray[np.float32]:
    """Trains [B, T, 16] of 0 and 1: the group of the label fires together, three times, amid noise,
    and some do not join in."""
    rng = np.random.default_rng(seed)
    chance = np.full((len(y), STEPS, PLACES), 0.06)
    chance[:, VOLLEYS] += np.where(GROUPS[y], 0.86, 0.0)[:, None]
    return (rng.random(chance.shape) < chance).astype(np.float32)


def spiking(shape: tuple[int, ...], *, count: int = 24) -> Case:
    """The net on trains [B, T, *shape]."""
    model = Shown(Twin(make_net(shape), surrogate=Surrogate("atan", 2.0)))
    y = np.arange(8 * count) % CLASSES
    x, labels = torch.from_numpy(volleys(y, seed=9)), torch.from_numpy(y)
    x = x.reshape(len(x), STEPS, *shape)
    with torch.no_grad():
        right = (model(x).argmax(1) == labels).nonzero().squeeze(1)[:count]
    assert len(right) == count
    return Case(model, x[right], labels[right])


class Linear(nn.Module):
    """Logits linear in all cells of a train, by whole weights, so that sums are exact."""

    def __init__(self, shape: tuple[int, ...], *, seed: int) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        size = int(np.prod(shape))
        self.w = nn.Parameter(torch.randint(-99, 100, (CLASSES, size), generator=g).float())

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, 4] of x [B, T, ...]."""
        return x.flatten(1) @ self.w.T


def linear_case(*, largest: int, count: int = 24) -> Case:
    """Random trains [B, 8, 16] of counts up to `largest`, labelled by a linear model itself."""
    model = Linear((STEPS, PLACES), seed=1)
    g = torch.Generator().manual_seed(2)
    x = torch.randint(0, largest + 1, (count, STEPS, PLACES), generator=g).float()
    return Case(model, x, model(x).detach().argmax(1))


@pytest.fixture
def linear() -> Case:
    return linear_case(largest=1)


@pytest.fixture
def counting() -> Case:
    return linear_case(largest=3)


@pytest.fixture
def twin() -> Case:
    return spiking((PLACES,))


@pytest.fixture
def maps() -> Case:
    return spiking((1, 4, 4))


@pytest.fixture
def quick() -> dict[str, Any]:
    """One cheap spec, away from the defaults, for every entry of EVENT_ATTACKS."""
    return {
        "random-flips": RandomFlips(draws=9, keep=0.5),
        "flips": Flips(steps=7, memory=0.3, noise=0.5, loss="dlr"),
        "sda": Sda(steps=2, first=5),
        "spikefool": SpikeFool(steps=5, classes=2, reach=1.3),
        "frame": Frame(width=2),
        "corner": Corner(size=2),
        "dash": Dash(hold=2, starts=3),
        "random-retiming": RandomRetiming(draws=9),
        "retiming": Retiming(steps=7, sampled=False),
    }


@pytest.fixture
def searches(request: pytest.FixtureRequest) -> Any:
    """`searches(name)`: (case, budget) pairs that an entry of EVENT_ATTACKS can search."""

    def found(name: str) -> list[tuple[Case, Any]]:
        if name in ("frame", "corner", "dash"):
            maps = request.getfixturevalue("maps")
            return [(maps, FlipBudget(flips=9)), (maps, FlipBudget(flips=9, per_step=1))]
        twin, linear, counting = map(request.getfixturevalue, ("twin", "linear", "counting"))
        if "retiming" in name:
            steps = RetimingBudget(eps=2, norm="shift"), RetimingBudget(eps=7, norm="total_shift")
            moves = RetimingBudget(eps=4, norm="moves")
            return [(twin, steps[0]), (twin, steps[1]), (linear, moves), (counting, steps[1])]
        return [
            (twin, FlipBudget(flips=5)),
            (twin, FlipBudget(flips=5, per_step=2, delete=False)),
            (linear, FlipBudget(flips=6, per_step=1)),
            (counting, FlipBudget(flips=4, add=False, largest=3)),
        ]

    return found
