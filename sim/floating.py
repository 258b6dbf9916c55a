"""The meaning of a FloatNet: float64 throughout, no tricks.

    u <- keep_u u + a            synaptic current
    v <- keep_v v + u + bias     membrane potential
    s <- v > v_th                strict
    v <- 0, or v - v_th, where s

where `a` sums what arrives from the same step of a source, or an earlier one for projections with
delay.

The integer counterpart is `spikeport.sim.reference`; `spikeport.sim.fidelity` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from spikeport.sim.topology import blocks, is_loop
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
    values: dict[str, Floats] = {"input": x}
    traces: dict[str, PopulationTrace] = {}
    for block in blocks(net):
        states = {n: _Neurons(net.population(n), x.shape[:2], record=record) for n in block}
        if is_loop(net, block):
            _step_loop(net, states, values)
        else:
            (state,) = states.values()
            for t, a in enumerate(_sums(net, block[0], values)):
                state.advance(t, a)
        for name, state in states.items():
            traces[name] = state.trace()
            values[name] = state.maps
    return Trace(populations={p.name: traces[p.name] for p in net.populations})


def _sums(net: FloatNet, name: str, values: Mapping[str, Floats]) -> Floats:
    """Synaptic sums [T, B, n] of a population from those sources whose `values` are known."""
    steps, batch = values["input"].shape[:2]
    total = np.zeros((steps, batch, net.population(name).size))
    for p in net.incoming(name):
        if p.source in values and p.delay < steps:
            total[p.delay :] += synapse_sum(p.synapse, values[p.source][: steps - p.delay])
    return total


def _step_loop(net: FloatNet, states: Mapping[str, _Neurons], values: Mapping[str, Floats]) -> None:
    """Run populations that feed each other, step by step."""
    outside = {name: _sums(net, name, values) for name in states}
    inside = {name: [p for p in net.incoming(name) if p.source in states] for name in states}
    for t in range(len(values["input"])):
        for name, state in states.items():
            a = outside[name][t]
            for p in inside[name]:
                if t >= p.delay:
                    at = t - p.delay
                    a = a + synapse_sum(p.synapse, states[p.source].maps[at : at + 1])[0]
            state.advance(t, a)


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


class _Neurons:
    """State and record of one population; `maps`: its spikes as floats [T, B, *shape]."""

    def __init__(self, population: FloatPopulation, size: Shape, *, record: bool) -> None:
        p = self.population = population
        self.maps = np.zeros((*size, *p.shape))
        self.u = np.zeros((size[1], p.size))
        self.v = np.broadcast_to(p.v_init, self.u.shape)
        self.v_sum = np.zeros(self.u.shape)
        kept = (*size, p.size) if record else (0, 0, 0)
        self.us, self.vs = np.zeros(kept), np.zeros(kept)
        self.record = record

    def advance(self, t: int, a: Floats) -> None:
        """Step `t` with synaptic sums `a` [B, n]."""
        p = self.population
        self.u = p.keep_u * self.u + a
        v = p.keep_v * self.v + self.u + p.bias
        s = v > p.v_th
        self.v = np.where(s, v - p.v_th if p.reset == "subtract" else 0.0, v)
        self.v_sum = self.v_sum + self.v
        self.maps[t] = s.reshape(len(s), *p.shape)
        if self.record:
            self.us[t], self.vs[t] = self.u, self.v

    def trace(self) -> PopulationTrace:
        steps, batch = self.maps.shape[:2]
        return PopulationTrace(
            spikes=self.maps.reshape(steps, batch, -1).astype(np.uint8),
            u=self.us if self.record else None, v=self.vs if self.record else None,
            v_last=np.array(self.v), v_sum=self.v_sum,
        )  # fmt: skip
