"""Convolutions that would have to wait on a chip whose convolutions cannot, as dense synapses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spikeport.export.passes import LARGEST_DENSE, Stage, as_dense
from spikeport.sim.chip import Chip
from spikeport.sim.net import FloatNet, FloatProjection
from spikeport.sim.synapse import FloatDense, lowered_float
from spikeport.sim.topology import schedule


def late_as_dense(net: FloatNet, chip: Chip) -> FloatNet:
    """`net` with every convolution and pool that would wait longer than `chip` lets one wait (a
    path past other layers, a delay) spelled as a dense matrix, which can wait.

    Raises ValueError naming the projection whose matrix would be too large, and for a loop that no
    chip can close in time.
    """
    waits = schedule(net).chip_delays
    late = [_waits_too_long(p, chip, w) for p, w in zip(net.projections, waits, strict=True)]
    if not any(late):
        return net
    projections = (
        _dense(net, p, chip, wait) if is_late else p
        for p, wait, is_late in zip(net.projections, waits, late, strict=True)
    )
    return replace(net, projections=tuple(projections))


def _waits_too_long(p: FloatProjection, chip: Chip, wait: int) -> bool:
    return not isinstance(p.synapse, FloatDense) and chip.conv_delay_max < wait <= chip.delay_max


def _dense(net: FloatNet, p: FloatProjection, chip: Chip, wait: int) -> FloatProjection:
    source = net.shape_of(p.source)
    entries = net.population(p.target).size * int(np.prod(source))
    if entries > LARGEST_DENSE:
        raise ValueError(
            f"projection {p.source!r} -> {p.target!r} waits {wait} steps for the path beside it,"
            f" which convolutions on {chip.name} cannot, and as a dense matrix it would have"
            f" {entries} entries, at most {LARGEST_DENSE} are made; make the paths equally long"
        )
    stage = Stage(source=source, synapse=lowered_float(p.synapse, source), name=p.target)
    return replace(p, synapse=as_dense(stage).synapse)
