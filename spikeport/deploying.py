"""The `deploy` command: rules, deployment folder, and a run of its own script."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from spikeport.backends import check_timeout
from spikeport.hw import deploy as folders
from spikeport.hw import lava_import
from spikeport.sim import bundle as bundles
from spikeport.simulating import expected

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def deploy(
    source: Path,
    folder: Path,
    *,
    board: str,
    run: bool = True,
    samples: int = 64,
    timeout_s: float = 600.0,
) -> dict[str, Any]:
    """Check the bundle against `board`, write deployment `folder`, and with `run` run it on the
    first `samples` vectors; a JSON summary.

    "ran" is what the folder's script found, None where it did not run, and `missing` what a run on
    the board would need that is not here. Raises ValueError in one sentence for an unknown board,
    a broken rule or an existing folder.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}; it must be at least 1")
    check_timeout(timeout_s)
    bundle = bundles.read(source)
    written = folders.write_folder(
        bundle.net, folder, board=board, vectors=(bundle.vectors.inputs, expected(bundle))
    )
    ran, problem = None, None if run else "--no-run was given"
    missing = lava_import.available() if run else None
    if run and missing is None:
        count = min(samples, bundle.vectors.samples)
        ran, problem = run_folder(folder, samples=count, timeout_s=timeout_s)
    return {
        "passed": ran["passed"] if ran else not run or missing is not None,
        "folder": str(folder),
        "board": board,
        "files": [path.relative_to(folder).as_posix() for path in written],
        "ran": ran,
        "missing": ran["missing"] if ran else missing or problem,
    }


def run_folder(
    folder: Path, *, samples: int, timeout_s: float
) -> tuple[dict[str, Any] | None, str | None]:
    """What the script of `folder` finds, run with this Python, or None and why it could not run."""
    script = folder.resolve() / "run.py"
    words = ["--samples", str(samples), "--timeout", str(timeout_s)]
    done = subprocess.run(
        [sys.executable, str(script), *words],
        capture_output=True,
        text=True,
        preexec_fn=_end_with_us,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},  # the folder stays as it was written
    )
    result = folder / "result.json"
    if result.exists():
        return json.loads(result.read_text(encoding="utf-8")), None
    lines = done.stderr.strip().splitlines() or [f"{script}: exit code {done.returncode}"]
    return None, lines[-1].removeprefix("run.py: ")


def _end_with_us() -> None:
    """In the script's process: be ended when spikeport is killed; Lava then ends by itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def describe_deployment(result: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [f"wrote {result['folder']} for {result['board']}: {', '.join(result['files'])}"]
    ran = result["ran"]
    if ran is None:
        return "\n".join([*lines, f"its run.py did not run: {result['missing']}"])
    differing = sum(count["differing"] for count in ran["populations"].values())
    compared = sum(count["compared"] for count in ran["populations"].values())
    lines.append(
        f"ran it on {ran['ran_on']}, {ran['samples']} samples: {differing} of {compared:,} spikes"
        " differ"
    )
    if ran["logits"]:
        lines.append(f"{ran['logits']['differing']} of {ran['logits']['compared']:,} scores differ")
    return "\n".join([*lines, *([ran["missing"]] if ran["missing"] else [])])
