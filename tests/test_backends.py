"""Backends by name, and the ladder that compares them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spikeport import backends
from spikeport.hw import lava_import
from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Readout


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


def test_an_unknown_backend_is_refused(random_net: Any) -> None:
    net, x = random_net(0)
    with pytest.raises(
        ValueError,
        match=r"^backend is 'gpu'; allowed are reference, engine, twin, lava-inprocess, lava$",
    ):
        backends.run(net, x, backend="gpu")


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
