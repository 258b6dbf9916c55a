"""Methods together: several at once, resumed like uninterrupted, learning something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spikeport.train.config import Config
from spikeport.train.data import load as load_data
from spikeport.train.encode import direct
from spikeport.train.floating import build, fit_float
from spikeport.train.methods.adversarial import Adversarial
from spikeport.train.methods.base import Step
from spikeport.train.model import SpikingNet

TOGETHER: dict[str, dict[str, Any]] = {
    "tet": {"lam": 0.001},
    "mpd_sgr": {"eta": 0.3},
    "adversarial": {"eps": 0.02, "alpha": 0.02, "steps": 1},
    "dsd": {},
    "rat": {},
}

RANDOM: dict[str, dict[str, Any]] = {
    "guard_tgo": {"noise": 0.2},
    "trades": {"steps": 1},
    "sr": {},
    "msg": {"p": 0.4},
}
"""They draw noise, starting points and masks."""


def config(methods: dict[str, dict[str, Any]], *, epochs: int, images: int = 300) -> Config:
    tree = {
        "data": {"name": "digits", "train_images": images, "test_images": 200},
        "encode": {"steps": 3},
        "model": {"name": "conv", "channels": (4, 6)},
        "train": {"epochs": epochs, "lr": 0.02, "batch": 50, "seed": 3, "device": "cpu"},
        "methods": methods,
        "quantise": {"target": "loihi2"},
    }
    return Config.model_validate(tree)


def trained(
    config: Config, folder: Path, *, resume: bool = False, net: SpikingNet | None = None
) -> SpikingNet:
    folder.mkdir(exist_ok=True)
    data = load_data(config.data.name, seed=3, train_images=config.data.train_images)
    return fit_float(config, data, folder, net=net, resume=resume, progress=False)


def lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Killed(Exception):
    """Stands for the kill signal."""


def killed_later(config: Config, folder: Path) -> None:
    """Train until somewhere in the second epoch."""
    net, passes = build(config, (1, 8, 8), classes=10), 0

    def die(module: torch.nn.Module, _: tuple[Tensor, ...]) -> None:
        nonlocal passes
        passes += module.training and len(lines(folder))
        if passes == 3:
            raise Killed

    net.register_forward_pre_hook(die)
    with pytest.raises(Killed):
        trained(config, folder, net=net)


def test_five_at_once_learn(tmp_path: Path) -> None:
    trained(config(TOGETHER, epochs=4, images=800), tmp_path)
    report = lines(tmp_path)
    assert report[-1]["loss"] < report[0]["loss"] - 0.2
    assert report[-1]["val_accuracy"] > 0.4


@pytest.mark.parametrize("methods", [TOGETHER, RANDOM], ids=["together", "random"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    methods: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    run = config(methods, epochs=3)
    whole = trained(run, tmp_path / "whole")
    killed_later(run, tmp_path / "parts")
    assert len(lines(tmp_path / "parts")) == 1
    torch.manual_seed(77)  # a resumed process has another random state
    resumed = trained(run, tmp_path / "parts", resume=True)
    ours, theirs = whole.state_dict(), resumed.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for a, b in zip(lines(tmp_path / "whole"), lines(tmp_path / "parts"), strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_adversarial_training_pays_under_attack(tmp_path: Path) -> None:
    attack: dict[str, Any] = {"eps": 0.15, "alpha": 0.08, "steps": 3}
    accuracy = {}
    tables: dict[str, dict[str, Any]] = {"plain": {}, "adversarial": {"adversarial": attack}}
    data = load_data("digits", seed=3, test_images=200)
    x, y = torch.tensor(data.x_test).float() / 255, torch.tensor(data.y_test)
    for name, methods in tables.items():
        net = trained(config(methods, epochs=6, images=600), tmp_path / name).eval()
        step = Step(
            model=net, x=x, y=y, progress=0.0, phase="float",
            generator=torch.Generator().manual_seed(0), encode=lambda images: direct(images, 3),
        )  # fmt: skip
        worse = Adversarial(**attack).inputs(step)
        accuracy[name] = float((step.forward(worse).logits.argmax(1) == y).double().mean())
    assert accuracy["adversarial"] > accuracy["plain"] + 0.1
