"""LIF neurons that live from window to window, with all that a `Population` can be given."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from spikeport.sim.lif import LifParameters, tick


class WindowLif(AbstractProcess):  # type: ignore[misc]
    """Neurons of `shape` that are silent before chip step `first_step` (counted from 1). There,
    and every `interval` steps after it, a window starts: u becomes 0 and v becomes v_init.

    du, dv, v_th, bias (already shifted by its exponent), v_init: integers, one for all neurons or
    an array of `shape`. reset: "zero" or "subtract". The equations stand in `spikeport.sim.lif`.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        du: Any,
        dv: Any,
        v_th: Any,
        bias: Any,
        v_init: Any,
        reset: str,
        interval: int,
        first_step: int,
    ) -> None:
        super().__init__(reset=reset, interval=interval, first_step=first_step)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.u = Var(shape=shape, init=0)
        self.v = Var(shape=shape, init=0)
        self.du = Var(shape=shape, init=du)
        self.dv = Var(shape=shape, init=dv)
        self.v_th = Var(shape=shape, init=v_th)
        self.bias = Var(shape=shape, init=bias)
        self.v_init = Var(shape=shape, init=v_init)


@implements(proc=WindowLif, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyWindowLifModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Runs `WindowLif` on the CPU."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    u: Any = LavaPyType(np.ndarray, np.int32)
    v: Any = LavaPyType(np.ndarray, np.int32)
    du: Any = LavaPyType(np.ndarray, np.int64)
    dv: Any = LavaPyType(np.ndarray, np.int64)
    v_th: Any = LavaPyType(np.ndarray, np.int64)
    bias: Any = LavaPyType(np.ndarray, np.int64)
    v_init: Any = LavaPyType(np.ndarray, np.int64)

    def run_spk(self) -> None:
        a = self.a_in.recv().astype(np.int64)
        since = self.time_step - self.proc_params["first_step"]
        if since < 0:
            self.s_out.send(np.zeros(self.u.shape, np.int32))
            return
        if since % self.proc_params["interval"] == 0:
            self.u[:], self.v[:] = 0, self.v_init
        parameters = LifParameters(
            du=self.du,
            dv=self.dv,
            v_th=self.v_th,
            bias=self.bias,
            reset=self.proc_params["reset"],
        )
        new = tick(self.u.astype(np.int64), self.v.astype(np.int64), a, parameters)
        self.u[:], self.v[:] = new.u, new.v
        self.s_out.send(new.s)
