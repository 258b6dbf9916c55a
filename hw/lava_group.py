"""Process groups that leave nothing behind: no process, no shared-memory segment, no socket.

The leader of a group is started in a session of its own. What it leaves is found by names that both
sides derive from the job's folder, so that nothing of others is ever touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

PROC = Path("/proc")
SEGMENTS = Path("/dev/shm")
SOCKET = 108  # bytes of a socket's path and its end, unix(7)
GRACE_S = 5.0
POLL_S = 0.05


def segment_prefix(folder: Path) -> str:
    """Beginning of the names of all shared-memory segments of the job in `folder`."""
    return f"psm_{folder.name}_"


def temporary(folder: Path) -> Path:
    """Temporary folder of the job in `folder`, beside it. Lava's sockets lie there, and their paths
    may have `SOCKET` bytes at most; where they would be longer it is in /tmp."""
    name = segment_prefix(folder)
    beside = folder.parent / name
    fits = len(os.fsencode(beside)) + len("/pymp-12345678/listener-12345678") < SOCKET
    return beside if fits else Path("/tmp") / name


def members(group: int) -> set[int]:
    """Process ids in process group `group`, dead ones that nobody has collected left out."""
    found = set()
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        if not entry.name.isdigit():
            continue
        try:
            # "pid (name) state parent group ..."; the name may contain anything.
            state, _, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # it ended while we looked
        if int(owner) == group and state != "Z":
            found.add(int(entry.name))
    return found


def end(group: int, folder: Path, *, spare: frozenset[int | None] = frozenset()) -> None:
    """End all processes of `group` but `spare`, then remove the segments and sockets of the job in
    `folder`.

    SIGTERM first: it lets Python's resource tracker live, which removes segments by itself.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_S
        while (alive := members(group) - spare) and time.monotonic() < deadline:
            for pid in alive:  # again and again, as Lava may be about to start more
                _signal(pid, number)
            time.sleep(POLL_S)
    for segment in SEGMENTS.glob(f"{segment_prefix(folder)}*"):
        segment.unlink(missing_ok=True)
    shutil.rmtree(temporary(folder), ignore_errors=True)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it ended on its own
