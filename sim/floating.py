"""The meaning of a FloatNet: float64 throughout, no tricks.

    u <- keep_u u + a            synaptic current
    v <- keep_v v + u + bias     membrane potential
    s <- v > v_th                strict
    v <- 0, or v - v_th, where s

The integer counterpart is `spikeport.sim.reference`; `spikeport.sim.fidelity` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.net import FloatNet, FloatPopulation
from spikeport.sim.synapse import (
    ConvGeometry,
    FloatConv2d,
    FloatDense,
    FloatSynapse,
    Shape,
    lowered_float,
)
from spikeport.sim.trace import PopulationTrace, Trace

Floats = NDArray[np.float64]

NEVER = float(np.finfo(np.float64).max)  # the threshold of a neuron that only integrates


def run(net: FloatNet, x: Any, *, record: bool = True) -> Trace:
    """Run `net` on floats `x` [T, B, *input.shape], in float input units (pixels in [0, 1]).

    T may differ from `net.steps`. Spikes are uint8, u and v float64 [T, B, n] after the reset;
    without `record` u and v are None and only v_last is kept. Raises ValueError for input of
    wrong shape, or with NaN or infinity.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 2 + len(net.input.shape) or x.shape[2:] != net.input.shape or 0 in x.shape:
        raise ValueError(
            f"network input has shape {x.shape}; needed is [T, B, *{net.input.shape}], none empty"
        )
    if not np.isfinite(x).all():
        raise ValueError("network input holds NaN or infinity; repair the data")
    outputs: dict[str, Floats] = {"input": x}
    traces: dict[str, PopulationTrace] = {}
    for population in net.populations:
        a = sum(synapse_sum(p.synapse, outputs[p.source]) for p in net.incoming(population.name))
        trace = _run_population(population, np.asarray(a), record=record)
        traces[population.name] = trace
        spikes = trace.spikes.astype(np.float64)
        outputs[population.name] = spikes.reshape(*spikes.shape[:2], *population.shape)
    return Trace(populations=traces)


def synapse_sum(synapse: FloatSynapse, s: Floats) -> Floats:
    """Currents [T, B, n_out] that `synapse` delivers for source values [T, B, *shape]."""
    steps, batch, *shape = s.shape
    part = lowered_float(synapse, tuple(shape))
    if isinstance(part, FloatDense):
        return s.reshape(steps, batch, -1) @ part.w.T
    return conv_sum(part, s.reshape(steps * batch, *shape)).reshape(steps, batch, -1)


def conv_sum(conv: FloatConv2d, s: Floats) -> Floats:
    """Cross-correlation of [N, C, H, W] with `conv`; float64 [N, C_out, H', W']."""
    g, shape = conv.geometry, conv.output_shape(s.shape[1:])
    padded = np.pad(s, ((0, 0), (0, 0), (g.padding[0],) * 2, (g.padding[1],) * 2))
    padded = padded.reshape(len(s), g.groups, -1, *padded.shape[2:])
    w = conv.w.reshape(g.groups, -1, *conv.w.shape[1:])
    out = np.zeros((len(s), g.groups, w.shape[1], *shape[1:]))
    for y, x, window in _taps(g, conv.w.shape[2:], shape):
        out += np.einsum("goi,ngihw->ngohw", w[..., y, x], padded[window], optimize=True)
    return out.reshape(len(s), *shape)


def conv_adjoint(conv: FloatConv2d, rows: Floats, source: Shape) -> Floats:
    """The transposed map of `conv_sum`: [N, *target] to [N, *source].

    A dense layer with weights `rows` behind the convolution sees the source through
    `conv_adjoint(conv, rows, source)`.
    """
    g, shape = conv.geometry, conv.output_shape(source)
    rows = rows.reshape(len(rows), g.groups, -1, *shape[1:])
    w = conv.w.reshape(g.groups, -1, *conv.w.shape[1:])
    (pad_y, pad_x), (_, height, width) = g.padding, source
    out = np.zeros((len(rows), g.groups, w.shape[2], height + 2 * pad_y, width + 2 * pad_x))
    for y, x, window in _taps(g, conv.w.shape[2:], shape):
        out[window] += np.einsum("goi,ngohw->ngihw", w[..., y, x], rows, optimize=True)
    inner = out[..., pad_y : pad_y + height, pad_x : pad_x + width]
    return inner.reshape(len(rows), *source)


def _taps(
    g: ConvGeometry, kernel: tuple[int, ...], shape: Shape
) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """For every kernel entry (y, x) the padded source positions that it multiplies."""
    for y in range(kernel[0]):
        for x in range(kernel[1]):
            rows, columns = (
                slice(i * d, i * d + (n - 1) * stride + 1, stride)
                for i, d, n, stride in zip((y, x), g.dilation, shape[1:], g.stride, strict=True)
            )
            yield y, x, (..., rows, columns)


def _run_population(population: FloatPopulation, a: Floats, *, record: bool) -> PopulationTrace:
    p = population
    u = np.zeros(a.shape[1:])
    v = np.broadcast_to(p.v_init, u.shape)
    spikes = np.empty(a.shape, np.uint8)
    us, vs = (np.empty(a.shape), np.empty(a.shape)) if record else (None, None)
    for t in range(len(a)):
        u = p.keep_u * u + a[t]
        v = p.keep_v * v + u + p.bias
        s = v > p.v_th
        v = np.where(s, v - p.v_th if p.reset == "subtract" else 0.0, v)
        spikes[t] = s
        if us is not None and vs is not None:
            us[t], vs[t] = u, v
    return PopulationTrace(spikes=spikes, u=us, v=vs, v_last=np.array(v))
