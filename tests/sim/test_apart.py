"""Tasks in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spikeport.sim.apart import Children, each, processes

TASKS = """
import os, signal, sys
from pathlib import Path

def double(path):
    file = Path(path)
    file.write_text(str(2 * int(file.read_text())))

def refuse(path):
    raise ValueError(f"{Path(path).name}: no")

def die_once(path):
    file = Path(path)
    if not file.exists():
        file.write_text("I was here")
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_each_task_runs_and_says_how_it_ended(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "abc"]
    for i, file in enumerate(files):
        file.write_text(str(i))
    names = [str(file) for file in files]
    done = dict(each("some_tasks:double", names, where="test", jobs=2))
    assert done == dict.fromkeys(names)
    assert [file.read_text() for file in files] == ["0", "2", "4"]
    assert dict(each("some_tasks:refuse", names[:1], where="test")) == {names[0]: "a: no"}


def test_a_killed_task_begins_again_if_it_may(tmp_path: Path) -> None:
    first, second = str(tmp_path / "x"), str(tmp_path / "y")
    assert list(each("some_tasks:die_once", [first], where="test")) == [(first, "ended with -9")]
    assert list(each("some_tasks:die_once", [second], where="test", tries=2)) == [(second, None)]


def test_as_many_processes_as_asked_for() -> None:
    assert processes(None, where="test") == os.cpu_count()
    assert processes(7, where="test") == 7
    for jobs in (0, -1):
        with pytest.raises(ValueError, match=f"^test: jobs is {jobs}; it must be at least 1$"):
            processes(jobs, where="test")


def test_at_least_one_at_a_time() -> None:
    with pytest.raises(ValueError, match=r"^test: jobs is 0; it must be at least 1$"):
        next(each("some_tasks:double", ["x"], where="test", jobs=0))


@pytest.mark.slow
def test_a_child_that_starts_while_all_stop_is_stopped_too() -> None:
    children = Children()
    early, late = (
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], text=True)
        for _ in range(2)
    )
    children.add(early)
    children.stop()
    children.add(late)
    assert {early.wait(20), late.wait(20)} == {-signal.SIGTERM}
