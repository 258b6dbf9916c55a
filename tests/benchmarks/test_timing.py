"""How benchmarks time: by turns, with other libraries' layers of the same shape, Lava's failures
seen."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from spikeport.hw import lava_import, lava_inprocess
from spikeport.sim import product, reference
from spikeport.sim.net import FixedNet
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d

Script = Callable[[str], ModuleType]
STATUS = Path("/proc/self/status")


def test_candidates_take_turns_and_warm_up_does_not_count(script: Script) -> None:
    called: list[str] = []
    seconds = script("turns").interleaved(
        {name: lambda name=name: called.append(name) for name in "ab"}, repetitions=3, warm_up=2
    )
    assert called == ["a", "b"] * 5
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def a_net(script: Script, *, padded: int) -> FixedNet:
    """Every field of its geometry differs from its default, and the two axes from each other."""
    rng = np.random.default_rng(0)
    geometry = ConvGeometry(stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2)
    conv = Conv2d(w=rng.integers(-60, 61, (4, 1, 3, 2)), geometry=geometry)  # [4, 4, 10]
    pool = SumPool2d(kernel=(2, 2), stride=(2, 2), padding=(padded, 0))  # [4, 2 + padded, 5]
    out = Dense(w=rng.integers(-60, 61, (10, 20 * (2 + padded))))
    layers = [("conv", conv, 40), ("pool", pool, 0), ("out", out, 60)]
    net: FixedNet = script("engine_nets").chain((2, 9, 7), layers, steps=3)
    return net


@pytest.fixture
def convolved(script: Script) -> FixedNet:
    return a_net(script, padded=1)


def test_bare_products_are_those_of_the_network(script: Script, convolved: FixedNet) -> None:
    nets = script("engine_nets")
    x = nets.shown(convolved, 4, 0.3)
    conv = convolved.projections[0].synapse
    assert isinstance(conv, Conv2d)
    expected = reference.conv_sum(conv, x.reshape(12, 2, 9, 7).astype(np.int64))
    for name, run in nets.products(convolved, x).items():
        assert np.array_equal(run()[0].numpy(), expected), name


def test_other_libraries_have_its_shapes(script: Script, convolved: FixedNet) -> None:
    nets = script("engine_nets")
    x = nets.shown(convolved, 4, 0.3)
    assert nets.snntorch_forward(convolved, x)().shape == (4, 10)


@pytest.mark.lava
def test_lava_dl_has_its_shapes(script: Script) -> None:
    pytest.importorskip("lava.lib.dl")
    nets, net = script("engine_nets"), a_net(script, padded=0)  # its pools cannot pad
    assert nets.lava_dl_forward(net, nets.shown(net, 4, 0.3))().shape == (4, 10, 3)


def test_lava_is_left_out_only_where_it_is_missing(
    script: Script, convolved: FixedNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = script("engine")
    x = script("engine_nets").shown(convolved, 3, 0.3)

    def dies(*_: Any, **__: Any) -> None:
        raise lava_import.LavaError("Lava died in step 2")

    monkeypatch.setattr(lava_inprocess, "run", dies)
    monkeypatch.setattr(lava_import, "available", lambda: None)
    with pytest.raises(lava_import.LavaError, match="Lava died in step 2"):
        engine.lava_slopes(convolved, x, (1, 3))
    monkeypatch.setattr(lava_import, "available", lambda: "Lava is not installed")
    assert engine.lava_slopes(convolved, x, (1, 3)) == ({}, "Lava is not installed")


def test_a_run_of_floats_leaves_the_engine_as_it_was(script: Script, convolved: FixedNet) -> None:
    def settings() -> tuple[Any, ...]:
        return product.DENSE_EVENTS_BELOW, product.CONV_EVENTS_BELOW, product.TORCH_FROM

    before = settings()
    with pytest.raises(ValueError, match="input"):
        script("engine").floats_run(convolved, np.zeros((3, 4, 5)))
    assert settings() == before


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's account of a process")
def test_the_unit_of_the_largest_size(script: Script) -> None:
    (line,) = [line for line in STATUS.read_text("utf-8").splitlines() if "VmHWM" in line]
    kib = int(line.split()[1])
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * script("twin").RSS_BYTES
    # Linux hands the largest size on through exec, so that the second may be a little larger.
    assert 0.9 <= largest / (kib * 1024) < 10
