"""The commands as a user calls them, and the smallest trained run and bundle they can make.

Loaded by the tests of the commands from its path (no package called `tests` exists).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from spikeport import cli

CONFIG = """\
[data]
name = "digits"

[encode]
steps = 3

[model]
name = "dense"
hidden = 16

[train]
epochs = 1
lr = 0.02
seed = 0
device = "cpu"

[quantise]
target = "loihi2"
epochs = 1
"""


@dataclass(frozen=True)
class Done:
    """Exit code and what was printed."""

    code: int
    stdout: str
    stderr: str


def spikeport(*arguments: str) -> Done:
    """`spikeport arguments...` in this process; an unexpected exception comes through."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["spikeport", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    return Done(code, out.getvalue(), err.getvalue())


def make(folder: Path) -> None:
    """Fill `folder` with tiny.toml, a run trained from it, and its bundle of 8 test vectors."""
    config, run, bundle = (str(folder / name) for name in ("tiny.toml", "run", "bundle"))
    Path(config).write_text(CONFIG, encoding="utf-8")
    for arguments in (
        ("train", config, "--out", run, "--json"),
        ("export", run, "--target", "loihi", "--vectors", "8", "--out", bundle, "--json"),
    ):
        done = spikeport(*arguments)
        if done.code:
            raise RuntimeError(f"{arguments} ended with {done.code}: {done.stderr}")


def snapshot(folder: Path) -> dict[str, str]:
    """Every file and folder below `folder` with what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }
