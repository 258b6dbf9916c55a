"""Choosing the scale of one population: the largest that is proven safe, or a better one below it.

What "better" means is one of `OBJECTIVES`:

    "rounding"   relative error of the threshold, then of the weights (root mean square)
    "weight"     error of the weights alone
    "spikes"     share of differing spikes on calibration samples; see `export.calibrate`

Weights of 2 to 4 bits may be clipped where that lowers the objective: a few large ones held at the
end of the grid leave finer steps to all others. Clipping makes all of them smaller, which adds up
in a neuron, so for such weights "rounding" looks at the error of the sums, not of each weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spikeport.export.calibrate import Calibration
from spikeport.export.compensate import refined
from spikeport.export.grid import DoesNotFit, Part, float_weights, rounded
from spikeport.sim.arith import STATE_SHIFT, V_LIMIT
from spikeport.sim.net import FloatPopulation, Population

OBJECTIVES = ("rounding", "weight", "spikes")

SEARCH = 0.05  # how far below the largest scale a better one is looked for, relative
CANDIDATES = 8
FULLY = 3  # of the shortlist that are rounded in all ways
SHORTLIST = 4  # of the best by rounding, that "spikes" tries out on samples
ATTEMPTS = 60
FEW_BITS = 4  # where it pays to clip the largest weights
CLIPS = (0.85, 0.7, 0.55, 0.4)  # of the largest weight


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a search decided. part: to be rounded at `scale` (its weights moved to the grid points
    that "spikes" found). before, after: the objective's value at the largest safe scale, rounded to
    nearest, and at the choice; smaller is better. candidates: how many were compared."""

    part: Part
    scale: float
    objective: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    candidates: int

    @property
    def measures(self) -> tuple[str, ...]:
        """What `before` and `after` are errors of."""
        if self.objective == "spikes":
            return ("potentials read",) if self.part.silent else ("spikes",)
        if self.objective == "weight":
            return ("weights",)
        return "threshold", "sums" if _few_bits(self.part) else "weights"

    def to_json(self) -> dict[str, Any]:
        """What a report says of the choice beside its scale."""
        return {
            "objective": self.objective,
            "measures": list(self.measures),
            "before": list(self.before),
            "after": list(self.after),
            "candidates": self.candidates,
        }


def search(
    part: Part, *, margin: float, objective: str, calibration: Calibration | None = None
) -> Choice:
    """The choice for one population. margin: share of the 24-bit range to leave unused.

    calibration: needed for "spikes". Raises DoesNotFit where no scale is safe.
    """
    largest = _largest(part) * (1 - margin)
    found = [(part, scale) for scale in _candidates(part, largest)]
    for clipped in _clipped(part):
        high = _largest(clipped) * (1 - margin)
        found += [(clipped, scale) for scale in _candidates(clipped, high)]
    ranked = sorted(dict.fromkeys(found), key=lambda c: (*_error(c[0], c[1], objective), -c[1]))
    if objective == "spikes" and calibration is not None:
        finest = sorted(ranked, key=lambda c: c[0].weight_error(c[1]))[:SHORTLIST]
        shortlist = dict.fromkeys([(part, largest), *ranked[:SHORTLIST], *finest])
        return _by_spikes(part, list(shortlist), calibration)
    best, scale = next((c for c in ranked if not part.overflow(*c[0].at(c[1]))), (part, largest))
    return Choice(
        part=best, scale=scale, objective=objective, before=_error(part, largest, objective),
        after=_error(best, scale, objective), candidates=len(ranked),
    )  # fmt: skip


def _clipped(part: Part) -> Iterator[Part]:
    """`part` with its few-bit weights held at lower ends, which leaves finer steps to the rest."""
    if not _few_bits(part):
        return
    for clip in CLIPS:
        yield replace(
            part,
            sources=tuple(
                replace(s, clip=clip) if 1 < s.bits <= FEW_BITS else s for s in part.sources
            ),
        )


def _few_bits(part: Part) -> bool:
    return any(1 < s.bits <= FEW_BITS for s in part.sources)


def _by_spikes(part: Part, shortlist: list[tuple[Part, float]], calibration: Calibration) -> Choice:
    """Every candidate rounded to nearest and against the samples, the best of them in all ways; the
    first wins ties."""
    tried: list[tuple[float, int, float, Part]] = []
    starts: list[Part] = []

    def attempt(candidate: Part, start: Part, scale: float) -> None:
        try:
            loss = calibration.loss(candidate, *candidate.at(scale))
        except DoesNotFit:
            return  # its bias has become too large
        tried.append((loss, len(tried), scale, candidate))
        starts.append(start)

    for start, scale in shortlist:
        attempt(start, start, scale)
        attempt(refined(start, scale, calibration), start, scale)
    best_first = sorted(range(len(tried)), key=lambda i: tried[i][:2])
    for start, scale in list(dict.fromkeys((starts[i], tried[i][2]) for i in best_first))[:FULLY]:
        for candidate in _variants(start, scale, calibration):
            attempt(candidate, start, scale)
    before = tried[0][0]
    loss, _, scale, best = next(
        t for t in sorted(tried, key=lambda t: t[:2]) if not t[3].overflow(*t[3].at(t[2]))
    )
    return Choice(
        part=best, scale=scale, objective="spikes", before=(before,), after=(loss,),
        candidates=len(tried),
    )  # fmt: skip


def _variants(part: Part, scale: float, calibration: Calibration) -> Iterator[Part]:
    """With only the weights or only the bias moved; and all ways without exponents that floor
    sums."""
    yield refined(part, scale, calibration, weights=False)
    yield refined(part, scale, calibration, bias=False)
    exponents = [rounded(s, scale, part.chip)[1] for s in part.sources]
    if max(exponents, default=0) > 0:
        whole = replace(part, sources=tuple(replace(s, finest=0) for s in part.sources))
        yield whole
        for weights, bias in ((False, True), (True, False), (True, True)):
            yield refined(whole, scale, calibration, weights=weights, bias=bias)


def _error(part: Part, scale: float, objective: str) -> tuple[float, ...]:
    if objective == "weight":
        return (part.weight_error(scale),)
    threshold = 0.0 if part.silent else _threshold_error(part.population, scale, part)
    return round(threshold, 12), (part.sum_error if _few_bits(part) else part.weight_error)(scale)


def _threshold_error(p: FloatPopulation, scale: float, part: Part) -> float:
    fixed: Population = part.neurons(scale)
    error = np.abs(fixed.v_th / scale - p.v_th)
    return float(np.max(error / np.where(p.v_th > 0, p.v_th, 1.0)))


def _largest(part: Part) -> float:
    """The largest scale at which the numbers fit and nothing can overflow."""
    scale = _grid_limit(part)
    for _ in range(ATTEMPTS):
        found = part.overflow(*part.at(scale))
        if not found:
            return scale
        scale *= 0.999 / max(risk.factor for risk in found)
    raise DoesNotFit(f"{found[0]}; no scale was found for which this is ruled out")


def _grid_limit(part: Part) -> float:
    """The largest scale at which weights, threshold, bias and start potential are in range."""
    chip, p = part.chip, part.population
    unit = 1 << STATE_SHIFT
    pairs: list[tuple[float, float]] = []
    for s in part.sources:
        w = np.abs(float_weights(s.projection))
        coarsest = 2.0**-s.coarsest if s.refined else 1.0
        one = s.bits == 1
        level = (1 << (chip.weight_bits - 1)) - 1 if one else max(s.q_max, 1)
        pairs.append((level * s.per_unit * coarsest, float(w.mean()) if one else s.top))
    pairs.append((chip.bias_mantissa_max << chip.bias_exp_max, np.abs(p.bias).max() * unit))
    pairs.append((V_LIMIT, np.abs(p.v_init).max() * unit))
    if not part.silent:
        pairs.append((chip.v_th_max, p.v_th.max()))
    limits = [limit / float(value) for limit, value in pairs if value > 0]
    if not limits:
        return 1.0  # nothing but zeros: any scale says the same
    return min(limits)


def _candidates(part: Part, largest: float) -> Iterator[float]:
    top = 0.0 if part.silent else float(part.population.v_th.max())
    for start in dict.fromkeys([largest, *_full_grids(part, largest)]):
        for i in range(CANDIDATES):
            scale = start * (1 - SEARCH * i / CANDIDATES)
            yield scale
            whole = float(np.floor(scale * top))
            if whole >= (1 - SEARCH) * start * top > 0:
                yield whole / top  # rounds this threshold without error


def _full_grids(part: Part, largest: float) -> Iterator[float]:
    """Scales at which the largest weight of a dense synapse fills its grid, with some exponent."""
    for s in part.sources:
        if s.refined and s.top > 0 and s.bits > 1:
            full = s.q_max * s.per_unit / s.top
            exponent = float(np.ceil(np.log2(full / largest)))
            if exponent <= s.finest:
                yield full / 2.0 ** max(exponent, s.coarsest)
