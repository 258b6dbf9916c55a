"""Between Python and the chip: on the CPU an adapter hands on what it gets in the same step, on a
board it is one of Lava-Loihi's embedded processes, those that lava-dl 0.6 takes: PyToN3ConvAdapter
for an input of maps, NxToPyAdapter (its tests/lava/lib/dl/netx/test_hdf5_nx.py) and PyToNxAdapter
for a flat input (its tutorial netx/mnist).

The board's models were written without a board and have never run.
"""

from __future__ import annotations

from typing import Any, ClassVar

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
    """Either adapter on a board. kinds: Lava-Loihi's lava.proc.embedded_io.spike has it under this
    name, by the number of axes of a message."""

    kinds: ClassVar[dict[int, str]]

    def __init__(self, proc: Any) -> None:
        from lava.proc.embedded_io import spike

        shape = proc.proc_params["shape"]
        self.adapter = getattr(spike, self.kinds[len(shape)])(
            shape=shape, num_message_bits=proc.proc_params["message_bits"]
        )
        proc.inp.connect(self.adapter.inp)
        self.adapter.out.connect(proc.out)


@implements(proc=InputAdapter, protocol=LoihiProtocol)
@requires(Loihi2NeuroCore)
class NxInputAdapter(NxAdapter):
    """`InputAdapter` on a board."""

    kinds: ClassVar[dict[int, str]] = {1: "PyToNxAdapter", 3: "PyToN3ConvAdapter"}


@implements(proc=OutputAdapter, protocol=LoihiProtocol)
@requires(Loihi2NeuroCore)
class NxOutputAdapter(NxAdapter):
    """`OutputAdapter` on a board."""

    kinds: ClassVar[dict[int, str]] = {1: "NxToPyAdapter", 3: "NxToPyAdapter"}
