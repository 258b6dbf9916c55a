"""The `deploy` command: rules, deployment folder, and a run of its own script."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikeport import costing
from spikeport.cost_report import describe_cost
from spikeport.hw import deploy as folders
from spikeport.hw import lava_import
from spikeport.hw.lava_folder import compare, options
from spikeport.hw.lava_guard import check_timeout
from spikeport.sim import bundle as bundles

PR_SET_PDEATHSIG = 1  # linux/prctl.h
RUNTIMES = {"loihi2": "scaled"}
"""The constants of the run-time model that are published, by chip; there are none of Loihi 1."""


def deploy(
    source: Path,
    folder: Path,
    *,
    board: str,
    run: bool = True,
    samples: int = 64,
    timeout_s: float = 600.0,
    for_board: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Check the bundle against `board`, write deployment `folder` with a report on the cost of the
    first `samples` vectors, and with `run` run it on them; a JSON summary.

    for_board: options of the folder's script that only a board takes (`options.FOR_BOARDS`); they
    go into its README, too. "ran" is what the script found, None where it did not run, and
    `missing` what a run on the board would need that is not here. Raises ValueError in one sentence
    for an unknown board, a broken rule, an existing folder, or `for_board` where there is none.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}; it must be at least 1")
    check_timeout(timeout_s)
    given = options.for_boards(for_board or {})
    if run and given and (why := folders.board_status()):
        advice = f"{options.WITHOUT}, or add --no-run, which writes them into the README"
        options.refuse(given, why=why, advice=advice)
    bundle = bundles.read(source)
    written = folders.write_folder(
        bundle.net,
        folder,
        board=board,
        vectors=bundle.vectors,
        reports=lambda: cost_reports(source, board=board, samples=samples),
        words=options.words(given),
    )
    ran, problem = None, None if run else "--no-run was given"
    missing = lava_import.available() if run else None
    if run and missing is None:
        count = min(samples, bundle.vectors.samples)
        ran, problem = run_folder(folder, samples=count, timeout_s=timeout_s, given=given)
    return {
        "passed": ran["passed"] if ran else not run or missing is not None,
        "folder": str(folder),
        "board": board,
        "files": [path.relative_to(folder).as_posix() for path in written],
        "ran": ran,
        "missing": ran["missing"] if ran else missing or problem,
    }


def cost_reports(source: Path, *, board: str, samples: int) -> dict[str, str]:
    """What the first `samples` vectors of the bundle cost on `board`, for people and as JSON, by
    file name."""
    chip = folders.BOARDS[board].chip.name
    found = costing.cost(source, target=board, samples=samples, runtime=RUNTIMES.get(chip))
    return {
        "cost.txt": describe_cost(found) + "\n",
        "cost.json": json.dumps(found, indent=1) + "\n",
    }


def run_folder(
    folder: Path, *, samples: int, timeout_s: float, given: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, str | None]:
    """What the script of `folder` finds, run with this Python, or None and why it could not run."""
    file = folder.resolve() / "run.py"
    words = ["--samples", str(samples), "--timeout", str(timeout_s)]
    words += shlex.split(options.words(given))
    done = subprocess.run(
        [sys.executable, str(file), *words],
        capture_output=True,
        text=True,
        preexec_fn=_end_with_us,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},  # the folder stays as it was written
    )
    result = folder / "result.json"
    if done.returncode in (0, 1) and result.exists():
        return json.loads(result.read_text(encoding="utf-8")), None
    lines = done.stderr.strip().splitlines() or [f"{file}: exit code {done.returncode}"]
    return None, lines[-1].removeprefix("run.py: ")


def _end_with_us() -> None:
    """In the script's process: be ended when spikeport is killed; Lava then ends by itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def describe_deployment(result: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [f"wrote {result['folder']} for {result['board']}: {', '.join(result['files'])}"]
    if result["ran"] is None:
        return "\n".join([*lines, f"its run.py did not run: {result['missing']}"])
    return "\n".join([*lines, *compare.describe(result["ran"])])
