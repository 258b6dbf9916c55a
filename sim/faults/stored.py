"""What the bits of a chip's memory stand for, and what flipping one of them makes of a network.

A synapse holds eight bits in one of three formats, which the signs of all weights of a projection
decide once, when they are programmed: a flipped bit never changes the format.

    weights >= 0     the byte is the weight, 0..255
    weights <= 0     the byte is its magnitude, 0..255
    both signs       a two's complement byte, times 2 (the lowest of nine bits pays for the sign)

Source: lava-nc 0.10.0 `weightutils.truncate_weights`; that mixed weights are two's complement
follows from its range of -256..254 and its rounding down. A convolution holds what it is given, and
where both signs occur in -128..127 its byte is the weight itself, as if 2 w were stored with
an exponent less by one. v_th is a mantissa of 17 bits. u and v are 24-bit two's complement (wraps
of u are modular); the one pattern that the arithmetic never leaves in a register, -2**23, reads as
2**23 in u and as -(2**23 - 1) in v, as the arithmetic itself would have it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.arith import Ints, saturate_v, wrap_int24, wrap_u
from spikeport.sim.faults.fault import PERMANENT, Fault, resolved
from spikeport.sim.net import FixedNet, Projection
from spikeport.sim.synapse import Dense, SumPool2d, Synapse


@dataclass(frozen=True, kw_only=True)
class Format:
    """Eight bits that stand for `unit` times a byte, two's complement if `signed`."""

    unit: int
    signed: bool

    def flipped(self, w: int, bit: int) -> int:
        """The weight that `w` becomes when `bit` 0..7 flips."""
        byte = ((w // self.unit) & 255) ^ (1 << bit)
        return self.unit * (byte - 256 if self.signed and byte > 127 else byte)


def stored_weights(synapse: Synapse) -> NDArray[np.int64]:
    """The weights that a core holds: as programmed or `w_chip`, (1,) for a pool's one."""
    if isinstance(synapse, Dense):
        return synapse.w_chip
    return np.atleast_1d(np.asarray(synapse.w, np.int64))


def format_of(projection: Projection) -> Format:
    """The format that holds the weights of `projection`; ValueError where no format can."""
    w = np.asarray(projection.synapse.w, np.int64)
    low, high = int(w.min()), int(w.max())
    if low >= 0:
        return Format(unit=1, signed=False)
    if isinstance(projection.synapse, Dense):
        return Format(unit=2, signed=True) if high > 0 else Format(unit=-1, signed=False)
    if high <= 0 and low >= -255:
        return Format(unit=-1, signed=False)
    if low >= -128 and high <= 127:
        return Format(unit=1, signed=True)
    if not (w % 2).any():
        return Format(unit=2, signed=True)
    raise ValueError(
        f"projection {projection.source!r} -> {projection.target!r}: weights span {low}..{high},"
        " some odd, which no eight bits hold; a core holds -128..127, even ones in -256..254,"
        " 0..255 or -255..0"
    )


def flipped_weights(net: FixedNet, faults: Iterable[Fault]) -> dict[int, NDArray[np.int64]]:
    """Stored weights by number of the projection, of those that have faults."""
    found: dict[int, NDArray[np.int64]] = {}
    for fault in faults:
        if fault.kind == "weight" and fault.index is not None and fault.bit is not None:
            number = int(fault.part)
            projection = net.projections[number]
            w = found.setdefault(number, stored_weights(projection.synapse).copy()).reshape(-1)
            w[fault.index] = format_of(projection).flipped(int(w[fault.index]), fault.bit)
    return found


def flipped_thresholds(net: FixedNet, faults: Iterable[Fault]) -> dict[str, NDArray[np.int32]]:
    """v_th, of shape () or (n,), by name of the population, of those that have faults."""
    found: dict[str, NDArray[np.int32]] = {}
    for fault in faults:
        if fault.kind == "threshold" and fault.index is not None and fault.bit is not None:
            name = str(fault.part)
            v_th = found.setdefault(name, np.array(net.population(name).v_th))
            v_th.reshape(-1)[fault.index] ^= 1 << fault.bit
    return found


def flipped_state(kind: str, state: Ints, bit: int) -> Ints:
    """What u or v, int64 of any shape, becomes when `bit` 0..23 of its register flips."""
    value = wrap_int24(state ^ (1 << bit))
    return wrap_u(value) if kind == "u" else saturate_v(value)


def factors(fault: Fault, *, steps: int, batch: int, first: int = 0) -> NDArray[np.int64]:
    """How often each spike of a source counts under a spike fault: 0, 1 or 2, [B, T].

    first: number of the first of these samples. A sample's draws depend on its number, not on how
    many samples there are.
    """
    if fault.rate is None:
        raise ValueError(f"fault {fault.kind!r} has no rate; only spikes are dropped or duplicated")
    chances = np.random.default_rng(fault.seed).random((first + batch, steps))
    hit = chances[first:] < fault.rate
    return np.where(hit, 0 if fault.kind == "dropped" else 2, 1)


def faulty(net: FixedNet, faults: Iterable[Fault]) -> FixedNet:
    """The network that `net` is for good after bit flips in weights and thresholds.

    Raises ValueError for faults of other kinds, which no network can stand for, and where the
    weights left over cannot be programmed from outside.
    """
    faults = resolved(net, faults, steps=net.steps)
    for fault in faults:
        if fault.kind not in PERMANENT:
            raise ValueError(
                f"fault {fault.kind!r} is not in weights or thresholds, so no network stands for"
                " it; run it with spikeport.sim.faults.inject"
            )
    projections = list(net.projections)
    for number, w in flipped_weights(net, faults).items():
        projections[number] = _with_weights(projections[number], w)
    thresholds = flipped_thresholds(net, faults)
    return replace(
        net,
        populations=tuple(
            replace(p, v_th=thresholds[p.name]) if p.name in thresholds else p
            for p in net.populations
        ),
        projections=tuple(projections),
    )


def _with_weights(projection: Projection, w: NDArray[np.int64]) -> Projection:
    synapse = projection.synapse
    if isinstance(synapse, SumPool2d):
        return replace(projection, synapse=replace(synapse, w=int(w[0])))
    if isinstance(synapse, Dense) and w.min() < -255 and w.max() <= 0:
        # Without a positive weight, programming would take the format that has no -256. An odd 1
        # keeps both signs, and there it is stored as 0.
        w = np.where(w == 0, 1, w)
        if w.max() <= 0:
            raise ValueError(
                f"projection {projection.source!r} -> {projection.target!r}: after the flip all"
                " weights are negative and one is -256, which programming would change; run the"
                " fault with spikeport.sim.faults.inject"
            )
    return replace(projection, synapse=replace(synapse, w=w))
