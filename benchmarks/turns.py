"""Timing by turns, so that a busy machine slows all candidates alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Key = TypeVar("Key")


def interleaved(
    candidates: Mapping[Key, Callable[[], Any]], *, repetitions: int, warm_up: int
) -> dict[Key, list[float]]:
    """Seconds of each candidate, one for each repetition; `warm_up` rounds before count for
    nothing."""
    seconds: dict[Key, list[float]] = {name: [] for name in candidates}
    for repetition in range(-warm_up, repetitions):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            candidate()
            if repetition >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds
