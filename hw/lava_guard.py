"""Run a command as a process group of its own that leaves nothing behind.

Stands on its own: deployment folders carry this file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from spikeport.hw.lava_group import end
from spikeport.hw.lava_import import LavaError
from spikeport.sim.interrupt import deferred, undisturbed

ERROR_FILE = "error"
MOSTLY = {  # why Linux sends SIGBUS and SIGKILL
    7: " (mostly because /dev/shm is full)",
    9: " (mostly because no memory is left)",
}
LONGEST_S = 1e6  # the operating system cannot wait for ever longer


def check_timeout(seconds: float) -> None:
    """Raise ValueError unless `seconds` is a time that can pass."""
    if not 0 < seconds < LONGEST_S:
        raise ValueError(f"timeout is {seconds:g}; allowed are 0 to {LONGEST_S:g} seconds")


def guarded(command: Sequence[str], folder: Path, *, timeout_s: float) -> None:
    """Run `command` as a process group for the job in `folder`, and leave nothing of it behind.

    Raises TimeoutError after `timeout_s` seconds, and LavaError with the reason it left in the
    file "error" of `folder`, or else the last line it printed, when its exit code is not 0.
    """
    log = folder / "log"
    child = None
    with log.open("wb") as output:
        try:
            with deferred():
                child = subprocess.Popen(
                    command,
                    # The child reads this pipe: when we die, however that happens, it sees the end.
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=_environment(),
                )
            code = child.wait(timeout_s)
            # Read now: ending the group may print more.
            reason = _reason(folder, log, code) if code else None
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            if child is not None:
                with undisturbed():
                    end(child.pid, folder)
                    child.wait()
                    if child.stdin is not None:
                        child.stdin.close()
    if reason is not None:
        raise LavaError(f"Lava failed: {reason}")


def ended(code: int) -> str:
    """How a process ended whose exit code is not 0, by Python's rule that -9 is signal 9."""
    if code > 0:
        return f"ended with exit code {code}"
    return f"was ended by signal {-code}{MOSTLY.get(-code, '')}"


def _environment() -> dict[str, str]:
    """Ours, with the folder from which this very module came first among the child's paths."""
    top = Path(str(sys.modules[__name__.partition(".")[0]].__file__)).resolve()
    paths = [str(top.parents[1 if "." in __name__ else 0]), os.environ.get("PYTHONPATH", "")]
    # One thread each: Lava's dozen processes else fight for the cores.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return os.environ | threads | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _reason(folder: Path, log: Path, code: int) -> str:
    """One line on why the child failed."""
    error = folder / ERROR_FILE
    if error.exists():
        return error.read_text(encoding="utf-8")
    if -code in (*MOSTLY, signal.SIGTERM):  # explain themselves; the last line may be any chatter
        return f"its process {ended(code)}"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    printed = next((line.strip() for line in reversed(lines) if line.strip()), "")
    how = f"its process {ended(code)}" if code < 0 else f"exit code {code}"
    return f"{how}: {printed}" if printed else how
