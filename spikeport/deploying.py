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

from spikeport import costing, fitting
from spikeport.cost_report import describe_cost
from spikeport.hw import deploy as folders
from spikeport.hw import lava_import
from spikeport.hw.constants import RUNTIMES
from spikeport.hw.lava_folder import compare, options
from spikeport.hw.lava_guard import check_timeout
from spikeport.sim import bundle as bundles
from spikeport.sim.interrupt import deferred, undisturbed

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PATIENCE_S = 30.0  # that a stopped script may take to end Lava
FIRST = 64  # test vectors that the script plays, and whose cost is told, where nobody says


def deploy(
    source: Path,
    folder: Path,
    *,
    board: str,
    run: bool = True,
    samples: int | None = None,
    timeout_s: float = 600.0,
    for_board: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Check the bundle against `board`, write deployment `folder` with a report on the cost of the
    first `samples` vectors (None: of `FIRST`, or all if there are fewer), and with `run` run it on
    them; a JSON summary.

    for_board: options of the folder's script that only a board takes (`options.FOR_BOARDS`); they
    go into its README, too. The summary's "state": "compared", with what the script found as "ran",
    or "failed", "no Lava" or "not asked", with None there; "missing" says why, or after a
    comparison what a run on the board would need that is not here. Only a failed run, and one that
    found a difference, have not passed. Raises ValueError in one sentence for an unknown board, a
    broken rule, an existing folder, more samples than vectors, or `for_board` where there is none.
    """
    check_timeout(timeout_s)
    given = options.for_boards(for_board or {})
    if run and given and (why := folders.board_status()):
        advice = f"{options.WITHOUT}, or add --no-run, which writes them into the README"
        options.refuse(given, why=why, advice=advice)
    target, bundle = folders.board_target(board), bundles.read(source)
    fitting.enforce(bundle.net, target.whole)
    count = _count(samples, bundle.vectors.samples, source)
    written = folders.write_folder(
        bundle.net,
        folder,
        board=board,
        vectors=bundle.vectors,
        reports=lambda: cost_reports(source, board=board, samples=count),
        words=options.words(given),
    )
    state, found = _idle(run) or run_folder(folder, samples=count, timeout_s=timeout_s, given=given)
    ran = found if state == "compared" else None
    return {
        "passed": ran["passed"] if ran else state != "failed",
        "folder": str(folder),
        "board": board,
        "files": [path.relative_to(folder).as_posix() for path in written],
        "state": state,
        "ran": ran,
        "missing": ran["missing"] if ran else found,
    }


def _idle(run: bool) -> tuple[str, Any] | None:
    """Why the folder's script is not to run: the summary's state and a sentence; None if it is."""
    if not run:
        return "not asked", "--no-run was given"
    absent = lava_import.available()
    return None if absent is None else ("no Lava", absent)


def _count(samples: int | None, held: int, source: Path) -> int:
    """How many of the `held` test vectors of the bundle `source` are asked for."""
    count = min(FIRST, held) if samples is None else samples
    if not 1 <= count <= held:
        raise ValueError(
            f"samples is {count}; allowed are 1..{held}, the test vectors of {source}; for more"
            " export with more --vectors"
        )
    return count


def cost_reports(source: Path, *, board: str, samples: int) -> dict[str, str]:
    """What the first `samples` vectors of the bundle cost on `board`, for people and as JSON, by
    file name."""
    chip = folders.BOARDS[board].chip.name
    runtime = next((known.name for known in RUNTIMES.values() if known.chip == chip), None)
    found = costing.cost(source, target=board, samples=samples, runtime=runtime)
    return {
        "cost.txt": describe_cost(found) + "\n",
        "cost.json": json.dumps(found, indent=1) + "\n",
    }


def run_folder(
    folder: Path, *, samples: int, timeout_s: float, given: Mapping[str, Any]
) -> tuple[str, Any]:
    """Run the script of `folder` with this Python: "compared" and what it found, or "failed" and a
    sentence that says why."""
    file = folder.resolve() / "run.py"
    words = ["--samples", str(samples), "--timeout", str(timeout_s)]
    words += shlex.split(options.words(given))
    script = None
    try:
        with deferred():
            script = subprocess.Popen(
                [sys.executable, str(file), *words],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for us, and we hand it on once
                preexec_fn=_end_with_us,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},  # the folder stays as written
            )
        _, said = script.communicate()
    except BaseException:
        if script is not None:
            with undisturbed():
                _stop(script)
        raise
    result = folder / "result.json"
    if script.returncode in (0, 1) and result.exists():
        return "compared", json.loads(result.read_text(encoding="utf-8"))
    lines = said.strip().splitlines() or [f"{file}: exit code {script.returncode}"]
    return "failed", lines[-1].removeprefix("run.py: ")


def _stop(script: subprocess.Popen[str]) -> None:
    """End the script as Ctrl-C does, and wait until Lava has ended; by force if it does not hear,
    when Lava ends by itself."""
    script.send_signal(signal.SIGINT)
    try:
        script.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        script.kill()
        script.communicate()


def _end_with_us() -> None:
    """In the script's process: be ended when spikeport is killed; Lava then ends by itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def describe_deployment(result: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [f"wrote {result['folder']} for {result['board']}: {', '.join(result['files'])}"]
    if result["ran"] is None:
        how = "failed" if result["state"] == "failed" else "did not run"
        return "\n".join([*lines, f"its run.py {how}: {result['missing']}"])
    return "\n".join([*lines, *compare.describe(result["ran"])])
