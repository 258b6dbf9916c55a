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
    outputs: dict[str, NDArray[np.int64]] = {"input": net.input.check(x)}
    traces, wraps, clips = {}, {}, {}
    for population in net.populations:
        a = sum(synapse_sum(p.synapse, outputs[p.source]) for p in net.incoming(population.name))
        trace, wraps[population.name], clips[population.name] = _run_population(
            population, np.asarray(a)
        )
        if strict:
            refuse_overflow(
                population.name, wraps=wraps[population.name], clips=clips[population.name]
            )
        traces[population.name] = trace
        spikes = trace.spikes.astype(np.int64)
        outputs[population.name] = spikes.reshape(*spikes.shape[:2], *population.shape)
    return Trace(populations=traces, wraps=wraps, clips=clips)


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


def _run_population(
    population: Population, a: NDArray[np.int64]
) -> tuple[PopulationTrace, int, int]:
    p = parameters(population)
    u = np.zeros(a.shape[1:], np.int64)
    v = np.broadcast_to(population.v_init.astype(np.int64), u.shape)
    a = wrap_int32(a)
    spikes = np.empty(a.shape, np.uint8)
    us, vs = np.empty(a.shape, np.int32), np.empty(a.shape, np.int32)
    wraps = clips = 0
    for t in range(len(a)):
        new = tick(u, v, a[t], p)
        u, v, spikes[t] = new.u, new.v, new.s
        us[t], vs[t] = u, v
        wraps, clips = wraps + int(new.wrapped.sum()), clips + int(new.clipped.sum())
    trace = PopulationTrace(spikes=spikes, u=us, v=vs, v_last=vs[-1].copy())
    return trace, wraps, clips
