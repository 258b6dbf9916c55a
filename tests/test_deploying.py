"""The `deploy` command where something goes wrong while the folder runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spikeport import deploying
from spikeport.hw import lava_import

ROOT = Path(__file__).resolve().parents[1]


def deploy(finished: Path, folder: Path, **options: Any) -> dict[str, Any]:
    return deploying.deploy(finished / "bundle", folder, board="oheo-gulch", samples=2, **options)


@pytest.mark.lava
def test_a_run_that_takes_too_long_has_not_passed(finished: Path, tmp_path: Path) -> None:
    found = deploy(finished, tmp_path / "out", timeout_s=0.5)
    assert (found["passed"], found["ran"]) == (False, None)
    assert found["missing"] == (
        "Lava did not finish within 0.5 s; give it a longer --timeout or fewer --samples"
    )
    assert (tmp_path / "out" / "run.py").exists()
    assert deploying.describe_deployment(found).endswith(f"did not run: {found['missing']}")


def test_without_lava_the_folder_is_written_and_that_is_said(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lava_import, "available", lambda: "Lava is away")
    found = deploy(finished, tmp_path / "out")
    assert (found["passed"], found["ran"], found["missing"]) == (True, None, "Lava is away")
    assert "its run.py did not run: Lava is away" in deploying.describe_deployment(found)


def test_the_summary_of_a_run() -> None:
    ran = {
        "ran_on": "Lava's CPU simulator", "samples": 2, "missing": "no board: buy one",
        "populations": {"a": {"differing": 1, "compared": 1000}, "b": {"differing": 2,
        "compared": 500}}, "logits": {"differing": 3, "compared": 20},
    }  # fmt: skip
    result = {"folder": "out", "board": "oheo-gulch", "files": ["run.py"], "ran": ran}
    assert deploying.describe_deployment(result).splitlines() == [
        "wrote out for oheo-gulch: run.py",
        "ran it on Lava's CPU simulator, 2 samples: 3 of 1,500 spikes differ",
        "3 of 20 scores differ",
        "no board: buy one",
    ]


def running(file: Path) -> list[int]:
    """Processes that run the Python file."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if str(file) in words:
            found.append(int(entry.name))
    return found


def wait_until(so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not so():
        assert time.monotonic() < deadline, "it did not come about in a minute"
        time.sleep(0.02)


@pytest.mark.lava
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_command_leaves_no_process(
    finished: Path, tmp_path: Path, number: signal.Signals
) -> None:
    words = ["deploy", str(finished / "bundle"), "--board", "oheo-gulch", "--out", "out"]
    command = subprocess.Popen(
        [sys.executable, "-m", "spikeport", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    script, child = tmp_path / "out" / "run.py", tmp_path / "out" / "play.py"
    wait_until(lambda: running(child) or command.poll() is not None)
    stopped = running(child)
    for process in stopped:
        os.kill(process, signal.SIGSTOP)  # else it might finish by itself
    command.send_signal(number)
    assert command.wait(30) != 0
    wait_until(lambda: not running(script))
    assert running(child) == stopped
    for process in stopped:
        os.kill(process, signal.SIGCONT)
    wait_until(lambda: not running(child))
