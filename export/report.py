"""What rounding did: float -> integer -> effective float for every parameter, as text and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.export.bounds import Bound, Risk, bounds, risks_of
from spikeport.export.grid import float_weights
from spikeport.export.prepare import prepared_as
from spikeport.sim import effective
from spikeport.sim.arith import U_LIMIT, V_LIMIT
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
from spikeport.sim.synapse import Dense

Floats = NDArray[np.float64]

LEGEND = (
    "effective: what the integer stands for; rel: error over the largest of its kind; rms: over all"
    " entries; bits: that the integers fill",
    "scale: integers per unit of the float membrane; errors: relative, at the largest safe scale ->"
    " as chosen; a weight counts times 2**w_exp",
)


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """One parameter. `value`, `integer`, `effective`: of the entry that rounded worst (float,
    chip, and what the chip's integer stands for). `error`: its absolute error; `rms` over all
    entries; `relative`: error over the largest magnitude of the parameter. `bits`: magnitude bits
    that its integers use."""

    part: str
    quantity: str
    value: float
    integer: int
    effective: float
    error: float
    rms: float
    relative: float
    bits: int


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """One projection: bits of a weight, exponent on the chip (None: a convolution has none) and
    delay in model time."""

    source: str
    bits: int
    w_exp: int | None
    delay: int

    def __str__(self) -> str:
        exponent = "" if self.w_exp is None else f", w_exp {self.w_exp}"
        delay = f", delay {self.delay}" if self.delay else ""
        return f"from {self.source}: {self.bits} bits{exponent}{delay}"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """How one population was rounded. scale: integers per unit of the membrane; objective: what the
    search for it minimised (None: training settled the scale); measures: of what before and after
    are the relative errors, at the largest safe scale and at the choice, of so many candidates.
    exact: nothing was rounded here, as in a source neuron that the chip needed."""

    population: str
    scale: float
    objective: str | None
    measures: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    candidates: int
    wiring: tuple[Wiring, ...]
    exact: bool

    def __str__(self) -> str:
        wires = "".join(f"; {wire}" for wire in self.wiring)
        if self.objective is None:
            return f"layer {self.population}: scale {self.scale:.6g}, settled by training{wires}"
        errors = ", ".join(
            f"{what} {before:.3g} -> {after:.3g}"
            for what, before, after in zip(self.measures, self.before, self.after, strict=True)
        )
        return (
            f"layer {self.population}: scale {self.scale:.6g}, best of {self.candidates} by"
            f" {self.objective!r}: error of {errors}{wires}"
        )


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """How close a population's proven bounds come to the limits: 1 is the limit itself."""

    population: str
    u: float
    v: float
    sum: float  # of what arrives in one step


@dataclass(frozen=True, kw_only=True)
class Report:
    """Rounding of a whole network and the verdict of the overflow proof. disagreement: of objective
    "spikes", how far the whole network is from the float one on the calibration samples, by the
    objective of its layers: mean error of the layers plus the share of other answers."""

    chip: str
    weight_bits: int | dict[str, int]
    float_digest: str
    digest: str
    scales: dict[str, float]
    layers: tuple[Layer, ...]
    rows: tuple[Rounding, ...]
    headroom: tuple[Headroom, ...]
    disagreement: dict[str, float]
    risks: tuple[str, ...] = field(default=())

    @property
    def proven(self) -> bool:
        """Whether no legal input can wrap u or clip v."""
        return not self.risks

    def as_json(self) -> str:
        return json.dumps({**asdict(self), "proven": self.proven}, indent=1)

    def as_text(self) -> str:
        """Aligned columns, one line a parameter."""
        titles = tuple("part quantity float integer effective error rel rms bits".split())
        shown = [layer for layer in self.layers if not layer.exact]
        names = {layer.population for layer in shown}
        table = [titles] + [
            (
                r.part, r.quantity, f"{r.value:.6g}", str(r.integer), f"{r.effective:.6g}",
                f"{r.error:.2e}", f"{r.relative:.2%}", f"{r.rms:.2e}", str(r.bits),
            )
            for r in self.rows
            if r.part.split(" -> ")[-1] in names
        ]  # fmt: skip
        widths = [max(len(row[i]) for row in table) for i in range(len(titles))]
        bits = str(self.weight_bits)
        if isinstance(self.weight_bits, dict):
            bits = ", ".join(f"{name} {n}" for name, n in self.weight_bits.items())
        lines = [f"rounding for {self.chip}, {bits} weight bits; worst entry of each:"]
        for row in table:
            left = [cell.ljust(w) for cell, w in zip(row[:2], widths[:2], strict=True)]
            right = [cell.rjust(w) for cell, w in zip(row[2:], widths[2:], strict=True)]
            lines.append("  ".join([*left, *right]).rstrip())
        lines += LEGEND
        lines += [str(layer) for layer in shown]
        if len(shown) < len(self.layers):
            exact = ", ".join(layer.population for layer in self.layers if layer.exact)
            lines.append(f"exact, nothing was rounded: {exact}")
        if self.disagreement:
            found = ", ".join(f"{x:.3g} by {name!r}" for name, x in self.disagreement.items())
            lines.append(
                "whole network on the calibration samples, mean error of its layers plus share of"
                f" other answers: {found}; the smaller was taken"
            )
        lines += [
            f"state of {h.population}: u uses {h.u:.1%} and v {h.v:.1%} of 24 bits at worst,"
            f" the sum of a step {h.sum:.1%} of its own"
            for h in self.headroom
            if h.population in names
        ]
        lines += self.risks or ["proven: no input can wrap u or clip v"]
        return "\n".join(lines) + "\n"


def report(net: FloatNet, fixed: FixedNet) -> Report:
    """Compare `net` with the integers made from it. Raises ValueError when they do not match.

    Source neurons and scaling that the chip needed (`export.prepare`) are no rounding: the integers
    are compared with the net that has them.
    """
    original, net = net, prepared_as(net, fixed)
    names = [p.name for p in net.populations], [p.name for p in fixed.populations]
    if names[0] != names[1] or len(net.projections) != len(fixed.projections):
        raise ValueError(f"the float network has populations {names[0]}, the fixed one {names[1]}")
    rows: list[Rounding] = []
    for p in net.populations:
        chip_side = fixed.population(p.name)
        per_unit = {"input": net.input.scale}
        for a, b in zip(net.incoming(p.name), fixed.incoming(p.name), strict=True):
            rows.append(_weights(a, b, chip_side.scale, per_unit.get(a.source, 1.0)))
        rows += _neurons(p, chip_side)
    proof = bounds(fixed)
    found = risks_of(fixed, proof)
    return Report(
        chip=fixed.chip.name,
        weight_bits=_bits(fixed),
        float_digest=original.digest(),
        digest=fixed.digest(),
        scales={p.name: p.scale for p in fixed.populations},
        layers=tuple(_layer(fixed, p, rows) for p in fixed.populations),
        rows=tuple(rows),
        headroom=tuple(_headroom(name, bound, fixed.chip) for name, bound in proof.items()),
        disagreement=dict(fixed.provenance.get("disagreement", {})),
        risks=tuple(str(risk) for risk in found),
    )


def _bits(fixed: FixedNet) -> int | dict[str, int]:
    found = fixed.provenance.get("weight_bits", fixed.chip.weight_bits)
    return dict(found) if isinstance(found, Mapping) else int(found)


def _layer(fixed: FixedNet, p: Population, rows: list[Rounding]) -> Layer:
    about = fixed.provenance.get("search", {}).get(p.name, {})
    wired = fixed.incoming(p.name)
    bits = fixed.provenance.get("bits", {})
    return Layer(
        population=p.name, scale=p.scale, objective=about.get("objective"),
        measures=tuple(about.get("measures", ())), exact=not any(
            r.error for r in rows if r.part.split(" -> ")[-1] == p.name
        ),
        before=tuple(about.get("before", ())), after=tuple(about.get("after", ())),
        candidates=int(about.get("candidates", 0)),
        wiring=tuple(
            Wiring(
                source=q.source, bits=int(bits.get(f"{q.source} -> {q.target}", 8)), delay=q.delay,
                w_exp=q.synapse.w_exp if isinstance(q.synapse, Dense) else None,
            )
            for q in wired
        ),
    )  # fmt: skip


def _weights(a: FloatProjection, b: Projection, scale: float, per_unit: float) -> Rounding:
    exact = float_weights(a)
    held = effective.weights(b.synapse, scale=scale, per_unit=per_unit)
    integers = b.synapse.w_chip if isinstance(b.synapse, Dense) else np.asarray(b.synapse.w)
    name = f"{a.source} -> {a.target}"
    # The lowest bit of a dense weight pays for the sign and is always zero.
    spare = 1 if isinstance(b.synapse, Dense) else 0
    return _row(name, "weight", exact, integers, held, spare=spare)


def _neurons(p: FloatPopulation, q: Population) -> list[Rounding]:
    held = effective.population(q)
    rows = []
    if (p.v_th < NEVER).all():
        rows.append(_row(p.name, "threshold", p.v_th, q.v_th, held.v_th))
    rows.append(_row(p.name, "keep_v", p.keep_v, q.dv, held.keep_v))
    if p.keep_u.any() or held.keep_u.any():
        rows.append(_row(p.name, "keep_u", p.keep_u, q.du, held.keep_u))
    if p.bias.any():
        rows.append(_row(p.name, "bias", p.bias, q.bias, held.bias))
    if p.v_init.any():
        rows.append(_row(p.name, "v_init", p.v_init, q.v_init, held.v_init))
    return rows


def _row(
    part: str, quantity: str, exact: Floats, integers: Any, effective: Any, *, spare: int = 0
) -> Rounding:
    exact, integers, effective = (
        x.reshape(-1) for x in np.broadcast_arrays(exact, integers, effective)
    )
    error = np.abs(effective - exact)
    worst = int(error.argmax())
    largest = float(np.abs(exact).max())
    return Rounding(
        part=part, quantity=quantity, value=float(exact[worst]), integer=int(integers[worst]),
        effective=float(effective[worst]), error=float(error[worst]),
        rms=float(np.sqrt((error**2).mean())),
        relative=float(error[worst]) / largest if largest else float(error[worst]),
        bits=max(int(np.abs(integers).max()).bit_length() - spare, 0),
    )  # fmt: skip


def _headroom(name: str, bound: Bound, chip: Chip) -> Headroom:
    a, u, v = (int(each.largest.max()) for each in (bound.a, bound.u, bound.v))
    return Headroom(population=name, u=u / U_LIMIT, v=v / V_LIMIT, sum=a / chip.sum_max)


__all__ = ["Headroom", "Report", "Risk", "Rounding", "report"]
