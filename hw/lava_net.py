"""A `FixedNet` as connected Lava processes; the one place that turns to Lava's axis order.

Many samples run one after the other in one execution: the source plays N * T columns, and every
population is reset at the chip step at which the next sample's first step reaches it. Lava's maps
are (x, y, channel); a map (C, H, W) of ours is its transpose. Lava's convolution flips its kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.lava_import import quiet
from spikeport.hw.lava_limits import refuse
from spikeport.hw.lava_record import lava_shape
from spikeport.sim.net import FixedNet, Input, Population, Projection
from spikeport.sim.synapse import Conv2d, Dense, Shape, lowered

with quiet():
    from lava.magma.core.process.process import ProcessServer
    from lava.magma.core.process.variable import VarServer
    from lava.proc.conv.process import Conv as LavaConv
    from lava.proc.dense.process import DelayDense
    from lava.proc.dense.process import Dense as LavaDense
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIFReset


@dataclass(frozen=True, kw_only=True)
class LavaNet:
    """Connected processes. neurons: one LIFReset a population, by name. chip_steps: how many
    steps it takes until the last sample has left the deepest population."""

    source: Any
    neurons: Mapping[str, Any]
    chip_steps: int


def build(net: FixedNet, x: NDArray[np.int64]) -> LavaNet:
    """Processes that play checked input `x` [T, B, *shape] through `net`.

    Raises ValueError for what stock Lava cannot run, see `lava_limits`.
    """
    refuse(net)
    steps, batch = x.shape[:2]
    deepest = max(net.depths.values())
    source = Source(data=_columns(x, silence=deepest))
    ports = {"input": source.s_out}
    neurons = {}
    for population in net.populations:
        lif = _neurons(population, steps=steps, depth=net.depths[population.name])
        for projection in net.incoming(population.name):
            origin = projection.source
            synapse = _synapse(projection, net, net.input if origin == "input" else None)
            _flattened(ports[origin], synapse).connect(synapse.s_in)
            _mapped(synapse.a_out, population.shape).connect(lif.a_in)
        neurons[population.name] = lif
        ports[population.name] = lif.s_out
    return LavaNet(source=source, neurons=neurons, chip_steps=steps * batch + deepest)


def sinks(processes: LavaNet) -> dict[str, Any]:
    """Connect a sink that holds the last step's spikes to every population, by name."""
    found = {}
    for name, lif in processes.neurons.items():
        found[name] = Sink(shape=lif.s_out.shape, buffer=1)
        lif.s_out.connect(found[name].a_in)
    return found


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


def to_lava(values: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Values [n] in C order of `shape` in Lava's axis order."""
    return values.reshape(shape).transpose()


def _columns(x: NDArray[np.int64], *, silence: int) -> NDArray[np.int32]:
    """[T, B, *shape] -> [*lava shape, B * T + silence], one column a chip step."""
    rows = x.swapaxes(0, 1).reshape(-1, *x.shape[2:]).astype(np.int32)
    quiet_rows = np.zeros((silence, *x.shape[2:]), np.int32)
    # Reversing all axes turns the map over and puts time last at once.
    return np.concatenate([rows, quiet_rows]).transpose()


def _neurons(population: Population, *, steps: int, depth: int) -> Any:
    def value(name: str) -> Any:
        array = getattr(population, name)
        # A numpy scalar makes Lava's `Var.get` hang, hence Python's int.
        return int(array) if array.ndim == 0 else to_lava(array, population.shape)

    return LIFReset(
        shape=lava_shape(population.shape),
        du=value("du"),
        dv=value("dv"),
        vth=value("v_th"),
        bias_mant=value("bias"),
        bias_exp=population.bias_exp,
        reset_interval=steps,
        # Chip steps count from 1: the first input arrives at chip step depth + 1.
        reset_offset=(depth + 1) % steps,
    )


def _synapse(projection: Projection, net: FixedNet, graded: Input | None) -> Any:
    """Lava's process for `projection`; `graded` is the network's input if it is the source."""
    shape = net.shape_of(projection.source)
    synapse = lowered(projection.synapse, shape)
    bits = 0 if graded is None or graded.kind == "spike" else max(8, graded.payload_bits)
    if isinstance(synapse, Conv2d):
        return _conv(synapse, shape, message_bits=bits)
    return _dense(synapse, delay=projection.delay, message_bits=bits)


def _dense(dense: Dense, *, delay: int, message_bits: int) -> Any:
    # Lava drops weight bits itself, so it gets the weights as programmed, not `w_chip`.
    settings = {
        "weights": dense.w.astype(np.int32),
        "weight_exp": dense.w_exp,
        "num_message_bits": message_bits,
    }
    return DelayDense(delays=delay, **settings) if delay else LavaDense(**settings)


def _conv(conv: Conv2d, shape: Shape, *, message_bits: int) -> Any:
    geometry = conv.geometry
    return LavaConv(
        weight=conv_weight(conv.w),
        input_shape=lava_shape(shape),
        stride=geometry.stride[::-1],
        padding=geometry.padding[::-1],
        dilation=geometry.dilation[::-1],
        groups=geometry.groups,
        num_message_bits=message_bits,
    )


def conv_weight(w: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """[C_out, C_in, kH, kW] of a cross-correlation -> [C_out, kx, ky, C_in] of a convolution."""
    return w[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).astype(np.int32)


def _flattened(port: Any, synapse: Any) -> Any:
    """`port` as `synapse` wants it: a dense synapse sees maps in C order of (C, H, W)."""
    if isinstance(synapse, LavaConv) or len(port.shape) == 1:
        return port
    return port.transpose([2, 1, 0]).flatten()


def _mapped(port: Any, shape: Shape) -> Any:
    """The output of a dense synapse as the maps (C, H, W) of its target, if it has maps."""
    if len(port.shape) == len(shape):
        return port
    return port.reshape(shape).transpose([2, 1, 0])
