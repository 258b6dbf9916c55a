"""Random networks that another emulator computes like ours: the common subset, as code.

`common_net` bends a net of `random_nets.py` until `emulator` has a counterpart for all of it, and
throws it away when a value leaves the range in which the emulator's arithmetic is ours. Everything
that is bent or thrown away stands in `profiles.py` with its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim import reference
from spikeport.sim.arith import STATE_SHIFT, U_LIMIT
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense, SumPool2d, Synapse
from spikeport.sim.trace import Trace

EMULATORS = ("nengo-loihi", "brian2-loihi")
KINDS = ("dense", "conv", "mixed", "delay", "recurrent", "driven")
LARGEST = 32767  # current whose shift by 6 still fits nengo-loihi's accumulator
NEVER = 131071  # the highest threshold
ACCUMULATOR = 1 << 21  # nengo-loihi's synaptic sums are 21 bits and a sign wide

Drawn = tuple[FixedNet, NDArray[np.int64]]


def common_net(
    seed: int, *, emulator: str, kind: str, random_net: Callable[..., Drawn]
) -> tuple[FixedNet, FixedNet, NDArray[np.int64]]:
    """A net of `kind`, the same with every synapse spelled as a matrix, and its input.

    kind: one of `random_nets.py`, whose function `random_net` is, with "mixed" for None, or
    "driven": one neuron with large currents, whose states reach their limits. All populations
    spike.
    """
    if emulator not in EMULATORS or kind not in KINDS:
        raise ValueError(
            f"emulator {emulator!r}, kind {kind!r}; allowed are {EMULATORS} and {KINDS}"
        )
    rng = np.random.default_rng([seed, *map(ord, emulator + kind)])
    while True:
        if kind == "driven":
            net, x = random_driven(rng)
        else:
            name = None if kind == "mixed" else kind
            net, x = random_net(int(rng.integers(1 << 30)), kind=name)
        net, x = bent(net, emulator=emulator), np.asarray(x > 0, np.int64)
        net = with_thresholds(net, x, rng=rng)
        trace = reference.run(net, x)
        alive = all(part.spikes.any() for part in trace.populations.values())
        if alive and beyond(net, x, trace, emulator=emulator) is None:
            return net, unrolled(net), x


def bent(net: FixedNet, *, emulator: str) -> FixedNet:
    """`net` with spike input and only such parameters as `emulator` has."""
    brian = emulator == "brian2-loihi"
    driven = {p.target for p in net.projections} | {"input"}
    projections = [
        replace(p, synapse=bent_synapse(p.synapse, emulator=emulator))
        for p in net.projections
        if not brian or p.source in driven
    ]
    populations = [
        plain(p) if brian else p for p in net.populations if not brian or p.name in driven
    ]
    net = replace(
        net,
        input=replace(net.input, kind="spike", payload_bits=1),
        populations=tuple(populations),
        projections=tuple(projections),
    )
    return net if brian else without_chip_delays(net)


def plain(population: Population) -> Population:
    """`population` without bias, all its neurons alike."""
    alike = {name: getattr(population, name).ravel()[0] for name in ("v_th", "du", "dv")}
    return replace(population, **alike, bias=0, bias_exp=0)


def bent_synapse(synapse: Synapse, *, emulator: str) -> Synapse:
    """`synapse` with weights that neither the sign mode nor the exponent rounds.

    Matrices of mixed signs, and all of nengo-loihi's, are even; a negative exponent -k needs
    multiples of 2**k, because both emulators shift weights where Lava shifts their sum.
    """
    w_exp = int(np.clip(synapse.w_exp, -6, 7)) if isinstance(synapse, Dense) else 0
    w = np.asarray(synapse.w, np.int64)
    mixed = w.min() < 0 < w.max()
    bits = max(1 if mixed or emulator == "nengo-loihi" else 0, -w_exp)
    largest = (255 >> bits) << bits
    w = (np.clip(w, -largest, largest) >> bits) << bits
    if isinstance(synapse, Dense):
        return replace(synapse, w=w, w_exp=w_exp)
    if isinstance(synapse, SumPool2d):
        return replace(synapse, w=int(w))
    return replace(synapse, w=w)


def without_chip_delays(net: FixedNet) -> FixedNet:
    """`net` with less delay where a synapse would have to wait on the chip.

    A projection that has no delay to spare is left out; its target keeps the ones that set its
    place in the schedule.
    """
    names = [p.name for p in net.populations]
    kept: list[Projection] = []
    for p, wait in zip(net.projections, net.chip_delays, strict=True):
        earlier = p.source == "input" or names.index(p.source) < names.index(p.target)
        delay = p.delay - wait
        if delay > 0 or (delay == 0 and earlier):
            kept.append(replace(p, delay=delay))
    return replace(net, projections=tuple(kept))


def with_thresholds(net: FixedNet, x: NDArray[np.int64], *, rng: np.random.Generator) -> FixedNet:
    """`net` with thresholds that its neurons reach, set one population after the other."""
    shapes = {p.name: p.v_th.shape for p in net.populations}
    net = replace(net, populations=tuple(replace(p, v_th=NEVER) for p in net.populations))
    for i, population in enumerate(net.populations):
        v = np.asarray(reference.run(net, x)[population.name].v)
        level = float(rng.uniform(0.5, 0.95))
        each = np.quantile(v, level, axis=(0, 1) if shapes[population.name] else None)
        v_th = np.clip(np.floor(each / 64), 0, NEVER).astype(np.int64)
        populations = list(net.populations)
        populations[i] = replace(population, v_th=v_th)
        net = replace(net, populations=tuple(populations))
    return net


def beyond(net: FixedNet, x: NDArray[np.int64], trace: Trace, *, emulator: str) -> str | None:
    """Which value leaves the range in which `emulator` computes as we do, or None."""
    if emulator == "brian2-loihi":
        leaves = any(trace.wraps.values()) or any(trace.clips.values())
        return "u wraps or v is clipped" if leaves else None
    for population in net.populations:
        u = np.asarray(trace[population.name].u, np.int64)
        a = arrivals(net, x, trace, name=population.name) << STATE_SHIFT
        if a.min() < -ACCUMULATOR or a.max() >= ACCUMULATOR:
            return "the synaptic sum leaves 21 bits and sign"
        if (abs(u) == U_LIMIT).any():
            return "u is exactly +-2**23"
        biased = u + population.bias_shifted
        if biased.min() < -U_LIMIT or biased.max() >= U_LIMIT:
            return "u + bias leaves 23 bits and sign"
    return None


def arrivals(net: FixedNet, x: NDArray[np.int64], trace: Trace, *, name: str) -> NDArray[np.int64]:
    """Synaptic sums int64 [T, B, n] into population `name` in a run of `net`."""
    steps, batch = x.shape[:2]
    total = np.zeros((steps, batch, net.population(name).size), np.int64)
    for p in net.incoming(name):
        s = x if p.source == "input" else trace[p.source].spikes.astype(np.int64)
        late = s[: max(0, steps - p.delay)].reshape(-1, batch, *net.shape_of(p.source))
        if len(late):
            total[p.delay :] += reference.synapse_sum(p.synapse, late)
    return total


def unrolled(net: FixedNet) -> FixedNet:
    """`net` with every convolution and pool spelled as the matrix of its synapses."""
    return replace(
        net,
        projections=tuple(
            replace(p, synapse=matrix(p.synapse, net.shape_of(p.source))) for p in net.projections
        ),
    )


def matrix(synapse: Synapse, shape: tuple[int, ...]) -> Dense:
    """The dense synapse that delivers the same, one unit spike for every source neuron."""
    if isinstance(synapse, Dense):
        return synapse
    size = int(np.prod(shape))
    w: NDArray[Any] = reference.synapse_sum(
        synapse, np.eye(size, dtype=int).reshape(size, 1, *shape)
    )
    return Dense(w=w[:, 0].T)


def driven(currents: list[int], **settings: Any) -> Drawn:
    """One neuron "out" into which exactly `currents`, each within +-32767, flow step by step.

    Thirty inputs carry the bits of the magnitudes, the second half with negative weights; three
    matrices of different exponents make the weights even and free of rounding. `settings`: of the
    population.
    """
    bits = np.arange(15)
    projections = []
    for low, high, w_exp in ((0, 7, -1), (7, 14, 6), (14, 15, 7)):
        half = np.zeros(15, np.int64)
        half[low:high] = 1 << (bits[low:high] - w_exp)
        dense = Dense(w=np.concatenate([half, -half])[None], w_exp=w_exp)
        projections.append(Projection(source="input", target="out", synapse=dense))
    net = FixedNet(
        input=Input(shape=(30,)),
        populations=(Population(name="out", shape=(1,), **settings),),
        projections=tuple(projections),
        readout=Readout(population="out"),
        steps=len(currents),
    )
    a = np.array(currents)[:, None]
    x = np.concatenate([np.maximum(a, 0) >> bits & 1, np.maximum(-a, 0) >> bits & 1], axis=1)
    return net, x[:, None]


def random_driven(rng: np.random.Generator) -> Drawn:
    """A neuron under currents of every size, more often of one sign than of the other."""
    steps = int(rng.integers(10, 60))
    low = int(rng.integers(-LARGEST, 1))
    currents = rng.integers(low, LARGEST + 1, steps) * rng.choice([-1, 1])
    return driven(
        currents.tolist(),
        v_th=np.full(1, NEVER),
        du=int(rng.choice([0, rng.integers(100), rng.integers(400), rng.integers(4096)])),
        dv=int(rng.integers(0, 4096)),
        bias=int(rng.integers(-4096, 4096)),
        bias_exp=int(rng.integers(0, 8)),
    )
