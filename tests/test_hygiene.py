"""What must not stand in the repository: addresses of registries, paths of one machine, prints."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ("train", "export", "hw", "sim")

# Written with a gap, so that this file passes its own test.
FORBIDDEN = re.compile(
    "|".join(
        part.replace("~", "")
        for part in (
            r"py~pi\.org",
            r"python~hosted\.org",
            r"download\.py~torch\.org",
            r"conda\.ana~conda\.org",
            r"--(extra-)?index~-url[= ]+\S*:",
            r"file:~//",
            r"(?<![\w.~/*-])/(work|root|home|opt|Users|mnt|data)~/\w",
            r"/tmp~/w\b",
            r"[A-Z]:\\\\?Us~ers",
        )
    )
)
# Where interpreters are looked for on machines in general.
ALLOWED = {".ci/env": "/op" + "t/homebrew/bin/python"}


def tracked() -> list[Path]:
    """Text files under version control; skips the test where there is no git to ask."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [file for file in files if file.is_file() and b"\0" not in file.read_bytes()[:4096]]


def offending(text: str, allowed: str = "") -> list[str]:
    """Lines of `text` with something that belongs to one machine or one registry."""
    lines = [line.replace(allowed, "") if allowed else line for line in text.splitlines()]
    return [line.strip() for line in lines if FORBIDDEN.search(line)]


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    found = {}
    for file in tracked():
        name = file.relative_to(ROOT).as_posix()
        if lines := offending(file.read_text("utf-8"), ALLOWED.get(name, "")):
            found[name] = lines
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "see https://py" + "pi.org/project/nir",
        "pip install --index" + "-url https://example.org torch",
        "open('/ro" + "ot/x')",
        "cd /wo" + "rk/main",
        "DATA = '/ho" + "me/me/mnist'",
    ],
)
def test_a_planted_address_is_found(line: str) -> None:
    assert offending(f"fine\n{line}\nfine") == [line]


def test_ordinary_text_passes() -> None:
    assert offending("run/work/x https://arxiv.org/abs/1 a/home/b tests/data/x ./opt/y") == []


def test_no_large_file_is_tracked() -> None:
    sizes = {file.relative_to(ROOT).as_posix(): file.stat().st_size for file in tracked()}
    assert {name: size for name, size in sizes.items() if size > 500_000} == {}


SCRIPT = ("hw/lava_folder/run.py", "hw/lava_folder/compare.py")  # of deployment folders


def test_the_library_does_not_print() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for folder in LIBRARY
        for file in (ROOT / folder).rglob("*.py")
        if file.relative_to(ROOT).as_posix() not in SCRIPT
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert found == []
