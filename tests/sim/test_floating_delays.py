"""Delays, loops and sums of potentials in floats, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np

from spikeport.sim import floating
from spikeport.sim.net import FloatNet, FloatPopulation, FloatProjection, Input, Readout
from spikeport.sim.synapse import FloatDense


def test_late_currents_add_up_and_a_loop_hears_the_first_step() -> None:
    wires = (("input", 1.0, 1), ("input", 2.0, 2), ("a", 0.5, 1))
    net = FloatNet(
        input=Input(shape=(1,)),
        populations=(FloatPopulation(name="a", shape=(1,), v_th=2.5, keep_v=1.0, v_init=10.0),),
        projections=tuple(
            FloatProjection(source=source, target="a", synapse=FloatDense(w=[[w]]), delay=delay)
            for source, w, delay in wires
        ),
        readout=Readout(population="a", kind="sum_v"),
        steps=5,
    )
    trace = floating.run(net, np.array([1, 1, 0, 0, 0]).reshape(5, 1, 1))
    part = trace["a"]
    assert part.u is not None
    assert part.v is not None
    assert part.spikes.ravel().tolist() == [1, 0, 1, 0, 0]
    assert part.u.ravel().tolist() == [0, 1.5, 3, 2.5, 0]
    assert part.v.ravel().tolist() == [0, 1.5, 0, 2.5, 2.5]
    assert trace.logits(net.readout).tolist() == [[6.5]]
