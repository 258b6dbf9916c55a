"""The `deploy` command where something goes wrong while the folder runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spikeport import costing, deploying
from spikeport.cost_report import describe_cost
from spikeport.hw import lava_import
from spikeport.hw.constants import RUNTIMES
from spikeport.hw.target import BOARDS

ROOT = Path(__file__).resolve().parents[1]


def deploy(finished: Path, folder: Path, **options: Any) -> dict[str, Any]:
    return deploying.deploy(finished / "bundle", folder, board="oheo-gulch", samples=2, **options)


@pytest.mark.lava
def test_a_run_that_takes_too_long_has_not_passed(finished: Path, tmp_path: Path) -> None:
    found = deploy(finished, tmp_path / "out", timeout_s=0.5)
    assert (found["passed"], found["state"], found["ran"]) == (False, "failed", None)
    assert found["missing"] == (
        "Lava did not finish within 0.5 s; give it a longer --timeout or fewer --samples"
    )
    assert (tmp_path / "out" / "run.py").exists()
    assert deploying.describe_deployment(found).endswith(f"run.py failed: {found['missing']}")


def test_without_lava_the_folder_is_written_and_that_is_said(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lava_import, "available", lambda: "Lava is away")
    found = deploy(finished, tmp_path / "out")
    assert (found["passed"], found["state"], found["ran"]) == (True, "no Lava", None)
    assert found["missing"] == "Lava is away"
    assert "its run.py did not run: Lava is away" in deploying.describe_deployment(found)


def test_the_summary_of_a_run() -> None:
    ran = {
        "passed": False, "ran_on": "Lava's CPU simulator", "samples": 2, "of": 8,
        "populations": {"a": {"differing": 1, "compared": 1000, "not_0": 70}},
        "logits": {"differing": 3, "compared": 20}, "built_from": "arrays",
        "readout": {"population": "b", "kind": "last_v"}, "not_compared": ["b"],
        "profile": {"total_power_w": [1.0, 2.0], "vdd_power_w": [0.5]},
        "missing": "no board: buy one",
    }  # fmt: skip
    result = {"folder": "out", "board": "oheo-gulch", "files": ["run.py"], "state": "compared",
              "ran": ran}  # fmt: skip
    assert deploying.describe_deployment(result).splitlines() == [
        "wrote out for oheo-gulch: run.py",
        "a: 1 of 1,000 spikes differ (70 fired)",
        "b, last_v: 3 of 20 potentials differ",
        "b: not compared",
        "total_power_w: 1.5, mean of 2 executions",
        "vdd_power_w: 0.5",
        "NOT as expected: 2 of 8 samples on Lava's CPU simulator, built from arrays",
        "no board: buy one",
    ]


def test_the_boards_options_go_into_the_readme(finished: Path, tmp_path: Path) -> None:
    said = {"host": "slurm", "partition": "g", "generation": "N3B3", "node": None, "profile": True}
    deploy(finished, tmp_path / "out", run=False, for_board=said)
    line = "\nOn the board: python run.py --host=slurm --partition=g --generation=N3B3 --profile\n"
    assert line in (tmp_path / "out" / "README.txt").read_text()


def test_the_boards_options_need_a_board(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spikeport.hw.lava_board.available", lambda: "Lava is away")
    message = (
        r"^--profile: for boards only, and no board can be used: Lava is away; leave them out to"
        r" use the simulator, or add --no-run, which writes them into the README$"
    )
    with pytest.raises(ValueError, match=message):
        deploy(finished, tmp_path / "out", for_board={"profile": True})
    assert not list(tmp_path.iterdir())


def test_the_folder_says_what_it_costs(finished: Path, tmp_path: Path) -> None:
    deploy(finished, tmp_path / "out", run=False)
    told = (tmp_path / "out" / "cost.txt").read_text()
    found = json.loads((tmp_path / "out" / "cost.json").read_text())
    direct = costing.cost(finished / "bundle", target="oheo-gulch", samples=2, runtime="scaled")
    assert found == json.loads(json.dumps(direct))
    assert told == describe_cost(direct) + "\n"
    assert "as a proxy for loihi2" in told
    assert "at least: max-affine model, scaled: loihi2" in told
    sums = (tmp_path / "out" / "SHA256SUMS").read_text()
    assert {"cost.txt", "cost.json"} <= {line.split("  ")[1] for line in sums.splitlines()}


def test_there_is_no_run_time_bound_of_loihi_1(finished: Path) -> None:
    told = deploying.cost_reports(finished / "bundle", board="nahuku-32", samples=2)
    assert json.loads(told["cost.json"])["runs"]["vectors"]["bound"] is None
    assert "Davies 2018: loihi1, 14 nm" in told["cost.txt"]
    assert "max-affine" not in told["cost.txt"]


def test_run_time_constants_are_of_the_boards_chip() -> None:
    """A set that is published for a chip belongs into its folders; two would need a choice."""
    chips = [constants.chip for constants in RUNTIMES.values()]
    assert len(set(chips)) == len(chips)
    assert set(chips) <= {board.chip.name for board in BOARDS.values()}


def failing(finished: Path, tmp_path: Path, text: str) -> tuple[str, Any]:
    """What is made of a folder whose script is `text`, with an older result beside it."""
    deploy(finished, tmp_path / "out", run=False)
    (tmp_path / "out" / "run.py").write_text(text)
    (tmp_path / "out" / "result.json").write_text('{"passed": true}')
    return deploying.run_folder(tmp_path / "out", samples=1, timeout_s=60, given={})


@pytest.mark.parametrize("code", [2, 3, -9])
def test_a_result_counts_only_if_the_script_says_so(
    finished: Path, tmp_path: Path, code: int
) -> None:
    end = f"os.kill(os.getpid(), {-code})" if code < 0 else f"sys.exit({code})"
    text = f"import os, sys\nprint('run.py: the disk is full', file=sys.stderr, flush=True)\n{end}"
    assert failing(finished, tmp_path, text) == ("failed", "the disk is full")


def test_a_script_that_ends_well_is_believed(finished: Path, tmp_path: Path) -> None:
    assert failing(finished, tmp_path, "raise SystemExit(0)") == ("compared", {"passed": True})


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


def started(finished: Path, here: Path, **streams: Any) -> subprocess.Popen[str]:
    """A command that deploys into `here`/out, in a process of its own, whose Lava runs by now."""
    words = ["deploy", str(finished / "bundle"), "--board", "oheo-gulch", "--out", "out"]
    command = subprocess.Popen(
        [sys.executable, "-m", "spikeport", *words],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        # A suite that runs in the background of a shell ignores SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **streams,
    )
    child = here / "out" / "play.py"
    wait_until(lambda: running(child) or command.poll() is not None)
    assert running(child), "the command ended before Lava ran"
    return command


@pytest.mark.lava
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_command_leaves_no_process(
    finished: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = started(finished, tmp_path, stdout=subprocess.DEVNULL)
    script, child = tmp_path / "out" / "run.py", tmp_path / "out" / "play.py"
    stopped = running(child)
    assert stopped, "Lava ended before it was stopped"
    for process in stopped:
        os.kill(process, signal.SIGSTOP)  # else it might finish by itself
    command.send_signal(number)
    assert command.wait(30) != 0
    wait_until(lambda: not running(script))
    assert running(child) == stopped
    for process in stopped:
        os.kill(process, signal.SIGCONT)
    wait_until(lambda: not running(child))
    assert not list((tmp_path / "out").glob("*result*"))


@pytest.mark.lava
def test_a_stopped_command_waits_until_lava_has_ended(finished: Path, tmp_path: Path) -> None:
    command = started(finished, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    command.send_signal(signal.SIGINT)
    time.sleep(0.02)  # ending Lava takes longer
    command.send_signal(signal.SIGINT)  # as users do who cannot wait
    sentence = "spikeport: stopped by the user; what was already written is whole\n"
    assert command.communicate(timeout=60) == ("", sentence)
    assert command.returncode == 130
    assert not running(tmp_path / "out" / "play.py")
    assert not running(tmp_path / "out" / "run.py")
    assert not list((tmp_path / "out").glob("*result*"))
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_samples_are_those_of_the_bundle(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, here = finished / "bundle", "oheo-gulch"
    for first, samples, played in ((64, None, 8), (3, None, 3), (3, 8, 8), (3, 1, 1)):
        monkeypatch.setattr(deploying, "FIRST", first)
        folder = tmp_path / f"{first} {samples}"
        deploying.deploy(bundle, folder, board=here, run=False, samples=samples)
        found = json.loads((folder / "cost.json").read_text())
        assert found["runs"]["vectors"]["samples"] == played
    message = r"^samples is 9; allowed are 1\.\.8, the test vectors of .*; for more export with"
    with pytest.raises(ValueError, match=message):
        deploying.deploy(bundle, tmp_path / "x", board=here, samples=9)
    assert not (tmp_path / "x").exists()
