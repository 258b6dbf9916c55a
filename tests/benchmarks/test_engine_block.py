"""The engine's README block: what it says of how time grows."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def block(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("readme_engine")


def points(*exponents: float | None) -> list[dict[str, Any]]:
    return [{"size": 10**i, "seconds": 0.5 * 2**i, "exponent": e} for i, e in enumerate(exponents)]


def test_linear_is_said_from_where_it_stays_so(block: ModuleType) -> None:
    assert block.grown(points(None, 1.0, 0.2, 0.9, 1.2)) == [
        "1 .. 10,000", "0.5 .. 8", "1.00, 0.20, 0.90, 1.20", "100",
    ]  # fmt: skip
    assert block.grown(points(None, 1.0, 1.1))[-1] == "1"
    assert block.grown(points(None, 1.0, 1.3))[-1] == "nowhere"


def test_what_is_missing_is_said(block: ModuleType) -> None:
    assert block.cell(None, ".2f") == "not run"
    assert block.cell(0.456, ".2f") == "0.46"
