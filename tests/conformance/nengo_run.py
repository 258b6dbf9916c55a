"""A FixedNet on nengo-loihi's emulator, driven through its blocks, axons and synapses.

Nothing of Nengo's own building takes part: every parameter is set as the integer the net holds, and
only the weights pass through `discretize_weights`, which is what nengo-loihi programs.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it names the last version of Nengo that it was tested with
    from nengo_loihi.block import Axon, LoihiBlock, Synapse
    from nengo_loihi.builder import Model
    from nengo_loihi.builder.discretize import array_to_int, discretize_weights
    from nengo_loihi.emulator.interface import EmulatorInterface
    from nengo_loihi.inputs import SpikeInput

from spikeport.sim.arith import STATE_SHIFT, V_LIMIT
from spikeport.sim.net import FixedNet, Population, Projection
from spikeport.sim.synapse import Dense
from spikeport.sim.trace import PopulationTrace, Trace


def run(net: FixedNet, x: NDArray[Any], *, refractory: int = 1, hold_bias: bool = True) -> Trace:
    """Spikes, u and v of every neuron at every step; x [T, B, *shape] of 0 and 1.

    refractory: nengo-loihi's `refract_delay`, steps. hold_bias: keep each bias back until its
    population's window begins, else all act from the emulator's first step on. Raises ValueError
    for what the emulator lacks: graded input, convolutions, delays on the chip, other resets,
    starting potentials.
    """
    refuse(net)
    # The emulator fills its integer arrays with NaN first, and overflow makes it warn. What it then
    # computes is what is compared.
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chip = _Chip(net, net.input.check(x), refractory=refractory)
        return chip.run(hold_bias=hold_bias)


def refuse(net: FixedNet) -> None:
    """Raise ValueError unless the emulator has a counterpart for every part of `net`."""
    if net.input.kind != "spike":
        raise ValueError("nengo-loihi: spikes carry no payload; give a net with spike input")
    for population in net.populations:
        if population.reset != "zero" or population.v_init.any():
            raise ValueError(
                f"nengo-loihi: population {population.name!r} must reset to zero and start at 0"
            )
    for projection, delay in zip(net.projections, net.chip_delays, strict=True):
        if delay or not isinstance(projection.synapse, Dense):
            raise ValueError(
                f"nengo-loihi: projection {projection.source!r} -> {projection.target!r} must be"
                f" dense and cost one step, got a chip delay of {delay}"
            )


class _Chip:
    """The emulator with one copy of the net for every sample."""

    def __init__(self, net: FixedNet, x: NDArray[np.int64], *, refractory: int) -> None:
        self.net, self.x, self.refractory = net, x.reshape(*x.shape[:2], -1), refractory
        model = Model()
        self.blocks: dict[str, list[LoihiBlock]] = {}
        for population in net.populations:
            self.blocks[population.name] = [self._block(population) for _ in range(x.shape[1])]
        self.inputs = [self._input(self.x[:, sample]) for sample in range(x.shape[1])]
        for projection in net.projections:
            self._connect(projection)
        for blocks in self.blocks.values():
            for block in blocks:
                model.add_block(block)
        for spikes in self.inputs:
            model.add_input(spikes)
        self.emulator = EmulatorInterface(model, seed=0)

    def _block(self, population: Population) -> LoihiBlock:
        block = LoihiBlock(population.size, label=population.name)
        part = block.compartment
        array_to_int(part.decay_u, population.du)
        array_to_int(part.decay_v, population.dv)
        array_to_int(part.vth, population.v_th.astype(np.int64) << STATE_SHIFT)
        array_to_int(part.bias, population.bias_shifted)
        part.scale_u = part.scale_v = False
        part.refract_delay[:] = self.refractory
        part.vmin, part.vmax = -V_LIMIT, V_LIMIT
        return block

    def _input(self, x: NDArray[np.int64]) -> SpikeInput:
        """Entry t of `x` leaves the host in step t + 1, the emulator's first."""
        spikes = SpikeInput(x.shape[1])
        for t, row in enumerate(x):
            spikes.add_spikes(t + 1, row.nonzero()[0])
        return spikes

    def _connect(self, projection: Projection) -> None:
        dense: Any = projection.synapse
        w: NDArray[np.int16] = dense.w
        sources: Any = self.blocks.get(projection.source, self.inputs)
        for source, target in zip(sources, self.blocks[projection.target], strict=True):
            synapse = Synapse(w.shape[1])
            synapse.set_weights(w.T.astype(np.float32))
            synapse.format(weight_exp=dense.w_exp)
            synapse.weights = [
                discretize_weights(synapse.synapse_cfg, row) for row in synapse.weights
            ]
            axon = Axon(w.shape[1])
            axon.target = synapse
            axon.set_compartment_axon_map(np.arange(w.shape[1]))
            target.add_synapse(synapse)
            source.add_axon(axon)

    def run(self, *, hold_bias: bool) -> Trace:
        """Every population's window of steps begins as many steps late as it lies deep."""
        state, slices = self.emulator.compartment, self.emulator.block_info.slices
        steps, batch = self.x.shape[:2]
        traces = {p.name: _empty(steps, batch, p.size) for p in self.net.populations}
        # Biases act from the emulator's first step on. Without them nothing moves before its input
        # arrives, so that each is switched on where its window begins.
        if hold_bias:
            state.bias[:] = 0
        depths = self.net.depths
        for now in range(steps + max(depths.values())):
            for population in self.net.populations:
                if now == depths[population.name]:
                    for block in self.blocks[population.name]:
                        state.bias[slices[block]] = population.bias_shifted
            self.emulator.step()
            for name, trace in traces.items():
                if 0 <= (t := now - depths[name]) < steps:
                    for sample, block in enumerate(self.blocks[name]):
                        part = slices[block]
                        trace["spikes"][t, sample] = state.spiked[part]
                        trace["u"][t, sample] = state.current[part]
                        trace["v"][t, sample] = state.voltage[part]
        return Trace(
            populations={
                name: PopulationTrace(**trace, v_last=trace["v"][-1])
                for name, trace in traces.items()
            },
            wraps={},
            clips={},
        )


def _empty(steps: int, batch: int, size: int) -> dict[str, NDArray[Any]]:
    shape = steps, batch, size
    return {
        "spikes": np.zeros(shape, np.uint8),
        "u": np.zeros(shape, np.int32),
        "v": np.zeros(shape, np.int32),
    }
