"""Files that processes of Lava fill while they run.

Stands on its own: deployment folders carry this file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.lib.format import open_memmap

from spikeport.sim.files import naming


def create(file: Path | str, dtype: Any, shape: tuple[int, ...]) -> Any:
    """The new .npy `file` of zeros as a mapped array, its place on the disk taken: else a process
    that fills it on a full disk would be killed without a word. Raises OSError on a full disk."""
    with naming(Path(file)):
        array = open_memmap(file, "w+", dtype, shape)
        if hasattr(os, "posix_fallocate"):  # not everywhere
            with open(file, "r+b") as opened:
                os.posix_fallocate(opened.fileno(), 0, os.fstat(opened.fileno()).st_size)
        return array
