"""Convolutions that would have to wait on a chip whose convolutions cannot, spelled in other words.

A path past other layers is shorter than theirs, and what comes along it has to wait. Spikes wait in
relays, neurons that fire whenever their source does and cost one step each; where a dense matrix,
which can wait, takes less of a core than they would, and for graded values, it is one.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from spikeport.export.passes import LARGEST_DENSE, Stage, as_dense
from spikeport.sim.arith import DECAY_ONE
from spikeport.sim.chip import Chip
from spikeport.sim.net import FloatNet, FloatPopulation, FloatProjection
from spikeport.sim.synapse import FloatDense, FloatSumPool2d, lowered_float
from spikeport.sim.topology import schedule

RELAY = ".relay"  # name of the relays: "source.relay1", "source.relay2"
WEIGHTS_PER_WORD = 8  # a word has 64 bits


def on_time(net: FloatNet, chip: Chip) -> FloatNet:
    """`net` without a convolution or pool that waits longer than `chip` lets one wait (a path past
    other layers, a delay).

    Raises ValueError naming the projection whose matrix would be too large, and for a loop that no
    chip can close in time.
    """
    waits = schedule(net).chip_delays
    late = [_waits_too_long(p, chip, w) for p, w in zip(net.projections, waits, strict=True)]
    if not any(late):
        return net
    relays: dict[str, int] = {}  # the most that any projection needs, by source
    projections: list[FloatProjection] = []
    for p, wait, is_late in zip(net.projections, waits, late, strict=True):
        if not is_late:
            projections.append(p)
        elif _relayed(net, p, chip, wait):
            relays[p.source] = max(relays.get(p.source, 0), wait)
            projections.append(replace(p, source=f"{p.source}{RELAY}{wait}"))
        else:
            projections.append(_dense(net, p, chip, wait))
    chains = {source: _chain(net, source, length) for source, length in relays.items()}
    populations = [p for p, _ in chains.get("input", ())]
    for population in net.populations:
        populations += [population, *(p for p, _ in chains.get(population.name, ()))]
    projections += [p for chain in chains.values() for _, p in chain]
    return replace(net, populations=tuple(populations), projections=tuple(projections))


def relayed(name: str) -> str:
    """Whose spikes the population `name` sends on: a relay's source, itself otherwise."""
    return name.rpartition(RELAY)[0] or name


def _waits_too_long(p: FloatProjection, chip: Chip, wait: int) -> bool:
    return not isinstance(p.synapse, FloatDense) and chip.conv_delay_max < wait <= chip.delay_max


def _relayed(net: FloatNet, p: FloatProjection, chip: Chip, wait: int) -> bool:
    """Whether relays take less of a core than a matrix; they carry spikes only."""
    if p.source == "input" and net.input.kind == "graded":
        return False
    neurons = wait * prod(net.shape_of(p.source))
    weights = prod(net.shape_of(p.source)) * net.population(p.target).size
    return bool(neurons / chip.neurons < weights / (chip.synapse_words * WEIGHTS_PER_WORD))


def _chain(
    net: FloatNet, source: str, length: int
) -> list[tuple[FloatPopulation, FloatProjection]]:
    """Relays one behind the other, each with the projection into it, nothing of it rounded.

    They rest half a weight below their threshold of 0 and fire half a weight above it, both whole
    with this scale. The twins know what copies its source (`spikeport.sim.twin_base.copies`) and
    let gradients pass as if it was not there.
    """
    shape, names = net.shape_of(source), [source]
    w = net.input.scale if source == "input" else 1.0
    found = []
    for number in range(1, length + 1):
        names.append(f"{source}{RELAY}{number}")
        relay = FloatPopulation(
            name=names[-1], shape=shape, v_th=0.0, keep_v=1 / DECAY_ONE, bias=-0.5, scale=2.0
        )
        copy = FloatSumPool2d(kernel=(1, 1), stride=(1, 1), w=w)
        found.append((relay, FloatProjection(source=names[-2], target=names[-1], synapse=copy)))
        w = 1.0
    return found


def _dense(net: FloatNet, p: FloatProjection, chip: Chip, wait: int) -> FloatProjection:
    source = net.shape_of(p.source)
    entries = net.population(p.target).size * prod(source)
    if entries > LARGEST_DENSE:
        raise ValueError(
            f"projection {p.source!r} -> {p.target!r} waits {wait} steps for the path beside it,"
            f" which convolutions on {chip.name} cannot, and as a dense matrix it would have"
            f" {entries} entries, at most {LARGEST_DENSE} are made; make the paths equally long"
        )
    stage = Stage(source=source, synapse=lowered_float(p.synapse, source), name=p.target)
    return replace(p, synapse=as_dense(stage).synapse)
