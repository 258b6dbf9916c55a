"""A child for `guarded`: lava-dl's network of a NetX file on Lava's own multi-process runtime.

`netx_child.py FOLDER FILE LOADING`: plays FOLDER/columns.npy, writes FOLDER/spikes.npy. LOADING:
JSON of the keyword arguments of `netx.hdf5.Network`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from spikeport.hw import lava_watch
from spikeport.hw.lava_import import quiet


def main(folder: Path, file: str, loading: dict[str, int]) -> None:
    lava_watch.guard(folder)
    columns = np.load(folder / "columns.npy")
    try:
        with quiet():
            from lava.lib.dl.netx.hdf5 import Network
            from lava.magma.core.run_conditions import RunSteps
            from lava.magma.core.run_configs import Loihi2SimCfg
            from lava.proc.io.sink import RingBuffer as Sink
            from lava.proc.io.source import RingBuffer as Source

            network = Network(net_config=file, **loading)
            source = Source(data=columns)
            sink = Sink(shape=network.out.shape, buffer=columns.shape[-1])
            source.s_out.connect(network.inp)
            network.out.connect(sink.a_in)
            steps = RunSteps(num_steps=columns.shape[-1])
            source.run(condition=steps, run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
            np.save(folder / "spikes.npy", sink.data.get())
            source.stop()
    except Exception as problem:
        lava_watch.fail(folder, f"{type(problem).__name__}: {problem}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
