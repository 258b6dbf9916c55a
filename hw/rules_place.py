"""Rules that depend on how a network lies on cores."""

from __future__ import annotations

from collections.abc import Iterator

from spikeport.hw.cost import Use
from spikeport.hw.rule import Issue, place
from spikeport.hw.target import Target
from spikeport.sim.net import Population

WORDS = ("input axons", "neuron groups", "neurons", "words of synapse memory", "output axons")


def one_neuron(population: Population, use: Use, target: Target) -> Iterator[Issue]:
    """What a single neuron of `population` needs, in `use`, must be there on one core."""
    for got, limit, what in zip(use, target.limits, WORDS, strict=True):
        if got > limit:
            yield Issue(
                rule="one_neuron",
                where=place(population),
                got=f"one neuron alone takes {got} {what}",
                limit=f"a core of {target.name} has {limit}",
                advice="give it fewer sources or targets, or weights of fewer bits",
            )


def cores(needed: int, target: Target) -> Iterator[Issue]:
    """There must be as many cores as the network needs."""
    if needed > target.cores:
        of = f"the {target.chips} chips of " if target.chips > 1 else ""
        yield Issue(
            rule="cores",
            where="network",
            got=f"it takes {needed} cores",
            limit=f"there are {target.cores} on {of}{target.name}",
            advice="make it smaller or use more chips",
        )
