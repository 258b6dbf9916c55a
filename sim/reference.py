"""The definition of a FixedNet: slow, obvious, 64-bit integers, no tricks.

Everything else that runs a FixedNet (engine, twin, Lava, a board) must give the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import shift_sum, wrap_int24, wrap_int32
from spikeport.sim.lif import LifParameters, tick
from spikeport.sim.net import FixedNet, Population
from spikeport.sim.synapse import Conv2d, Dense, Shape, Synapse, lowered
from spikeport.sim.trace import PopulationTrace, Trace


def run(net: FixedNet, x: Any, *, strict: bool = False) -> Trace:
    """Run `net` on integers `x` [T, B, *input.shape] and record spikes, u and v of every step.

    T may differ from `net.steps`. With `strict`, a wrap of u or a clip of v raises OverflowError
    with the population's name and the count. Raises ValueError for input of wrong shape or range.
    """
    x = net.input.check(x)
    steps, batch = x.shape[:2]
    neurons = {p.name: _Neurons(p, steps=steps, batch=batch) for p in net.populations}
    spikes = {"input": x, **{name: part.spikes for name, part in neurons.items()}}
    for t in range(steps):
        for name, part in neurons.items():
            a = np.zeros((batch, part.population.size), np.int64)
            for p in net.incoming(name):
                if t >= p.delay:
                    s = spikes[p.source][t - p.delay].reshape(1, batch, *net.shape_of(p.source))
                    a += synapse_sum(p.synapse, s.astype(np.int64))[0]
            part.advance(t, wrap_int32(a))
    if strict:
        for name, part in neurons.items():
            refuse_overflow(name, wraps=part.wraps, clips=part.clips)
    return Trace(
        populations={name: part.trace() for name, part in neurons.items()},
        wraps={name: part.wraps for name, part in neurons.items()},
        clips={name: part.clips for name, part in neurons.items()},
    )


def refuse_overflow(name: str, *, wraps: int, clips: int) -> None:
    """Raise OverflowError if u of population `name` wrapped or its v was clipped."""
    if wraps or clips:
        raise OverflowError(
            f"population {name!r}: u wrapped {wraps} times and v was clipped {clips} times;"
            " lower the scale of its weights"
        )


def synapse_sum(synapse: Synapse, s: NDArray[np.int64]) -> NDArray[np.int64]:
    """Synaptic sums int64 [T, B, n_out] of `synapse` for source values [T, B, *shape]."""
    steps, batch, *shape = s.shape
    part = lowered(synapse, tuple(shape))
    if isinstance(part, Dense):
        total = s.reshape(steps, batch, -1) @ part.w_chip.T
    else:
        total = conv_sum(part, s.reshape(steps * batch, *shape)).reshape(steps, batch, -1)
    return delivered(part, total)


def delivered(part: Dense | Conv2d, total: NDArray[np.int64]) -> NDArray[np.int64]:
    """What arrives of a plain sum: dense sums are shifted, convolutions wrap at 24 bits."""
    total = wrap_int32(total)
    if isinstance(part, Dense):
        total = shift_sum(total, part.w_exp)
    else:
        total = wrap_int24(total)
    return total


def conv_sum(conv: Conv2d, s: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cross-correlation of [N, C, H, W] with `conv`, summed tap by tap; int64 [N, C_out, H, W]."""
    geometry, w = conv.geometry, conv.w.astype(np.int64)
    (pad_y, pad_x), groups = geometry.padding, geometry.groups
    padded = np.pad(s, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    shape: Shape = conv.output_shape(s.shape[1:])
    out = np.zeros((len(s), *shape), np.int64)
    per_out, per_in = shape[0] // groups, w.shape[1]
    for y in range(w.shape[2]):
        for x in range(w.shape[3]):
            top, left = y * geometry.dilation[0], x * geometry.dilation[1]
            window = padded[
                :, :,
                top : top + (shape[1] - 1) * geometry.stride[0] + 1 : geometry.stride[0],
                left : left + (shape[2] - 1) * geometry.stride[1] + 1 : geometry.stride[1],
            ]  # fmt: skip
            for g in range(groups):
                rows = slice(g * per_out, (g + 1) * per_out)
                taps = w[rows, :, y, x]
                part = window[:, g * per_in : (g + 1) * per_in]
                out[:, rows] += np.einsum("oi,nihw->nohw", taps, part)
    return out


def parameters(population: Population) -> LifParameters:
    """The tick's parameters as int64 numpy arrays."""
    return LifParameters(
        du=population.du.astype(np.int64),
        dv=population.dv.astype(np.int64),
        v_th=population.v_th.astype(np.int64),
        bias=population.bias_shifted,
        reset=population.reset,
    )


class _Neurons:
    """State and record of one population: spikes uint8, u and v int32, all [T, B, n]."""

    def __init__(self, population: Population, *, steps: int, batch: int) -> None:
        self.population, self.parameters = population, parameters(population)
        size = (steps, batch, population.size)
        self.spikes = np.zeros(size, np.uint8)
        self.u, self.v = np.zeros(size, np.int32), np.zeros(size, np.int32)
        self.wraps = self.clips = 0

    def advance(self, t: int, a: NDArray[np.int64]) -> None:
        """Step `t` with synaptic sums `a` [B, n]."""
        start = np.zeros(a.shape, np.int64), self.population.v_init.astype(np.int64) + 0 * a
        u, v = (self.u[t - 1], self.v[t - 1]) if t else start
        new = tick(u.astype(np.int64), v.astype(np.int64), a, self.parameters)
        self.spikes[t], self.u[t], self.v[t] = new.s, new.u, new.v
        self.wraps, self.clips = (
            self.wraps + int(new.wrapped.sum()),
            self.clips + int(new.clipped.sum()),
        )

    def trace(self) -> PopulationTrace:
        return PopulationTrace(spikes=self.spikes, u=self.u, v=self.v, v_last=self.v[-1].copy())
