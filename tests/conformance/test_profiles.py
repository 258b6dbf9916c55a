"""The table of differences: every point is shown by a test, and the page is up to date."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def profiles(load_file: Callable[[Path], ModuleType]) -> Any:
    return load_file(HERE / "profiles.py")


def written_tests() -> set[str]:
    """Names of the test functions of this folder."""
    return {
        node.name
        for file in HERE.glob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_point_is_shown_by_tests_that_exist(profiles: Any) -> None:
    named = {test for point in profiles.POINTS for test in point.tests}
    assert named <= written_tests()
    assert all(point.tests for point in profiles.POINTS)


def test_every_pinned_difference_has_its_point(profiles: Any) -> None:
    named = {test for point in profiles.POINTS for test in point.tests}
    file = ast.parse((HERE / "test_differences.py").read_text("utf-8"))
    pinned = {
        node.name
        for node in file.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert pinned <= named


def test_a_difference_says_what_the_subset_does(profiles: Any) -> None:
    """Only where both emulators do what we do may nothing be said."""
    silent = [p.name for p in profiles.POINTS if not p.subset]
    assert silent == ["comparison", "decay"]


def test_the_page_is_up_to_date(profiles: Any) -> None:
    results = json.loads(profiles.RESULTS.read_text("utf-8"))
    assert profiles.PAGE.read_text("utf-8") == profiles.page(results)


def test_the_stored_results_are_large_and_clean(profiles: Any) -> None:
    parts = json.loads(profiles.RESULTS.read_text("utf-8"))["emulators"]
    assert parts["lava"]["total"]["nets"] >= 2000
    assert parts["nengo-loihi"]["total"]["nets"] >= 300
    assert parts["brian2-loihi"]["total"]["nets"] >= 300
    assert {part["total"]["differing_bits"] for part in parts.values()} == {0}
    assert all(part["total"]["wraps"] + part["total"]["clips"] for part in list(parts.values())[:2])
