"""The command line of run.py. Imports nothing of Lava, so that `spikeport deploy` checks by it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HOSTS = {"slurm": ("partition", "node"), "ethernet": ("address", "binary")}
GENERATIONS = ("N2A2", "N3B2", "N3B3", "N3C1", "N3D1")  # Lava 0.10's loihi.ChipGeneration
# What Lava's own helper takes where nothing is said.
DEFAULTS = {"binary": "nxcore/bin/nx_driver_server"}
WITHOUT = "leave them out to use the simulator"
FOR_BOARDS = ("host", *HOSTS["slurm"], *HOSTS["ethernet"], "generation", "profile")


def arguments(*, out: Path) -> argparse.ArgumentParser:
    """The command line, with `out` as the file that the result goes to by default."""
    parser = argparse.ArgumentParser(description="Run this network and compare every spike.")
    add = parser.add_argument
    add("--samples", type=int, help="play the first N samples only")
    add("--simulator", action="store_true", help="use the CPU simulator even beside a board")
    add("--populations", help="comma-separated; all, but on a board one, see README.txt")
    add("--timeout", type=float, default=600.0, help="end Lava after so many seconds (600)")
    add("--out", type=Path, default=out, help="file for the result (result.json)")
    board = parser.add_argument_group("boards only").add_argument
    board("--profile", action="store_true", help="measure power and time")
    board("--host", help="slurm or ethernet; else the environment says")
    board("--partition", help="SLURM partition")
    board("--node", help="SLURM node, a board")
    board("--address", help="ethernet host, for Lava's NXSDKHOST")
    board("--binary", help=f"path of the ethernet host's nxcore binary ({DEFAULTS['binary']})")
    board(
        "--generation",
        help=f"LOIHI_GEN of the host, which --host needs: {', '.join(GENERATIONS)}",
    )
    return parser


def for_boards(said: Mapping[str, Any]) -> dict[str, Any]:
    """The options among `said` that only a board takes, as far as they were given, checked.

    said: values by the option's name; None and False were not given. Raises ValueError in one
    sentence for a value that Lava does not know or an option that would have no effect.
    """
    given = {k: said[k] for k in FOR_BOARDS if said.get(k) not in (None, False)}
    host = given.get("host")
    for name, value in given.items():
        if value == "":
            raise ValueError(f"--{name} is empty; give it a value or leave it out")
    for name, allowed in (("host", tuple(HOSTS)), ("generation", GENERATIONS)):
        if given.get(name) not in (None, *allowed):
            raise ValueError(f"--{name} is {given[name]!r}; allowed are {', '.join(allowed)}")
    for kind, names in HOSTS.items():
        for name in names:
            if name in given and host != kind:
                raise ValueError(f"--{name} is for --host {kind}; give that too, or leave it out")
    if "generation" in given and host is None:
        raise ValueError("--generation needs --host; without it the environment's LOIHI_GEN counts")
    if host == "ethernet" and "address" not in given:
        raise ValueError("--host ethernet needs --address, the host of the board")
    if host is not None and "generation" not in given:
        raise ValueError(
            f"--host needs --generation, the chip's: {', '.join(GENERATIONS)}; Lava would take N3B3"
            " without a word"
        )
    return given


def refuse(given: Mapping[str, Any], *, why: str, advice: str = WITHOUT) -> None:
    """Raise ValueError if options are `given` that only a board takes; why: there is none."""
    if given:
        names = ", ".join(f"--{name}" for name in given)
        raise ValueError(f"{names}: for boards only, and {why}; {advice}")


def words(given: Mapping[str, Any]) -> str:
    """What `for_boards` found as a shell's words."""
    found = (f"--{k}" if value is True else f"--{k}={value}" for k, value in given.items())
    return shlex.join(found)
