"""Child process in which real Lava runs: `python -m spikeport.hw.lava_child JOB FOLDER`.

Reads a job (see `lava_job`), fills the recordings that its parent laid out in FOLDER and exits
with 0, or writes one line into FOLDER/error and exits with 1. When its standard input ends, the
parent is gone, and the child ends its whole process group.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw import lava_group, lava_job
from spikeport.hw.lava_import import quiet
from spikeport.hw.lava_record import Window, chip_steps, executions, stems, windows
from spikeport.hw.lava_run import ERROR_FILE
from spikeport.sim.net import FixedNet

WATCH_S = 0.1


def main(job: Path, folder: Path) -> None:
    """Run `job` on Lava's multi-process runtime and fill the recordings in `folder`."""
    guard(folder)
    try:
        net, x, record = lava_job.load(job)
        found = windows(net, x, record=record)
        for samples in executions(net, x.shape[1]):
            part = x[:, samples.start : samples.stop]
            played = {name: replace(window, samples=samples) for name, window in found.items()}
            _play(net, part, played, folder=folder)
    except Exception as problem:
        fail(folder, f"{type(problem).__name__}: {problem}")


def _play(
    net: FixedNet, x: NDArray[np.int64], played: Mapping[str, Window], *, folder: Path
) -> None:
    """One execution, which plays `x` [T, B, *shape] and records the windows of all populations."""
    from spikeport.hw import lava_net
    from spikeport.hw.lava_processes.recorder import Recorder

    with lava_net.forgetting():
        processes = lava_net.build(net, x)
        for (name, window), stem in zip(played.items(), stems(folder), strict=False):
            lif = processes.neurons[name]
            recorder = Recorder(window=window, stem=stem)
            lif.s_out.connect(recorder.s_in)
            recorder.u.connect_var(lif.u)
            recorder.v.connect_var(lif.v)
        execute(processes.source, chip_steps(net, x.shape), folder=folder)


def guard(folder: Path) -> None:
    """Lead a process group, name its segments after `folder`, end it when the parent is gone."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    prefix = f"/{lava_group.segment_prefix(folder)}"
    # CPython 3.10, the only Python that Lava 0.10 runs on, has no public way to name the segments
    # that a SharedMemoryManager makes.
    vars(shared_memory).update(_SHM_NAME_PREFIX=prefix, _SHM_SAFE_NAME_LENGTH=len(prefix) + 8)
    threading.Thread(target=_end_when_orphaned, args=(folder,), daemon=True).start()


def execute(process: Any, chip_steps: int, *, folder: Path) -> None:
    """Run the processes connected to `process`; an exception in a process model ends the child."""
    with quiet():
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi2SimCfg

        process.create_runtime(run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        with _watched(process.runtime, folder):
            process.run(condition=RunSteps(num_steps=chip_steps))
        process.stop()


def fail(folder: Path, message: str) -> None:
    """Leave `message` as one line and end the whole group: after an exception Lava's own `stop`
    waits for ever."""
    (folder / ERROR_FILE).write_text(" ".join(message.split()), encoding="utf-8")
    _end_others(folder)
    os._exit(1)


@contextmanager
def _watched(runtime: Any, folder: Path) -> Iterator[None]:
    """Inside, a process model that raises or dies ends the child; Lava alone would hang."""
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(WATCH_S):
            if (cause := _cause(runtime)) is not None:
                fail(folder, cause)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except RuntimeError as problem:  # Lava noticed by itself, but only prints the cause
        fail(folder, _cause(runtime) or str(problem))
    finally:
        finished.set()
        watcher.join()


def _cause(runtime: Any) -> str | None:
    """Why one of Lava's processes has failed, None while all is well."""
    for actor in runtime._messaging_infrastructure.actors:
        if actor.exception is not None:
            return str(actor.exception[1]).strip().splitlines()[-1]
        if not actor._is_done and actor.exitcode:
            return f"a process of Lava's died with exit code {actor.exitcode}"
    return None


def _end_when_orphaned(folder: Path) -> None:
    while os.read(0, 1):
        pass
    _end_others(folder)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _end_others(folder: Path) -> None:
    # The resource tracker ends by itself when we do; it ignores SIGTERM, so do not wait for it.
    tracker = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    lava_group.end(os.getpgrp(), folder, spare=frozenset({os.getpid(), tracker}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
