"""Small files, small functions: a reader holds one of them in the head at a time."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    file
    for folder in ("train", "export", "hw", "sim", "spikeport", "benchmarks")
    # Links are not followed by rglob on every Python, hence the check.
    for file in (ROOT / folder).rglob("*.py")
    if not any(parent.is_symlink() for parent in file.parents)
)
LINES_PER_FILE = 300
LINES_PER_FUNCTION = 50


def long_functions(source: str) -> Iterator[tuple[str, int]]:
    """Name and length of every function of `source` that is too long, docstring included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LINES_PER_FUNCTION:
                yield node.name, length


def test_files_are_found() -> None:
    names = {str(file.relative_to(ROOT)) for file in FILES}
    assert {"sim/net.py", "spikeport/__init__.py", "hw/__init__.py"} <= names
    assert "spikeport/sim/net.py" not in names


def test_no_file_is_too_long() -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines()) for file in FILES
    }
    assert {name: n for name, n in lengths.items() if n > LINES_PER_FILE} == {}


def test_no_function_is_too_long() -> None:
    found = {
        f"{file.relative_to(ROOT)}:{name}": length
        for file in FILES
        for name, length in long_functions(file.read_text("utf-8"))
    }
    assert found == {}


def test_a_planted_long_function_is_found() -> None:
    body = "    pass\n" * LINES_PER_FUNCTION
    assert list(long_functions(f"class A:\n  def f(self):\n{body}")) == [("f", 51)]
    assert list(long_functions(f"def f():\n{body[9:]}")) == []
