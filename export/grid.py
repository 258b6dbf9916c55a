"""Rounding one population, with the projections into it, to the chip's grids at a given scale.

With S synaptic integers per unit of the float membrane and g integers per unit of the source (the
input's scale; 1 for spikes),

    q = rint(w S / g 2**k)     -2**(bits-1) .. 2**(bits-1) - 1
    v_th = rint(S v_th)        0 .. 131071
    bias = rint(64 S b)        mantissa << exponent
    v_init = rint(64 S v_init)
    du = rint(4096 (1 - keep_u)) - 1,  dv = rint(4096 (1 - keep_v))

A dense synapse is stored as w = 2 q with w_exp = -1 - k: a matrix of mixed signs loses its lowest
bit, an even one has none to lose. The k free bits per synapse refine the weights when S is small.
A convolution has no exponent on the chip, hence k = 0.
"""

from __future__ import annotations

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

EXTRA_BITS = 7  # w_exp = -1 - k must not fall below -8


class DoesNotFit(ValueError):
    """A population that the chip's number ranges cannot hold at a given scale."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A projection with what its population must know about the source: shape, integers per
    float unit, and what it may send in each step (None: the population itself)."""

    projection: FloatProjection
    shape: Shape
    per_unit: float
    emission: Emission | None


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What bounds the integers: the chip, the weight bits to use, the steps to survive."""

    chip: Chip
    weight_bits: int
    steps: int

    @property
    def q_max(self) -> int:
        """Largest weight on the grid; the smallest is -q_max - 1."""
        return (1 << (self.weight_bits - 1)) - 1


@dataclass(frozen=True, kw_only=True)
class Part:
    """One population and its projections, ready to be rounded at any scale."""

    population: FloatPopulation
    sources: list[Source]
    rules: Rules
    silent: bool

    def at(self, scale: float) -> tuple[Population, list[Projection]]:
        """The integers at `scale`; DoesNotFit when one of them is out of range."""
        fixed = _population(self.population, scale, self.rules, silent=self.silent)
        synapses = [
            Projection(
                source=s.projection.source, target=s.projection.target,
                synapse=_synapse(s, scale, self.rules), delay=s.projection.delay,
            )
            for s in self.sources
        ]  # fmt: skip
        return fixed, synapses

    def overflow(self, fixed: Population, synapses: list[Projection]) -> list[Risk]:
        """What a legal input could overflow."""
        return risks(fixed, self.bound(fixed, synapses), silent=self.silent)

    def bound(self, fixed: Population, synapses: list[Projection]) -> Bound:
        """The bounds of these integers, behind sources that are bounded already."""
        own = Emission(size=fixed.size)
        wires = [
            Wire(p, shape=s.shape, emission=own if s.emission is None else s.emission)
            for p, s in zip(synapses, self.sources, strict=True)
        ]
        return population_bound(fixed, wires, steps=self.rules.steps, emission=own)

    def weight_error(self, synapses: list[Projection], scale: float) -> float:
        """Root mean square error of all weights, in units of the largest."""
        total = count = top = 0.0
        for s, fixed in zip(self.sources, synapses, strict=True):
            w = float_weights(s.projection)
            error = effective_weights(fixed.synapse, scale=scale, per_unit=s.per_unit) - w
            total, count = total + float((error**2).sum()), count + w.size
            top = max(top, float(np.abs(w).max()))
        return float(np.sqrt(total / count)) / top if top else 0.0


def effective_weights(synapse: Synapse, *, scale: float, per_unit: float) -> Floats:
    """The float weights that the integers of `synapse` stand for; the inverse of rounding."""
    if isinstance(synapse, Dense):
        return synapse.w_chip * 2.0**synapse.w_exp * per_unit / scale
    w = np.asarray(synapse.w, np.float64)
    return w * per_unit / scale


def float_weights(projection: FloatProjection) -> Floats:
    """The weights of any kind of synapse, () for a pool's one."""
    return np.asarray(projection.synapse.w, np.float64)


def _population(p: FloatPopulation, scale: float, rules: Rules, *, silent: bool) -> Population:
    chip, where, unit = rules.chip, f"population {p.name!r}", scale * (1 << STATE_SHIFT)
    v_th = np.array(float(chip.v_th_max)) if silent else np.rint(scale * p.v_th)
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
    bias, bias_exp = _bias(unit * p.bias, chip, where=where)
    return Population(
        name=p.name, shape=p.shape, v_th=v_th.astype(np.int32), du=du.clip(max=chip.decay_max),
        dv=dv.clip(max=chip.decay_max), bias=bias, bias_exp=bias_exp, v_init=v_init,
        reset=p.reset, scale=float(scale),
    )  # fmt: skip


def _bias(wanted: Floats, chip: Chip, *, where: str) -> tuple[NDArray[np.int32], int]:
    """Mantissas and the smallest exponent at which all of them fit."""
    for exponent in range(chip.bias_exp_max + 1):
        mantissa = np.rint(wanted / 2**exponent)
        if np.abs(mantissa).max() <= chip.bias_mantissa_max:
            return mantissa.astype(np.int32), exponent
    raise DoesNotFit(
        f"{where}: the bias becomes {np.abs(wanted).max():.0f}, {chip.name} allows"
        f" {chip.bias_mantissa_max << chip.bias_exp_max}; lower the bias or the scale"
    )


def _synapse(source: Source, scale: float, rules: Rules) -> Synapse:
    synapse, per_integer = source.projection.synapse, scale / source.per_unit
    if isinstance(synapse, FloatDense):
        return _dense(source.projection, synapse.w * per_integer, rules)
    q = np.rint(np.asarray(synapse.w) * per_integer)
    if q.min() < -rules.q_max - 1 or q.max() > rules.q_max:
        raise _too_large(source.projection, q, -rules.q_max - 1, rules)
    if isinstance(synapse, FloatSumPool2d):
        return SumPool2d(
            kernel=synapse.kernel, stride=synapse.stride, padding=synapse.padding, w=int(q)
        )
    return Conv2d(w=q, geometry=synapse.geometry)


def _dense(projection: FloatProjection, wanted: Floats, rules: Rules) -> Dense:
    """2 q with w_exp = -1 - k, for the largest k at which every q fits."""
    top, bottom = float(wanted.max()), float(wanted.min())
    # A matrix without positive weights is held in another sign mode, which has no -256.
    least = -rules.q_max - (1 if top > 0 else 0)
    for k in range(EXTRA_BITS, -1, -1):
        if np.rint(top * 2**k) <= rules.q_max and np.rint(bottom * 2**k) >= least:
            return Dense(w=2 * np.rint(wanted * 2**k), w_exp=-1 - k)
    raise _too_large(projection, np.rint(wanted), least, rules)


def _too_large(projection: FloatProjection, q: Floats, least: int, rules: Rules) -> DoesNotFit:
    worst = q.flat[int(np.maximum(q - rules.q_max, least - q).argmax())]
    return DoesNotFit(
        f"projection {projection.source!r} -> {projection.target!r}: a weight becomes {worst:.0f},"
        f" {rules.weight_bits} bits allow {least}..{rules.q_max} there; lower the scale"
    )
