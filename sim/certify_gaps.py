"""Lower bounds on how far one readout neuron stays ahead of another, tighter than their two scores.

Where potentials are read, neurons that neither fire nor wrap nor clip are linear but for rounding.
A spike that both neurons see cancels in their difference d, which the two scores, bounded one by
one, cannot know. With equal decays, and rounding toward zero at most one off on either side,

    d_u >= floor(d_u keep_u / 4096) - 1 + 64 d_a         exact, without the floor and the 1, at
    d_v >= floor(d_v keep_v / 4096) - 1 + d_u + d_bias   keep = 0 and at keep = 4096

where d_a is bounded by the difference of the two rows of weights. A sum shifted right by w_exp is
floored twice: floor(p) - floor(q) >= floor(p - q).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import DECAY_ONE, STATE_SHIFT
from spikeport.sim.certify_bounds import Bounds
from spikeport.sim.certify_kernel import INT32_HIGH
from spikeport.sim.net import FixedNet, Population
from spikeport.sim.synapse import Dense, largest_sum

UNKNOWN = np.iinfo(np.int64).min
"""A lower bound that says nothing."""


def gaps(net: FixedNet, found: Bounds, y: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 [B, n]: lower bounds on the score of class y [B] minus that of each class; 0 at y.

    The better of both ways: the two scores, and, where it is sound, the difference.
    """
    low, high = found.logits
    rows = np.arange(len(y))
    plain: NDArray[np.int64] = low[rows, y][:, None] - high
    plain[rows, y] = 0
    if not _is_linear(net):
        return plain
    population = net.population(net.readout.population)
    calm = ~found.loose[population.name] & ~found.high[population.name].spikes.any(0)
    for label in np.unique(y):
        of_label = y == label
        tied = calm[of_label] & calm[of_label, label][:, None] & _alike(population, label)
        better = _differences(net, found, int(label), of_label)
        better = np.where(tied, better, UNKNOWN)
        plain[of_label] = np.maximum(plain[of_label], better)
    return plain


def _is_linear(net: FixedNet) -> bool:
    """Whether readout neurons, as long as they are calm, are linear but for rounding: potentials
    are read, behind dense synapses whose sums 32 bits hold."""
    total = 0
    for p in net.incoming(net.readout.population):
        if not isinstance(p.synapse, Dense):
            return False
        largest = net.input.largest if p.source == "input" else 1
        total += largest_sum(p.synapse, largest=largest) << max(p.synapse.w_exp, 0)
    return net.readout.of_potentials and total <= INT32_HIGH


def _alike(population: Population, label: int) -> NDArray[np.bool_]:
    """bool [n]: which neurons decay as neuron `label` does."""
    u, v = _each(population.keep_u, population), _each(population.keep_v, population)
    return np.asarray((u == u[label]) & (v == v[label]))


def _each(value: Any, population: Population) -> NDArray[np.int64]:
    return np.broadcast_to(np.asarray(value, np.int64), (population.size,))


def _ahead(value: Any, population: Population, label: int) -> NDArray[np.int64]:
    """int64 [n]: how much more of `value` neuron `label` has than each."""
    each = _each(value, population)
    return np.asarray(each[label] - each)


def _differences(
    net: FixedNet, found: Bounds, label: int, samples: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """int64 [b, n]: lower bounds on the score of `label` minus the others', for `samples`, a mask
    over B, if all neurons decay alike, stay calm and keep their sums."""
    population = net.population(net.readout.population)
    a = _sums(net, found, label, samples)
    keep_u = _each(population.keep_u, population)[label]
    keep_v = _each(population.keep_v, population)[label]
    bias = _ahead(population.bias_shifted, population, label)
    u = np.zeros(a.shape[1:], np.int64)
    v = u + _ahead(population.v_init, population, label)
    total = np.zeros_like(u)
    for arriving in a:
        u = _kept(u, keep_u) + (arriving << STATE_SHIFT)
        v = _kept(v, keep_v) + u + bias
        total += v
    return total if net.readout.kind == "sum_v" else v


def _kept(d: NDArray[np.int64], keep: np.int64) -> NDArray[np.int64]:
    """A lower bound on what a decay leaves of a difference of at least `d`."""
    if keep in (0, DECAY_ONE):
        return d * (keep // DECAY_ONE)
    return (d * keep // DECAY_ONE) - 1


def _sums(
    net: FixedNet, found: Bounds, label: int, samples: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """int64 [T, b, n]: lower bounds on what arrives at `label` in each step, minus the others'."""
    steps = len(found.low[net.readout.population].spikes)
    size = net.population(net.readout.population).size
    a = np.zeros((steps, int(samples.sum()), size), np.int64)
    for p in net.incoming(net.readout.population):
        if p.delay >= steps:
            continue
        w = p.synapse.w_chip
        d = (w[label] - w).T.astype(np.float64)  # sums below 2**33, exact in any order
        low, high = (
            values[:, samples].reshape(len(values), a.shape[1], -1).astype(np.float64)
            for values in found.sources[p.source]
        )
        least = (low @ d.clip(min=0) + high @ d.clip(max=0)).astype(np.int64)
        least = least << p.synapse.w_exp if p.synapse.w_exp >= 0 else least >> -p.synapse.w_exp
        a[p.delay :] += least if len(least) == 1 else least[: steps - p.delay]
    return a
