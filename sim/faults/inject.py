"""The definition of a run with faults: `sim.reference`, step by step, with the faults put in.

Slow and obvious; `spikeport.sim.faults.replay` must give the same bits. In step t of a population:

    sent   what a source sent in step t - delay, times 0, 1 or 2 under spike faults of a projection
    a      the sum of what arrives, through the flipped weights
    u, v   as step t - 1 left them (0 and v_init at first), flipped where a state fault strikes at t
    tick   as ever, with the flipped thresholds
    then   a stuck neuron has sent a spike, a dead one none, and the u and v of a dead one are 0
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import wrap_int32
from spikeport.sim.faults.fault import SPIKE, STATE, Cores, Fault, resolved
from spikeport.sim.faults.stored import factors, flipped_state, flipped_thresholds, flipped_weights
from spikeport.sim.lif import LifParameters, tick
from spikeport.sim.net import FixedNet, Projection
from spikeport.sim.reference import delivered, parameters, synapse_sum
from spikeport.sim.synapse import Dense, SumPool2d
from spikeport.sim.trace import PopulationTrace, Trace

Ints = NDArray[np.int64]


def run(
    net: FixedNet, x: Any, faults: Iterable[Fault], *, cores: Cores | None = None, first: int = 0
) -> Trace:
    """Run `net` with `faults` on integers `x` [T, B, *input.shape]; spikes, u and v of every step.

    cores: needed for faults of kind "core". first: number of the first sample, which decides what
    spike faults hit. Wraps and clips are not counted. Raises ValueError
    for input of wrong shape or range and for faults that do not fit the network.
    """
    x = net.input.check(x)
    steps, batch = x.shape[:2]
    found = resolved(net, faults, steps=steps, cores=cores)
    weights, thresholds = flipped_weights(net, found), flipped_thresholds(net, found)
    sent: dict[str, Ints] = {"input": x.reshape(steps, batch, -1)}
    us: dict[str, Ints] = {}
    vs: dict[str, Ints] = {}
    rules: dict[str, LifParameters] = {}
    for p in net.populations:
        v_th = thresholds.get(p.name, p.v_th).astype(np.int64)
        rules[p.name] = replace(parameters(p), v_th=v_th)
        for record in (sent, us, vs):
            record[p.name] = np.zeros((steps, batch, p.size), np.int64)
    counted = _counted(net, found, sent, first=first)
    for t in range(steps):
        for p in net.populations:
            u = us[p.name][t - 1].copy() if t else np.zeros((batch, p.size), np.int64)
            v = vs[p.name][t - 1].copy() if t else p.v_init.astype(np.int64) + 0 * u
            a = np.zeros_like(u)
            for number, wire in enumerate(net.projections):
                if wire.target == p.name and t >= wire.delay:
                    s = sent[wire.source][t - wire.delay] * counted[number][t - wire.delay]
                    a += _arriving(net, wire, s, weights.get(number))
            _strike(u, v, found, population=p.name, step=t)
            new = tick(u, v, wrap_int32(a), rules[p.name])
            sent[p.name][t], us[p.name][t], vs[p.name][t] = new.s, new.u, new.v
            _hold(sent[p.name][t], us[p.name][t], vs[p.name][t], found, population=p.name)
    return Trace(
        populations={
            p.name: PopulationTrace(
                spikes=sent[p.name].astype(np.uint8),
                u=us[p.name].astype(np.int32),
                v=vs[p.name].astype(np.int32),
                v_last=vs[p.name][-1].astype(np.int32),
            )
            for p in net.populations
        }
    )


def _counted(
    net: FixedNet, faults: tuple[Fault, ...], sent: dict[str, Ints], *, first: int
) -> dict[int, NDArray[np.int64]]:
    """How often each value of each projection's source counts: [T, B, n]."""
    counted = {n: np.ones_like(sent[p.source]) for n, p in enumerate(net.projections)}
    for fault in faults:
        if fault.kind in SPIKE:
            there = counted[int(fault.part)]
            steps, batch = there.shape[:2]
            there[:, :, fault.index] *= factors(fault, steps=steps, batch=batch, first=first).T
    return counted


def _arriving(net: FixedNet, wire: Projection, s: Ints, w: Ints | None) -> Ints:
    """What arrives of values `s` [B, n] through flipped weights `w`, None where none are."""
    synapse = wire.synapse
    if w is not None:
        if isinstance(synapse, Dense):
            return delivered(synapse, np.asarray(s @ w.T))
        if isinstance(synapse, SumPool2d):
            synapse = replace(synapse, w=int(w[0]))
        else:
            synapse = replace(synapse, w=w)
    arrived: Ints = synapse_sum(synapse, s.reshape(1, len(s), *net.shape_of(wire.source)))[0]
    return arrived


def _strike(u: Ints, v: Ints, faults: tuple[Fault, ...], *, population: str, step: int) -> None:
    """Flip bits of u and v [B, n] in place."""
    for fault in faults:
        if fault.kind in STATE and (fault.part, fault.step) == (population, step):
            state = u if fault.kind == "u" else v
            assert fault.bit is not None
            state[:, fault.index] = flipped_state(fault.kind, state[:, fault.index], fault.bit)


def _hold(s: Ints, u: Ints, v: Ints, faults: tuple[Fault, ...], *, population: str) -> None:
    """Hold spikes and states [B, n] of stuck, then of dead neurons, in place."""
    for fault in faults:
        if (fault.kind, fault.part) == ("stuck", population):
            s[:, fault.index] = 1
    for fault in faults:
        if (fault.kind, fault.part) == ("dead", population):
            for held in (s, u, v):
                held[:, fault.index] = 0
