"""In-process Lava on many samples, spread over processes in shares of the samples.

Lava plays one sample after the other, and none knows of the others, so who plays which changes no
bit. All processes fill the same recordings, files that each has mapped; a share that is killed is
played again.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from spikeport.hw import lava_inprocess, lava_job
from spikeport.hw.lava_import import LavaError, require
from spikeport.hw.lava_limits import refuse_synapses
from spikeport.hw.lava_record import Recording, chip_steps, recordings
from spikeport.sim import apart
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import Trace

TRIES = 3  # of a share whose process is killed
JOB = "job.npz"

LEAST_STEPS = 2000
"""Chip steps of a share, some 2.8 s on a net for digits: four times what it takes there to start a
process and load Lava."""


def run(net: FixedNet, x: Any, *, jobs: int, record: bool = True) -> Trace:
    """`lava_inprocess.run` by up to `jobs` processes at a time, fewer where shares would be small.

    Raises what that raises, and LavaError where a share fails.
    """
    jobs = apart.processes(jobs, where="lava-inprocess")
    require()
    refuse_synapses(net)
    checked = net.input.check(x)
    spans = shares(chip_steps(net, checked.shape), samples=checked.shape[1], jobs=jobs)
    if len(spans) == 1:
        return lava_inprocess.run(net, checked, record=record)
    with tempfile.TemporaryDirectory(prefix="spikeport-lava-") as name:
        folder = Path(name)
        small = checked.astype(np.min_scalar_type(net.input.largest))
        lava_job.save(folder / JOB, net, small, record=record)
        found = recordings(net, checked, folder, record=record, each=Recording.create)
        told = [str(folder / f"{span.start}-{span.stop}") for span in spans]
        task = f"{play_share.__module__}:{play_share.__name__}"
        with closing(
            apart.each(task, told, where="lava-inprocess", jobs=len(told), tries=TRIES)
        ) as done:
            for part, failure in done:
                if failure:
                    raise LavaError(
                        f"Lava failed on samples {Path(part).name}: {failure}; give fewer samples,"
                        " or fewer jobs"
                    )
        return Trace(populations={p: r.trace() for p, r in found.items()})


def shares(steps: int, *, samples: int, jobs: int) -> list[range]:
    """Up to `jobs` shares of the `samples`, as even as can be, of at least `LEAST_STEPS` of all
    chip `steps` each."""
    count = max(1, min(jobs, samples, steps // LEAST_STEPS))
    ends = [samples * i // count for i in range(count + 1)]
    return [range(first, last) for first, last in pairwise(ends)]


def play_share(told: str) -> None:
    """Play the samples FIRST-LAST that the path `told` ends with, of the job beside it."""
    part = Path(told)
    first, last = map(int, part.name.split("-"))
    net, x, record = lava_job.load(part.with_name(JOB))
    checked = net.input.check(x)
    found = recordings(net, checked, part.parent, record=record, each=Recording.open)
    lava_inprocess.play(net, checked, found, samples=range(first, last))
