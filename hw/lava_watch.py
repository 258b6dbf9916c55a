"""What a child that runs Lava needs: it ends its whole process group when anything goes wrong.

Lava hangs for ever after an exception, and a killed Lava leaves processes and shared memory behind.
Stands on its own: deployment folders carry this file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import Any

from spikeport.hw.lava_group import end, segment_prefix, temporary
from spikeport.hw.lava_guard import ERROR_FILE, ended
from spikeport.hw.lava_import import quiet

WATCH_S = 0.1


def guard(folder: Path) -> None:
    """Lead a process group whose segments and sockets are named after `folder`, and end it when the
    parent is gone."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    prefix = f"/{segment_prefix(folder)}"
    # CPython 3.10, the only Python that Lava 0.10 runs on, has no public way to name the segments
    # that a SharedMemoryManager makes.
    vars(shared_memory).update(_SHM_NAME_PREFIX=prefix, _SHM_SAFE_NAME_LENGTH=len(prefix) + 8)
    temporary(folder).mkdir(0o700)
    tempfile.tempdir = str(temporary(folder))
    threading.Thread(target=_end_when_orphaned, args=(folder,), daemon=True).start()


def execute(process: Any, chip_steps: int, *, folder: Path, config: Any = None) -> None:
    """Run the processes connected to `process`; an exception in a process model ends the child.

    config: Lava's run configuration, that of the CPU simulator if none.
    """
    with quiet():
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi2SimCfg

        process.create_runtime(run_cfg=config or Loihi2SimCfg(select_tag="fixed_pt"))
        with _watched(process.runtime, folder):
            process.run(condition=RunSteps(num_steps=chip_steps))
        process.stop()


def fail(folder: Path, message: str) -> None:
    """Leave `message` as one line and end the whole group: after an exception Lava's own `stop`
    waits for ever."""
    try:
        (folder / ERROR_FILE).write_text(" ".join(message.split()), encoding="utf-8")
    except OSError:  # a full disk must not keep us from ending
        (folder / ERROR_FILE).unlink(missing_ok=True)
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
            return f"a process of Lava's {ended(actor.exitcode)}"
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
    end(os.getpgrp(), folder, spare=frozenset({os.getpid(), tracker}))
