"""The float values that a chip's integers stand for: the inverse of `spikeport.export.grid`.

With S synaptic integers per unit of a population's membrane (its `scale`) and g integers per unit
of a source (the input's scale; 1 for spikes),

    w = q 2**w_exp g / S,  v_th = v_th / S,  bias = bias / (64 S),  v_init = v_init / (64 S)
    keep_u = (4095 - du) / 4096,  keep_v = (4096 - dv) / 4096
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import DECAY_ONE, STATE_SHIFT
from spikeport.sim.net import FixedNet, FloatNet, FloatPopulation, FloatProjection, Population
from spikeport.sim.synapse import (
    Conv2d,
    Dense,
    FloatConv2d,
    FloatDense,
    FloatSumPool2d,
    FloatSynapse,
    Synapse,
)


def weights(synapse: Synapse, *, scale: float, per_unit: float) -> NDArray[np.float64]:
    """The float weights that the integers of `synapse` stand for, () for a pool's one."""
    if isinstance(synapse, Dense):
        return np.asarray(synapse.w_chip * 2.0**synapse.w_exp * per_unit / scale)
    return np.asarray(np.asarray(synapse.w, np.float64) * per_unit / scale)


def synapse(fixed: Synapse, *, scale: float, per_unit: float) -> FloatSynapse:
    """The float synapse that `fixed` stands for."""
    w = weights(fixed, scale=scale, per_unit=per_unit)
    if isinstance(fixed, Dense):
        return FloatDense(w=w)
    if isinstance(fixed, Conv2d):
        return FloatConv2d(w=w, geometry=fixed.geometry)
    return FloatSumPool2d(
        kernel=fixed.kernel, stride=fixed.stride, padding=fixed.padding, w=float(w)
    )


def population(fixed: Population) -> FloatPopulation:
    """The float population that `fixed` stands for, of the same scale."""
    unit = fixed.scale * (1 << STATE_SHIFT)
    return FloatPopulation(
        name=fixed.name, shape=fixed.shape, v_th=fixed.v_th / fixed.scale,
        keep_u=fixed.keep_u / DECAY_ONE,
        keep_v=fixed.keep_v / DECAY_ONE,
        bias=fixed.bias_shifted / unit, v_init=fixed.v_init / unit, reset=fixed.reset,
        scale=fixed.scale,
    )  # fmt: skip


def float_net(net: FixedNet) -> FloatNet:
    """The float network that `net` stands for: the same parameters, states not rounded."""
    scales = {p.name: p.scale for p in net.populations}
    return FloatNet(
        input=net.input,
        populations=tuple(population(p) for p in net.populations),
        projections=tuple(
            FloatProjection(
                source=p.source,
                target=p.target,
                synapse=synapse(
                    p.synapse,
                    scale=scales[p.target],
                    per_unit=net.input.scale if p.source == "input" else 1.0,
                ),
                delay=p.delay,
            )
            for p in net.projections
        ),
        readout=net.readout,
        steps=net.steps,
    )
