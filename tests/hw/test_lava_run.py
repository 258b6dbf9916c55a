"""The real Lava runtime, and that nothing of it stays behind."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.hw import (
    lava_group,
    lava_guard,
    lava_inprocess,
    lava_job,
    lava_record,
    lava_run,
    lava_watch,
)
from spikeport.hw.lava_run import LavaError, available
from spikeport.sim import reference
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import first_difference

RandomNet = Callable[..., tuple[FixedNet, NDArray[np.int64]]]
CHILD = Path(__file__).parent / "failing_child.py"


def command(folder: Path, how: str) -> list[str]:
    return [sys.executable, str(CHILD), str(folder), how]


@pytest.fixture
def job() -> Iterator[Path]:
    """A folder whose name nobody else has: what a job leaves is told by it."""
    with tempfile.TemporaryDirectory(prefix="failing-") as name:
        yield Path(name)


def wait_for(path: Path) -> str:
    """The text of a file that another process is about to write."""
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)
    return path.read_text()


def group_of(folder: Path) -> set[int]:
    """Processes with the name of `folder` on their command line."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in words:
            found.add(int(entry.name))
    return found


@pytest.mark.lava
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("seed", range(6))
def test_the_runtime_gives_the_bits_of_the_reference(seed: int, random_net: RandomNet) -> None:
    net, x = random_net(seed, kind=(None, "conv", "dense")[seed % 3])
    record = seed != 5
    found = lava_run.run(net, x, timeout_s=120, record=record)
    expected = reference.run(net, x)
    assert first_difference(expected, found) is None
    for name, part in found.populations.items():
        np.testing.assert_array_equal(part.v_last, expected[name].v_last)
        assert (part.u is not None) == record


@pytest.mark.lava
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("seed", range(2))
def test_the_runtime_runs_loops_delays_and_our_neurons(seed: int, random_net: RandomNet) -> None:
    """Every sample has an execution of its own."""
    net, x = random_net(seed, kind=("recurrent", "delay")[seed], lava=False)
    assert lava_record.alone(net)
    found = lava_run.run(net, x[:, :2], timeout_s=120, record=seed == 0)
    expected = reference.run(net, x[:, :2])
    assert first_difference(expected, found) is None
    for name, part in found.populations.items():
        np.testing.assert_array_equal(part.v_last, expected[name].v_last)


def test_a_job_survives_its_file(random_net: RandomNet, tmp_path: Path) -> None:
    for seed in range(20):
        net, x = random_net(seed, lava=False, kind="recurrent")
        lava_job.save(tmp_path / "job.npz", net, x, record=bool(seed % 2))
        again, x_again, record = lava_job.load(tmp_path / "job.npz")
        assert again == net
        np.testing.assert_array_equal(x_again, x)
        assert record is bool(seed % 2)


# Failures: one sentence, and nothing stays behind.


@pytest.mark.lava
@pytest.mark.usefixtures("nothing_left")
def test_a_run_that_takes_too_long_is_ended(random_net: RandomNet) -> None:
    net, x = random_net(0)
    many = np.tile(x, (1, 100_000, *[1] * (x.ndim - 2)))
    message = (
        r"^Lava did not finish within 6 s \(chip step \d+ of \d+ reached\); allow more time, give"
        r" fewer samples, or use the in-process backend$"
    )
    with pytest.raises(LavaError, match=message):
        lava_run.run(net, many, timeout_s=6)


@pytest.mark.lava
@pytest.mark.usefixtures("nothing_left")
def test_progress_counts_the_steps_of_all_executions(random_net: RandomNet) -> None:
    net, x = random_net(0, kind="recurrent")
    many = np.tile(x, (1, 1000, *[1] * (x.ndim - 2)))
    total = many.shape[1] * (len(x) + max(net.depths.values()))
    with pytest.raises(LavaError, match=rf"\(chip step \d+ of {total} reached\)"):
        lava_run.run(net, many, timeout_s=3)


@pytest.mark.lava
@pytest.mark.usefixtures("nothing_left")
def test_an_exception_in_a_process_model_surfaces(job: Path) -> None:
    """Lava alone would hang for ever without a word."""
    start = time.monotonic()
    with pytest.raises(LavaError, match=r"^Lava failed: \w*TypeError: .*$") as found:
        lava_guard.guarded(command(job, "raise"), job, timeout_s=100)
    assert "\n" not in str(found.value)
    assert time.monotonic() - start < 60
    assert group_of(job) == set()


@pytest.mark.usefixtures("nothing_left")
def test_a_child_that_hangs_is_ended_with_its_children(job: Path) -> None:
    with pytest.raises(TimeoutError):
        lava_guard.guarded(command(job, "hang"), job, timeout_s=3)
    assert wait_for(job / "ready").startswith(lava_group.segment_prefix(job))
    assert group_of(job) == set()


@pytest.mark.usefixtures("nothing_left")
def test_a_child_that_dies_tells_its_last_words(job: Path) -> None:
    with pytest.raises(LavaError, match=r"^Lava failed: exit code 7: the last words$"):
        lava_guard.guarded(command(job, "print"), job, timeout_s=60)
    assert group_of(job) == set()


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_group_that_is_killed_leaves_nothing(job: Path, number: signal.Signals) -> None:
    def kill() -> None:
        wait_for(job / "ready")
        os.killpg(os.getpgid(min(group_of(job))), number)

    killer = threading.Thread(target=kill)
    killer.start()
    why = r" \(mostly because no memory is left\)" if number == signal.SIGKILL else ""
    message = rf"^Lava failed: its process was ended by signal {number}{why}$"
    with pytest.raises(LavaError, match=message):
        lava_guard.guarded(command(job, "hang"), job, timeout_s=60)
    killer.join()
    assert group_of(job) == set()


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_parent_that_is_killed_leaves_nothing(job: Path, number: signal.Signals) -> None:
    program = (
        "import pathlib, signal; from spikeport.hw import lava_guard\n"
        # A suite that runs in the background of a shell, or under nohup, ignores SIGINT.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"folder = pathlib.Path({str(job)!r})\n"
        f"lava_guard.guarded({command(job, 'hang')!r}, folder, timeout_s=600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    wait_for(job / "ready")
    parent.send_signal(number)
    while number == signal.SIGINT and parent.poll() is None:  # as users do who cannot wait
        time.sleep(0.02)
        parent.send_signal(number)
    assert parent.wait(30) != 0
    deadline = time.monotonic() + 15
    while group_of(job) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert group_of(job) == set()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (3, "exit code 3: the last words"),
        (-signal.SIGTERM, "its process was ended by signal 15"),
        (-signal.SIGABRT, "its process was ended by signal 6: the last words"),
    ],
)
def test_last_words_are_told_where_the_end_does_not_explain_itself(
    code: int, says: str, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("an import chatters\nthe last words\n\n")
    assert lava_guard._reason(tmp_path, tmp_path / "log", code) == says


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (3, "ended with exit code 3"),
        (-signal.SIGTERM, "was ended by signal 15"),
        (-signal.SIGBUS, "was ended by signal 7 (mostly because /dev/shm is full)"),
    ],
)
def test_how_a_process_of_lavas_ended(code: int, says: str) -> None:
    dead = SimpleNamespace(exception=None, _is_done=False, exitcode=code)
    alive = SimpleNamespace(exception=None, _is_done=False, exitcode=None)
    runtime = SimpleNamespace(_messaging_infrastructure=SimpleNamespace(actors=[alive, dead]))
    assert lava_watch._cause(runtime) == f"a process of Lava's {says}"


@pytest.mark.usefixtures("nothing_left")
def test_groups_are_ended_from_other_threads_too(job: Path) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            lava_guard.guarded(command(job, "print"), job, timeout_s=60)
        except LavaError as problem:
            failed.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [str(problem) for problem in failed] == ["Lava failed: exit code 7: the last words"]
    assert group_of(job) == set()


# Without Lava


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (
            (3, 11, 4),
            "Lava 0.10.0 runs on Python 3.10 only and this is Python 3.11; make a Python 3.10"
            " environment and install spikeport there",
        ),
        (
            (3, 10, 9),
            "Lava is not installed; install it with `pip install lava-nc==0.10.0 lava-dl==0.6.0"
            " setuptools`",
        ),
    ],
)
def test_without_lava_both_backends_say_so(
    version: tuple[int, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    random_net: RandomNet,
) -> None:
    net, x = random_net(0)
    find = importlib.util.find_spec

    def no_lava(name: str, package: str | None = None) -> Any:
        return None if name == "lava" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", no_lava)
    monkeypatch.setattr(sys, "version_info", version)
    assert available() == message
    with pytest.raises(LavaError) as real:
        lava_run.run(net, x, timeout_s=1)
    with pytest.raises(LavaError) as inprocess:
        lava_inprocess.run(net, x)
    assert str(real.value) == str(inprocess.value) == message


@pytest.mark.lava
def test_with_lava_it_is_available_and_asking_does_not_import_it() -> None:
    program = (
        "import sys; from spikeport.hw import lava_run, lava_inprocess, deploy\n"
        "print(lava_run.available(), 'lava' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "None False False\n"


@pytest.mark.lava
@pytest.mark.usefixtures("nothing_left")
def test_a_long_temporary_folder_does_not_stop_lava(
    random_net: RandomNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    net, x = random_net(3)
    found = lava_run.run(net, x, timeout_s=120)
    assert first_difference(reference.run(net, x), found) is None
