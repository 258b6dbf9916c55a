"""Processes that write what neurons do into files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.lib.format import open_memmap

from spikeport.hw.lava_file import create


class Recorder(AbstractProcess):  # type: ignore[misc]
    """Receives spikes of `shape` at `s_in`; row t of the new .npy `file`, uint8 [steps, *shape], is
    what came in chip step t + 1."""

    def __init__(self, *, shape: tuple[int, ...], steps: int, file: Path) -> None:
        create(file, np.uint8, (steps, *shape))
        super().__init__(file=file)
        self.s_in = InPort(shape=shape)


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRecorder(PyLoihiProcessModel):  # type: ignore[misc]
    """Runs `Recorder` on the CPU, beside a board too."""

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.rows = open_memmap(proc_params["file"], "r+")

    def run_spk(self) -> None:
        self.rows[self.time_step - 1] = self.s_in.recv()


class PotentialRecorder(AbstractProcess):  # type: ignore[misc]
    """Reads potentials through `v`; row t of the new .npy `file`, int32 [steps, *shape], is what
    they were after chip step t + 1. For the CPU simulator only."""

    def __init__(self, *, shape: tuple[int, ...], steps: int, file: Path) -> None:
        create(file, np.int32, (steps, *shape))
        super().__init__(file=file)
        self.v = RefPort(shape=shape)


@implements(proc=PotentialRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyPotentialRecorder(PyLoihiProcessModel):  # type: ignore[misc]
    """Runs `PotentialRecorder` after all neurons have finished a step."""

    v: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.rows = open_memmap(proc_params["file"], "r+")

    def post_guard(self) -> bool:
        return True

    def run_post_mgmt(self) -> None:
        self.rows[self.time_step - 1] = self.v.read()
