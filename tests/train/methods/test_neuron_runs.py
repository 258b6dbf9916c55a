"""Whole runs of the methods that change neurons: alone and paired, resumed, exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from spikeport.exporting import run_to_net
from spikeport.train.config import Config
from spikeport.train.data import Dataset, load_for
from spikeport.train.floating import build, fit_float, load_float
from spikeport.train.loop import fit

PAIR: dict[str, Any] = {"mp_init": {"momentum": 0.3}, "trsg": {"decay_input": False}}


def config(methods: dict[str, Any], *, target: str = "loihi2", epochs: int = 2) -> Config:
    tree = {
        "data": {"name": "digits", "train_images": 300, "test_images": 60},
        "encode": {"steps": 3},
        "model": {"name": "conv", "channels": (4, 6), "v_th": 0.8},
        "train": {"epochs": epochs, "lr": 0.02, "seed": 5, "device": "cpu"},
        "methods": methods,
        "quantise": {"target": target, "epochs": 1},
    }
    return Config.model_validate(tree)


@pytest.mark.parametrize("target", ["loihi2", "lava"])
@pytest.mark.parametrize(
    "methods", [PAIR, {"mpd_sgr": {"gamma": 0.5}, "trsg": {}}, {"dsatgo": {}, "mp_init": {}}]
)
def test_pairs_reach_the_chip(methods: dict[str, Any], target: str, tmp_path: Path) -> None:
    fit(config(methods, target=target), tmp_path / "run", progress=False)
    exported = run_to_net(tmp_path / "run", target=target)
    (exact,) = [rung for rung in exported.rungs if rung.exact]
    assert exact.spikes > 0
    assert (exact.differing, exact.differing_state, exact.predictions) == (0, 0, 0)
    starts = [p.name for p in exported.net.populations if p.v_init.any()]
    shots = [p.name for p in exported.net.populations if p.name.endswith(".start")]
    there = ["lif1", "lif2"] if "mp_init" in methods else []
    assert starts == (there if target == "lava" else [])
    assert shots == ([] if target == "lava" else [f"{name}.start" for name in there])


class Stopped(Exception):
    """Stands for the kill signal."""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_for(config({}))


@pytest.mark.parametrize("methods", [PAIR, {"mpd_agl": {}}, {"lsg": {}}, {"dsatgo": {}}])
def test_a_resumed_run_equals_an_uninterrupted_one(
    methods: dict[str, Any], digits: Dataset, tmp_path: Path
) -> None:
    chosen = config(methods)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    one = fit_float(chosen, digits, whole, progress=False)
    killed, calls = build(chosen, digits.shape, classes=digits.classes), [0]

    def die(module: torch.nn.Module, _: Any) -> None:
        calls[0] += module.training
        if calls[0] > 6:  # 270 images in batches of 64: in the second epoch
            raise Stopped

    killed.register_forward_pre_hook(die)
    with pytest.raises(Stopped):
        fit_float(chosen, digits, parts, net=killed, progress=False)
    two = fit_float(chosen, digits, parts, resume=True, progress=False)
    found, again = one.state_dict(), two.state_dict()
    assert found.keys() == again.keys()
    assert all(torch.equal(found[key], again[key]) for key in found)


def test_a_reloaded_run_is_the_trained_one(digits: Dataset, tmp_path: Path) -> None:
    """Starts, thresholds and leaks come back from the run folder."""
    fit(config(PAIR, epochs=1), tmp_path / "run", progress=False)
    net, _ = load_float(tmp_path / "run")
    starts = [float(lif.v_init) for lif in (net.layers.lif1, net.layers.lif2)]
    assert all(abs(v) > 1e-4 for v in starts)
    assert float(net.layers.lif1.v_th.detach()) != 0.8
    assert net.layers.lif1.keep_v != 0.5
