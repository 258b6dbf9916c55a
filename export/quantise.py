"""The one crossing from a FloatNet to a chip's integers; the formulas stand in `export.grid`.

Every population has a scale S: synaptic integers per unit of its float membrane. Only ratios
matter to a spiking population, so S is free. Training may have settled it
(`FloatPopulation.scale`), then it is taken as it is; otherwise the largest S is searched for which
everything fits and `spikeport.export.bounds` proves that no state can overflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from spikeport.export.grid import EXTRA_BITS, DoesNotFit, Part, Rules, Source, float_weights
from spikeport.export.intervals import Emission
from spikeport.sim import checks
from spikeport.sim.arith import STATE_SHIFT, V_LIMIT
from spikeport.sim.chip import Chip
from spikeport.sim.floating import NEVER
from spikeport.sim.net import (
    FixedNet,
    FloatNet,
    FloatPopulation,
    FloatProjection,
    Population,
    Projection,
)
from spikeport.sim.synapse import FloatDense

SEARCH = 0.05  # how far below the largest scale a better one is looked for, relative
CANDIDATES = 8
ATTEMPTS = 60


def to_fixed(
    net: FloatNet,
    chip: Chip,
    *,
    weight_bits: int = 8,
    margin: float = 0.0,
    provenance: Mapping[str, Any] | None = None,
) -> FixedNet:
    """Quantise `net` for `chip`.

    weight_bits: 2 .. chip.weight_bits. margin: share of the 24-bit range that a searched scale
    must leave unused, 0 <= margin < 1. Populations with a scale of their own keep it, unproven:
    ask `bounds.prove`. Raises ValueError naming the population when something cannot be held.
    """
    checks.whole(weight_bits, where="weight_bits", low=2, high=chip.weight_bits)
    if not 0 <= margin < 1:
        raise ValueError(f"margin is {margin}; allowed are 0 <= margin < 1")
    if net.input.kind == "graded" and chip.graded_bits < net.input.payload_bits:
        raise ValueError(
            f"the input is graded with {net.input.payload_bits} payload bits, but spikes of"
            f" {chip.name} carry {chip.graded_bits}; train with rate-coded (spike) input instead"
        )
    rules = Rules(chip=chip, weight_bits=weight_bits, steps=net.steps)
    populations: list[Population] = []
    projections: list[Projection] = []
    sent = {"input": Emission.always(net.input.size, largest=net.input.largest)}
    for population in net.populations:
        sources = [_source(net, p, sent) for p in net.incoming(population.name)]
        silent = bool((population.v_th >= NEVER).all())
        part = Part(population=population, sources=sources, rules=rules, silent=silent)
        scale = population.scale or _search(part, margin=margin)
        fixed, synapses = part.at(scale)
        sent[population.name] = part.bound(fixed, synapses).spikes
        populations.append(fixed)
        projections += synapses
    return FixedNet(
        input=net.input, populations=tuple(populations), projections=tuple(projections),
        readout=net.readout, steps=net.steps, chip=chip,
        provenance={
            **(provenance or {}),
            "float_net": net.digest(),
            "weight_bits": weight_bits,
            "scales": {
                p.name: "trained" if p.scale is not None else "searched" for p in net.populations
            },
        },
    )  # fmt: skip


def _source(net: FloatNet, projection: FloatProjection, sent: Mapping[str, Emission]) -> Source:
    """sent: what "input" and the populations before the target may send. Of a later one nothing
    is known yet, so it may send anything."""
    shape = net.shape_of(projection.source)
    unknown = Emission.always(int(np.prod(shape)), largest=1)
    own = projection.source == projection.target
    return Source(
        projection=projection,
        shape=shape,
        per_unit=net.input.scale if projection.source == "input" else 1.0,
        emission=None if own else sent.get(projection.source, unknown),
    )


def _search(part: Part, *, margin: float) -> float:
    """The largest scale that is proven safe, or one up to `SEARCH` below it that rounds better."""
    scale = _grid_limit(part)
    for _ in range(ATTEMPTS):
        found = part.overflow(*part.at(scale))
        if not found:
            break
        scale *= 0.999 / max(risk.factor for risk in found)
    else:
        raise DoesNotFit(f"{found[0]}; no scale was found for which this is ruled out")
    return _best_rounding(part, scale * (1 - margin))


def _grid_limit(part: Part) -> float:
    """The largest scale at which weights, threshold, bias and start potential are in range."""
    chip, p = part.rules.chip, part.population
    unit = 1 << STATE_SHIFT
    pairs = [
        (part.rules.q_max * s.per_unit, np.abs(float_weights(s.projection)).max())
        for s in part.sources
    ]
    pairs.append((chip.bias_mantissa_max << chip.bias_exp_max, np.abs(p.bias).max() * unit))
    pairs.append((V_LIMIT, np.abs(p.v_init).max() * unit))
    if not part.silent:
        pairs.append((chip.v_th_max, p.v_th.max()))
    limits = [limit / float(value) for limit, value in pairs if value > 0]
    if not limits:
        return 1.0  # nothing but zeros: any scale says the same
    return min(limits)


def _best_rounding(part: Part, largest: float) -> float:
    def badness(scale: float) -> tuple[float, float, float]:
        fixed, synapses = part.at(scale)
        error = 0.0 if part.silent else _threshold_error(part.population, fixed, scale)
        return round(error, 12), part.weight_error(synapses, scale), -scale

    ranked = sorted(_candidates(part, largest), key=badness)
    for scale in ranked:
        if not part.overflow(*part.at(scale)):
            return scale
    return largest


def _candidates(part: Part, largest: float) -> Iterator[float]:
    top = 0.0 if part.silent else float(part.population.v_th.max())
    for start in {largest, *_full_grids(part, largest)}:
        for i in range(CANDIDATES):
            scale = start * (1 - SEARCH * i / CANDIDATES)
            yield scale
            whole = float(np.floor(scale * top))
            if whole >= (1 - SEARCH) * start * top > 0:
                yield whole / top  # rounds this threshold without error


def _full_grids(part: Part, largest: float) -> Iterator[float]:
    """Scales at which the largest weight of a dense synapse fills its grid, with some k."""
    for s in part.sources:
        top = float(np.abs(float_weights(s.projection)).max())
        if isinstance(s.projection.synapse, FloatDense) and top > 0:
            full = part.rules.q_max * s.per_unit / top
            yield full / 2.0 ** min(max(np.ceil(np.log2(full / largest)), 0), EXTRA_BITS)


def _threshold_error(p: FloatPopulation, fixed: Population, scale: float) -> float:
    positive = p.v_th > 0
    error = np.abs(fixed.v_th / scale - p.v_th)
    return float(np.max(error / np.where(positive, p.v_th, 1.0)))
