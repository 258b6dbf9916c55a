"""What Lava's stock processes cannot run, said before Lava is started. Imports nothing of Lava."""

from __future__ import annotations

from spikeport.sim.net import FixedNet, Population, Projection
from spikeport.sim.synapse import Conv2d, Shape, lowered

# Lava keeps the geometry of a convolution in 8-bit signed integers, which overflow silently.
GEOMETRY_LIMIT = 127


def refuse(net: FixedNet) -> None:
    """Raise ValueError for the first part of `net` that stock Lava 0.10 cannot run bit for bit."""
    for population in net.populations:
        _refuse_population(population)
    for projection in net.projections:
        _refuse_projection(projection, net.shape_of(projection.source))


def _refuse_population(population: Population) -> None:
    where = f"population {population.name!r}"
    if population.v_init.any():
        raise ValueError(
            f"{where}: v_init is not 0, but Lava's LIFReset starts every sample at 0;"
            " use the reference or the engine, or train with v_init = 0"
        )
    if population.reset != "zero":
        raise ValueError(
            f"{where}: reset is {population.reset!r}, but Lava's LIF resets to zero only;"
            ' use the reference or the engine, or train with reset "zero"'
        )


def _refuse_projection(projection: Projection, source: Shape) -> None:
    synapse = lowered(projection.synapse, source)
    if not isinstance(synapse, Conv2d):
        return
    where = f"projection {projection.source!r} -> {projection.target!r}"
    if projection.delay:
        raise ValueError(
            f"{where}: a convolution with delay {projection.delay} has no counterpart in Lava;"
            " use delay 0 or a dense synapse"
        )
    geometry = synapse.geometry
    pairs = (synapse.w.shape[2:], geometry.stride, geometry.padding, geometry.dilation)
    largest = max(geometry.groups, *(n for pair in pairs for n in pair))
    if largest > GEOMETRY_LIMIT:
        raise ValueError(
            f"{where}: kernel, stride, padding, dilation or groups reach {largest}, but Lava keeps"
            f" them in 8 bits, at most {GEOMETRY_LIMIT}; split the layer"
        )
