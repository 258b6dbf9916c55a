"""Backends by name, and the ladder that compares them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from spikeport import backends
from spikeport.hw import lava_import
from spikeport.sim import reference
from spikeport.sim.attack import Budget, Fgsm, Square, attack
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense
from spikeport.sim.twin import Twin


def counted(net: FixedNet) -> FixedNet:
    return replace(net, readout=Readout(population=net.populations[-1].name, kind="count"))


@pytest.mark.parametrize("name", ["reference", "engine", "twin"])
def test_every_backend_gives_the_same_bits(random_net: Any, name: str) -> None:
    for seed in range(5):
        net, x = random_net(seed)
        net = counted(net)
        wanted, found = reference.run(net, x), backends.run(net, x, backend=name)
        for key, part in wanted.populations.items():
            assert np.array_equal(found[key].spikes, part.spikes)
            assert np.array_equal(found[key].v_last, part.v_last)


@pytest.mark.lava
def test_lava_gives_the_same_bits(random_net: Any) -> None:
    if reason := lava_import.available():
        pytest.skip(reason)
    net, x = random_net(3, kind="dense")
    wanted, found = reference.run(net, x), backends.run(net, x, backend="lava-inprocess")
    for key, part in wanted.populations.items():
        assert np.array_equal(found[key].spikes, part.spikes)


def graded() -> FixedNet:
    """Twelve pixels into eight neurons and these into three classes."""
    rng = np.random.default_rng(4)
    sizes, names = (12, 8, 3), ("input", "hidden", "out")
    return FixedNet(
        input=Input(shape=(12,), kind="graded", payload_bits=8, scale=255.0),
        populations=tuple(
            Population(name=names[i + 1], shape=(sizes[i + 1],), v_th=v_th, dv=1000)
            for i, v_th in enumerate((400, 20))
        ),
        projections=tuple(
            Projection(
                source=names[i], target=names[i + 1],
                synapse=Dense(w=2 * rng.integers(-20, 21, (sizes[i + 1], sizes[i]))),
            )
            for i in range(2)
        ),
        readout=Readout(population="out", kind="sum_v"),
        steps=4,
    )  # fmt: skip


@pytest.mark.lava
def test_square_finds_on_lava_what_it_finds_on_the_twin() -> None:
    if reason := lava_import.available():
        pytest.skip(reason)
    net, budget = graded(), Budget(eps=0.2, levels=255)
    x = torch.tensor(np.random.default_rng(1).integers(0, 256, (6, 12)) / 255).float()
    twin = Twin(net)
    y = twin(x).argmax(1)
    on_twin, on_lava = (
        attack(model, x, y, Square(queries=12), budget=budget, seed=3)
        for model in (twin, backends.as_model(net, backend="lava-inprocess"))
    )
    assert torch.equal(on_lava.x_adv, on_twin.x_adv)
    assert torch.equal(on_lava.queries, on_twin.queries)
    assert 0 < on_twin.fooled.sum() < len(x)


def test_a_backend_has_no_gradient() -> None:
    model = backends.as_model(graded(), backend="engine")
    x = torch.tensor(np.random.default_rng(1).integers(0, 256, (6, 12)) / 255).float()
    y = model(x).argmax(1)
    with pytest.raises(ValueError, match=r"^attack: the model passes no gradient to its input;"):
        attack(model, x, y, Fgsm(), budget=Budget(eps=0.1), seed=0)


def test_an_unknown_backend_is_refused(random_net: Any) -> None:
    net, x = random_net(0)
    with pytest.raises(
        ValueError,
        match=r"^backend is 'gpu'; allowed are reference, engine, twin, lava-inprocess, lava$",
    ):
        backends.run(net, x, backend="gpu")


@pytest.mark.parametrize("backend", ["engine", "lava-inprocess"])
def test_backends_need_a_process(random_net: Any, backend: str) -> None:
    net, x = random_net(0)
    with pytest.raises(ValueError, match=f"^backend {backend}: jobs is 0; it must be at least 1$"):
        backends.run(net, x, backend=backend, jobs=0)


def test_static_images_are_shown_in_every_step() -> None:
    images = np.arange(12).reshape(3, 2, 2)
    train = backends.in_every_step(images, 5)
    assert train.shape == (5, 3, 2, 2)
    assert all(np.array_equal(step, images) for step in train)


def test_the_ladder_counts_and_tells(random_net: Any) -> None:
    net, x = random_net(7)
    net = counted(net)
    told: list[str] = []
    labels = reference.run(net, x).logits(net.readout).argmax(1)
    report = backends.ladder(
        net, x, ["engine", "reference", "twin"], labels=labels, progress=told.append
    )
    assert [(r.left, r.right) for r in report.rungs] == [
        ("reference", "engine"), ("reference", "twin")
    ]  # fmt: skip
    assert told == ["reference", "engine", "twin"]
    assert report.passed
    assert report.accuracy == {"reference": 1.0, "engine": 1.0, "twin": 1.0}
    assert all(r.samples == x.shape[1] and r.steps == len(x) for r in report.rungs)
    assert all(r.state > 0 for r in report.rungs)
    without = backends.ladder(net, x, ["engine"])
    assert without.accuracy == {}


def test_the_first_samples_of_a_trace(random_net: Any) -> None:
    net, x = next((net, x) for net, x in (random_net(seed) for seed in range(20)) if x.shape[1] > 2)
    whole, few = reference.run(net, x), reference.run(net, x[:, :2])
    for name, part in backends.first_samples(whole, 2).populations.items():
        assert np.array_equal(part.spikes, few[name].spikes)
        assert np.array_equal(part.v_last, few[name].v_last)
        assert part.u is not None
        assert np.array_equal(part.u, np.asarray(few[name].u))
        assert np.array_equal(np.asarray(part.v), np.asarray(few[name].v))
