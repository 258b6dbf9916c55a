"""The float phase: a seed's network, trained, and read back from its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from spikeport.train.config import DIGITS, Config, load, override, to_toml
from spikeport.train.data import load as load_data
from spikeport.train.floating import build, fit_float, float_phase, load_float
from spikeport.train.methods.mpd_sgr import MpdSgr


@pytest.fixture
def config() -> Config:
    small = ["train.epochs=1", "model.name=dense", "model.hidden=24", "encode.steps=3"]
    return override(load(DIGITS), [*small, "train.seed=6"])


def test_weights_follow_the_seed_and_the_callers_random_state_does_not(config: Config) -> None:
    state = torch.get_rng_state()
    first, again, other = (
        build(c, (1, 8, 8), classes=10).layers.fc1.weight
        for c in (config, config, override(config, ["train.seed=7"]))
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_loads_what_it_trained(config: Config, tmp_path: Path) -> None:
    data = load_data("digits", seed=6)
    net = fit_float(config, data, tmp_path, progress=False)
    (tmp_path / "config.toml").write_text(to_toml(config))
    loaded, same_config = load_float(tmp_path)
    assert same_config == config
    assert not loaded.training
    x = torch.tensor(data.x_val).float().expand(3, -1, -1, -1, -1) / 255
    with torch.no_grad():
        assert torch.equal(loaded(x).logits, net(x).logits)
    untrained = build(config, data.shape, classes=10)
    assert not torch.equal(loaded.layers.fc1.weight, untrained.layers.fc1.weight)


def test_every_training_setting_reaches_the_phase(config: Config) -> None:
    settings = {
        "epochs": 17, "batch": 19, "lr": 0.3, "weight_decay": 0.2, "seed": 23,
        "shift": 0.8, "rotate": 0.9, "flip": True, "crop": 2, "optimiser": "sgd", "warm_up": 0.1,
        "clip": 0.4, "devices": 2, "nodes": 3, "precision": "bf16-mixed", "keep": "best",
        "patience": 4,
    }  # fmt: skip
    changed = override(config, [f"train.{k}={json.dumps(v)}" for k, v in settings.items()])
    phase = float_phase(override(changed, ["encode.name=poisson"]), load_data("digits", seed=6))
    assert {k: getattr(phase, k) for k in settings} == settings
    assert (phase.encoder, phase.device, phase.loss) == ("poisson", "cpu", "cross_entropy")
    assert phase.methods == (MpdSgr(eta=0.3),)


def test_missing_checkpoint_is_one_sentence(config: Config, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(to_toml(config))
    with pytest.raises(ValueError, match=r"float\.safetensors: no such checkpoint; train first or"):
        load_float(tmp_path)
