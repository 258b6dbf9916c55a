"""What Lava cannot run, said before Lava is started. Imports nothing of Lava."""

from __future__ import annotations

from spikeport.sim.net import FixedNet, Population, Projection
from spikeport.sim.synapse import Conv2d, Shape, lowered

# Lava keeps the geometry of a convolution in 8-bit signed integers, which overflow silently.
GEOMETRY_LIMIT = 127


def refuse(net: FixedNet) -> None:
    """Raise ValueError for the first part of `net` that Lava's stock processes cannot run bit for
    bit, as they must in a NetX file."""
    for population in net.populations:
        _refuse_population(population)
    for projection, delay in zip(net.projections, net.chip_delays, strict=True):
        _refuse_late_convolution(projection, net.shape_of(projection.source), delay=delay)
    refuse_geometry(net)


def refuse_geometry(net: FixedNet) -> None:
    """Raise ValueError for the first convolution of `net` that is too large for Lava."""
    for projection in net.projections:
        _refuse_geometry(projection, net.shape_of(projection.source))


def _refuse_population(population: Population) -> None:
    where = f"population {population.name!r}"
    if population.v_init.any():
        raise ValueError(
            f"{where}: v_init is not 0, but Lava's LIFReset starts every sample at 0;"
            ' train with v_init = 0, or use a backend, "lava" included'
        )
    if population.reset != "zero":
        raise ValueError(
            f"{where}: reset is {population.reset!r}, but Lava's LIFReset resets to zero only;"
            ' train with reset "zero", or use a backend, "lava" included'
        )


def _refuse_late_convolution(projection: Projection, source: Shape, *, delay: int) -> None:
    if delay and isinstance(lowered(projection.synapse, source), Conv2d):
        raise ValueError(
            f"{_path(projection)}: on a chip this convolution comes {delay} steps late, but Lava's"
            " Conv knows no delay; shorten the path beside it, lower its delay or use a dense"
            " synapse"
        )


def _refuse_geometry(projection: Projection, source: Shape) -> None:
    synapse = lowered(projection.synapse, source)
    if not isinstance(synapse, Conv2d):
        return
    geometry = synapse.geometry
    pairs = (synapse.w.shape[2:], geometry.stride, geometry.padding, geometry.dilation)
    largest = max(geometry.groups, *(n for pair in pairs for n in pair))
    if largest > GEOMETRY_LIMIT:
        raise ValueError(
            f"{_path(projection)}: kernel, stride, padding, dilation or groups reach {largest},"
            f" but Lava keeps them in 8 bits, at most {GEOMETRY_LIMIT}; split the layer"
        )


def _path(projection: Projection) -> str:
    return f"projection {projection.source!r} -> {projection.target!r}"
