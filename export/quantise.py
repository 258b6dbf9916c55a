"""The one crossing from a FloatNet to a chip's integers; the formulas stand in `export.grid`.

Every population has a scale S: synaptic integers per unit of its float membrane. Only ratios
matter to a spiking population, so S is free. Training may have settled it
(`FloatPopulation.scale`), then it is taken as it is; otherwise `export.search` looks for the best S
for which everything fits and `export.bounds` proves that no state can overflow. What the chip's
neurons cannot do is first spelled in another way, by `export.prepare`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spikeport.export.calibrate import Calibration
from spikeport.export.grid import Part, Source
from spikeport.export.intervals import Emission
from spikeport.export.late import relayed
from spikeport.export.prepare import prepare
from spikeport.export.search import OBJECTIVES, Choice, search
from spikeport.sim import checks
from spikeport.sim.arith import STATE_SHIFT
from spikeport.sim.chip import Chip
from spikeport.sim.floating import NEVER
from spikeport.sim.net import FixedNet, FloatNet, FloatProjection, Population, Projection

NETX_BITS = 8

WeightBits = int | Mapping[str, int]


def to_fixed(
    net: FloatNet,
    chip: Chip,
    *,
    weight_bits: WeightBits = 8,
    margin: float = 0.0,
    objective: str = "rounding",
    calibration: Any = None,
    exponents: int = 1,
    for_netx: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> FixedNet:
    """Quantise `net` for `chip`.

    weight_bits: 1 .. chip.weight_bits, of all weights, or by name: {"population": 4} for all
    projections into it, {"source -> target": 2} for one; 8 where nothing is said. 1 bit means two
    levels, -q and +q, one q a projection. margin: share of the 24-bit range that a searched scale
    must leave unused, 0 <= margin < 1. objective: one of `search.OBJECTIVES`; "spikes" needs
    `calibration`, integers [T, B, *input.shape] as the chip is shown them, and gives what
    "rounding" would where that is closer to `net` on them. exponents: how many each dense
    projection may use, see `prepare.dealt_out`. for_netx: search among integers that a NetX file
    holds: dense weights without exponent, biases in units of weights, one threshold and decay a
    population; what else it cannot hold, `hw.netx_file` refuses.

    The net that is rounded is `prepare(net, chip, exponents=exponents, for_netx=for_netx)`, which
    may have source neurons and projections that `net` has not.
    Populations with a scale of their own keep it, unproven: ask `bounds.prove`. Raises ValueError
    naming the population when something cannot be held.
    """
    _refuse_options(net, chip, margin=margin, objective=objective)
    prepared = prepare(net, chip, exponents=exponents, for_netx=for_netx)
    bits = _bits_of(net, prepared, chip, weight_bits)
    samples = _samples(prepared, objective, calibration)
    about = {
        **(provenance or {}), "float_net": net.digest(), "bits": bits, "exponents": exponents,
        "weight_bits": dict(weight_bits) if isinstance(weight_bits, Mapping) else int(weight_bits),
        "for_netx": for_netx,
    }  # fmt: skip

    def fixed(aim: str) -> FixedNet:
        done = _rounded(
            prepared, chip, bits=bits, margin=margin, objective=aim, for_netx=for_netx,
            samples=samples if aim == "spikes" else None,
        )  # fmt: skip
        return _joined(net, chip, list(done), about)

    if samples is None:
        return fixed(objective)
    return _better(fixed("rounding"), fixed("spikes"), samples)


def _joined(net: FloatNet, chip: Chip, done: list[_Rounded], about: Mapping[str, Any]) -> FixedNet:
    """The net of integers from its populations."""
    return FixedNet(
        input=net.input,
        populations=tuple(d.population for d in done),
        projections=tuple(p for d in done for p in d.projections),
        readout=net.readout, steps=net.steps, chip=chip,
        provenance={
            **about,
            "scales": {d.population.name: "searched" if d.choice else "trained" for d in done},
            "search": {d.population.name: d.choice.to_json() for d in done if d.choice},
        },
    )  # fmt: skip


def _better(plain: FixedNet, searched: FixedNet, samples: Calibration) -> FixedNet:
    """`searched`, whose populations were judged one by one, unless as a whole it is worse on the
    samples than `plain`. Provenance says how far from the float net both are."""
    both = {"rounding": plain, "spikes": searched}
    found = {name: samples.disagreement(net) for name, net in both.items()}
    chosen = searched if found["spikes"] <= found["rounding"] else plain
    return replace(chosen, provenance={**chosen.provenance, "disagreement": found})


@dataclass(frozen=True, kw_only=True)
class _Rounded:
    """One population in integers. choice: of its scale, None where training settled it."""

    population: Population
    projections: list[Projection]
    choice: Choice | None


def _rounded(
    net: FloatNet,
    chip: Chip,
    *,
    bits: Mapping[str, int],
    margin: float,
    objective: str,
    for_netx: bool,
    samples: Calibration | None,
) -> Iterator[_Rounded]:
    """The populations in their order, each knowing what those before it may send."""
    sent = {"input": Emission.always(net.input.size, largest=net.input.largest)}
    for population in net.populations:
        part = Part(
            population=population,
            sources=tuple(
                _source(net, p, sent, bits, for_netx=for_netx)
                for p in net.incoming(population.name)
            ),
            chip=chip, steps=net.steps, silent=bool((population.v_th >= NEVER).all()),
            bias_exp=STATE_SHIFT if for_netx else 0,
        )  # fmt: skip
        if population.scale is None:
            choice = search(part, margin=margin, objective=objective, calibration=samples)
            fixed, synapses = choice.part.at(choice.scale)
        else:
            choice = None
            fixed, synapses = part.at(population.scale)
        sent[population.name] = part.bound(fixed, synapses).spikes
        if samples:
            samples.settle(part, fixed, synapses)
        yield _Rounded(population=fixed, projections=synapses, choice=choice)


def _refuse_options(net: FloatNet, chip: Chip, *, margin: float, objective: str) -> None:
    if not isinstance(margin, (int, float)) or not 0 <= margin < 1:
        raise ValueError(f"margin is {margin!r}; allowed are 0 <= margin < 1")
    checks.choice(objective, OBJECTIVES, where="objective")
    if net.input.kind == "graded" and chip.graded_bits < net.input.payload_bits:
        raise ValueError(
            f"the input is graded with {net.input.payload_bits} payload bits, but spikes of"
            f" {chip.name} carry {chip.graded_bits}; train with rate-coded (spike) input instead"
        )


def _source(
    net: FloatNet,
    projection: FloatProjection,
    sent: Mapping[str, Emission],
    bits: Mapping[str, int],
    *,
    for_netx: bool,
) -> Source:
    """sent: what "input" and the populations before the target may send. Of a later one nothing
    is known yet, so it may send anything. NetX holds -128..127, so few bits may be shifted up."""
    shape = net.shape_of(projection.source)
    unknown = Emission.always(int(np.prod(shape)), largest=1)
    own = projection.source == projection.target
    few = bits[f"{projection.source} -> {projection.target}"]
    found = Source(
        projection=projection,
        shape=shape,
        per_unit=net.input.scale if projection.source == "input" else 1.0,
        emission=None if own else sent.get(projection.source, unknown),
        bits=few,
    )
    if not for_netx:
        return found
    return replace(found, finest=0, coarsest=few - NETX_BITS if few > 1 else 0)


def _bits_of(
    net: FloatNet, prepared: FloatNet, chip: Chip, weight_bits: WeightBits
) -> dict[str, int]:
    """Weight bits of every projection of `prepared`, by "source -> target", where relays count as
    what they repeat; of those that only the chip needs, all that it has."""
    known = {"input", *(p.name for p in net.populations)}
    asked: dict[str, tuple[str, str] | None] = {}  # projection and target, None: of no one else
    for p in prepared.projections:
        source = p.source if p.source in known else relayed(p.source)
        name, said = f"{p.source} -> {p.target}", f"{source} -> {p.target}"
        asked[name] = (said, p.target) if {source, p.target} <= known else None
    if not isinstance(weight_bits, Mapping):
        every = checks.whole(weight_bits, where="weight_bits", low=1, high=chip.weight_bits)
        return {name: chip.weight_bits if key is None else every for name, key in asked.items()}
    names = dict.fromkeys(key[0] if key else name for name, key in asked.items())
    strays = sorted(set(weight_bits) - set(names) - {p.target for p in prepared.projections})
    if strays:
        raise ValueError(
            f"weight_bits names {strays[0]!r}, which is neither a population nor a projection; the"
            f" projections are {', '.join(names)}"
        )
    found = {}
    for name, key in asked.items():
        of_all = weight_bits.get(key[1], chip.weight_bits) if key else chip.weight_bits
        found[name] = weight_bits.get(key[0] if key else name, of_all)
    return {
        name: checks.whole(bits, where=f"weight_bits of {name!r}", low=1, high=chip.weight_bits)
        for name, bits in found.items()
    }


def _samples(net: FloatNet, objective: str, calibration: Any) -> Calibration | None:
    if objective != "spikes":
        if calibration is not None:
            raise ValueError(
                f'calibration samples serve objective "spikes" only, not {objective!r}; drop them'
                " or change the objective"
            )
        return None
    if calibration is None:
        shape = ", ".join(map(str, net.input.shape))
        raise ValueError(
            'objective "spikes" compares spikes on samples; give calibration, integers'
            f" [T, B, {shape}]"
        )
    return Calibration(net, net.input.check(calibration))
