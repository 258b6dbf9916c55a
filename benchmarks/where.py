"""What every result says about the command, the machine and the versions that made it."""

from __future__ import annotations

import json
import os
import platform
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Mapping, Sequence
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


def goes_on(path: Path, label: Mapping[str, Any]) -> dict[str, Any]:
    """The result in `path`, if new figures may stand beside its own; ValueError where it is none,
    or was made otherwise than `label` says: on another machine, of other versions or settings."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        made = {name: found[name] for name in label}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no result to go on with ({error!r}); measure anew") from error
    for name, here in json.loads(json.dumps(label)).items():
        if made[name] != here:
            raise ValueError(
                f"{path}: {name} is {made[name]}, here it is {here}; give another --out, or"
                " measure all anew"
            )
    return found


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
