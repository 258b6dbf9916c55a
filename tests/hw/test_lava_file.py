"""Files that processes of Lava fill, and what happens where there is no room for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from spikeport.hw.lava_file import create


def test_a_new_file_has_its_place_on_the_disk(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    array = create(file, np.int32, (1000, 300))
    assert (array.shape, array.dtype, array.any()) == ((1000, 300), np.int32, False)
    assert file.stat().st_blocks * 512 >= array.nbytes
    array[3, 4] = 5
    array.flush()
    assert np.load(file)[3, 4] == 5


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    code = (
        "import numpy, resource, sys; from spikeport.hw.lava_file import create;"
        " resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000));"
        " create(sys.argv[1], numpy.int32, (1000, 300))"
    )
    file = tmp_path / "a.npy"
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: '{file}'"


def test_a_child_ends_even_if_it_cannot_say_why(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from spikeport.hw.lava_watch import fail;"
        " os.setpgid(0, 0); fail(Path(sys.argv[1]), 'why')"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run([*words, str(tmp_path / "none")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    subprocess.run([*words, str(tmp_path)])
    assert (tmp_path / "error").read_text() == "why"
