"""What Lava cannot run, said before Lava is started. Imports nothing of Lava."""

from __future__ import annotations

from collections.abc import Iterator

from spikeport.sim.net import FixedNet, Population, Projection
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, Shape, largest_sum, lowered

# Lava keeps the geometry of a convolution in 8-bit signed integers, which overflow silently.
GEOMETRY_LIMIT = 127
SUM_LIMIT = 1 << 31  # Lava adds up in 32 bits


class LavaLimitError(ValueError):
    """Lava, or a NetX file, cannot hold a network; the message is one sentence with advice."""


def refuse(net: FixedNet) -> None:
    """Raise LavaLimitError for the first part of `net` that Lava's stock processes cannot run bit
    for bit, as they must in a NetX file."""
    for population in net.populations:
        _refuse_population(population)
    for projection, delay in zip(net.projections, net.chip_delays, strict=True):
        _refuse_late_convolution(projection, net.shape_of(projection.source), delay=delay)
    refuse_synapses(net)


def refuse_synapses(net: FixedNet) -> None:
    """Raise LavaLimitError for the first projection of `net` whose convolution, or whose sums, are
    too large for Lava."""
    for projection, delay in zip(net.projections, net.chip_delays, strict=True):
        synapse = lowered(projection.synapse, net.shape_of(projection.source))
        if isinstance(synapse, Conv2d):
            _refuse_geometry(projection, synapse.w.shape[2:], synapse.geometry)
        largest = net.input.largest if projection.source == "input" else 1
        _refuse_sums(projection, synapse, delay=delay, reach=largest_sum(synapse, largest=largest))


def unconnected(net: FixedNet) -> Iterator[str]:
    """Populations that must be tied to the input, because Lava runs only what hangs together."""
    linked = {"input"}
    for population in net.populations:
        while True:
            ends = [{p.source, p.target} for p in net.projections]
            more = set().union(*(pair for pair in ends if pair & linked)) - linked
            if not more:
                break
            linked |= more
        if population.name not in linked:
            linked.add(population.name)
            yield population.name


def message_bits(net: FixedNet, source: str) -> int:
    """Bits of a message from `source`, 0 for spikes that carry no number. A message of Lava's has
    8 at least."""
    graded = source == "input" and net.input.kind == "graded"
    return max(8, net.input.payload_bits) if graded else 0


def _refuse_population(population: Population) -> None:
    where = f"population {population.name!r}"
    if population.v_init.any():
        raise LavaLimitError(
            f"{where}: v_init is not 0, but Lava's LIFReset starts every sample at 0;"
            ' train with v_init = 0, or use a backend, "lava" included'
        )
    if population.reset != "zero":
        raise LavaLimitError(
            f"{where}: reset is {population.reset!r}, but Lava's LIFReset resets to zero only;"
            ' train with reset "zero", or use a backend, "lava" included'
        )


def _refuse_late_convolution(projection: Projection, source: Shape, *, delay: int) -> None:
    if delay and isinstance(lowered(projection.synapse, source), Conv2d):
        raise LavaLimitError(
            f"{_path(projection)}: on a chip this convolution comes {delay} steps late, but Lava's"
            " Conv knows no delay; shorten the path beside it, lower its delay or use a dense"
            " synapse"
        )


def _refuse_geometry(projection: Projection, kernel: Shape, geometry: ConvGeometry) -> None:
    pairs = (kernel, geometry.stride, geometry.padding, geometry.dilation)
    largest = max(geometry.groups, *(n for pair in pairs for n in pair))
    if largest > GEOMETRY_LIMIT:
        raise LavaLimitError(
            f"{_path(projection)}: kernel, stride, padding, dilation or groups reach {largest},"
            f" but Lava keeps them in 8 bits, at most {GEOMETRY_LIMIT}; split the layer"
        )


def _refuse_sums(
    projection: Projection, synapse: Dense | Conv2d, *, delay: int, reach: int
) -> None:
    """Lava adds convolutions up in floats, which become integers of 32 bits, and late dense sums
    in 64 bits, which only a shift to the right makes visible."""
    differs = isinstance(synapse, Conv2d) or (delay and synapse.w_exp < 0)
    if differs and reach >= SUM_LIMIT:
        raise LavaLimitError(
            f"{_path(projection)}: its sums can reach {reach}, but Lava computes those of"
            f" convolutions and late dense synapses as the chip does below {SUM_LIMIT} only; send"
            " fewer payload bits or use smaller weights"
        )


def _path(projection: Projection) -> str:
    return f"projection {projection.source!r} -> {projection.target!r}"
