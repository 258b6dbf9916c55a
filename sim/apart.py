"""Work in processes of their own, here or on the workers of a Dask cluster.

A task is the name of a function, "package.module:function", that takes one text, such as a folder
that says the rest, and leaves its result in files. Workers of a cluster need this package and the
same file system.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from threading import Lock

CALL = (
    "import importlib, sys; module, name = sys.argv[1].split(':');"
    " getattr(importlib.import_module(module), name)(sys.argv[2])"
)

Outcome = tuple[str, str | None]
"""What a task was given, and what went wrong, None if nothing did."""


def processes(jobs: int | None, *, where: str) -> int:
    """How many processes at a time `jobs` asks for, one a processor if None. where: for error
    sentences. Raises ValueError below 1."""
    if jobs is None:
        return os.cpu_count() or 1
    if jobs < 1:
        raise ValueError(f"{where}: jobs is {jobs}; it must be at least 1")
    return jobs


def each(
    function: str,
    arguments: Sequence[str],
    *,
    where: str,
    jobs: int = 1,
    cluster: str | None = None,
    tries: int = 1,
) -> Generator[Outcome, None, None]:
    """Call `function` with each of the `arguments`, and yield every outcome as it ends.

    jobs: processes at a time, which share the processors of this machine. cluster: address of a
    Dask scheduler whose workers do it instead. tries: how often a task begins again that was killed
    (an error of its own is not tried again). Closing the generator ends what runs here. where: for
    error sentences. Raises ValueError for jobs below 1 or where no cluster answers.
    """
    jobs = processes(jobs, where=where)
    if cluster is not None:
        yield from _on_cluster(function, arguments, cluster, where=where, tries=tries)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    started = Children()
    pool = ThreadPoolExecutor(jobs)
    try:
        futures: dict[Future[str | None], str] = {
            pool.submit(call, function, argument, threads, tries, started): argument
            for argument in arguments
        }
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:  # with tasks left only if the user has stopped us
        pool.shutdown(wait=False, cancel_futures=True)
        started.stop()


def _on_cluster(
    function: str, arguments: Sequence[str], address: str, *, where: str, tries: int
) -> Iterator[Outcome]:
    try:
        import distributed
    except ImportError:
        raise ValueError(
            f"{where}: a cluster needs Dask's distributed; install spikeport[cluster]"
        ) from None
    try:
        client = distributed.Client(address, timeout="10s")
    except (OSError, ValueError) as problem:
        raise ValueError(
            f"{where}: no Dask scheduler answers at {address!r} ({problem}); start one or check "
            "the address"
        ) from problem
    with client:
        # Not pure: a task that failed is to be tried again, not remembered.
        futures = {
            client.submit(call, function, argument, None, tries, pure=False): argument
            for argument in arguments
        }
        for future in distributed.as_completed(list(futures)):
            broken = future.exception()
            yield futures[future], str(broken) if broken else future.result()


class Children:
    """Processes that end when told to stop, those that are only just being started included."""

    def __init__(self) -> None:
        self._lock, self._all, self.stopped = Lock(), list[subprocess.Popen[str]](), False

    def add(self, child: subprocess.Popen[str]) -> None:
        """One more, which has no future if all were stopped meanwhile."""
        with self._lock:
            self._all.append(child)
            if self.stopped:
                child.terminate()

    def stop(self) -> None:
        """End all, now and from now on."""
        with self._lock:
            self.stopped = True
            for child in self._all:
                child.terminate()


def call(
    function: str, argument: str, threads: int | None, tries: int = 1,
    started: Children | None = None,
) -> str | None:  # fmt: skip
    """Call `function` in a fresh process of `threads` threads (None: as many as there are
    processors), which is noted in `started`; what went wrong, None if nothing did."""
    limits = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    for left in reversed(range(tries)):
        child = subprocess.Popen(
            [sys.executable, "-c", CALL, function, argument],
            env={**os.environ, **limits, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if started is not None:
            started.add(child)
        _, said = child.communicate()
        killed = child.returncode < 0 and not (started is not None and started.stopped)
        if not (killed and left):
            break
    if child.returncode == 0:
        return None
    last = said.strip().splitlines()[-1:] or [f"ended with {child.returncode}"]
    return last[0].removeprefix("ValueError: ")
