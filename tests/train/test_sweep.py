"""Sweeps: every combination runs once, failures are reported, and a second call goes on."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spikeport.cli import app
from spikeport.train.config import DIGITS, Config, load, override
from spikeport.train.sweep import axes_of, describe, sweep
from spikeport.training import describe_sweep

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ["train.epochs=1", "model.name=dense", "model.hidden=8", "encode.steps=2"]


@pytest.fixture
def config() -> Config:
    return override(load(DIGITS), [*SMALL, "quantise.epochs=1"])


def test_axes_are_read_from_texts() -> None:
    axes = axes_of(["train.seed=0, 1,2", "model.name=dense,conv", "model.channels=[4,8],[6, 9]"])
    assert axes == {
        "train.seed": [0, 1, 2],
        "model.name": ["dense", "conv"],
        "model.channels": [[4, 8], [6, 9]],
    }
    with pytest.raises(
        ValueError, match=r"^--sweep 'train\.seed': write it as section\.key=value,value$"
    ):
        axes_of(["train.seed"])
    with pytest.raises(ValueError, match=r": train\.seed is an axis already; name it once$"):
        axes_of(["train.seed=1", "train.seed=2"])


@pytest.mark.parametrize("option", ["--jobs 2", "--cluster tcp://127.0.0.1:9"])
def test_options_of_a_sweep_without_one(option: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", "--out", str(tmp_path / "new"), *option.split()])
    assert done.exit_code == 2
    assert "are for sweeps; say what to try with --sweep" in done.output
    assert list(tmp_path.iterdir()) == []


def test_combinations_that_cannot_be_are_refused_before_anything_runs(
    config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "s"
    with pytest.raises(ValueError, match=r"^sweep: jobs is 0; it must be at least 1$"):
        sweep(config, {"train.seed": [1]}, folder, jobs=0)
    with pytest.raises(ValueError, match=r"^--set: train\.seed is -1; it should be greater than o"):
        sweep(config, {"train.seed": [1, -1]}, folder)
    with pytest.raises(ValueError, match=r"=1; give every value once, and values that differ in "):
        sweep(config, {"train.seed": [1, 1]}, folder)
    with pytest.raises(ValueError, match=r"^sweep: an axis has no values; give each at least one$"):
        sweep(config, {"train.seed": []}, folder)
    assert not folder.exists()
    (folder / "train.seed=1").mkdir(parents=True)
    (folder / "train.seed=1" / "config.toml").write_bytes(DIGITS.read_bytes())
    with pytest.raises(
        ValueError, match=r"train\.seed=1: holds a run of another configuration; compare its config"
    ):
        sweep(config, {"train.seed": [1]}, folder)


@pytest.mark.slow
def test_runs_are_kept_failures_reported_and_a_second_call_goes_on(
    config: Config, tmp_path: Path
) -> None:
    config = override(config, ["train.shift=0"])
    axes: dict[str, list[Any]] = {"train.seed": [4, 5], "train.lr": [0.02]}
    bad = tmp_path / "s" / "train.seed=5_train.lr=0.02"
    bad.mkdir(parents=True)
    (bad / "float.safetensors").write_bytes(b"no checkpoint")
    said: list[str] = []
    report = sweep(config, axes, tmp_path / "s", jobs=2, progress=said.append)
    assert json.loads((tmp_path / "s" / "sweep.json").read_text()) == report
    good, failed = report["runs"]
    assert (report["failed"], good["status"], failed["status"]) == (1, "done", "failed")
    assert failed["error"].startswith(f"{bad}/float.safetensors: truncated or no checkpoint of our")
    assert describe(failed) == f"train.seed=5_train.lr=0.02 failed: {failed['error']}"
    assert describe_sweep(report).splitlines()[1:] == [
        describe(failed), f"2 runs in {tmp_path}/s, 1 failed",
    ]  # fmt: skip
    assert good["settings"] == {"train.seed": 4, "train.lr": 0.02}
    assert set(good["metrics"]) == {"float", "quantised"}
    run = tmp_path / "s" / "train.seed=4_train.lr=0.02"
    assert json.loads((run / "result.json").read_text()) == good
    assert load(run / "config.toml").train.seed == 4
    assert sorted(said)[0][:5] == "1 of "
    (bad / "float.safetensors").unlink()
    before = (run / "summary.json").stat().st_mtime_ns
    again = sweep(config, axes, tmp_path / "s")
    assert [r["status"] for r in again["runs"]] == ["done", "done"]
    assert again["runs"][0] == good
    assert (run / "summary.json").stat().st_mtime_ns == before
    with (tmp_path / "s" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["settings/train.seed"] for row in rows] == ["4", "5"]
    accuracy = float(rows[0]["summary/float_test_accuracy"])
    assert accuracy == good["summary"]["float_test_accuracy"]


def test_a_cluster_that_is_not_there(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("distributed"):
        with pytest.raises(
            ValueError, match=r"^sweep: no Dask scheduler answers at 'gone://x' \(.*; start one or "
        ):
            sweep(config, {"train.seed": [1]}, tmp_path, cluster="gone://x")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        ValueError, match=r"^sweep: a cluster needs Dask's distributed; install spikeport\[cluster"
    ):
        sweep(config, {"train.seed": [1]}, tmp_path, cluster="tcp://localhost:1")


ON_CLUSTER = """
import json, sys
from pathlib import Path
from distributed import LocalCluster
from spikeport.train.config import DIGITS, load, override
from spikeport.train.sweep import sweep

if __name__ == "__main__":
    config = override(load(DIGITS), {settings!r})
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        report = sweep(config, {{"train.seed": [7]}}, Path(sys.argv[1]), cluster=address)
    print(json.dumps(report))
"""


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("distributed"), reason="needs Dask's distributed")
def test_a_cluster_trains_the_same(tmp_path: Path) -> None:
    """In a process of its own, because these tests may not open the sockets that Dask needs."""
    script = tmp_path / "script.py"
    script.write_text(ON_CLUSTER.format(settings=[*SMALL, "quantise.epochs=1"]))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "s")],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert run["status"] == "done", run
    assert (tmp_path / "s" / "train.seed=7" / "summary.json").is_file()


def test_a_stopped_sweep_stops_its_runs(config: Config, tmp_path: Path) -> None:
    """The runs after the first would take many minutes."""
    config = override(config, ["train.shift=0"])

    def stop(_: str) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sweep(config, {"train.epochs": [1, 50_000, 60_000]}, tmp_path, progress=stop)
    assert time.monotonic() - started < 120
    done = [path.parent.name for path in tmp_path.rglob("summary.json")]
    assert done == ["train.epochs=1"]
    again = sweep(config, {"train.epochs": [1]}, tmp_path)
    assert again["runs"][0]["status"] == "done"
