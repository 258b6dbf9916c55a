"""The README's example runs, its commands exist, and its figures are those of the results."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from spikeport.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
OTHERS = {"--help", "--full", "--paper", "--again", "--runs", "--bundle", "--populations"}
"""Options of every command, of scripts in `benchmarks`, and of a deployment folder's `run.py`."""


@pytest.fixture
def text() -> str:
    return (ROOT / "README.md").read_text("utf-8")


def block(text: str, language: str, number: int = 0) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)[number]
    assert isinstance(found, str)
    return found


def test_the_python_example_runs(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, Any] = {}
    exec(compile(block(text, "python"), "README.md", "exec"), scope)
    assert scope["logits"].shape == (5, 10)
    assert "proven: no input can wrap u or clip v" in capsys.readouterr().out
    assert len(block(text, "python").strip().splitlines()) <= 30


def test_its_commands_and_options_exist(text: str) -> None:
    group = typer.main.get_command(app)
    lines = [shlex.split(line, comments=True) for line in block(text, "sh", 1).splitlines()]
    assert {words[1] for words in lines} == set(group.commands) - {"demo"}  # type: ignore[attr-defined]
    for _, name, *words in lines:
        command = group.commands[name]  # type: ignore[attr-defined]
        known = {option for p in command.params for option in p.opts}
        assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in PAGES)])
def test_commands_and_options_that_pages_name_exist(page: str) -> None:
    group = typer.main.get_command(app)
    known = {
        name: {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }
    found = (ROOT / page).read_text("utf-8")
    for name, words in re.findall(r"\bspikeport ([a-z]+)\b([^`\n#]*)", found):
        if name in known:
            assert set(re.findall(r"--[a-z][a-z-]*", words)) <= known[name] | {"--help"}, words
    for name in re.findall(r"`spikeport ([a-z]+)", found):
        assert name in known, name
    anywhere = set[str]().union(*known.values(), OTHERS)
    assert set(re.findall(r"(?<=`)--[a-z][a-z-]*", found)) - anywhere == set()


def test_two_commands_are_make_targets(text: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in block(text, "sh").splitlines():
        target = shlex.split(line, comments=True)[1]
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_figures_are_those_of_the_results(
    text: str, load_file: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # it imports its neighbours by bare name
    generator = load_file(ROOT / "benchmarks" / "readme.py")
    assert generator.filled(text) == text
    changed = re.sub(r"\d\.\d %", "9.9 %", text, count=1)
    assert changed != text
    assert generator.filled(changed) == text
