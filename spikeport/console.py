"""What all commands share: how they print, and how bad input becomes a sentence.

Exit codes: 0 done, 1 a check failed, 2 bad input, 130 stopped by Ctrl-C; the last two with one
sentence on standard error.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from spikeport.sim.interrupt import heard

# No emoji: a colon in a path is a colon.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

# What any read or write may meet: a place that cannot be used, never a defect of ours.
DISK = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO,
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP,
})  # fmt: skip

STOPPED = 130  # 128 + SIGINT: what a shell reports of a command that Ctrl-C ends

BundlePath = Annotated[Path, typer.Argument(help="Folder that `spikeport export` wrote.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
Timeout = Annotated[float, typer.Option(help="Hard limit of a multi-process Lava run, seconds.")]


@contextmanager
def sentences() -> Iterator[None]:
    """Turn bad input into one sentence and exit code 2, and Ctrl-C into one and `STOPPED`;
    everything unexpected keeps its trace."""
    try:
        with heard():
            yield
    except (ValueError, OSError, OverflowError) as problem:
        code = getattr(problem, "errno", None)
        if code in DISK:
            where = getattr(problem, "filename", None) or "a file"
            fail(f"{where}: {os.strerror(code)}; name another place, or mend this one")
        if not _raised_by_us(problem):
            raise
        fail(str(problem))
    except RuntimeError as problem:
        from spikeport.hw.lava_run import LavaError

        if not isinstance(problem, LavaError):
            raise
        fail(str(problem))
    except KeyboardInterrupt:
        fail("stopped by the user; what was already written is whole", code=STOPPED)


def _raised_by_us(problem: BaseException) -> bool:
    """Whether the sentence is ours; an error out of a library's depths is a defect to be seen."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals["__name__"].startswith("spikeport")


def refuse_empty(arguments: Sequence[str]) -> None:
    """Raise ValueError for an argument "", which would be read as the current folder, or as an
    option that was not given: mostly a variable of the shell that is not set."""
    for i, argument in enumerate(arguments):
        name, *equals = argument.partition("=")
        if argument and not (name.startswith("--") and equals == ["=", ""]):
            continue
        before = arguments[i - 1] if i else ""
        which = name or (before if before.startswith("-") else f"argument {i + 1}")
        raise ValueError(f"{which} is empty; give it a value, or leave it out")


def fail(sentence: str, *, code: int = 2) -> None:
    """End with one sentence and exit code `code`."""
    err.print(f"spikeport: {' '.join(sentence.split())}", soft_wrap=True, markup=False)
    raise SystemExit(code)


def show(result: Any, as_json: bool, describe: Any) -> None:
    """Print a result, as JSON or as `describe` tells it."""
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        out.print(describe(result), soft_wrap=True, markup=False)


def status(quiet: bool) -> Any:
    """A callable that shows what is being done."""
    how: Any = {"style": "dim", "soft_wrap": True, "markup": False}
    return (lambda _: None) if quiet else (lambda text: err.print(f"  {text}", **how))


def leave(passed: bool) -> None:
    """End with exit code 1 unless the checks passed."""
    if not passed:
        raise typer.Exit(1)
