"""killed_run.py CONFIG FOLDER SEED KILLS: train, be killed without warning, resume, until done.

Prints one JSON line: how many kills struck in each phase, and how many struck a file half written.
The training processes are forks of this one, so that they start at once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning_fabric  # noqa: F401  (so that no fork has to)
import torch

from spikeport.train.config import Config, load
from spikeport.train.loop import fit


def started(config: Config, folder: Path, *, slow_disk: bool = False) -> int:
    """The id of a process that trains, resuming what is there; with `slow_disk` files stay half
    written long enough for a busy machine to see them."""
    child = os.fork()
    if child == 0:
        if slow_disk:
            os.replace = slowly(os.replace)
        code = 1
        try:
            fit(config, folder, resume=True, progress=False)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def slowly(replace: Callable[..., None]) -> Callable[..., None]:
    """`replace` after a pause."""

    def found(*given: Any) -> None:
        time.sleep(0.1)
        replace(*given)

    return found


def strike(child: int, folder: Path, *, after_s: float, writing: bool) -> str | None:
    """Kill `child` after a while, or if `writing` when the next checkpoint is half written. What it
    was doing: a phase, "half"; None if it was done before."""
    moment = time.monotonic() + after_s
    half = False
    while time.monotonic() < moment or (writing and not half):
        if os.waitpid(child, os.WNOHANG)[0]:
            return None
        names = os.listdir(folder) if folder.is_dir() else []
        half = any(n.startswith((".float.safe", ".quantised.safe")) for n in names)
        if half and writing and time.monotonic() >= moment:
            break
        if not writing:
            time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if any(n.startswith(".") for n in os.listdir(folder)) if folder.is_dir() else False:
        return "half"
    return "quantised" if (folder / "quantised.safetensors").is_file() else "float"


def main() -> None:
    """See the module."""
    config, folder = load(sys.argv[1]), Path(sys.argv[2])
    draws, kills = random.Random(int(sys.argv[3])), int(sys.argv[4])
    torch.set_num_threads(1)
    found: Counter[str] = Counter()
    for i in range(kills):
        writing = i % 3 == 2
        child = started(config, folder, slow_disk=writing)
        struck = strike(child, folder, after_s=draws.uniform(0, 0.6), writing=writing)
        if struck is None:
            break
        found[struck] += 1
    child = started(config, folder)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit("the last run failed")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
