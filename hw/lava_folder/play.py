"""Child process of run.py in which Lava runs: `python play.py JOB`.

Reads JOB/job.json, plays the samples and leaves JOB/E.P.npy: the spikes of population P (its
number) in every chip step of execution E. E.v.npy: potentials of the readout, where the job wants
them. On failure one line in JOB/error says why.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from spikeport.hw.lava_axes import columns
from spikeport.hw.lava_folder.run import NEEDS
from spikeport.hw.lava_import import quiet
from spikeport.hw.lava_watch import execute, fail, guard

HERE = Path(__file__).resolve().parent


def main(job: Path) -> None:
    """Play the job in the folder `job`."""
    wanted = json.loads((job / "job.json").read_text(encoding="utf-8"))
    guard(job)
    try:
        net = json.loads((HERE / "network.json").read_text(encoding="utf-8"))
        with np.load(HERE / "vectors.npz") as vectors:
            x = vectors["x"][:, : wanted["samples"]]
        with quiet():
            if wanted["board"]:
                from spikeport.hw.lava_folder import board

                board.use_host(wanted["host"])
            size = 1 if net["one_by_one"] else x.shape[1]
            profiles = [
                _play(net, x[:, first : first + size], number, job, wanted)
                for number, first in enumerate(range(0, x.shape[1], size))
            ]
        if wanted["profile"]:
            found = {name: [each[name] for each in profiles] for name in profiles[0]}
            (job / "profile.json").write_text(json.dumps(found), encoding="utf-8")
    except Exception as problem:
        said = f"{type(problem).__name__}: {problem}"
        if isinstance(problem, ImportError) and not wanted["board"]:
            said = f"{problem}; {NEEDS}"  # Lava is there, but not all of it, or not what it needs
        fail(job, said)


def _play(
    net: dict[str, Any], x: Any, number: int, job: Path, wanted: dict[str, Any]
) -> dict[str, float]:
    """Execution `number`, which plays `x` [T, B, *shape]; what a board's loggers measured."""
    from lava.magma.core.process.process import ProcessServer
    from lava.magma.core.process.variable import VarServer
    from lava.proc.io.source import RingBuffer

    from spikeport.hw.lava_folder import graph
    from spikeport.hw.lava_folder.processes.adapters import InputAdapter, OutputAdapter
    from spikeport.hw.lava_folder.processes.recorder import PotentialRecorder, Recorder

    steps, shape = graph.chip_steps(net, x.shape[1]), tuple(net["input"]["port"])
    source = RingBuffer(data=columns(x, port=shape, steps=steps))
    adapter = InputAdapter(shape=shape, message_bits=net["input"]["message_bits"])
    source.s_out.connect(adapter.inp)
    neurons = graph.connect(HERE, net, adapter.out)
    for i, (name, lif) in enumerate(neurons.items()):
        if name in wanted["populations"]:
            back = OutputAdapter(shape=lif.s_out.shape)
            recorder = Recorder(shape=back.out.shape, steps=steps, file=job / f"{number}.{i}.npy")
            lif.s_out.connect(back.inp)
            back.out.connect(recorder.s_in)
    if wanted["potentials"]:
        lif, file = neurons[net["readout"]["population"]], job / f"{number}.v.npy"
        PotentialRecorder(shape=lif.v.shape, steps=steps, file=file).v.connect_var(lif.v)
    config: Any = None
    loggers: list[Any] = []
    if wanted["board"]:
        from spikeport.hw.lava_folder import board

        loggers = board.loggers(steps) if wanted["profile"] else []
        config = board.run_config(callbacks=loggers)
    execute(source, steps, folder=job, config=config)
    found = board.measured(*loggers) if loggers else {}
    ProcessServer().reset_server()  # Lava would keep all processes and their data
    VarServer().reset_server()
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
