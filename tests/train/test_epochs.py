"""The epoch loop learns, repeats itself, resumes bit for bit, and reports what happened."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport.train.config import ModelConfig
from spikeport.train.data import Dataset, load
from spikeport.train.encode import source
from spikeport.train.epochs import evaluate, run_epochs
from spikeport.train.journal import METRICS
from spikeport.train.methods.mpd_sgr import MpdSgr
from spikeport.train.model import SpikingNet
from spikeport.train.networks import MODELS
from spikeport.train.phase import Phase
from spikeport.train.regularisers import mpd_sgr, occupancy

PHASE = Phase(
    name="float",
    epochs=3,
    batch=50,
    lr=0.02,
    weight_decay=1e-3,
    seed=4,
    device="cpu",
    encoder="direct",
    shift=0.5,
    facts={"config": {"a": 1}},
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """150 training, 40 validation and 60 test images: seconds, not minutes."""
    data = load("digits", seed=0)
    return dataclasses.replace(
        data,
        x_train=data.x_train[:150].copy(),
        y_train=data.y_train[:150].copy(),
        x_val=data.x_val[:40].copy(),
        y_val=data.y_val[:40].copy(),
        x_test=data.x_test[:60].copy(),
        y_test=data.y_test[:60].copy(),
    )


def fresh(encoder: str = "direct", **model: Any) -> SpikingNet:
    torch.manual_seed(11)
    config = ModelConfig(name="conv", channels=(4, 6), **model)
    return MODELS["conv"](config, source(encoder, (1, 8, 8)), steps=4, classes=10)


def with_dropout(net: SpikingNet) -> SpikingNet:
    """Dropout draws from torch's global random state, unlike everything else in an epoch."""
    net.layers.pool1 = torch.nn.Sequential(net.layers.pool1, torch.nn.Dropout(0.2))
    return net


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / METRICS).read_text().splitlines()]


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def train(net: SpikingNet, data: Dataset, folder: Path, phase: Phase = PHASE, **how: bool) -> None:
    run_epochs(net, data, phase, folder=folder, progress=False, **how)


def test_training_improves_and_reports(digits: Dataset, tmp_path: Path) -> None:
    net = fresh()
    before = evaluate(net, digits.x_test, digits.y_test, encoder="direct", seed=0)
    train(net, digits, tmp_path, dataclasses.replace(PHASE, epochs=12))
    after = evaluate(net, digits.x_test, digits.y_test, encoder="direct", seed=0, batch=7)
    assert before < 0.35
    assert after > before + 0.3
    assert not net.training
    report = lines(tmp_path)
    assert [m["epoch"] for m in report] == list(range(1, 13))
    assert report[-1]["loss"] < report[0]["loss"] - 0.5
    last = report[-1]
    assert last["phase"] == "float"
    assert set(last["occupancy"]) == set(last["rate"]) == {"lif1", "lif2"}
    assert last["val_accuracy"] == evaluate(
        net, digits.x_val, digits.y_val, encoder="direct", seed=4
    )
    x = torch.tensor(digits.x_val).float() / 255
    with torch.no_grad():
        record = net(x.expand(4, *x.shape))
    exact = occupancy(record.membranes, net.thresholds(), 1.0)
    assert last["occupancy"] == pytest.approx(exact)


@pytest.mark.parametrize("encoder", ["direct", "poisson"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    encoder: str, digits: Dataset, tmp_path: Path
) -> None:
    method = MpdSgr(eta=0.2, warm_up=0.5)
    phase = dataclasses.replace(PHASE, encoder=encoder, methods=(method,), epochs=4)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    one = with_dropout(fresh(encoder))
    train(one, digits, whole, phase)
    _stop_after(with_dropout(fresh(encoder)), digits, parts, phase, epochs=2)
    assert len(lines(parts)) == 2
    resumed = with_dropout(fresh(encoder))
    torch.manual_seed(77)  # a resumed process has another random state
    train(resumed, digits, parts, phase, resume=True)
    assert same(one, resumed)
    for a, b in zip(lines(whole), lines(parts), strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    finished = with_dropout(fresh(encoder)).train()
    train(finished, digits, parts, phase, resume=True)
    assert same(one, finished)
    assert not finished.training


class Stopped(Exception):
    """Stands for the kill signal."""


def _stop_after(net: SpikingNet, data: Dataset, folder: Path, phase: Phase, *, epochs: int) -> None:
    """Die in the middle of the epoch after `epochs`."""
    calls = {"train": 0}

    def die(module: torch.nn.Module, _: tuple[Tensor, ...]) -> None:
        calls["train"] += module.training
        if calls["train"] > 3 * epochs + 1:  # 150 images in batches of 50
            raise Stopped

    net.register_forward_pre_hook(die)
    with pytest.raises(Stopped):
        train(net, data, folder, phase)


def test_a_metrics_line_beyond_the_checkpoint_is_not_kept_twice(
    digits: Dataset, tmp_path: Path
) -> None:
    train(fresh(), digits, tmp_path, dataclasses.replace(PHASE, epochs=2))
    extra = {**lines(tmp_path)[-1], "epoch": 3}
    other = {**extra, "phase": "quantised", "epoch": 9}
    with (tmp_path / METRICS).open("a") as file:
        file.write(json.dumps(other) + "\n" + json.dumps(extra) + "\n")
    train(fresh(), digits, tmp_path, resume=True)
    found = [(m["phase"], m["epoch"]) for m in lines(tmp_path)]
    assert found == [("float", 1), ("float", 2), ("float", 3), ("quantised", 9)]


def test_same_seed_same_net_and_the_callers_random_state_is_untouched(
    digits: Dataset, tmp_path: Path
) -> None:
    phase = dataclasses.replace(PHASE, epochs=1, rotate=5.0)
    nets = [fresh() for _ in range(3)]
    torch.manual_seed(123)
    before = torch.get_rng_state()
    train(nets[0], digits, tmp_path, phase)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    train(nets[1], digits, tmp_path, phase)
    train(nets[2], digits, tmp_path, dataclasses.replace(phase, seed=5))
    assert same(nets[0], nets[1])
    assert not same(nets[0], nets[2])


@pytest.mark.parametrize("stats", ["empirical", "theory", "hinge"])
def test_the_penalty_lowers_the_exact_occupancy(
    stats: str, digits: Dataset, tmp_path: Path
) -> None:
    found = {}
    for eta in (0.0, 5.0):
        method = MpdSgr.model_validate({"eta": eta, "gamma": 0.5, "stats": stats})
        phase = dataclasses.replace(PHASE, epochs=8, methods=(method,))
        train(fresh(), digits, tmp_path, phase)
        found[eta] = np.mean(list(lines(tmp_path)[-1]["occupancy"].values()))
    assert found[5.0] < found[0.0] - 0.02


def test_loss_is_task_loss_plus_eta_omega(digits: Dataset, tmp_path: Path) -> None:
    method = MpdSgr(eta=0.7, warm_up=0.0)
    phase = dataclasses.replace(PHASE, epochs=1, batch=150, shift=0.0, methods=(method,))
    x = torch.tensor(digits.x_train).float().expand(4, -1, -1, -1, -1) / 255
    net = fresh()
    record = net.train()(x)
    penalty = float(mpd_sgr(record.membranes, net.thresholds(), gamma=1.0).detach())
    train(fresh(), digits, tmp_path, phase)
    (m,) = lines(tmp_path)
    assert m["loss"] == pytest.approx(m["task_loss"] + 0.7 * penalty, rel=1e-5)
    assert 0.05 < m["omega"] < 1


def test_refuses_to_resume_another_configuration(digits: Dataset, tmp_path: Path) -> None:
    train(fresh(), digits, tmp_path, dataclasses.replace(PHASE, epochs=1))
    other = dataclasses.replace(PHASE, facts={"config": {"a": 2}})
    with pytest.raises(
        ValueError,
        match=r"float\.safetensors: was trained with another config; resume with the same one or "
        r"start a new run folder$",
    ):
        train(fresh(), digits, tmp_path, other, resume=True)


def test_count_readout_learns_too(digits: Dataset, tmp_path: Path) -> None:
    net = fresh(readout="count")
    train(net, digits, tmp_path, dataclasses.replace(PHASE, epochs=12))
    report = lines(tmp_path)
    assert set(report[-1]["rate"]) == {"lif1", "lif2", "lif_out"}
    assert report[-1]["train_accuracy"] > report[0]["train_accuracy"] + 0.2


def test_what_is_no_torch_module_cannot_be_trained(digits: Dataset) -> None:
    model: Any = "conv"
    with pytest.raises(ValueError, match=r"^the loop trains torch modules, but got a str$"):
        evaluate(model, digits.x_test, digits.y_test, encoder="direct", seed=0)
