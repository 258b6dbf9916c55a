"""NeuroBench's figures of a run on a chip (Yik et al. 2025; definitions: neurobench 2.3.0).

They count what a network does, not what it costs: of all connections only those that are not zero
and carry something.
"""

from __future__ import annotations

import numpy as np

from spikeport.hw.activity import Activity
from spikeport.hw.cost import wires
from spikeport.hw.fanout import fanouts
from spikeport.hw.place import Slice
from spikeport.sim.net import FixedNet
from spikeport.sim.synapse import Dense, SumPool2d, lowered
from spikeport.sim.trace import Trace


def metrics(net: FixedNet, trace: Trace, activity: Activity) -> dict[str, float]:
    """effective_acs, effective_macs: synaptic operations a sample that are not zero, additions of
    spikes and products with graded input. dense_operations: those that there would be if every
    neuron sent in every step and no weight were zero. connection_sparsity: share of zero weights,
    pools left out. activation_sparsity: share of steps in which a neuron does not fire.
    membrane_updates: a sample, within each window. footprint_bytes: of synapse memory as placed;
    NeuroBench's own counts the tensors of a model instead.
    """
    core = activity.placement.target.core
    steps = len(trace[net.readout.population].spikes)  # of this run, which may be a longer one
    connections = 0
    for projection, wire in zip(net.projections, wires(net, core), strict=True):
        shape = net.shape_of(projection.target)
        box = tuple((0, n) for n in shape)
        whole = Slice(population=projection.target, shape=shape, box=box)
        part = lowered(projection.synapse, net.shape_of(projection.source))
        connections += sum(int(each[1].sum()) for each in fanouts(part, wire, [whole], core))
    weights = [
        p.synapse.w_chip if isinstance(p.synapse, Dense) else p.synapse.w
        for p in net.projections
        if not isinstance(p.synapse, SumPool2d)
    ]
    stored = sum(w.size for w in weights)
    zeros = stored - sum(int(np.count_nonzero(w)) for w in weights)
    neurons = sum(p.size for p in net.populations)
    chances = neurons * steps * activity.samples
    macs, effective = (
        float(n.sum()) / activity.samples for n in (activity.macs, activity.effective)
    )
    return {
        "effective_acs": effective - macs,
        "effective_macs": macs,
        "dense_operations": float(connections * steps),
        "connection_sparsity": zeros / stored if stored else 0.0,
        "activation_sparsity": 1 - trace.spike_total() / chances,
        "membrane_updates": float(neurons * steps),
        "footprint_bytes": float(8 * sum(c.use.synapse_words for c in activity.placement.cores)),
    }
