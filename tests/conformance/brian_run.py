"""A FixedNet on brian2-loihi, driven through its neuron groups and synapses.

One neuron group holds a population of every sample; samples are not connected with each other.
"""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Brian2 takes over warnings and uncaught exceptions of the whole process when imported.
with warnings.catch_warnings():
    hook = sys.excepthook
    import brian2
    from brian2_loihi import (
        LoihiNetwork,
        LoihiNeuronGroup,
        LoihiSpikeGeneratorGroup,
        LoihiSpikeMonitor,
        LoihiStateMonitor,
        LoihiSynapses,
        synapse_sign_mode,
    )

    logging.captureWarnings(False)
    sys.excepthook = hook

from spikeport.sim.net import FixedNet, Population, Projection
from spikeport.sim.synapse import Dense
from spikeport.sim.trace import PopulationTrace, Trace

brian2.prefs.codegen.target = "numpy"  # compiling would take longer than these nets run

DECAY_OFFSET = 1  # brian2-loihi's decay_I has no hidden +1
INPUT_STEP = 1  # a generator's spikes arrive in the very step they are given for


def run(net: FixedNet, x: NDArray[Any], *, refractory: int = 1) -> Trace:
    """Spikes, u and v of every neuron at every step; x [T, B, *shape] of 0 and 1.

    refractory: brian2-loihi's parameter of that name, steps. Raises ValueError for what the
    emulator lacks: graded input, convolutions, other resets, starting potentials, biases, and
    parameters of single neurons.
    """
    refuse(net)
    x = net.input.check(x)
    gc.freeze()  # every run collects garbage; what the process already holds takes it half a second
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Brian2's own calls of its parser
            return _Run(net, x.reshape(*x.shape[:2], -1), refractory=refractory).run()
    finally:
        gc.unfreeze()


def refuse(net: FixedNet) -> None:
    """Raise ValueError unless the emulator has a counterpart for every part of `net`."""
    if net.input.kind != "spike":
        raise ValueError("brian2-loihi: spikes carry no payload; give a net with spike input")
    for population in net.populations:
        where = f"brian2-loihi: population {population.name!r}"
        if population.reset != "zero" or population.v_init.any() or population.bias.any():
            raise ValueError(f"{where} must reset to zero and have no v_init and no bias")
        for name in ("v_th", "du", "dv"):
            if getattr(population, name).ndim:
                raise ValueError(f"{where}: {name} must be one number for all its neurons")
    for projection in net.projections:
        if not isinstance(projection.synapse, Dense):
            raise ValueError(
                f"brian2-loihi: projection {projection.source!r} -> {projection.target!r} must be"
                " dense"
            )


class _Run:
    """The network with one copy of every population for every sample."""

    def __init__(self, net: FixedNet, x: NDArray[np.int64], *, refractory: int) -> None:
        self.net, self.x, self.refractory = net, x, refractory
        self.batch = x.shape[1]
        self.groups = {p.name: self._group(p) for p in net.populations}
        step, sample, neuron = x.nonzero()
        self.groups["input"] = LoihiSpikeGeneratorGroup(
            self.batch * x.shape[2], sample * x.shape[2] + neuron, step + INPUT_STEP
        )
        self.synapses = [
            self._connect(projection, delay)
            for projection, delay in zip(net.projections, net.chip_delays, strict=True)
        ]

    def _group(self, population: Population) -> LoihiNeuronGroup:
        return LoihiNeuronGroup(
            self.batch * population.size,
            refractory=self.refractory,
            threshold_v_mant=int(population.v_th),
            decay_v=int(population.dv),
            decay_I=int(population.du) + DECAY_OFFSET,
        )

    def _connect(self, projection: Projection, delay: int) -> LoihiSynapses:
        dense: Any = projection.synapse
        w: NDArray[np.int16] = dense.w
        n_out, n_in = w.shape
        synapses = LoihiSynapses(
            self.groups[projection.source],
            self.groups[projection.target],
            delay=delay,
            w_exp=dense.w_exp,
            sign_mode=sign_mode(w),
        )
        sample = np.repeat(np.arange(self.batch), w.size)
        j, i = (np.tile(index.ravel(), self.batch) for index in np.indices(w.shape))
        synapses.connect(i=sample * n_in + i, j=sample * n_out + j)
        synapses.w = np.tile(w.ravel().astype(np.int64), self.batch)
        return synapses

    def run(self) -> Trace:
        """Every population's window of steps begins as many steps late as it lies deep."""
        neurons = {p.name: self.groups[p.name] for p in self.net.populations}
        spikes = {name: LoihiSpikeMonitor(group) for name, group in neurons.items()}
        v = {name: LoihiStateMonitor(group, "v") for name, group in neurons.items()}
        u = {name: LoihiStateMonitor(group, "I") for name, group in neurons.items()}
        monitors = [*spikes.values(), *v.values(), *u.values()]
        network = LoihiNetwork(*self.groups.values(), *self.synapses, *monitors)
        steps, depths = len(self.x), self.net.depths
        network.run(steps + max(depths.values()))
        traces = {}
        for name, group in neurons.items():
            window = slice(depths[name], depths[name] + steps)
            fired = np.zeros((steps + max(depths.values()), group.N), np.uint8)
            fired[np.rint(np.asarray(spikes[name].t_) * 1000).astype(int), spikes[name].i] = 1
            shape = steps, self.batch, -1
            vs = _whole(v[name].v)[window].reshape(shape)
            traces[name] = PopulationTrace(
                spikes=fired[window].reshape(shape),
                u=_whole(u[name].I)[window].reshape(shape),
                v=vs,
                v_last=vs[-1],
            )
        return Trace(populations=traces)


def _whole(values: Any) -> NDArray[np.int64]:
    """Monitored floats [n, T] as integers [T, n]; ValueError where one is no integer."""
    array: NDArray[Any] = np.asarray(values).T
    if (array != np.rint(array)).any():
        raise ValueError("brian2-loihi computed a state that is no whole number")
    return array.astype(np.int64)


def sign_mode(w: NDArray[Any]) -> int:
    """The sign mode that a core is told of a matrix with these weights."""
    if w.min() >= 0:
        return int(synapse_sign_mode.EXCITATORY)
    return int(synapse_sign_mode.INHIBITORY if w.max() <= 0 else synapse_sign_mode.MIXED)
