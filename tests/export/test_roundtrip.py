"""snnTorch -> NIR -> FloatNet: random modules of every kind fire as they did."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import nir
import numpy as np
import pytest
import snntorch
import torch
from torch import nn

from spikeport.export.agreement import Difference, agreement, before_reset
from spikeport.export.nir_read import read
from spikeport.export.nir_write import write
from spikeport.sim import floating
from spikeport.sim.net import (
    FloatNet,
    FloatPopulation,
    FloatProjection,
    Input,
    Readout,
)
from spikeport.sim.synapse import FloatDense

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = int(os.environ.get("SPIKEPORT_ROUND_TRIPS", "40"))
PER_TEST = 20


@pytest.fixture(scope="module")
def roundtrip(load_file: Callable[[Path], ModuleType]) -> Any:
    """benchmarks/roundtrip.py."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return load_file(BENCHMARKS / "roundtrip.py")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def drawn(roundtrip: Any) -> Any:
    """tests/random_modules.py."""
    return roundtrip.of_tests(roundtrip.MODULES)


@pytest.mark.parametrize("first", range(0, MODULES, PER_TEST))
def test_random_modules_fire_as_they_did(roundtrip: Any, drawn: Any, first: int) -> None:
    compared = ties = 0
    for seed in range(first, min(first + PER_TEST, MODULES)):
        for kind, found in roundtrip.round_trip(drawn, drawn.random_module(seed)):
            assert found.differences == (), (seed, kind)
            assert found.off < (1e-9 if kind == torch.float64 else 1e-4), (seed, kind)
            compared += found.compared
            ties += found.ties
    assert compared > 5_000
    assert ties < compared / 1000


def test_every_kind_is_drawn(drawn: Any) -> None:
    counts: Counter[str] = Counter()
    rates = []
    for seed in range(60):
        case = drawn.random_module(seed)
        counts.update(set(case.what))
        spikes, _ = drawn.spikes_of(case, case.module, case.x)
        rates.append(np.mean([s.mean() for s in spikes.values()]))
    for kind in (
        "chain", "static", "timed", "Leaky", "Synaptic", "RLeaky", "RSynaptic", "Lapicque",
        "Conv2d", "BatchNorm2d", "BatchNorm1d", "AvgPool2d", "Flatten", "Dropout", "hidden",
        "states", "stack", "sum", "pair", "last_v", "sum_v", "rec", "skip", "back",
    ):  # fmt: skip
        assert counts[kind] >= 2, kind
    assert 0.05 < np.median(rates) < 0.7


@pytest.mark.parametrize("seed", [4, 5, 8])
def test_a_wrong_weight_is_noticed(
    roundtrip: Any, drawn: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, spoilt = drawn.random_module(seed), drawn.random_module(seed)
    weighted = [m for m in spoilt.module.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    weighted[0].weight.data += 0.2
    monkeypatch.setattr(roundtrip, "copy", _Instead(spoilt.module))
    assert all(found.differences for _, found in roundtrip.round_trip(drawn, case))


class _Instead:
    """A `copy` module whose copies are of another module."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def deepcopy(self, _: Any) -> nn.Module:
        return self.module


def one_neuron(v_th: float) -> FloatNet:
    neuron = FloatPopulation(name="n", shape=(1,), v_th=np.array(v_th), keep_v=np.array(0.5))
    return FloatNet(
        input=Input(shape=(1,)), populations=(neuron,), readout=Readout(population="n"), steps=3,
        projections=(
            FloatProjection(source="input", target="n", synapse=FloatDense(w=np.eye(1))),
        ),
    )  # fmt: skip


def test_ties_are_set_apart() -> None:
    net, x = one_neuron(1.0), np.array([1.0 + 1e-6, 0.25, 3.0]).reshape(3, 1, 1)
    trace = floating.run(net, x)
    assert before_reset(net, "n", trace["n"]).ravel() == pytest.approx([1.000001, 0.25, 3.125])
    ours = trace["n"].spikes.astype(float)
    assert ours.ravel().tolist() == [1, 0, 1]
    assert agreement(net, x, {"n": ours}).compared == 3
    tied = agreement(net, x, {"n": np.array([0.0, 1, 0]).reshape(3, 1, 1)})
    assert (tied.ties, tied.compared, tied.differences) == (1, 0, ())
    wrong = agreement(net, x, {"n": np.array([1.0, 0, 0]).reshape(3, 1, 1)})
    assert wrong.compared == 2
    (first,) = wrong.differences
    assert first.distance == pytest.approx(2.125)
    assert replace(first, distance=0.0) == Difference(
        population="n", step=2, sample=0, neuron=0, distance=0.0
    )


# The file that snnTorch writes of the same module, where its exporter is right.


def vectors(value: float, size: int) -> torch.Tensor:
    return torch.full((size,), value)


def rlstate(kind: str) -> Any:
    options = {"threshold": vectors(0.4, 5), "init_hidden": True, "reset_mechanism": "zero"}
    if kind == "Leaky":
        return snntorch.Leaky(vectors(0.75, 5), **options)
    if kind == "Synaptic":
        return snntorch.Synaptic(vectors(0.5, 5), vectors(0.75, 5), reset_delay=False, **options)
    return snntorch.RLeaky(
        vectors(0.75, 5), all_to_all=True, linear_features=5, reset_delay=False, **options
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["Leaky", "Synaptic", "RLeaky"])
def test_the_file_of_snntorch_says_the_same(tmp_path: Path, kind: str) -> None:
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(4)
    module = nn.Sequential(nn.Linear(6, 5, bias=kind != "Synaptic"), rlstate(kind))
    nir.write(tmp_path / "theirs.nir", export_to_nir(module, torch.rand(6)))
    module[1].reset_mem()
    write(module, tmp_path / "ours.nir", input=Input(shape=(6,)), steps=9, dt_s=1e-4)
    x = np.random.default_rng(1).random((9, 20, 6))
    theirs = read(tmp_path / "theirs.nir", dt_s=1e-4, steps=9)
    ours = floating.run(read(tmp_path / "ours.nir"), x)["1"].spikes
    last = theirs.readout.population
    found = agreement(theirs, x, {last: ours.astype(float)})
    assert found.differences == ()
    assert found.ties <= 1
    assert 0.05 < ours.mean() < 0.9
