"""Run a `FixedNet` on the real, multi-process Lava runtime, in a child that cannot harm us.

Lava hangs on errors and leaks when killed. So it runs in a child process with its own session and
a hard time-out; whatever happens, no process and no shared-memory segment of it stays.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import spikeport
from spikeport.hw import lava_group, lava_job
from spikeport.hw.lava_import import LavaError, available, require
from spikeport.hw.lava_limits import refuse_synapses
from spikeport.hw.lava_record import Recording, chip_steps, executions, stems, windows
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import Trace

__all__ = ["ERROR_FILE", "LavaError", "available", "guarded", "run"]

ERROR_FILE = "error"
LONGEST_TMPDIR = 70


def run(net: FixedNet, x: Any, *, timeout_s: float, record: bool = True) -> Trace:
    """What Lava's runtime computes for integers `x` [T, B, *input.shape].

    With `record`, u and v of every step are kept. Raises LavaError where Lava is missing, dies or
    takes longer than `timeout_s` seconds (starting it takes 2 to 10; with delays in the network
    every sample starts it anew), and ValueError for wrong input or a net that Lava cannot run.
    """
    require()
    refuse_synapses(net)
    checked = net.input.check(x)
    with tempfile.TemporaryDirectory(prefix="spikeport-lava-") as name:
        folder = Path(name)
        job = folder / "job.npz"
        lava_job.save(job, net, checked, record=record)
        recordings = {
            population: Recording.in_files(window, stem, mode="w+")
            for (population, window), stem in zip(
                windows(net, checked, record=record).items(), stems(folder), strict=False
            )
        }
        command = [sys.executable, "-m", "spikeport.hw.lava_child", str(job), name]
        try:
            guarded(command, folder, timeout_s=timeout_s)
        except TimeoutError:
            reached = max(int(r.progress[0]) for r in recordings.values())
            raise LavaError(_too_slow(net, checked.shape, timeout_s, reached)) from None
        return Trace(populations={p: r.trace() for p, r in recordings.items()})


def guarded(command: Sequence[str], folder: Path, *, timeout_s: float) -> None:
    """Run `command` as a process group for the job in `folder`, and leave nothing of it behind.

    Raises TimeoutError after `timeout_s` seconds, and LavaError with the reason it left in the
    file "error" of `folder`, or else the last line it printed, when its exit code is not 0.
    """
    log = folder / "log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            # The child reads this pipe: when we die, however that happens, it sees the end.
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(),
        )
        try:
            code = child.wait(timeout_s)
            # Read now: ending the group may print more.
            reason = _reason(folder, log, code) if code else None
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            lava_group.end(child.pid, folder)
            child.wait()
            if child.stdin is not None:
                child.stdin.close()
    if reason is not None:
        raise LavaError(f"Lava failed: {reason}")


def _environment() -> dict[str, str]:
    """Ours, with the folder of this very spikeport first among the child's import paths."""
    paths = [str(Path(spikeport.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    # One thread each: Lava's dozen processes else fight for the cores.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # Lava's sockets lie in the temporary folder, and their paths may have 108 bytes at most.
    short = {"TMPDIR": "/tmp"} if len(tempfile.gettempdir()) > LONGEST_TMPDIR else {}
    return os.environ | threads | short | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _reason(folder: Path, log: Path, code: int) -> str:
    """One line on why the child failed."""
    error = folder / ERROR_FILE
    if error.exists():
        return error.read_text(encoding="utf-8")
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    printed = next((line.strip() for line in reversed(lines) if line.strip()), "")
    how = f"its process was ended by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}: {printed}" if printed else how


def _too_slow(net: FixedNet, shape: tuple[int, ...], timeout_s: float, reached: int) -> str:
    total = sum(chip_steps(net, (shape[0], len(samples))) for samples in executions(net, shape[1]))
    return (
        f"Lava did not finish within {timeout_s:g} s (chip step {reached} of {total} reached);"
        " allow more time, give fewer samples, or use the in-process backend"
    )
