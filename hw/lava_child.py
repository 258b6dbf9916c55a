"""Child process in which real Lava runs: `python -m spikeport.hw.lava_child JOB FOLDER`.

Reads a job (see `lava_job`), fills the recordings that its parent laid out in FOLDER and exits
with 0, or writes one line into FOLDER/error and exits with 1. When its standard input ends, the
parent is gone, and the child ends its whole process group (see `lava_watch`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spikeport.hw import lava_job
from spikeport.hw.lava_record import Window, chip_steps, executions, stems, windows
from spikeport.hw.lava_watch import execute, fail, guard
from spikeport.sim.net import FixedNet


def main(job: Path, folder: Path) -> None:
    """Run `job` on Lava's multi-process runtime and fill the recordings in `folder`."""
    guard(folder)
    try:
        net, x, record = lava_job.load(job)
        found = windows(net, x, record=record)
        for samples in executions(net, x.shape[1]):
            part = x[:, samples.start : samples.stop]
            played = {name: replace(window, samples=samples) for name, window in found.items()}
            _play(net, part, played, folder=folder)
    except Exception as problem:
        fail(folder, f"{type(problem).__name__}: {problem}")


def _play(
    net: FixedNet, x: NDArray[np.int64], played: Mapping[str, Window], *, folder: Path
) -> None:
    """One execution, which plays `x` [T, B, *shape] and records the windows of all populations."""
    from spikeport.hw import lava_net
    from spikeport.hw.lava_processes.recorder import Recorder

    with lava_net.forgetting():
        processes = lava_net.build(net, x)
        for (name, window), stem in zip(played.items(), stems(folder), strict=False):
            lif = processes.neurons[name]
            recorder = Recorder(window=window, stem=stem)
            lif.s_out.connect(recorder.s_in)
            recorder.u.connect_var(lif.u)
            recorder.v.connect_var(lif.v)
        execute(processes.source, chip_steps(net, x.shape), folder=folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
