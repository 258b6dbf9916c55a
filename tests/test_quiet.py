"""No supported graph or module makes a warning: users could not act on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def test_supported_graphs_compile_and_run_without_a_word(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "quiet_graphs.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list(tmp_path.iterdir())) == 10
