"""What results say of how they were made, and that no reader meets half of one."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Script = Callable[[str], ModuleType]
SCRIPTS = sorted((Path(__file__).resolve().parents[2] / "benchmarks").glob("*.py"))


def test_a_command_tells_every_option_that_matters(script: Script) -> None:
    parser = ArgumentParser("lab.py")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe-file", type=Path, default=Path("a.toml"))
    parser.add_argument("--sets", nargs="+", default=["mnist", "cifar10"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, default=None)

    def told(*words: str) -> str:
        given = parser.parse_args(["--data", "/a", "--out", "b", "--jobs", "7", *words])
        line = str(script("where").command_line(parser, given, apart=("jobs",)))
        return line.removeprefix("python benchmarks/lab.py --data FOLDER")

    assert told() == told("--sets", "mnist", "cifar10", "--seeds", "0", "1") == ""
    assert told("--sets", "mnist", "--seeds", "2", "3") == " --sets mnist --seeds 2 3"
    assert told("--tiny", "--recipe-file", "/b/c.toml") == " --recipe-file FILE --tiny"


def plainly_written(text: str) -> list[str]:
    """Places where a file is written other than by `spikeport.sim.files`."""
    return re.findall(r"(?<!\bfiles)\.write_(?:text|bytes)\(|\bopen\(", text)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_results_are_written_in_one_move(path: Path) -> None:
    assert plainly_written(path.read_text("utf-8")) == []


def test_a_plain_write_is_found() -> None:
    assert len(plainly_written("out.write_text(a)\nopen(b)\nfiles.write_text(c)")) == 2


def test_a_layer_differs_from_its_log_by_any_residual(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = script("readme_hardware")
    result = script("readme_parts").load("place")
    first = result["logs"][0]
    assert first["unit"] == "per cent of a limit"
    name = f"{first['network']}, {first['target']}"

    def differing() -> str:
        (row,) = [line for line in blocks.placement().splitlines() if name in line]
        return str(row.split("|")[-2].strip())

    monkeypatch.setattr(blocks, "load", lambda _: result)
    assert differing() == "0"
    first["layers"][0]["residual"]["neurons"] = 0.01
    assert differing() == "1"
