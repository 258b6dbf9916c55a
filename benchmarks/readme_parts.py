"""What every block of the README is made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def load(name: str) -> dict[str, Any]:
    """A result file."""
    found: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text("utf-8"))
    return found


def table(rows: list[list[str]]) -> str:
    """Rows as a Markdown table, the first one its head."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def percent(share: float | None) -> str:
    """A share as per cent."""
    return "not run" if share is None else f"{100 * share:.1f} %"


def made_by(result: dict[str, Any]) -> str:
    """Where figures come from."""
    versions = result["versions"]
    listed = ", ".join(f"{name} {v}" for name, v in versions.items() if v)
    m = result["machine"]
    return f"`{result['command']}`; {m['cpu']}, {m['cores']} cores; {listed}."
