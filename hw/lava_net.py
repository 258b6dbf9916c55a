"""A `FixedNet` as connected Lava processes, with the stock LIFReset wherever it can do the job.

Many samples run one after the other in one execution: the source plays N * T columns, and every
population is reset at the chip step at which the next sample's first step reaches it. With delays
in a network, spikes of one sample would reach the next one, so that each sample has an execution
of its own (see `lava_record.executions`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw import lava_axes
from spikeport.hw.early import HELD, intruders
from spikeport.hw.lava_axes import lava_shape, to_lava
from spikeport.hw.lava_import import quiet
from spikeport.hw.lava_limits import refuse_synapses, unconnected
from spikeport.hw.lava_record import alone, chip_steps
from spikeport.hw.lava_synapses import Wiring
from spikeport.sim.net import FixedNet, Population

with quiet():
    from lava.magma.core.process.process import ProcessServer
    from lava.magma.core.process.variable import VarServer
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIFReset

    from spikeport.hw.lava_processes.window_lif import WindowLif


@dataclass(frozen=True, kw_only=True)
class LavaNet:
    """Connected processes. neurons: one process a population, by name."""

    source: Any
    neurons: Mapping[str, Any]


def build(net: FixedNet, x: NDArray[np.int64]) -> LavaNet:
    """Processes that play checked input `x` [T, B, *shape] through `net` in one execution.

    Raises ValueError for what Lava cannot run, see `lava_limits`.
    """
    refuse_synapses(net)
    source = Source(data=columns(net, x))
    special = ours(net)
    # With delays there is one sample, and no second reset must come: it could come early.
    interval = chip_steps(net, x.shape) if alone(net) else len(x)
    start = HELD if alone(net) else 0
    neurons = {
        p.name: _window_lif(p, first_step=net.depths[p.name] + 1, interval=interval)
        if p.name in special
        else _lif_reset(p, first_step=net.depths[p.name] + 1, interval=interval, start=start)
        for p in net.populations
    }
    wiring = Wiring(
        net,
        outputs={"input": source.s_out} | {name: lif.s_out for name, lif in neurons.items()},
        inputs={name: lif.a_in for name, lif in neurons.items()},
    )
    for at in range(len(net.projections)):
        wiring.connect(at)
    for name in unconnected(net):
        wiring.tie(name)
    return LavaNet(source=source, neurons=neurons)


def columns(net: FixedNet, x: NDArray[np.int64]) -> NDArray[np.int32]:
    """What the source plays of `x` [T, B, *shape], see `lava_axes.columns`."""
    port = lava_shape(net.input.shape)
    return lava_axes.columns(x, port=port, steps=chip_steps(net, x.shape))


@contextmanager
def forgetting() -> Iterator[None]:
    """Let Lava forget the processes made inside; else it keeps them and their data for ever."""
    kept = (ProcessServer().processes, VarServer().vars)
    sizes = [len(items) for items in kept]
    try:
        yield
    finally:
        for items, size in zip(kept, sizes, strict=True):
            del items[size:]


def _window_lif(population: Population, *, first_step: int, interval: int) -> Any:
    return WindowLif(
        shape=lava_shape(population.shape),
        du=_value(population, "du"),
        dv=_value(population, "dv"),
        v_th=_value(population, "v_th"),
        bias=_value(population, "bias_shifted"),
        v_init=_value(population, "v_init"),
        reset=population.reset,
        interval=interval,
        first_step=first_step,
    )


def _lif_reset(population: Population, *, first_step: int, interval: int, start: int) -> Any:
    return LIFReset(
        shape=lava_shape(population.shape),
        v=start,
        du=_value(population, "du"),
        dv=_value(population, "dv"),
        vth=_value(population, "v_th"),
        bias_mant=_value(population, "bias"),
        bias_exp=population.bias_exp,
        reset_interval=interval,
        reset_offset=first_step % interval,
    )


def _value(population: Population, name: str) -> Any:
    """One number for all neurons, or one each in Lava's axis order."""
    array = getattr(population, name)
    # A numpy scalar makes Lava's `Var.get` hang, hence Python's int.
    return int(array) if array.ndim == 0 else to_lava(array, population.shape)


def ours(net: FixedNet) -> frozenset[str]:
    """Populations that LIFReset cannot be: those with a start potential or another reset, and
    those that must be silent before their window."""
    found = frozenset(p.name for p in net.populations if p.v_init.any() or p.reset != "zero")
    while more := intruders(net, silent=found, start=HELD):
        found |= more
    return found
