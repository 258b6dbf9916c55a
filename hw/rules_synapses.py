"""Rules for weights, delays and what travels along projections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.rule import Issue, path, place
from spikeport.sim.chip import Chip
from spikeport.sim.net import FixedNet, Projection
from spikeport.sim.synapse import Conv2d, Dense, lowered


def dense_weights(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Weights that the core's dense format changes; the reference knows, so results stay."""
    for projection, synapse in _synapses(net):
        if isinstance(synapse, Dense):
            changed = int((synapse.w_chip != synapse.w).sum())
            if changed:
                yield Issue(
                    rule="dense_weights",
                    where=path(projection),
                    got=f"{changed} of {synapse.w.size} weights are not kept as programmed",
                    limit="with both signs a core keeps even weights only",
                    advice="store 2 * w and lower w_exp by 1",
                    severity="advice",
                )


def conv_weights(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Weights of convolutions, which Lava runs whatever they are, in a format that cores have."""
    for projection, synapse in _synapses(net):
        if isinstance(synapse, Conv2d) and not _in_eight_bits(synapse.w):
            yield Issue(
                rule="conv_weights",
                where=path(projection),
                got=f"weights span {synapse.w.min()}..{synapse.w.max()}",
                limit="a core holds -128..127, even ones in -256..254, 0..255 or -255..0",
                advice="quantise to one of these",
            )


def _in_eight_bits(w: NDArray[Any]) -> bool:
    low, high = int(w.min()), int(w.max())
    signed = low >= -128 and high <= 127
    even = low >= -256 and high <= 254 and not (w % 2).any()
    one_signed = (low >= 0 and high <= 255) or (high <= 0 and low >= -255)
    return signed or even or one_signed


def exponents(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Weight exponents."""
    for projection, synapse in _synapses(net):
        if isinstance(synapse, Dense) and not chip.w_exp_min <= synapse.w_exp <= chip.w_exp_max:
            yield Issue(
                rule="exponents",
                where=path(projection),
                got=f"w_exp is {synapse.w_exp}",
                limit=f"{chip.name} allows {chip.w_exp_min}..{chip.w_exp_max}",
                advice="choose another scale for the layer",
            )


def delays(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Synaptic delays, counted in steps beyond the one that every synapse costs."""
    for projection, delay in zip(net.projections, net.chip_delays, strict=True):
        if delay > chip.delay_max:
            yield Issue(
                rule="delays",
                where=path(projection),
                got=f"its spikes wait {delay} steps on the chip",
                limit=f"{chip.name} allows 0..{chip.delay_max}",
                advice="shorten the path beside it or lower its delay",
            )


def conv_delays(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Delays of convolutions."""
    for (projection, synapse), delay in zip(_synapses(net), net.chip_delays, strict=True):
        if isinstance(synapse, Conv2d) and chip.conv_delay_max < delay <= chip.delay_max:
            yield Issue(
                rule="conv_delays",
                where=path(projection),
                got=f"its spikes wait {delay} steps on the chip",
                limit=f"convolutions on {chip.name} wait {chip.conv_delay_max} at most",
                advice="shorten the path beside it, lower its delay or use a dense synapse",
            )


def graded_input(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Payload of input spikes."""
    if net.input.kind == "graded" and net.input.payload_bits > chip.graded_bits:
        yield Issue(
            rule="graded_input",
            where="input",
            got=f"spikes carry {net.input.payload_bits} bits",
            limit=f"{chip.name} carries {chip.graded_bits}",
            advice="encode the input as binary spikes or choose loihi2",
        )


def fan_in(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Sources of one neuron, all of which its core must listen to."""
    for population in net.populations:
        axons: dict[str, int] = {}
        for projection, synapse in _synapses(net):
            if projection.target == population.name:
                name, size = projection.source, int(np.prod(net.shape_of(projection.source)))
                # Several synapses of one source share its axon.
                axons[name] = min(size, axons.get(name, 0) + int(np.prod(synapse.w.shape[1:])))
        if (sources := sum(axons.values())) > chip.in_axons:
            yield Issue(
                rule="fan_in",
                where=place(population),
                got=f"a neuron has {sources} sources",
                limit=f"a core of {chip.name} has {chip.in_axons} input axons",
                advice="make the layer before it smaller",
            )


def _synapses(net: FixedNet) -> Iterator[tuple[Projection, Dense | Conv2d]]:
    for projection in net.projections:
        yield projection, lowered(projection.synapse, net.shape_of(projection.source))
