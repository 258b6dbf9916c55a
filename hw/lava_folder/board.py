"""Whether Lava reaches a board here, on which host, and how it runs there.

Everything for boards was written after Lava's own sources and examples, and has never met a board.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
from lava.utils import loihi, slurm

# Where Lava-Loihi's loggers keep results, in watts and microseconds (lava-dl's benchmark of
# PilotNet).
POWER = ("total_power", "vdd_power", "vddm_power", "vddio_power")
STATIC = tuple(f"static_{name}" for name in POWER)
TIME = "avg_time_per_step"


def use_host(host: dict[str, Any]) -> None:
    """Choose the host as Lava expects it, by the options of run.py: host is "slurm", "ethernet", or
    None to leave it to the environment. Raises RuntimeError where Lava cannot look for it."""
    if host["host"] is None:
        return
    generation = loihi.ChipGeneration(host["generation"])
    asked = slurm.try_run_command

    def told(words: list[str]) -> list[str]:
        # Lava 0.10 stumbles over the empty line after the last that sinfo prints, and does not know
        # the star that sinfo puts behind the name of the default partition.
        return [line.replace("*", "") for line in asked(words) if line]

    try:
        with mock.patch.object(slurm, "try_run_command", told):
            if host["host"] == "slurm":
                loihi.use_slurm_host(host["partition"], host["node"], generation)
            else:
                loihi.use_ethernet_host(host["address"], host["binary"], generation)
    except FileNotFoundError as missing:  # Lava 0.10 asks programs and expects that they are there
        raise RuntimeError(
            f"there is no program {missing.filename!r} on this machine, by which Lava finds the"
            f" {host['host']} host; run this where the board's host can be reached"
        ) from None


def loggers(steps: int) -> list[Any]:
    """Lava-Loihi's loggers of power and time for a run of `steps` chip steps."""
    from lava.utils import loihi2_profiler

    return [loihi2_profiler.Loihi2Power(num_steps=steps), loihi2_profiler.Loihi2ExecutionTime()]


def measured(power: Any, time: Any) -> dict[str, float]:
    """Means of what the loggers found, by its name and unit. Power is that of the whole board, its
    idle chips included."""
    found = {f"{name}_w": getattr(power, name, None) for name in (*POWER, *STATIC)}
    found[f"{TIME}_us"] = getattr(time, TIME, None)
    return {name: float(np.mean(value)) for name, value in found.items() if value is not None}


def run_config(*, callbacks: list[Any]) -> Any:
    """Lava's run configuration for a board: embedded adapters, neurons and synapses on the chip,
    source and recorders beside it."""
    from lava.magma.core.run_configs import Loihi2HwCfg
    from lava.proc.io.source import PySendModelFixed, RingBuffer

    from spikeport.hw.lava_folder.processes import adapters
    from spikeport.hw.lava_folder.processes.recorder import PyRecorder, Recorder

    return Loihi2HwCfg(
        select_sub_proc_model=True,
        exception_proc_model_map={
            adapters.InputAdapter: adapters.NxInputAdapter,
            adapters.OutputAdapter: adapters.NxOutputAdapter,
            RingBuffer: PySendModelFixed,
            Recorder: PyRecorder,
        },
        callback_fxs=callbacks,
    )
