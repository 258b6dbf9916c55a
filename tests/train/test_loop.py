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


def written(folder: Path) -> dict[str, int]:
    """When each file of a run was written; config and summary are, again, by every call."""
    apart = ("config.toml", "summary.json")
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in apart]
    return {str(path): path.stat().st_mtime_ns for path in files}


def test_only_halves_of_its_own_files_are_removed(config: Config, tmp_path: Path) -> None:
    ours = [
        ".config.toml.a1b2c3d_.toml", ".float.safetensors.abcdefgh.safetensors", ".tmpA1b2C3",
        "logs/.float.csv.12345678.csv",
    ]  # fmt: skip
    theirs = [
        ".config.toml.swp",
        ".eslintrc.cjs.bak",
        ".tmp",
        "logs/.tmpfile.old",
        "sub/.tmpA1b2C3",
    ]
    for name in (*ours, *theirs):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".tmpfolds").mkdir()
    fit(override(config, ["train.epochs=1"]), tmp_path, progress=False)
    assert not any((tmp_path / name).exists() for name in ours)
    assert all((tmp_path / name).exists() for name in (*theirs, ".tmpfolds"))


def test_what_fails_in_the_first_epoch_leaves_nothing(config: Config, tmp_path: Path) -> None:
    bad = override(config, ["model.name=recurrent", "methods.mpd_sgr.stats=theory"])
    (tmp_path / "old").mkdir()
    for name in ("old", "new"):
        with pytest.raises(ValueError, match=r"needs a batch norm right before layer 'rec1\.lif'"):
            fit(bad, tmp_path / name, progress=False)
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]


def test_resuming_a_finished_run_trains_no_more(config: Config, tmp_path: Path) -> None:
    first = fit(config, tmp_path / "r", progress=False)
    text = (tmp_path / "r" / "metrics.jsonl").read_text()
    before = written(tmp_path / "r")
    again = fit(config, tmp_path / "r", resume=True, progress=False)
    assert (tmp_path / "r" / "metrics.jsonl").read_text() == text
    assert written(tmp_path / "r") == before
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


def test_a_folder_that_cannot_be_made_is_one_sentence(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"in: cannot be made \(Not a directory\); name a"):
        fit(config, tmp_path / "file" / "in", progress=False)
