"""A child for `guarded` that goes wrong on purpose: `failing_child.py FOLDER HOW`."""

from __future__ import annotations

import os
import sys
import time
from multiprocessing import shared_memory
from pathlib import Path

from spikeport.hw import lava_watch


def net_that_raises() -> object:
    """A process whose model raises in its first step: its decay is no integer."""
    import numpy as np
    from lava.proc.dense.process import Dense
    from lava.proc.lif.process import LIF

    dense, lif = Dense(weights=np.array([[1]])), LIF(shape=(1,), du=0.5)
    dense.a_out.connect(lif.a_in)
    return dense


def main(folder: Path, how: str) -> None:
    lava_watch.guard(folder)
    if how == "raise":
        lava_watch.execute(net_that_raises(), 5, folder=folder)
    segment = shared_memory.SharedMemory(create=True, size=4096)
    if os.fork() == 0:
        time.sleep(600)
    (folder / "ready").write_text(segment.name)
    if how == "print":
        print("the last words\n")
        os._exit(7)
    time.sleep(600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
