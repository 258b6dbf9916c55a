"""Spikes from before a population's window.

On a chip all neurons live from the first step on, and a bias can make them fire before their
window starts, `depth` chip steps later. Their state is put right at its start, and without delays
such spikes arrive before the window of their target too. A projection with a delay carries them
into it.

Networks with delays show one sample a run, so their neurons can be held down until then: they start
at the lowest potential, from which few biases can lift them in time.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import V_LIMIT, wrap_int32
from spikeport.sim.lif import tick
from spikeport.sim.net import FixedNet
from spikeport.sim.reference import parameters, synapse_sum

HELD = -V_LIMIT  # the potential at which neurons wait for their window


def intruders(net: FixedNet, *, silent: Set[str] = frozenset(), start: int = 0) -> frozenset[str]:
    """Populations whose early spikes reach into a window of `net`; those in `silent` send none.

    start: potential of all neurons at the first chip step. What happens before the windows depends
    on no input: it is computed here, exactly.
    """
    if not any(projection.delay for projection in net.projections):
        return frozenset()
    sent = _early_spikes(net, silent=silent, start=start)
    found = set()
    for projection in net.projections:
        early = sent.get(projection.source)
        # Row -k is step -k, which feeds step `delay - k` of the target.
        if projection.delay and early is not None and early[-projection.delay :].any():
            found.add(projection.source)
    return frozenset(found)


def _early_spikes(net: FixedNet, *, silent: Set[str], start: int) -> dict[str, NDArray[np.int64]]:
    """Spikes [depth, n] of every population in the steps before its window, by name."""
    sent = {p.name: np.zeros((net.depths[p.name], p.size), np.int64) for p in net.populations}
    states = {p.name: (np.zeros(p.size, np.int64), np.full(p.size, start)) for p in net.populations}
    for chip_step in range(max(net.depths.values())):
        for population in net.populations:
            name, depth = population.name, net.depths[population.name]
            if chip_step >= depth or name in silent:
                continue
            a = np.zeros(population.size, np.int64)
            for projection in net.incoming(name):
                # In model time: step `chip_step - depth` is fed by that of the source less delay.
                row = chip_step - depth - projection.delay + net.depths[projection.source]
                if projection.source == "input" or row < 0:
                    continue
                s = sent[projection.source][row]
                if s.any():
                    maps = s.reshape(1, 1, *net.shape_of(projection.source))
                    a += synapse_sum(projection.synapse, maps)[0, 0]
            u, v = states[name]
            new = tick(u, v, wrap_int32(a), parameters(population))
            states[name] = new.u, new.v
            sent[name][chip_step] = new.s
    return sent
