"""Run a `FixedNet` with Lava's own process models, fast, in this operating-system process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.lava_import import require
from spikeport.hw.lava_record import Recording, chip_steps, executions, windows
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import Trace


def run(net: FixedNet, x: Any, *, record: bool = True) -> Trace:
    """What Lava 0.10 computes for integers `x` [T, B, *input.shape].

    With `record`, u and v of every step are kept. Raises LavaError where Lava is missing and
    ValueError for wrong input or a net that Lava cannot run.
    """
    require()
    checked = net.input.check(x)
    found = windows(net, checked, record=record)
    recordings = {name: Recording.in_memory(window) for name, window in found.items()}
    play(net, checked, recordings, samples=range(checked.shape[1]))
    return Trace(populations={name: r.trace() for name, r in recordings.items()})


def play(
    net: FixedNet, x: NDArray[np.int64], recordings: Mapping[str, Recording], *, samples: range
) -> None:
    """Run those `samples` of x [T, B, *input.shape] and note in the recordings of all what they
    do. Samples know nothing of each other, so it does not matter who else is played where."""
    from spikeport.hw import lava_driver, lava_net

    plan = [samples[part.start : part.stop] for part in executions(net, len(samples))]
    parts = [x[:, each.start : each.stop] for each in plan]
    with lava_net.forgetting(), np.errstate(over="ignore"):
        processes = lava_net.build(net, parts[0])
        driver = lava_driver.Driver(processes.source)
        taps = {name: driver.tap(lif) for name, lif in processes.neurons.items()}
        for each, part in zip(plan, parts, strict=True):
            driver.restart({processes.source: {"data": lava_net.columns(net, part)}})
            watched = [
                (recordings[name].of(each), tap, driver.models[processes.neurons[name]])
                for name, tap in taps.items()
            ]
            driver.run(chip_steps(net, part.shape), partial(_note, watched))


def _note(watched: Sequence[tuple[Recording, Callable[[], Any], Any]], chip_step: int) -> None:
    """Record what the neurons (recording, tap, model) did in `chip_step`."""
    for recording, tap, model in watched:
        recording.note_spikes(chip_step, tap())
        if recording.wants_state(chip_step):
            recording.note_state(chip_step, u=model.u, v=model.v)
