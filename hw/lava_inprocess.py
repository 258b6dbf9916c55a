"""Run a `FixedNet` with Lava's own process models, fast, in this operating-system process."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeport.hw.lava_import import require
from spikeport.hw.lava_record import Recording, windows
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import Trace


def run(net: FixedNet, x: Any, *, record: bool = True) -> Trace:
    """What Lava 0.10 computes for integers `x` [T, B, *input.shape], all samples in one execution.

    With `record`, u and v of every step are kept. Raises LavaError where Lava is missing and
    ValueError for wrong input or a net that stock Lava cannot run.
    """
    require()
    from spikeport.hw import lava_driver, lava_net

    checked = net.input.check(x)
    with lava_net.forgetting(), np.errstate(over="ignore"):
        processes = lava_net.build(net, checked)
        sinks = lava_net.sinks(processes)
        driver = lava_driver.Driver(processes.source)
        found = windows(net, checked, record=record)
        recordings = {name: Recording.in_memory(window) for name, window in found.items()}
        taps = [
            (recordings[name], driver.models[lif], driver.models[sinks[name]])
            for name, lif in processes.neurons.items()
        ]

        def note(chip_step: int) -> None:
            for recording, neurons, sink in taps:
                recording.note_spikes(chip_step, sink.data[..., 0])
                if recording.wants_state(chip_step):
                    recording.note_state(chip_step, u=neurons.u, v=neurons.v)

        driver.run(processes.chip_steps, note)
    return Trace(populations={name: r.trace() for name, r in recordings.items()})
