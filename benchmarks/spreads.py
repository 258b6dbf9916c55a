"""Figures over seeds: mean and standard deviation, and how they are told."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean, stdev


def over(values: Iterable[float]) -> dict[str, float]:
    """Mean and standard deviation, which is 0 of a single value."""
    found = list(values)
    return {"mean": mean(found), "std": stdev(found) if len(found) > 1 else 0.0}


def spread(figure: dict[str, float]) -> str:
    """Mean and standard deviation of shares, in per cent; the mean alone where nothing deviates."""
    about = f" ± {100 * figure['std']:.1f}" if figure["std"] else ""
    return f"{100 * figure['mean']:.1f}{about}"


def points(figure: dict[str, float]) -> str:
    """The same of a difference, with its sign."""
    return ("+" if figure["mean"] >= 0 else "") + spread(figure)
