"""Training that is killed without warning, and resumed, ends as training that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CONFIG = """
[data]
name = "digits"
[encode]
steps = 3
[model]
name = "dense"
hidden = 24
[train]
epochs = 4
lr = 0.02
seed = 3
device = "cpu"
keep = "best"
shift = 0.3
[methods.mpd_sgr]
eta = 0.3
[quantise]
target = "loihi2"
epochs = 3
"""
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes to kill them")


@pytest.fixture(scope="module")
def toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "c.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def whole(toml: Path) -> Path:
    """A run that nothing interrupted."""
    folder = toml.parent / "whole"
    killed(toml, folder, kills=0)
    return folder


def killed(toml: Path, folder: Path, *, kills: int) -> dict[str, int]:
    """Train into `folder` with `kills` kills on the way; what they struck."""
    arguments = [str(toml), str(folder), "5", str(kills)]
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_run.py"), *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "metrics.jsonl").read_text()
    return [{**json.loads(line), "seconds": 0} for line in text.splitlines()]


def compare(folder: Path, whole: Path) -> None:
    """Everything that a run leaves, but the seconds it took."""
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in whole.iterdir())
    ours, theirs = (json.loads((f / "summary.json").read_text()) for f in (folder, whole))
    for key in ("float_test_accuracy", "quantised_test_accuracy"):
        assert ours[key] == theirs[key]
    assert lines(folder) == lines(whole)
    for name in ("float.safetensors", "quantised.safetensors"):
        a, b = load_file(folder / name), load_file(whole / name)
        assert a.keys() == b.keys()
        assert [k for k in a if not torch.equal(a[k], b[k])] == []


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(toml: Path, whole: Path, tmp_path: Path) -> None:
    """Every third kill waits until a checkpoint is half written; others strike anywhere."""
    struck = killed(toml, tmp_path / "run", kills=12)
    assert sum(struck.values()) >= 4
    compare(tmp_path / "run", whole)


@pytest.mark.slow
def test_the_command_goes_on_after_a_kill(toml: Path, whole: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spikeport", "train", str(toml), "--out", str(tmp_path / "r")]
    first = subprocess.Popen(
        [*command, "--json"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while first.poll() is None and not (tmp_path / "r" / "float.safetensors").is_file():
        time.sleep(0.002)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    done = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    assert "ightning" not in done.stdout + done.stderr
    compare(tmp_path / "r", whole)
