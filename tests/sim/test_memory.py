"""Freed memory is kept: what is taken again costs no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource
import numpy as np
from spikeport.sim.memory import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        for _ in range(2):
            blocks = [np.ones(size, np.uint8) for size in (3 << 20, 9 << 20, 20 << 20)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
kept = keep_freed()
faults()
print(kept, first, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the GNU C library's")
def test_freed_memory_is_kept() -> None:
    found = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, check=True
    ).stdout.split()
    if found[0] == "False":
        pytest.skip("this C library decides for itself")
    without, kept = map(int, found[1:])
    assert kept < without / 5


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    from spikeport.sim.memory import keep_freed

    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert keep_freed() is False
