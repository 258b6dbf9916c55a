"""Rules for neurons and for the time in which they live."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spikeport.hw.early import HELD, intruders
from spikeport.hw.rule import Issue, place
from spikeport.sim.chip import Chip
from spikeport.sim.net import FixedNet


def decays(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Decays of current and potential."""
    return _at_most(net, ("du", "dv"), limit=chip.decay_max, rule="decays", chip=chip)


def thresholds(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Firing thresholds."""
    return _at_most(net, ("v_th",), limit=chip.v_th_max, rule="thresholds", chip=chip)


def _at_most(
    net: FixedNet, names: tuple[str, ...], *, limit: int, rule: str, chip: Chip
) -> Iterator[Issue]:
    for population in net.populations:
        for name in names:
            largest = int(getattr(population, name).max())
            if largest > limit:
                yield Issue(
                    rule=rule,
                    where=place(population),
                    got=f"{name} is {largest}",
                    limit=f"{chip.name} allows 0..{limit}",
                    advice="choose a smaller scale for the layer",
                )


def biases(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Bias mantissas and exponents."""
    for population in net.populations:
        worst = int(population.bias.flat[abs(population.bias).argmax()])
        if abs(worst) > chip.bias_mantissa_max:
            yield Issue(
                rule="biases",
                where=place(population),
                got=f"bias mantissa is {worst}",
                limit=f"{chip.name} allows +-{chip.bias_mantissa_max}",
                advice="raise bias_exp",
            )
        if population.bias_exp > chip.bias_exp_max:
            yield Issue(
                rule="biases",
                where=place(population),
                got=f"bias_exp is {population.bias_exp}",
                limit=f"{chip.name} allows 0..{chip.bias_exp_max}",
                advice="choose a smaller scale for the layer",
            )


def shared_parameters(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """One threshold and one pair of decays a population, where neurons have none of their own."""
    for population in net.populations if not chip.each_neuron else ():
        for name in ("v_th", "du", "dv"):
            different = len(np.unique(getattr(population, name)))
            if different > 1:
                yield Issue(
                    rule="shared_parameters",
                    where=place(population),
                    got=f"{name} has {different} values",
                    limit=f"neurons of {chip.name} share one value a population",
                    advice="share it in training or split the population",
                )


def resets(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """What happens to v when a neuron fires."""
    for population in net.populations:
        if population.reset not in chip.resets:
            allowed = " or ".join(map(repr, chip.resets))
            yield Issue(
                rule="resets",
                where=place(population),
                got=f"reset is {population.reset!r}",
                limit=f"neurons of {chip.name} reset by {allowed}",
                advice=f"train with reset {allowed}",
            )


def start_potentials(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Potentials at which samples start."""
    for population in net.populations if not chip.v_init else ():
        if population.v_init.any():
            yield Issue(
                rule="start_potentials",
                where=place(population),
                got="v_init is not 0",
                limit=f"on {chip.name} every sample starts at 0",
                advice="train with v_init = 0, or give the first step the current that makes up"
                " for it",
            )


def early_spikes(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Spikes before the first step, which neurons that know when a sample starts do not send."""
    for name in sorted(intruders(net, start=HELD)) if not chip.v_init else ():
        yield Issue(
            rule="early_spikes",
            where=f"population {name!r}",
            got="its bias makes it fire before its window, and a delay carries that into one",
            limit=f"neurons of {chip.name} live from the first chip step on",
            advice="lower the bias or the delay, or give its layer a smaller depth",
        )


def reset_interval(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Steps per sample; boards reset by comparing low bits of the step (lava-dl's tutorials)."""
    if net.steps & (net.steps - 1):
        yield Issue(
            rule="reset_interval",
            where="network",
            got=f"a sample takes {net.steps} steps",
            limit="boards reset at intervals that are powers of two",
            advice="train with 8, 16 or 32 steps",
            severity="advice",
        )


def neurons(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Neurons on the whole chip; how they spread over its cores is a question for a mapper."""
    total, room = sum(p.size for p in net.populations), chip.cores * chip.neurons
    if total > room:
        yield Issue(
            rule="neurons",
            where="network",
            got=f"it has {total} neurons",
            limit=f"{chip.name} has room for {room}",
            advice="make it smaller or use several chips",
        )
