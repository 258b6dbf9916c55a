"""Rounding one population, with the projections into it, to the chip's grids at a given scale.

With S synaptic integers per unit of the float membrane and g integers per unit of the source (the
input's scale; 1 for spikes),

    q = rint(w S / g 2**k)     -2**(bits-1) .. 2**(bits-1) - 1
    v_th = rint(S v_th)        0 .. 131071
    bias = rint(64 S b)        mantissa << exponent
    v_init = rint(64 S v_init)
    du = rint(4096 (1 - keep_u)) - 1,  dv = rint(4096 (1 - keep_v))

A dense synapse is stored as w = 2 q with w_exp = -1 - k, for the largest k at which every q fits:
a matrix of mixed signs loses its lowest bit, an even one has none to lose. A positive k refines
weights where S is small, at the price of a sum that is floored; a negative one lets S be larger
than the weights alone would, so that threshold, bias and leak round finely. A convolution has no
exponent on the chip, hence k = 0. Weights of 1 bit are -q or +q, one level a projection: the mean
magnitude, which is the least-squares choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport.export.bounds import Bound, Risk, population_bound, risks
from spikeport.export.intervals import Emission, Wire
from spikeport.sim.arith import DECAY_ONE, DU_OFFSET, STATE_SHIFT, V_LIMIT
from spikeport.sim.chip import Chip
from spikeport.sim.net import FloatPopulation, FloatProjection, Population, Projection
from spikeport.sim.synapse import (
    Conv2d,
    Dense,
    FloatDense,
    FloatSumPool2d,
    Shape,
    SumPool2d,
    Synapse,
)

Floats = NDArray[np.float64]

# w_exp = -1 - k of a dense synapse lies in -8..7.
FINEST, COARSEST = 7, -8


class DoesNotFit(ValueError):
    """A population that the chip's number ranges cannot hold at a given scale."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A projection with what its population must know about the source: shape, integers per
    float unit, and what it may send in each step (None: the population itself). bits: of the
    weights, 1..8. finest, coarsest: the largest and smallest exponent k of a dense synapse; up to
    0 no sum is floored. clip: share of the largest weight that the grid must reach; what is beyond
    is held at its end."""

    projection: FloatProjection
    shape: Shape
    per_unit: float
    emission: Emission | None
    bits: int = 8
    finest: int = FINEST
    coarsest: int = COARSEST
    clip: float = 1.0

    @property
    def top(self) -> float:
        """The largest weight that the grid must reach."""
        return float(np.abs(float_weights(self.projection)).max()) * self.clip

    @property
    def q_max(self) -> int:
        """Largest weight on the grid; the smallest is -q_max - 1."""
        return (1 << (self.bits - 1)) - 1

    @property
    def refined(self) -> bool:
        """Whether the grid of the weights has an exponent of its own."""
        return isinstance(self.projection.synapse, FloatDense)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One population and its projections, ready to be rounded at any scale. steps: to survive.
    silent: it is read as a potential and must not fire. bias_exp: the smallest exponent of biases
    to use; at 6 they count in units of weights."""

    population: FloatPopulation
    sources: tuple[Source, ...]
    chip: Chip
    steps: int
    silent: bool
    bias_exp: int = 0

    def at(self, scale: float) -> tuple[Population, list[Projection]]:
        """The integers at `scale`; DoesNotFit when one of them is out of range."""
        return self.neurons(scale), [
            Projection(
                source=s.projection.source, target=s.projection.target,
                synapse=_synapse(s, scale, self.chip), delay=s.projection.delay,
            )
            for s in self.sources
        ]  # fmt: skip

    def neurons(self, scale: float) -> Population:
        """The population alone at `scale`."""
        return _population(self, scale)

    def overflow(self, fixed: Population, synapses: list[Projection]) -> list[Risk]:
        """What a legal input could overflow."""
        bound = self.bound(fixed, synapses)
        return risks(fixed, bound, chip=self.chip, silent=self.silent)

    def bound(self, fixed: Population, synapses: list[Projection]) -> Bound:
        """The bounds of these integers, behind sources that are bounded already."""
        own = Emission(size=fixed.size)
        wires = [
            Wire(p, shape=s.shape, emission=own if s.emission is None else s.emission)
            for p, s in zip(synapses, self.sources, strict=True)
        ]
        return population_bound(fixed, wires, steps=self.steps, emission=own)

    def weight_error(self, scale: float) -> float:
        """Error of all weights at `scale` over the weights, each as a root mean square."""
        errors, weights = zip(*self._errors(scale), strict=True) if self.sources else ((), ())
        return _ratio([float((e**2).sum()) for e in errors], [float((w**2).sum()) for w in weights])

    def sum_error(self, scale: float) -> float:
        """Error of a neuron's sum at `scale` over the sum, each as a root mean square, where every
        input comes in half of the time: errors of one sign, as clipping makes them, add up."""
        errors, weights = zip(*self._errors(scale), strict=True) if self.sources else ((), ())
        return _ratio([_sum_square(e) for e in errors], [_sum_square(w) for w in weights])

    def _errors(self, scale: float) -> Iterator[tuple[Floats, Floats]]:
        """Of each projection the errors of the weights at `scale` and the weights, [n, inputs]."""
        for s in self.sources:
            w = np.atleast_1d(float_weights(s.projection))
            q, k = rounded(s, scale, self.chip)
            error = q * (2.0**-k * s.per_unit / scale) - w
            yield error.reshape(len(w), -1), w.reshape(len(w), -1)


def _sum_square(w: Floats) -> float:
    """Four times the mean square of sums of w [n, inputs], each input there half of the time."""
    return float((w**2).sum() + (w.sum(1) ** 2).sum())


def _ratio(errors: list[float], values: list[float]) -> float:
    return float(np.sqrt(sum(errors) / sum(values))) if sum(values) else 0.0


def float_weights(projection: FloatProjection) -> Floats:
    """The weights of any kind of synapse, () for a pool's one."""
    return np.asarray(projection.synapse.w, np.float64)


def _population(part: Part, scale: float) -> Population:
    p, chip = part.population, part.chip
    where, unit = f"population {p.name!r}", scale * (1 << STATE_SHIFT)
    v_th = np.array(float(chip.v_th_max)) if part.silent else np.rint(scale * p.v_th)
    if v_th.max() > chip.v_th_max:
        raise DoesNotFit(
            f"{where}: the threshold becomes {v_th.max():.0f} at scale {scale:.6g}, {chip.name}"
            f" allows 0..{chip.v_th_max}; lower the threshold or the scale"
        )
    if ((v_th == 0) & (p.v_th > 0)).any():
        raise DoesNotFit(
            f"{where}: the threshold {p.v_th[p.v_th > 0].min():.3g} rounds to 0 at scale"
            f" {scale:.6g}; the weights are too large beside it, retrain with a larger threshold"
        )
    du = np.rint(DECAY_ONE * (1 - p.keep_u)) - DU_OFFSET
    if du.min() < 0:
        raise DoesNotFit(
            f"{where}: keep_u is {p.keep_u.max():.6g}, but {chip.name} loses at least 1/{DECAY_ONE}"
            f" of u in every step; retrain with keep_u at most {1 - 1 / DECAY_ONE:.6g}"
        )
    dv = np.rint(DECAY_ONE * (1 - p.keep_v))
    v_init = np.rint(unit * p.v_init)
    if np.abs(v_init).max() > V_LIMIT:
        raise DoesNotFit(
            f"{where}: v_init becomes {np.abs(v_init).max():.0f} at scale {scale:.6g}, the limit"
            f" is {V_LIMIT}; lower v_init or the scale"
        )
    bias, bias_exp = _bias(unit * p.bias, chip, least=part.bias_exp, where=where)
    return Population(
        name=p.name, shape=p.shape, v_th=v_th.astype(np.int32), du=du.clip(max=chip.decay_max),
        dv=dv.clip(max=chip.decay_max), bias=bias, bias_exp=bias_exp, v_init=v_init,
        reset=p.reset, scale=float(scale),
    )  # fmt: skip


def _bias(wanted: Floats, chip: Chip, *, least: int, where: str) -> tuple[NDArray[np.int32], int]:
    """Mantissas and the smallest exponent, from `least` on, at which all of them fit."""
    for exponent in range(least, chip.bias_exp_max + 1):
        mantissa = np.rint(wanted / 2**exponent)
        if np.abs(mantissa).max() <= chip.bias_mantissa_max:
            return mantissa.astype(np.int32), exponent
    raise DoesNotFit(
        f"{where}: the bias becomes {np.abs(wanted).max():.0f}, {chip.name} allows"
        f" {chip.bias_mantissa_max << chip.bias_exp_max}; lower the bias or the scale"
    )


def _synapse(source: Source, scale: float, chip: Chip) -> Synapse:
    synapse = source.projection.synapse
    q, k = rounded(source, scale, chip)
    if isinstance(synapse, FloatDense):
        return Dense(w=2 * q, w_exp=-1 - k)
    if isinstance(synapse, FloatSumPool2d):
        return SumPool2d(
            kernel=synapse.kernel, stride=synapse.stride, padding=synapse.padding, w=int(q)
        )
    return Conv2d(w=q, geometry=synapse.geometry)


def rounded(source: Source, scale: float, chip: Chip) -> tuple[Floats, int]:
    """Weights q on the grid and their exponent k: q 2**-k integers stand for w at `scale`.

    Raises DoesNotFit where a weight is larger than the grid at its coarsest.
    """
    per_integer = scale / source.per_unit
    w = float_weights(source.projection)
    if source.clip < 1:
        w = w.clip(-source.top, source.top)
    if source.bits == 1:
        return _two_levels(source, w * per_integer, chip)
    top, bottom = float(w.max()) * per_integer, float(w.min()) * per_integer
    least = -source.q_max - 1
    if source.refined and top <= 0:
        least += 1  # a matrix without positive weights is held in another sign mode, without -256
    k = source.finest if source.refined else 0
    coarsest = source.coarsest if source.refined else 0
    while np.rint(top * 2.0**k) > source.q_max or np.rint(bottom * 2.0**k) < least:
        if k == coarsest:
            raise _too_large(source, top, bottom, least=least)
        k -= 1
    return np.rint(w * (per_integer * 2.0**k)), k


def _two_levels(source: Source, wanted: Floats, chip: Chip) -> tuple[Floats, int]:
    """-q or +q for every weight; a pool has one weight only, so it is exactly that weight."""
    level = float(np.abs(wanted).mean())
    top = (1 << (chip.weight_bits - 1)) - 1
    k = source.finest if source.refined else 0
    coarsest = source.coarsest if source.refined else 0
    while np.rint(level * 2.0**k) > top:
        if k == coarsest:
            raise _too_large(source, level, -level, least=-top, most=top)
        k -= 1
    q = max(float(np.rint(level * 2.0**k)), 1.0)
    return np.where(wanted < 0, -q, q), k


def _too_large(
    source: Source, top: float, bottom: float, *, least: int, most: int | None = None
) -> DoesNotFit:
    coarse = 2.0**source.coarsest if source.refined else 1.0
    most = source.q_max if most is None else most
    worst = top if top * coarse - most > least - bottom * coarse else bottom
    low, high = round(least / coarse), round(most / coarse)
    bits = "1 bit allows" if source.bits == 1 else f"{source.bits} bits allow"
    return DoesNotFit(
        f"projection {source.projection.source!r} -> {source.projection.target!r}: a weight becomes"
        f" {worst:.0f}, {bits} {low}..{high} there; lower the scale"
    )
