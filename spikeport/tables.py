"""Results as text for people."""

from __future__ import annotations

from typing import Any


def describe_rung(rung: dict[str, Any]) -> str:
    """One comparison as a line."""
    state = f", {rung['differing_state']:,} of {rung['state']:,} u and v" if rung["state"] else ""
    verdict = "" if not rung["exact"] else (" [ok]" if rung["passed"] else " [FAILED]")
    first = f"\n    first: {rung['first']}" if rung["first"] and rung["exact"] else ""
    cause = f"\n    cause: {rung['cause']}" if rung.get("cause") else ""
    return (
        f"{rung['left']} against {rung['right']}, {rung['samples']} samples x {rung['steps']}"
        f" steps: {rung['differing']:,} of {rung['spikes']:,} spikes{state} and"
        f" {rung['predictions']} predictions differ{verdict}{first}{cause}"
    )


def percent(share: float | None) -> str:
    """A share as per cent with two digits; None reads "not run"."""
    return "not run" if share is None else f"{share:.2%}"
