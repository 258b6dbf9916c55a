"""Why does a float network's spike differ from that of its integers?

At the first differing spike both runs still share all earlier spikes of that neuron, so its
potential follows from what arrived. The distance to the threshold is computed anew with one kind
of difference at a time taken from the chip (`alone`), and with all but that one (`missing`); the
kind that moves the distance most toward the other side is named.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim import effective, floating, reference
from spikeport.sim.arith import STATE_SHIFT
from spikeport.sim.divergence.diagnosis import Diagnosis, Explanation
from spikeport.sim.divergence.forced import STATE_BITS, limited
from spikeport.sim.net import FixedNet, FloatNet, FloatPopulation, Population
from spikeport.sim.synapse import Dense
from spikeport.sim.trace import Trace, first_difference

Floats = NDArray[np.float64]

# kind of difference: (cause, what it is called)
KINDS = {
    "weights": ("weight", "rounded weights"),
    "v_th": ("threshold", "the rounded threshold"),
    "bias": ("bias", "the rounded bias"),
    "keep_u": ("decay", "the rounded decay of u"),
    "keep_v": ("decay", "the rounded decay of v"),
    "v_init": ("start", "the rounded initial potential"),
    "reset": ("reset", "another reset"),
    "state": ("float", "states and sums rounded to integers"),
    "limits": ("overflow", "states that wrap or saturate"),
    "sources": ("source", "spikes of its sources that already differed"),
}
PARAMETERS = ("v_th", "bias", "keep_u", "keep_v", "v_init")


def explain(
    float_net: FloatNet, net: FixedNet, x: Any, *, population: str | None = None
) -> Diagnosis | None:
    """Why the first spike of `net` that differs from `float_net` does so; None when none differs.

    x: integers [T, B, *shape] as `net` takes them; the float network sees x / input scale.
    population: explain the first difference there, not the first of all. Potentials and numbers are
    in units of the float membrane. Raises ValueError for networks that are not two forms of one.
    """
    x = net.input.check(x)
    _check(float_net, net, population)
    runs = floating.run(float_net, x / net.input.scale), reference.run(net, x)
    parts = [Trace(populations=_chosen(run, population)) for run in runs]
    found = first_difference(parts[0], parts[1], quantities=("spikes",))
    if found is None:
        return None
    name, step = found.population, found.step
    at = found.sample, found.neuron
    neuron = _Neuron.of(float_net, net, name, x=x, runs=runs, at=at)
    wrong = runs[0][name].spikes != runs[1][name].spikes
    told = _contributions(neuron, step)
    everything = neuron.margin(step, KINDS)
    v_th = neuron.value("v_th", ())
    return Diagnosis(
        population=name, quantity="spikes", step=step, sample=at[0], neuron=at[1],
        left=found.left, right=found.right, v_left=neuron.margin(step, ()) + v_th,
        v_right=everything + neuron.value("v_th", KINDS), v_th=v_th, differing=found.count,
        spikes=found.count, neurons=int(wrong.any((0, 1)).sum()), best=told[0],
        others=tuple(told[1:]), rounding=True,
    )  # fmt: skip


def _chosen(run: Trace, population: str | None) -> dict[str, Any]:
    return {n: p for n, p in run.populations.items() if population in (None, n)}


def _check(float_net: FloatNet, net: FixedNet, population: str | None) -> None:
    forms = [
        ([(p.name, p.shape) for p in n.populations],
         sorted((p.source, p.target, p.delay) for p in n.projections), n.input.shape)
        for n in (float_net, net)
    ]  # fmt: skip
    for what, left, right in zip(("populations", "projections", "input"), *forms, strict=True):
        if left != right:
            raise ValueError(
                f"the two networks have different {what}: {left} and {right}; explain a network and"
                " the integers that were made of it"
            )
    names = [p.name for p in net.populations]
    if population is not None and population not in names:
        raise ValueError(f"there is no population {population!r}; there are {names}")


def _contributions(neuron: _Neuron, step: int) -> list[Explanation]:
    """What each kind of difference does to the distance from the threshold, largest first."""
    base, full = neuron.margin(step, ()), neuron.margin(step, KINDS)
    total = full - base
    sizes = {}
    for kind in KINDS:
        alone = neuron.margin(step, (kind,)) - base
        missing = full - neuron.margin(step, [k for k in KINDS if k != kind])
        sizes[kind] = (alone + missing) / 2, alone, missing
    order = sorted(KINDS, key=lambda kind: -sizes[kind][0] * np.sign(total))
    told: list[Explanation] = []
    for kind in order:
        size, alone, missing = sizes[kind]
        if size == 0 and told:
            continue
        cause, name = KINDS[kind]
        told.append(Explanation(
            cause=cause, bits=0.0,
            text=f"{name}: {size:+.3g} of the {total:+.3g} between the two distances to threshold",
            numbers={"kind": kind, "size": size, "alone": alone, "missing": missing,
                     "total": total},
        ))  # fmt: skip
    return told


@dataclass(frozen=True, kw_only=True)
class _Neuron:
    """One neuron of one sample in both forms. sums: what each projection delivers [T] in membrane
    units, by (weights of the chip?, source spikes of the chip?). floors: whether the chip floors
    the sum of each projection. fired: common spikes up to the difference [T]."""

    trained: FloatPopulation
    fixed: Population
    index: int
    sums: dict[tuple[bool, bool], list[Floats]]
    dense: list[bool]
    floors: list[bool]
    fired: NDArray[np.bool_]

    @classmethod
    def of(
        cls, float_net: FloatNet, net: FixedNet, name: str, *, x: NDArray[Any],
        runs: tuple[Trace, Trace], at: tuple[int, int],
    ) -> _Neuron:  # fmt: skip
        sample, index = at
        fixed = net.population(name)

        def values(source: str, *, chip: bool) -> Floats:
            seen = x / net.input.scale if source == "input" else runs[chip][source].spikes
            shape = net.shape_of(source)
            return np.asarray(seen[:, sample : sample + 1].reshape(len(x), 1, *shape), np.float64)

        pairs = list(zip(_sorted(float_net, name), _sorted(net, name), strict=True))
        sums: dict[tuple[bool, bool], list[Floats]] = {}
        for held in (False, True):
            for seen in (False, True):
                sums[held, seen] = []
                for mine, chips in pairs:
                    per_unit = net.input.scale if chips.source == "input" else 1.0
                    synapse = (
                        effective.synapse(chips.synapse, scale=fixed.scale, per_unit=per_unit)
                        if held
                        else mine.synapse
                    )
                    arrived = floating.synapse_sum(synapse, values(chips.source, chip=seen))
                    late = np.zeros(len(x))
                    late[chips.delay :] = arrived[: len(x) - min(chips.delay, len(x)), 0, index]
                    sums[held, seen].append(late)
        dense = [isinstance(p.synapse, Dense) for _, p in pairs]
        floors = [isinstance(p.synapse, Dense) and p.synapse.w_exp < 0 for _, p in pairs]
        return cls(
            trained=float_net.population(name), fixed=fixed, index=index, sums=sums, dense=dense,
            floors=floors, fired=runs[0][name].spikes[:, sample, index] != 0,
        )  # fmt: skip

    def value(self, name: str, chip: Collection[str]) -> float:
        """A parameter of this neuron, the chip's where `chip` names it."""
        holder = effective.population(self.fixed) if name in chip else self.trained
        return float(np.broadcast_to(getattr(holder, name), (self.fixed.size,))[self.index])

    def arrivals(self, chip: Collection[str]) -> Floats:
        """Synaptic sums [T] in units of the membrane."""
        scale, total = self.fixed.scale, np.zeros(len(self.fired))
        parts = self.sums["weights" in chip, "sources" in chip]
        for part, is_dense, floors in zip(parts, self.dense, self.floors, strict=True):
            # Sums of effective weights are whole but for the last bits of float64.
            whole = np.floor(part * scale + 1e-6) if "state" in chip and floors else part * scale
            if "limits" in chip and not is_dense:
                whole = limited(whole, ("wrap", STATE_BITS))
            total = total + whole / scale
        return np.asarray(total)

    def margin(self, step: int, chip: Collection[str]) -> float:
        """Potential above the threshold at `step`, with the kinds in `chip` as on the chip."""
        v_th, bias, keep_u, keep_v, v = (self.value(name, chip) for name in PARAMETERS)
        unit = self.fixed.scale * (1 << STATE_SHIFT)
        a, u, v_fired = self.arrivals(chip), 0.0, 0.0
        reset = self.fixed.reset if "reset" in chip else self.trained.reset

        def rounded(value: float) -> float:
            if "state" not in chip:
                return value
            # As above: what is whole up to float64's last bits counts as whole.
            return float(np.trunc(value * unit + 1e-6 * np.sign(value))) / unit

        def bounded(value: float, kind: str) -> float:
            if "limits" not in chip:
                return value
            return float(limited(np.asarray(value * unit), (kind, STATE_BITS))) / unit

        for t in range(step + 1):
            u = bounded(rounded(keep_u * u) + a[t], "wrap")
            v_fired = bounded(rounded(keep_v * v) + u + bias, "clip")
            v = v_fired
            if self.fired[t]:
                v = v_fired - v_th if reset == "subtract" else 0.0
        return v_fired - v_th


def _sorted(net: FloatNet | FixedNet, name: str) -> list[Any]:
    return sorted(net.incoming(name), key=lambda p: (p.source, p.delay))
