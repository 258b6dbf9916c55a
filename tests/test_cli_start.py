"""Asking for help must not cost the import of torch or Lava (ten seconds together)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch", "lava", "snntorch", "nir", "sklearn", "scipy", "numba", "matplotlib",
    "lightning_fabric", "tensorboardX", "distributed", "jinja2",
)  # fmt: skip
COMMANDS = (
    "train", "export", "simulate", "attack", "faults", "check", "cost", "report", "deploy",
    "doctor",
)  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """Heavy packages in memory after `code` has run in a fresh interpreter."""
    # The exit of the command is caught, so that the list can be printed after it.
    script = (
        "import sys\n"
        f"try:\n    {code}\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print('LOADED', *(name for name in {HEAVY!r} if name in sys.modules))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_the_package_alone_loads_nothing() -> None:
    assert loaded_by("import spikeport") == set()


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    run = f"sys.argv[1:] = {arguments!r}; from spikeport.cli import main; main()"
    assert loaded_by(run) == set()


def test_the_check_sees_a_heavy_import() -> None:
    assert loaded_by("import torch") >= {"torch"}
