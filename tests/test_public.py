"""Every public name says what it is, and every number of a chip says where it comes from."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from spikeport.sim.chip import CHIPS, unsourced

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    *(
        file
        for folder in ("train", "export", "hw", "sim")
        for file in (ROOT / folder).rglob("*.py")
    ),
    *(ROOT / "spikeport").glob("*.py"),
]
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def undocumented(source: str) -> Iterator[str]:
    """Public functions and classes of `source` without a docstring, and "module" for itself."""
    tree = ast.parse(source)
    if tree.body and not ast.get_docstring(tree):
        yield "module"
    for node in tree.body:
        if isinstance(node, DEFINITIONS) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield node.name


def test_every_public_name_has_a_docstring() -> None:
    assert len(FILES) > 10
    found = {
        f"{file.relative_to(ROOT)}:{name}"
        for file in FILES
        for name in undocumented(file.read_text("utf-8"))
    }
    assert found == set()


def test_a_planted_bare_name_is_found() -> None:
    source = "def f(): pass\nclass C:\n    pass\ndef _g(): pass\ndef h():\n    'Says so.'"
    assert list(undocumented(source)) == ["module", "f", "C"]
    assert list(undocumented("")) == []


@pytest.mark.parametrize("name", CHIPS)
def test_every_number_of_a_chip_has_a_source(name: str) -> None:
    assert unsourced(CHIPS[name]) == []
    assert set(CHIPS[name].sources) == {
        field.name for field in dataclasses.fields(CHIPS[name]) if field.name != "sources"
    }


def test_a_missing_source_is_found() -> None:
    chip = CHIPS["loihi1"]
    partial = {name: text for name, text in chip.sources.items() if name != "cores"}
    assert unsourced(dataclasses.replace(chip, sources=partial | {"neurons": ""})) == [
        "cores",
        "neurons",
    ]
