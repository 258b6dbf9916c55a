"""What a campaign leaves behind, and its file: JSON, one trial a line, no times.

The same campaign is the same text; files are written all or nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikeport.sim.faults.fault import ON_PROJECTIONS, Fault
from spikeport.sim.files import write_text

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial: its number, its faults, and for each set of images how many are right and how many
    decisions changed. A decision is the class with the most, or that there is a tie."""

    trial: int
    faults: tuple[Fault, ...]
    right: Mapping[str, int]
    changed: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A campaign's file. header: settings, identity of network, images and labels, `samples`,
    `right` without faults by set, `parts`: projections in words; trials: from 0 on, none
    missing."""

    header: Mapping[str, Any]
    trials: tuple[Trial, ...] = ()

    @property
    def samples(self) -> int:
        """How many images each trial judged."""
        return int(self.header["samples"])

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets of images."""
        return tuple(self.header["right"])

    def to_json(self) -> str:
        """The header, then one trial a line; the same result is the same text."""
        head = json.dumps(self.header, indent=1, sort_keys=True).removesuffix("\n}")
        rows = [
            json.dumps(
                {
                    "trial": t.trial, "right": dict(t.right), "changed": dict(t.changed),
                    "faults": [f.to_json() for f in t.faults],
                },
                sort_keys=True,
            )
            for t in self.trials
        ]  # fmt: skip
        return head + ',\n "trials": [\n' + ",\n".join(rows) + "\n ]\n}\n"


def place_of(result: Result, fault: Fault) -> str:
    """The part that `fault` sits in, in words: a projection by its two ends."""
    if fault.kind in ON_PROJECTIONS:
        return f"{result.header['parts'][int(fault.part)]} (projection {fault.part})"
    return f"core {fault.part}" if fault.kind == "core" else str(fault.part)


def write(path: Path | str, result: Result) -> None:
    """Write `result` as JSON, all of it or nothing; no times, so the same seed is the same file."""
    write_text(path, result.to_json())


def read(path: Path | str) -> Result:
    """What `write` wrote; ValueError with one sentence when the file is damaged or of another
    version."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        version, rows = content["version"], content.pop("trials")
        trials = tuple(
            Trial(**{**row, "faults": tuple(Fault(**f) for f in row["faults"])}) for row in rows
        )
        complete = [t.trial for t in trials] == list(range(len(trials)))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: is damaged or no fault campaign; run it again") from None
    if version != VERSION or not complete:
        raise ValueError(
            f"{path}: is a fault campaign of version {version}, this program reads {VERSION}, or"
            " lacks trials; run it again"
        )
    return Result(header=content, trials=trials)
