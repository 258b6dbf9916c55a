"""Whether a chip can hold the numbers of a network: a list of small rules, each named.

`FixedNet` admits what the arithmetic defines; a chip and Lava's stock neurons admit less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.chip import Chip
from spikeport.sim.net import FixedNet, Population, Projection
from spikeport.sim.synapse import Conv2d, Dense, lowered


@dataclass(frozen=True, kw_only=True)
class Issue:
    """One broken rule. severity: "error" (the chip cannot run it) or "advice"."""

    rule: str
    where: str
    got: str
    limit: str
    advice: str
    severity: str = "error"

    def __str__(self) -> str:
        return f"{self.where}: {self.got}, but {self.limit}; {self.advice}"


def check(net: FixedNet, chip: Chip) -> list[Issue]:
    """All issues of `net` on `chip`, in the order of RULES; empty when it fits."""
    return [issue for rule in RULES for issue in rule(net, chip)]


def enforce(net: FixedNet, chip: Chip) -> None:
    """Raise ValueError with all errors (not the advice) in one sentence."""
    errors = [str(issue) for issue in check(net, chip) if issue.severity == "error"]
    if errors:
        raise ValueError(f"the network does not fit {chip.name}: " + "; also ".join(errors))


def dense_weights(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Weights that the core's dense format changes; the reference knows, so results stay."""
    for projection, synapse in _synapses(net):
        if isinstance(synapse, Dense):
            changed = int((synapse.w_chip != synapse.w).sum())
            if changed:
                yield Issue(
                    rule="dense_weights",
                    where=_path(projection),
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
                where=_path(projection),
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
                where=_path(projection),
                got=f"w_exp is {synapse.w_exp}",
                limit=f"{chip.name} allows {chip.w_exp_min}..{chip.w_exp_max}",
                advice="choose another scale for the layer",
            )


def delays(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Synaptic delays."""
    for projection in net.projections:
        if projection.delay > chip.delay_max:
            yield Issue(
                rule="delays",
                where=_path(projection),
                got=f"delay is {projection.delay}",
                limit=f"{chip.name} allows 0..{chip.delay_max}",
                advice="shorten the skip path",
            )


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
                    where=_name(population),
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
                where=_name(population),
                got=f"bias mantissa is {worst}",
                limit=f"{chip.name} allows +-{chip.bias_mantissa_max}",
                advice="raise bias_exp",
            )
        if population.bias_exp > chip.bias_exp_max:
            yield Issue(
                rule="biases",
                where=_name(population),
                got=f"bias_exp is {population.bias_exp}",
                limit=f"{chip.name} allows 0..{chip.bias_exp_max}",
                advice="choose a smaller scale for the layer",
            )


def shared_parameters(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """One threshold and one pair of decays a population, as Lava's neurons document."""
    for population in net.populations:
        for name in ("v_th", "du", "dv"):
            different = len(np.unique(getattr(population, name)))
            if different > 1:
                yield Issue(
                    rule="shared_parameters",
                    where=_name(population),
                    got=f"{name} has {different} values",
                    limit="Lava's LIF on a chip takes one a population",
                    advice="share it in training",
                )


def stock_neuron(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """What Lava's LIFReset cannot do."""
    for population in net.populations:
        if population.v_init.any():
            yield Issue(
                rule="stock_neuron",
                where=_name(population),
                got="v_init is not 0",
                limit="Lava's LIFReset starts every sample at 0",
                advice="train with v_init = 0",
            )
        if population.reset != "zero":
            yield Issue(
                rule="stock_neuron",
                where=_name(population),
                got=f"reset is {population.reset!r}",
                limit="Lava's LIF resets to zero",
                advice='train with reset "zero"',
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


def fan_in(net: FixedNet, chip: Chip) -> Iterator[Issue]:
    """Sources of one neuron, all of which its core must listen to."""
    for population in net.populations:
        sources = sum(
            int(np.prod(synapse.w.shape[1:]))
            for projection, synapse in _synapses(net)
            if projection.target == population.name
        )
        if sources > chip.in_axons:
            yield Issue(
                rule="fan_in",
                where=_name(population),
                got=f"a neuron has {sources} sources",
                limit=f"a core of {chip.name} has {chip.in_axons} input axons",
                advice="make the layer before it smaller",
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


def _synapses(net: FixedNet) -> Iterator[tuple[Projection, Dense | Conv2d]]:
    for projection in net.projections:
        yield projection, lowered(projection.synapse, net.shape_of(projection.source))


def _path(projection: Projection) -> str:
    return f"projection {projection.source!r} -> {projection.target!r}"


def _name(population: Population) -> str:
    return f"population {population.name!r}"


RULES = (
    dense_weights,
    conv_weights,
    exponents,
    delays,
    decays,
    thresholds,
    biases,
    shared_parameters,
    stock_neuron,
    graded_input,
    reset_interval,
    fan_in,
    neurons,
)
