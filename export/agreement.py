"""Whether a float network fires as a recorded run did, ties at the threshold set apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport.sim import floating
from spikeport.sim.net import FloatNet
from spikeport.sim.trace import PopulationTrace, Trace

TIE = 1e-5
"""Membrane units. Closer to the threshold than this, rounding may decide on a spike."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first spike that differs in a sample: where, when, and how far from the threshold the
    potential was, in membrane units."""

    population: str
    step: int
    sample: int
    neuron: int
    distance: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """compared: spike values of all populations and samples, up to the first tie of a sample.
    ties: samples in which a spike differed within `TIE` of the threshold; what follows in such a
    sample counts for nothing. differences: one for each sample that differs otherwise. off: the
    largest difference of a potential that was compared, membrane units, in samples without ties."""

    compared: int
    ties: int
    differences: tuple[Difference, ...]
    off: float = 0.0


def agreement(
    net: FloatNet,
    x: Floats,
    spikes: Mapping[str, Floats],
    *,
    potentials: Mapping[str, Floats] | None = None,
) -> Agreement:
    """Compare `net` on input x [T, B, *shape] with recorded spikes (0 or 1) and potentials after
    each step, [T, B, n], of some of its populations by name."""
    trace = floating.run(net, x)
    names = [p.name for p in net.populations if p.name in spikes]
    compared, ties, off = 0, 0, 0.0
    differences: list[Difference] = []
    for sample in range(x.shape[1]):
        found = [_first(net, trace, name, spikes[name], sample=sample) for name in names]
        if any(found):
            first = min(filter(None, found), key=lambda d: d.step)
            if first.distance <= TIE:
                ties += 1
            else:
                differences.append(first)
            compared += first.step * sum(spikes[name].shape[2] for name in names)
        else:
            compared += sum(spikes[name][:, sample].size for name in names)
            for name, wanted in (potentials or {}).items():
                v = np.asarray(trace[name].v)[:, sample]
                off = max(off, float(np.abs(v - wanted[:, sample]).max()))
    return Agreement(compared=compared, ties=ties, differences=tuple(differences), off=off)


def before_reset(net: FloatNet, name: str, trace: PopulationTrace) -> Floats:
    """Potentials [T, B, n] of population `name` as they are compared with the threshold."""
    p = net.population(name)
    assert trace.u is not None
    assert trace.v is not None
    start = np.broadcast_to(p.v_init, trace.v.shape[1:])[None]
    before = np.concatenate([start, trace.v[:-1]])
    return np.asarray(p.keep_v * before + trace.u + p.bias, np.float64)


def _first(
    net: FloatNet, trace: Trace, name: str, spikes: Floats, *, sample: int
) -> Difference | None:
    """The first difference of a population in a sample; of several in a step the plainest."""
    ours = trace[name].spikes[:, sample]
    wrong = ours != spikes[:, sample]
    if not wrong.any():
        return None
    step = int(wrong.any(axis=1).argmax())
    neurons = np.flatnonzero(wrong[step])
    one = PopulationTrace(
        spikes=ours[:, None],
        u=trace[name].u[:, sample : sample + 1],  # type: ignore[index]
        v=trace[name].v[:, sample : sample + 1],  # type: ignore[index]
        v_last=trace[name].v_last[sample : sample + 1],
    )
    potential = before_reset(net, name, one)[step, 0]
    distances = np.abs(potential - net.population(name).v_th)[neurons]
    worst = int(distances.argmax())
    return Difference(
        population=name, step=step, sample=sample, neuron=int(neurons[worst]),
        distance=float(distances[worst]),
    )  # fmt: skip
