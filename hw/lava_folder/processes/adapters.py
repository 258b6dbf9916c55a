"""Between Python and the chip: on the CPU an adapter hands on what it gets in the same step, on a
board it is one of Lava-Loihi's embedded processes, as in the examples of Lava and lava-dl.

The board's models were written without a board and have never run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU, Loihi2NeuroCore
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Adapter(AbstractProcess):  # type: ignore[misc]
    """Hands on messages of `shape` from `inp` to `out`. message_bits: 0 for spikes that carry no
    number."""

    def __init__(self, *, shape: tuple[int, ...], message_bits: int = 0) -> None:
        super().__init__(shape=shape, message_bits=message_bits)
        self.inp = InPort(shape=shape)
        self.out = OutPort(shape=shape)


class InputAdapter(Adapter):
    """From Python to the chip."""


class OutputAdapter(Adapter):
    """From the chip to Python."""


class PyAdapter(PyLoihiProcessModel):  # type: ignore[misc]
    """Either adapter where everything runs on the CPU."""

    inp: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def run_spk(self) -> None:
        self.out.send(self.inp.recv())


@implements(proc=InputAdapter, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyInputAdapter(PyAdapter):
    """`InputAdapter` on the CPU."""


@implements(proc=OutputAdapter, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyOutputAdapter(PyAdapter):
    """`OutputAdapter` on the CPU."""


class NxAdapter(AbstractSubProcessModel):  # type: ignore[misc]
    """Either adapter on a board: `kind` of Lava-Loihi's lava.proc.embedded_io.spike."""

    kind: str

    def __init__(self, proc: Any) -> None:
        from lava.proc.embedded_io import spike

        self.adapter = getattr(spike, self.kind)(
            shape=proc.proc_params["shape"], num_message_bits=proc.proc_params["message_bits"]
        )
        proc.inp.connect(self.adapter.inp)
        self.adapter.out.connect(proc.out)


@implements(proc=InputAdapter, protocol=LoihiProtocol)
@requires(Loihi2NeuroCore)
class NxInputAdapter(NxAdapter):
    """`InputAdapter` on a board."""

    kind = "PyToNxAdapter"


@implements(proc=OutputAdapter, protocol=LoihiProtocol)
@requires(Loihi2NeuroCore)
class NxOutputAdapter(NxAdapter):
    """`OutputAdapter` on a board."""

    kind = "NxToPyAdapter"
