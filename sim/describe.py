"""A network as text, one line a part: for reports, golden tests and bug reports."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.net import FixedNet, FloatNet, FloatPopulation, Input, Population
from spikeport.sim.synapse import Conv2d, Dense, FloatConv2d, FloatDense, FloatSynapse, Synapse


def describe(net: FixedNet | FloatNet) -> str:
    """`net` as lines of text without a last newline; populations in order, inputs below each.

    Arrays appear as `low..high`, or as the one value they hold; the digest in the first line tells
    apart nets that look the same.
    """
    chip = f" for {net.chip.name}" if isinstance(net, FixedNet) else ""
    readout = f"{net.readout.kind} of {net.readout.population}"
    lines = [
        f"{type(net).__name__} {net.digest()[:12]}{chip}: {net.steps} steps, reads {readout}",
        _input(net.input),
    ]
    for population in net.populations:
        depth = f" at depth {net.depths[population.name]}" if isinstance(net, FixedNet) else ""
        lines.append(_population(population, depth=depth))
        for projection in net.incoming(population.name):
            delay = f", delay {projection.delay}" if projection.delay else ""
            lines.append(f"  <- {projection.source}: {_synapse(projection.synapse)}{delay}")
    return "\n".join(lines)


def _input(source: Input) -> str:
    payload = f" {source.payload_bits} bit" if source.kind == "graded" else ""
    return f"input {_sizes(source.shape)}: {source.kind}{payload}, scale {source.scale:g}"


def _population(population: Population | FloatPopulation, *, depth: str) -> str:
    names = ("du", "dv") if isinstance(population, Population) else ("keep_u", "keep_v")
    parts = [f"{name} {_span(getattr(population, name))}" for name in ("v_th", *names, "bias")]
    if isinstance(population, Population) and population.bias_exp:
        parts[-1] += f" << {population.bias_exp}"
    if population.v_init.any():
        parts.append(f"v_init {_span(population.v_init)}")
    parts.append(f"reset {population.reset}")
    if population.scale is not None:
        parts.append(f"scale {population.scale:g}")
    head = f"{population.name} {_sizes(population.shape)}{depth}"
    return f"{head}: {', '.join(parts)}"


def _synapse(synapse: Synapse | FloatSynapse) -> str:
    if isinstance(synapse, (Dense, FloatDense)):
        w_exp = f" << {synapse.w_exp}" if isinstance(synapse, Dense) and synapse.w_exp else ""
        return f"dense {_sizes(synapse.w.shape)}, w {_span(synapse.w)}{w_exp}"
    if isinstance(synapse, (Conv2d, FloatConv2d)):
        g = synapse.geometry
        return (
            f"conv {_sizes(synapse.w.shape)}, stride {_sizes(g.stride)}, padding"
            f" {_sizes(g.padding)}, dilation {_sizes(g.dilation)}, groups {g.groups},"
            f" w {_span(synapse.w)}"
        )
    return (
        f"sum pool {_sizes(synapse.kernel)}, stride {_sizes(synapse.stride)}, padding"
        f" {_sizes(synapse.padding)}, w {synapse.w:g}"
    )


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _span(values: NDArray[Any]) -> str:
    """The one value that `values` holds, or the lowest and the highest."""
    low, high = np.min(values), np.max(values)
    return f"{low:.10g}" if low == high else f"{low:.10g}..{high:.10g}"
