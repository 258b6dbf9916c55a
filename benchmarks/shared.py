"""What the scripts here share: options that are places, bad input told in a sentence, jobs
side by side, and the modules of the tests that they use."""

from __future__ import annotations

import importlib.util
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import TypeVar

from spikeport import console

Job, Result = TypeVar("Job"), TypeVar("Result")
HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"


def existing_folder(text: str) -> Path:
    """An option's folder, which must be there."""
    if not Path(text).is_dir():
        raise ArgumentTypeError(f"{text} is no folder; name one that is there")
    return Path(text)


def file_to_write(text: str) -> Path:
    """An option's file, whose folder must be there, so that nothing is measured in vain."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise ArgumentTypeError(f"{text} cannot be written; name a file in a folder that is there")
    return path


@contextmanager
def in_threads(
    work: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int
) -> Iterator[Iterator[tuple[Job, Future[Result]]]]:
    """Each job and its ended `work`, in the order in which they end, `workers` of them at a time;
    what has not begun when the block is left is dropped."""
    with ThreadPoolExecutor(workers) as pool:
        started = {pool.submit(work, job): job for job in jobs}
        try:
            yield ((started[done], done) for done in as_completed(started))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def with_sentences() -> Iterator[None]:
    """Decorates a script's `main`: bad input becomes one sentence on standard error and exit code
    2, as in spikeport's commands. An error out of a library's depths keeps its trace."""
    try:
        with console.sentences():
            yield
    except ValueError as error:
        if Path(extract_tb(error.__traceback__)[-1].filename).parent != HERE:
            raise
        console.fail(str(error))


def of_tests(name: str) -> ModuleType:
    """The module in that file of `tests/`, which is no package."""
    path = TESTS / name
    spec = importlib.util.spec_from_file_location(f"_of_tests_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
