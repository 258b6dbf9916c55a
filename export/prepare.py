"""Spelling a float net so that a chip's neurons can run it: FloatNet in, equivalent FloatNet out.

| the chip cannot                        | spelled as                                             |
|----------------------------------------|--------------------------------------------------------|
| start at v_init                        | a source neuron that spikes in the first step only     |
| have a threshold a neuron              | incoming weights, bias scaled until thresholds agree   |
| reset by subtraction                   | refused: the network must be trained for it            |
| have a decay a neuron                  | refused: the decays must be shared                     |
| let a convolution wait for other paths | relay neurons, or a dense matrix, which can wait       |

Where thresholds may differ, the opposite is done: every neuron is scaled until its largest weight
fills the grid as well as that of any other. Only the ratio of weights, bias and v_init to the
threshold decides when a neuron fires, so none of this changes a spike.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spikeport.export.grid import float_weights
from spikeport.export.late import on_time
from spikeport.sim import checks
from spikeport.sim.arith import DECAY_ONE, DU_OFFSET
from spikeport.sim.chip import Chip
from spikeport.sim.floating import NEVER
from spikeport.sim.net import FixedNet, FloatNet, FloatPopulation, FloatProjection
from spikeport.sim.synapse import (
    ConvGeometry,
    FloatConv2d,
    FloatDense,
    FloatSumPool2d,
    FloatSynapse,
)

Floats = NDArray[np.float64]

RETRAIN = 'train it with reset_mechanism="zero"'
ONE_SHOT = "start"  # name of the source neurons: "population.start"

# A one-shot neuron is fired by its bias in step 0. Then its own inhibition, the strongest there
# is, holds it below its threshold; losing 1/4096 and a bit a step it does so for 27,823 steps.
SHOT_INHIBITION = -127.0 * 256
SHOT_STEPS = 25_000


class Unsuited(ValueError):
    """A population that a chip cannot run as it is."""


def prepare(net: FloatNet, chip: Chip, *, exponents: int = 1, for_netx: bool = False) -> FloatNet:
    """`net` in the words of `chip`; the same object where nothing is to be done.

    exponents: how many exponents a dense projection may use. With more than one its weights are
    dealt out by magnitude to as many projections, so that small ones keep their precision beside
    large ones. for_netx: one threshold and one decay a population, whatever the chip allows. Raises
    Unsuited naming the population that has to be trained differently.
    """
    checks.whole(exponents, where="exponents", low=1, high=4)
    if for_netx:
        if exponents > 1:
            raise ValueError(
                f"exponents is {exponents}, but NetX holds weights without exponents; give 1 or"
                " leave out for_netx"
            )
        chip = replace(chip, each_neuron=False)
    for population in net.populations:
        _refuse(population, chip)
        if for_netx and population.v_init.any():
            raise Unsuited(
                f"population {population.name!r} starts at v_init, which NetX cannot hold; train it"
                " without v_init or leave out for_netx"
            )
    if not chip.v_init:
        net = _started_by_spikes(net, chip)
    net = rescaled(on_time(net, chip), chip)
    return dealt_out(net, exponents) if exponents > 1 else net


def prepared_as(net: FloatNet, fixed: FixedNet) -> FloatNet:
    """`net` as it was prepared when it became `fixed`: the float network with its populations."""
    about = fixed.provenance
    return prepare(
        net, fixed.chip, exponents=int(about.get("exponents", 1)),
        for_netx=bool(about.get("for_netx", False)),
    )  # fmt: skip


def _refuse(p: FloatPopulation, chip: Chip) -> None:
    where = f"population {p.name!r}"
    if p.reset not in chip.resets:
        raise Unsuited(
            f"{where} resets by subtraction, but neurons of {chip.name} reset to zero;"
            f' {RETRAIN}, or choose target "lava"'
        )
    for name, values in (("keep_u", p.keep_u), ("keep_v", p.keep_v)):
        if not chip.each_neuron and values.min() != values.max():
            raise Unsuited(
                f"{where}: {name} differs between neurons ({values.min():.6g}.."
                f"{values.max():.6g}), but {chip.name} has one decay a population; share it in"
                ' training, or choose target "lava"'
            )


def rescaled(net: FloatNet, chip: Chip) -> FloatNet:
    """Every neuron scaled as serves the chip: thresholds made equal where they must be, largest
    weights made equal where thresholds may differ."""
    for p in net.populations:
        if chip.each_neuron:
            factors = _filling(net, p)
        else:
            factors = _equalising(net, p, chip)
        if factors is not None:
            net = _scaled(net, p, factors)
    return net


def _equalising(net: FloatNet, p: FloatPopulation, chip: Chip) -> Floats | None:
    """[n]: what makes the thresholds of `p` equal, or None where they are."""
    if p.v_th.min() == p.v_th.max():
        return None
    where = f"population {p.name!r}: thresholds differ between neurons"
    if p.v_th.min() == 0 or p.v_th.max() >= NEVER:
        raise Unsuited(
            f"{where} and one of them is {'0' if p.v_th.min() == 0 else 'never reached'}, which no"
            f" scaling makes equal to the others; {chip.name} has one threshold a population, split"
            ' the population or choose target "lava"'
        )
    if net.readout.of_potentials and net.readout.population == p.name:
        raise Unsuited(
            f"{where}, but its potentials are read, which scaling would change; {chip.name} has one"
            ' threshold a population, share it in training or choose target "lava"'
        )
    factors = p.v_th.max() / p.v_th
    uneven = _uneven(net, p, factors)
    if uneven is not None:
        raise Unsuited(
            f"{where} within a channel of the convolution from {uneven!r}, whose places share their"
            f" weights; {chip.name} has one threshold a population, share the thresholds of a"
            ' channel in training or choose target "lava"'
        )
    return np.asarray(factors)


def _uneven(net: FloatNet, p: FloatPopulation, factors: Floats) -> str | None:
    """The source of a convolution whose channels would need more than one factor."""
    for projection in net.incoming(p.name):
        if not isinstance(projection.synapse, FloatDense):
            channels = factors.reshape(p.shape[0], -1)
            if (channels.min(1) != channels.max(1)).any():
                return str(projection.source)
    return None


def _filling(net: FloatNet, p: FloatPopulation) -> Floats | None:
    """[n]: what makes the largest weight of every neuron that of all; None where nothing is to be
    gained, the scale is settled, or potentials are read."""
    read = net.readout.of_potentials and net.readout.population == p.name
    incoming = net.incoming(p.name)
    if p.scale is not None or read or not incoming or (p.v_th >= NEVER).any():
        return None
    top = np.zeros(p.size)
    for projection in incoming:
        if isinstance(projection.synapse, FloatSumPool2d):
            return None
        w = np.abs(float_weights(projection)).reshape(len(projection.synapse.w), -1).max(1)
        top = np.maximum(top, np.repeat(w, p.size // len(w)))
    if len(p.shape) == 3:  # one factor a channel
        top = np.repeat(top.reshape(p.shape[0], -1).max(1), p.size // p.shape[0])
    if not top.all():
        return None
    factors = top.max() / top
    return None if (factors == 1).all() else np.asarray(factors)


def _scaled(net: FloatNet, p: FloatPopulation, factors: Floats) -> FloatNet:
    """`net` with all that enters the neurons of `p`, and their thresholds, times [n] `factors`."""
    changed = replace(
        p, v_th=_unless_never(p.v_th * factors), bias=p.bias * factors, v_init=p.v_init * factors
    )
    if np.ptp(changed.v_th) <= 1e-12 * changed.v_th.max():
        changed = replace(changed, v_th=changed.v_th.max())
    return replace(
        net,
        populations=tuple(changed if q is p else q for q in net.populations),
        projections=tuple(
            replace(q, synapse=_scaled_synapse(q, net, factors)) if q.target == p.name else q
            for q in net.projections
        ),
    )


def _unless_never(v_th: Floats) -> Floats:
    return np.minimum(v_th, NEVER)


def _scaled_synapse(projection: FloatProjection, net: FloatNet, factors: Floats) -> FloatSynapse:
    synapse = projection.synapse
    if isinstance(synapse, FloatDense):
        return FloatDense(w=synapse.w * factors[:, None])
    channels = net.shape_of(projection.target)[0]
    each = factors.reshape(channels, -1)[:, 0]
    if isinstance(synapse, FloatSumPool2d):
        geometry = ConvGeometry(stride=synapse.stride, padding=synapse.padding, groups=channels)
        w = np.broadcast_to(synapse.w, (channels, 1, *synapse.kernel))
        return FloatConv2d(w=w * each[:, None, None, None], geometry=geometry)
    return FloatConv2d(w=synapse.w * each[:, None, None, None], geometry=synapse.geometry)


def _started_by_spikes(net: FloatNet, chip: Chip) -> FloatNet:
    """v_init as the current that it leaves behind after the first leak, from a one-shot neuron."""
    populations: list[FloatPopulation] = []
    projections: list[FloatProjection] = list(net.projections)
    for p in net.populations:
        if not p.v_init.any():
            populations.append(p)
            continue
        if p.keep_u.any():
            raise Unsuited(
                f"population {p.name!r} starts at v_init (in NIR: above its v_reset), which only a"
                f" first-step current can replace here, but its current lasts (keep_u is"
                f" {p.keep_u.max():.6g}); train it without or with keep_u 0, or choose target"
                ' "lava"'
            )
        if net.steps > SHOT_STEPS:
            raise Unsuited(
                f"population {p.name!r} starts at v_init, which on {chip.name} a source neuron"
                f" replaces for up to {SHOT_STEPS} steps, not {net.steps}; run fewer steps or"
                ' choose target "lava"'
            )
        name = f"{p.name}.{ONE_SHOT}"
        populations += [_one_shot(name), replace(p, v_init=0.0)]
        start = np.broadcast_to(p.keep_v * p.v_init, (p.size,))[:, None]
        projections += [
            FloatProjection(
                source=name, target=name, synapse=FloatDense(w=[[SHOT_INHIBITION]]), delay=1
            ),
            FloatProjection(source=name, target=p.name, synapse=FloatDense(w=start)),
        ]
    if len(populations) == len(net.populations):
        return net
    return replace(net, populations=tuple(populations), projections=tuple(projections))


def _one_shot(name: str) -> FloatPopulation:
    """A neuron that fires in step 0 and then never, with a scale at which nothing is rounded."""
    return FloatPopulation(
        name=name, shape=(1,), v_th=1.0, keep_u=1 - DU_OFFSET / DECAY_ONE, keep_v=1 / DECAY_ONE,
        bias=2.0, scale=1.0,
    )  # fmt: skip


def dealt_out(net: FloatNet, exponents: int) -> FloatNet:
    """Every dense projection as up to `exponents` ones, its weights dealt out by magnitude."""
    projections: list[FloatProjection] = []
    for p in net.projections:
        rest = p
        for _ in range(exponents - 1):
            cut = _cut(rest)
            if cut is None:
                break
            w = float_weights(rest)
            large = np.where(np.abs(w) > cut, w, 0.0)
            projections.append(replace(rest, synapse=FloatDense(w=large)))
            rest = replace(rest, synapse=FloatDense(w=w - large))
        projections.append(rest)
    return replace(net, projections=tuple(projections))


def _cut(projection: FloatProjection) -> float | None:
    """Where to part the weights so that the sum of squared grid steps is least."""
    if not isinstance(projection.synapse, FloatDense):
        return None
    w = np.sort(np.abs(projection.synapse.w[projection.synapse.w != 0]))
    if len(w) < 2 or w[0] == w[-1]:
        return None
    small = np.arange(1, len(w))  # how many go into the second projection
    cost = small * w[:-1] ** 2 + (len(w) - small) * w[-1] ** 2
    return float(w[int(cost.argmin())])
