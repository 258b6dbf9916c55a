"""A whole run: what it leaves in its folder, what it gives back, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from spikeport.train.config import DIGITS, Config, load, override
from spikeport.train.data import load as load_data
from spikeport.train.epochs import evaluate
from spikeport.train.floating import load_float
from spikeport.train.loop import fit


@pytest.fixture
def config() -> Config:
    small = ["train.epochs=2", "model.name=dense", "model.hidden=24", "encode.steps=3"]
    return override(load(DIGITS), [*small, "train.seed=6", "quantise.epochs=1"])


def test_a_run_leaves_config_metrics_checkpoint_and_summary(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    summary = fit(config, folder, progress=False)
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.toml",
        "float.safetensors",
        "logs",
        "metrics.jsonl",
        "quantised.safetensors",
        "summary.json",
    ]
    assert load(folder / "config.toml") == config
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert json.loads((folder / "summary.json").read_text())["test_images"] == 540
    net, loaded = load_float(folder)
    data = load_data("digits", seed=6)
    accuracy = evaluate(net, data.x_test, data.y_test, encoder="direct", seed=6)
    assert loaded == config
    assert accuracy == summary.float_test_accuracy
    assert accuracy > 0.5


def test_resuming_a_finished_run_trains_no_more(config: Config, tmp_path: Path) -> None:
    first = fit(config, tmp_path / "r", progress=False)
    text = (tmp_path / "r" / "metrics.jsonl").read_text()
    again = fit(config, tmp_path / "r", resume=True, progress=False)
    assert (tmp_path / "r" / "metrics.jsonl").read_text() == text
    assert again.float_test_accuracy == first.float_test_accuracy


def test_refuses_a_used_folder_and_another_configuration(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    fit(override(config, ["train.epochs=1"]), folder, progress=False)
    with pytest.raises(ValueError, match=r"r: already holds a run; resume it or name another fold"):
        fit(config, folder, progress=False)
    with pytest.raises(
        ValueError, match=r"r: holds a run of another configuration; compare its co"
    ):
        fit(config, folder, resume=True, progress=False)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match=r"file: is a file; name a folder for the run$"):
        fit(config, file, progress=False)


def test_refusals_write_nothing(config: Config, tmp_path: Path) -> None:
    gone = override(config, ["data.name=mnist", f"data.folder={tmp_path / 'gone'}"])
    with pytest.raises(ValueError, match=r"gone: no such folder; mnist is read from train-images-"):
        fit(gone, tmp_path / "r", progress=False)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r'^train\.device is "cuda", but torch sees no such '):
            fit(override(config, ["train.device=cuda"]), tmp_path / "r", progress=False)
    assert not (tmp_path / "r").exists()
