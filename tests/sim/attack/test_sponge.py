"""A network as a model of its work: the count is the chip's, and attacks raise it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from spikeport.hw.activity import activity, work
from spikeport.hw.place import place
from spikeport.hw.target import TARGETS
from spikeport.sim import reference
from spikeport.sim.attack import Apgd, Budget, Sponge
from spikeport.sim.attack.run import attack_views
from spikeport.sim.attack.standard import WINDOWS
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense


@pytest.mark.parametrize("kind", [None, "dense", "conv", "delay", "recurrent"])
@pytest.mark.parametrize("seed", range(4))
def test_it_counts_what_the_chip_does(random_net: Callable[..., Any], seed: int, kind: Any) -> None:
    net, x = random_net(seed, kind=kind, lava=False)
    net = replace(net, steps=len(x))
    for name in ("loihi1", "loihi2"):
        placement = place(net, TARGETS[name])
        trace = reference.run(net, x)
        done = activity(net, x, trace, placement).synapses.sum((0, 2))
        each = work(net, placement)
        shown = torch.tensor(x).float() / net.input.scale
        assert Sponge(net, each).operations(shown).round().tolist() == done.tolist()


def small(w: list[list[int]]) -> FixedNet:
    """Two pixels of four levels, and neurons that fire above 100."""
    return FixedNet(
        input=Input(shape=(2,), kind="graded", payload_bits=2, scale=3.0),
        populations=(
            Population(name="a", shape=(len(w),), v_th=100, dv=4095),
            Population(name="out", shape=(2,), v_th=100, dv=4095),
        ),
        projections=(
            Projection(source="input", target="a", synapse=Dense(w=np.array(w))),
            Projection(source="a", target="out", synapse=Dense(w=np.ones((2, len(w)), np.int64))),
        ),
        readout=Readout(population="out"), steps=3,
    )  # fmt: skip


def test_an_attack_finds_the_dearest_of_all_images() -> None:
    """Of 16 images the one in which most neurons fire, though one of them is silenced by light."""
    net = small([[60, 0], [0, 60], [90, -128], [40, 40]])
    sponge = Sponge(net, {"a": np.array([5, 7, 1000, 11])})
    images = torch.tensor(list(product(range(4), repeat=2))).float() / 3
    costs = sponge.operations(images)
    assert len(set(costs.tolist())) > 4
    x = torch.tensor([[1 / 3, 1.0], [0.0, 0.0]])
    budget = Budget(eps=1.0, levels=3)
    y = torch.zeros(2, dtype=torch.int64)
    views = [sponge.through(window, detach_reset=True) for window in WINDOWS.values()]
    found = attack_views(views, x, y, Apgd(steps=100), budget=budget, seed=0)
    assert sponge.operations(found.x_adv).tolist() == [costs.max()] * 2
    assert costs.max() > sponge.operations(x).max()


def test_dark_pixels_may_become_events() -> None:
    """Nothing fires, so that all work is that of the input."""
    net = small([[1, 1]])
    sponge = Sponge(net, {"input": np.array([3, 0])})
    x = torch.tensor([[0.0, 1.0]]).requires_grad_()
    sponge(x)[:, 1].sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0] > 0 == x.grad[0, 1]
    assert sponge.operations(torch.tensor([[1.0, 0.0], [1 / 3, 0.0], [0.0, 1.0]])).tolist() == [
        9.0, 9.0, 0.0,
    ]  # fmt: skip


def test_work_must_fit() -> None:
    net = small([[1, 1]])
    with pytest.raises(ValueError, match=r"work of 'a' has shape \(2,\); it must be that of the"):
        Sponge(net, {"a": np.ones(2)})
    with pytest.raises(ValueError, match="no event sets anything in motion"):
        Sponge(net, {"a": np.zeros(1)})
