"""What a run says about itself while it trains.

run/metrics.jsonl   one line an epoch, both phases
run/logs/NAME.csv   the same of phase NAME as a table
run/logs/NAME/      the same for TensorBoard

All of it is derived from the lines that the phase's checkpoint holds, so that it agrees with the
checkpoint again as soon as an interrupted run goes on.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from spikeport.sim.files import write_text

METRICS = "metrics.jsonl"
LOGS = "logs"

Line = dict[str, Any]
"""Figures of one epoch, JSON-able: numbers, or numbers by layer."""


class Journal:
    """Writes the lines of one phase. As a context manager it shows a bar and closes what is open.

    folder: of the run. lines: of the epochs that are done already. epochs: of the whole phase.
    silent: write nothing at all, as the processes of a run that are not its first. What is written
    already, and right, is not touched before there is something new.
    """

    def __init__(
        self, folder: Path, phase: str, *, lines: Sequence[Line], epochs: int, progress: bool,
        silent: bool = False,
    ) -> None:  # fmt: skip
        self.folder, self.phase, self.lines, self.silent = folder, phase, list(lines), silent
        self._before, self._told, self._after = _parted(folder / METRICS, phase)
        self._bar = _bar(progress and not silent)
        self._task = self._bar.add_task(phase, total=epochs, completed=len(lines), note="")
        self._board: Any = None

    def __enter__(self) -> Journal:
        if not self.silent and self._told != self.lines:
            self._write()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._bar.stop()
        if self._board is not None:
            self._board.finalize("success")

    def advance(self, epochs: float) -> None:
        """Move the bar to `epochs` done, a part of one included."""
        self._bar.update(self._task, completed=epochs)

    def add(self, line: Line) -> None:
        """Take in the figures of one more epoch."""
        self.lines.append(line)
        note = f"validation {line['val_accuracy']:.2%}"
        self._bar.update(self._task, completed=len(self.lines), note=note)
        if not self.silent:
            self._write()

    def _write(self) -> None:
        """The metrics last: where they are right, all is."""
        new = self.lines[-1:]
        if self._board is None:
            self._board, new = _board(self.folder / LOGS, self.phase), self.lines
        for line in new:
            figures = {k: v for k, v in flat(line).items() if isinstance(v, (int, float))}
            self._board.log_metrics(figures, step=line["epoch"])
        self._board.experiment.flush()
        write_text(self.folder / LOGS / f"{self.phase}.csv", _table(self.lines))
        text = "".join(json.dumps(ln) + "\n" for ln in (*self._before, *self.lines, *self._after))
        write_text(self.folder / METRICS, text)


def flat(line: Mapping[str, Any]) -> dict[str, Any]:
    """`line` without tables in it: {"rate": {"lif1": 0.1}} becomes {"rate/lif1": 0.1}."""
    found: dict[str, Any] = {}
    for key, value in line.items():
        inner = flat(value) if isinstance(value, Mapping) else None
        found |= {key: value} if inner is None else {f"{key}/{k}": v for k, v in inner.items()}
    return found


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Flat `lines` as CSV, a column for every key that occurs."""
    text = io.StringIO()
    columns = dict.fromkeys(key for line in lines for key in line)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _table(lines: Sequence[Line]) -> str:
    return table([flat(line) for line in lines]) if lines else ""


def _board(logs: Path, phase: str) -> Any:
    """A TensorBoard log; whatever an interrupted run left of it goes."""
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    shutil.rmtree(logs / phase, ignore_errors=True)
    (logs / phase).mkdir(parents=True)
    return TensorBoardLogger(logs, name="", version=phase)


def _parted(path: Path, phase: str) -> tuple[list[Line], list[Line], list[Line]]:
    """The lines in `path`: of other phases before those of `phase`, these, and others after."""
    if not path.is_file():
        return [], [], []
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        mine = [line["phase"] == phase for line in lines]
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path}: is damaged; move it away and resume again") from None
    first = mine.index(True) if True in mine else len(mine)
    later = list(zip(lines[first:], mine[first:], strict=True))
    return (
        lines[:first],
        [line for line, is_mine in later if is_mine],
        [line for line, is_mine in later if not is_mine],
    )


def _bar(enabled: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.1f}/{task.total} epochs {task.fields[note]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, disable=not enabled)
