"""The lab's runs as they are kept: one line of JSON each, beside the result that is made of them.

A line holds a digest of all settings of its run, so that one whose settings have changed since does
not count. With these lines a lab goes on where another machine has left it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lab_plan import Job
from lab_run import finished

from spikeport.sim import files

Row = dict[str, Any]


def name(job: Job) -> str:
    """What a run is called: its scale and its folder."""
    return f"{job.scale}/{job.folder.relative_to(job.runs).as_posix()}"


def digest(job: Job) -> str:
    """SHA-256 of everything that the figures of a job depend on."""
    return hashlib.sha256(json.dumps(job.settings, sort_keys=True).encode()).hexdigest()


def path_beside(result: Path) -> Path:
    """Where the runs of a result are kept."""
    return result.with_suffix(".jsonl")


def read(path: Path) -> dict[str, Row]:
    """Kept runs by name; none if there is no file. ValueError if it is no such file."""
    if not path.exists():
        return {}
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {row["run"]: row for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: holds no runs of the lab ({error!r}); remove it") from error


def write(path: Path, rows: Iterable[Row]) -> None:
    """Keep `rows`, one a line, in an order that does not depend on when they were run."""
    lines = sorted(json.dumps(row, sort_keys=True) for row in rows)
    files.write_text(path, "".join(f"{line}\n" for line in lines))


def of(job: Job, kept: dict[str, Row]) -> Row | None:
    """The run of a job: from its folder, else as it was kept, else None."""
    found = finished(job)
    if found is None:
        row = kept.get(name(job))
        return row if row and row["digest"] == digest(job) else None
    model = found["settings"]["config"]["model"]
    figures = {key: value for key, value in found.items() if key != "settings"}
    return {"run": name(job), "digest": digest(job), "model": model, **figures}
