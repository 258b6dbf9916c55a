"""Run a `FixedNet` on the real, multi-process Lava runtime, in a child that cannot harm us.

Lava hangs on errors and leaks when killed. So it runs in a child process with its own session and
a hard time-out; whatever happens, no process, segment of shared memory or socket of it stays.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from spikeport.hw import lava_job
from spikeport.hw.lava_guard import guarded
from spikeport.hw.lava_import import LavaError, available, require
from spikeport.hw.lava_limits import refuse_synapses
from spikeport.hw.lava_record import Recording, chip_steps, executions, recordings
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import Trace

__all__ = ["LavaError", "available", "run"]


def run(net: FixedNet, x: Any, *, timeout_s: float, record: bool = True) -> Trace:
    """What Lava's runtime computes for integers `x` [T, B, *input.shape].

    With `record`, u and v of every step are kept. Raises LavaError where Lava is missing, dies or
    takes longer than `timeout_s` seconds (starting it takes 2 to 10; with delays in the network
    every sample starts it anew), and ValueError for wrong input or a net that Lava cannot run.
    """
    require()
    refuse_synapses(net)
    checked = net.input.check(x)
    with tempfile.TemporaryDirectory(prefix="spikeport-lava-") as name:
        folder = Path(name)
        job = folder / "job.npz"
        lava_job.save(job, net, checked, record=record)
        found = recordings(net, checked, folder, record=record, each=Recording.create)
        command = [sys.executable, "-m", "spikeport.hw.lava_child", str(job), name]
        try:
            guarded(command, folder, timeout_s=timeout_s)
        except TimeoutError:
            reached = max(int(r.progress[0]) for r in found.values())
            raise LavaError(_too_slow(net, checked.shape, timeout_s, reached)) from None
        return Trace(populations={p: r.trace() for p, r in found.items()})


def _too_slow(net: FixedNet, shape: tuple[int, ...], timeout_s: float, reached: int) -> str:
    total = sum(chip_steps(net, (shape[0], len(samples))) for samples in executions(net, shape[1]))
    return (
        f"Lava did not finish within {timeout_s:g} s (chip step {reached} of {total} reached);"
        " allow more time, give fewer samples, or use the in-process backend"
    )
