"""What results say of how they were made, and that no reader meets half of one."""

from __future__ import annotations

import json
import re
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Script = Callable[[str], ModuleType]
SCRIPTS = sorted((Path(__file__).resolve().parents[2] / "benchmarks").glob("*.py"))
COMMANDS = [path for path in SCRIPTS if "__main__" in path.read_text("utf-8")]
RESULTS = sorted((SCRIPTS[0].parent / "results").glob("*.json"))


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


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_say_where_they_were_made(path: Path) -> None:
    result = json.loads(path.read_text("utf-8"))
    assert result["machine"].keys() == {"cpu", "cores"}
    assert result["versions"].keys() >= {"python", "numpy"}
    assert result["command"].startswith("python benchmarks/")


def test_figures_join_those_that_were_made_alike(script: Script, tmp_path: Path) -> None:
    goes_on, file = script("where").goes_on, tmp_path / "twin.json"
    file.write_text('{"machine": {"cores": 2}, "shape": [1, 2], "steps": 8}', "utf-8")
    label = {"machine": {"cores": 2}, "shape": (1, 2)}
    assert goes_on(file, label)["steps"] == 8
    with pytest.raises(ValueError, match=r"twin.json: machine is {'cores': 2}, here it is"):
        goes_on(file, label | {"machine": {"cores": 4}})


@pytest.mark.parametrize("text", [None, "", "[]", '"machine"', "{}", "\udcff"])
def test_what_is_no_result_is_told(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    file = tmp_path / "twin.json"
    if text is not None:
        file.write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(SystemExit, match="2"):
        called(script("twin"), "--memory", "--out", str(file))
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{file}: no result to go on with" in line


def called(module: ModuleType, *words: str) -> None:
    """Its command line, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [f"{module.__name__}.py", *words])
        module.main()


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_commands_help_and_refuse_places_that_are_not_there(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    module, missing = script(path.stem), tmp_path / "missing"
    with pytest.raises(SystemExit, match="0"):
        called(module, "--help")
    told = capsys.readouterr().out
    assert path.name in told
    options = set(re.findall(r"--[a-z-]+", told))
    assert ("--out" in options) == (path.stem not in ("lab_run", "readme"))
    for option, place, said in (
        ("--out", missing / "a.json", "cannot be written"), ("--out", tmp_path, "cannot be"),
        ("--data", missing, "is no folder"), ("--bundle", missing, "is no folder"),
        ("--campaign", missing / "a.json", "cannot be written"),
    ):  # fmt: skip
        if option in options:
            with pytest.raises(SystemExit, match="2"):
                called(module, option, str(place))
            assert f"argument {option}: {place} {said}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["flips", "quantisation", "robustness", "thresholds"])
def test_a_folder_without_images_is_told(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "a.json"
    places = ("--data", str(tmp_path), "--runs", str(tmp_path / "runs"))
    with pytest.raises(SystemExit, match="2"):
        called(script(name), *places, "--out", str(out))
    assert f"spikeport: {tmp_path / 'mnist'}: no such folder" in capsys.readouterr().err
    assert not out.exists()


def test_a_fault_of_a_library_keeps_its_trace(script: Script) -> None:
    with pytest.raises(ValueError, match="invalid literal"), script("shared").with_sentences():
        int(re.sub("a", "b", "a"))
    with pytest.raises(json.JSONDecodeError), script("shared").with_sentences():
        json.loads("{")


def test_jobs_end_in_any_way_and_are_dropped_when_nobody_asks_for_them(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_threads = script("shared").in_threads
    begun: list[int] = []
    gate = threading.Event()

    def work(job: int) -> float:
        begun.append(job)
        gate.wait(5)
        return 6 / job

    wait = ThreadPoolExecutor.__exit__

    def waited_for(pool: ThreadPoolExecutor, *problem: Any) -> bool | None:
        gate.set()  # what is to be dropped is dropped by now
        return wait(pool, *problem)

    monkeypatch.setattr(ThreadPoolExecutor, "__exit__", waited_for)
    with pytest.raises(KeyboardInterrupt), in_threads(work, range(9), workers=1):
        raise KeyboardInterrupt
    assert begun in ([], [0])
    with in_threads(work, (2, 0, 3), workers=1) as ended:
        found = [(job, str(done.exception() or done.result())) for job, done in ended]
    assert sorted(found) == [(0, "division by zero"), (2, "3.0"), (3, "2.0")]
