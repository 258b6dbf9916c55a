"""Every refusal is read by a test: the words of each `raise` occur in what some test expects.

A message is cut at its placeholders; of the longest piece at least `RUN` words in a row must stand
in a string of the tests. Messages without words of their own pass on a sentence made elsewhere.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ("train", "export", "hw", "sim")
RUN = 3

# Sentences that no test can read, and why.
EXCEPTIONS = {
    "has received nothing": "never leaves hw/lava_driver.py, which catches it",
}


def pieces(node: ast.AST) -> Iterator[str]:
    """The literal text of a message, a newline for every placeholder."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        for part in node.values:
            yield from pieces(part)
    elif isinstance(node, ast.Call):
        for part in [*node.args, *(keyword.value for keyword in node.keywords)]:
            yield from pieces(part)
            yield "\n"
    else:
        yield "\n"


def sentences(source: str) -> Iterator[str]:
    """The longest piece of the message of every `raise` in `source` that has words."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found = [" ".join(piece.split()) for piece in "".join(pieces(node.exc)).split("\n")]
            longest = max(found, key=lambda piece: len(piece.split()))
            if re.search(r"\w\w", longest):
                yield longest


def expected() -> str:
    """All text in strings of the tests; the backslashes of patterns left out."""
    strings = [
        node.value
        for file in set((ROOT / "tests").rglob("*.py")) - {Path(__file__)}
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return " ".join("\n".join(strings).replace("\\", "").split())


def is_read(sentence: str, text: str) -> bool:
    words = sentence.split()
    runs = range(max(1, len(words) - RUN + 1))
    return any(" ".join(words[i : i + RUN]) in text for i in runs)


def test_every_refusal_is_read_by_a_test() -> None:
    files = [file for folder in LIBRARY for file in (ROOT / folder).rglob("*.py")]
    found = [s for file in sorted(files) for s in sentences(file.read_text("utf-8"))]
    assert len(found) > 300
    text = expected()
    assert {s for s in found if not is_read(s, text)} == EXCEPTIONS.keys()


def test_a_planted_refusal_is_found() -> None:
    planted = 'raise ValueError(f"{a}: the {b} moons of {c!r} never " f"set twice; wait")'
    assert list(sentences(planted)) == ["never set twice; wait"]
    text = "never set thrice; moons wait"
    assert not is_read("never set twice; wait", text)
    assert is_read("moons wait", text)
