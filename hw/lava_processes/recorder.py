"""A Process that writes what a population does into files, cheaply and at every step."""

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

from spikeport.hw.lava_record import Recording, Window


class Recorder(AbstractProcess):  # type: ignore[misc]
    """Receives spikes at `s_in`, reads u and v through reference ports, and fills the recording
    in the files `stem` for `window`."""

    def __init__(self, *, window: Window, stem: Path) -> None:
        super().__init__(window=window, stem=stem)
        self.s_in = InPort(shape=window.shape)
        self.u = RefPort(shape=window.shape)
        self.v = RefPort(shape=window.shape)


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRecorderModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Runs `Recorder` on the CPU; reads u and v after all neurons have finished the step."""

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    u: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    v: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.recording = Recording.open(proc_params["window"], proc_params["stem"])

    def run_spk(self) -> None:
        self.recording.note_spikes(self.time_step, self.s_in.recv())

    def post_guard(self) -> bool:
        return self.recording.wants_state(self.time_step)

    def run_post_mgmt(self) -> None:
        self.recording.note_state(self.time_step, u=self.u.read(), v=self.v.read())
