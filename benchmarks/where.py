"""What every result says about the command, the machine and the versions that made it."""

from __future__ import annotations

import os
import platform
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any


def command_line(parser: ArgumentParser, given: Namespace, *, apart: Collection[str] = ()) -> str:
    """The command line that makes a result: every option that is not its default, places as FOLDER
    or FILE. Left out are `--out` and the options in `apart`, which change no figure.

    parser: of a script in `benchmarks/`, its options named as argparse names them by itself.
    """
    words = ["python", f"benchmarks/{parser.prog}"]
    for name, value in vars(given).items():
        if name in ("out", *apart) or value == parser.get_default(name):
            continue
        words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, Path):
            words.append("FILE" if value.suffix else "FOLDER")
        elif value is not True:
            words += map(str, value if isinstance(value, (list, tuple)) else [value])
    return " ".join(words)


def machine() -> dict[str, Any]:
    """The class of machine: processor model and cores, no names."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {"cpu": models[0] if models else platform.processor(), "cores": os.cpu_count()}


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Python's version and those of `packages`, None for what is not installed."""
    return {"python": platform.python_version(), **{p: _version(p) for p in packages}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
