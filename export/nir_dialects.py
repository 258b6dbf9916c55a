"""What the readers of other chips take for granted of a NIR file, and networks written for them.

A file is legal NIR in every dialect, and any reader that follows NIR finds the trained network in
it. These readers follow it in part (sources: sinabs 3.1.3 `nir.py`, rockpool 3.1.0
`nn/modules/torch/nir.py` and `lif_torch.py`, py-spinnaker2 `s2_nir.py`):

    speck        sinabs drops a Linear without a bias and an AvgPool2d, and says nothing
    xylo         rockpool takes dt = tau_mem / (1 + r), ignores w_in, decays by exp(-dt / tau), and
                 lets the current decay in the very step in which a spike arrives
    spinnaker2   behind a pool py-spinnaker2 takes an Affine alone, averages in some versions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp
from typing import Any

import numpy as np
from torch import nn

from spikeport.export.neurons import Unsupported
from spikeport.export.parts import Flat, Link, Part, Parts
from spikeport.export.passes import Gain, Stage
from spikeport.sim.floating import NEVER
from spikeport.sim.net import FloatPopulation
from spikeport.sim.synapse import FloatDense, FloatSumPool2d, FloatSynapse

NEAR = 1e-4
"""Integers that float32 training left this far from their values are meant."""

UNDIVIDED = (
    "average pools lead into it without one layer of weights that could divide their sums; put a"
    " convolution or a linear layer between"
)

LEAST_KEPT = exp(-1)
"""Share of a state kept by a step that is as long as the time constant."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a file is written.

    plain: write a bias where there is none, average pools as sums, the quotient in the next
    weights, and weights and thresholds that training has put on the chip's grid as the integers
    that they are there, which float32 holds. filtered: write time constants, r and weights as
    rockpool reads them.
    """

    plain: bool = False
    filtered: bool = False

    @property
    def rule(self) -> str:
        """The rule by which the file's neurons are the trained ones, as in `nir_read.read`."""
        return "exact" if self.filtered else "euler"

    @property
    def about(self) -> dict[str, str]:
        """What metadata say of it: nothing of what they always meant."""
        return {} if self.rule == "euler" else {"rule": self.rule}


DIALECTS: Mapping[str, Dialect] = {
    "nir": Dialect(),
    "speck": Dialect(plain=True),
    "xylo": Dialect(filtered=True),
    "spinnaker2": Dialect(plain=True),
}
"""By target. "nir" is for everybody."""


def spoken(parts: Parts, dialect: Dialect) -> Parts:
    """`parts` with pools and weights as `dialect` wants them. Raises Unsupported where a network
    cannot be written that way."""
    if dialect.plain:
        parts = _in_integers(_with_sums(parts))
    return _filtered(parts) if dialect.filtered else parts


def _with_sums(parts: Parts) -> Parts:
    """Average pools as sums, their quotients in the weights behind them."""
    made: dict[str, Part] = {}
    for name, part in parts.parts.items():
        factor = _owed(parts, name)
        if isinstance(part, Gain):
            part = replace(part, factor=part.factor * factor)
        elif isinstance(part, Stage) and isinstance(part.synapse, FloatSumPool2d):
            part = replace(part, synapse=replace(part.synapse, w=1.0))
        elif isinstance(part, Stage) and factor != 1:
            part = replace(part, synapse=_times(part.synapse, factor))
        elif isinstance(part, FloatPopulation) and factor != 1:
            raise Unsupported(name, parts.layers.get(name), UNDIVIDED)
        made[name] = part
    return replace(parts, parts=made)


def _owed(parts: Parts, name: str) -> float:
    """What the sums that arrive at part `name` must be multiplied with to be averages."""
    factors: set[float] = set()
    for link in parts.links:
        if link.target == name:
            source = parts.parts.get(link.source)
            passed = 1.0
            if isinstance(source, Stage) and isinstance(source.synapse, FloatSumPool2d):
                passed = float(source.synapse.w) * _owed(parts, link.source)
            elif isinstance(source, Flat):
                passed = _owed(parts, link.source)
            factors.add(passed)
    if len(factors) > 1:
        raise Unsupported(name, parts.layers.get(name), UNDIVIDED)
    return factors.pop() if factors else 1.0


def _times(synapse: FloatSynapse, factor: Any) -> Any:
    """`synapse` with its weights times `factor`, one or [n_out, 1]."""
    return replace(synapse, w=synapse.w * factor)


def _in_integers(parts: Parts) -> Parts:
    """Spiking populations whose scale training has settled on, with what leads into them, in
    synaptic integers, where all of that are integers then."""
    made = dict(parts.parts)
    for population in parts.populations:
        name, scale = population.name, population.scale
        sources = [link.source for link in parts.links if link.target == name]
        stages = [stage for source in sources if (stage := _alone(parts, source)) is not None]
        fires = not (population.v_th >= NEVER).all()
        if scale is None or not fires or len(stages) < len(sources):
            continue
        numbers = [population.v_th, population.v_init]
        numbers += [value for stage in stages for value in (stage.synapse.w, stage.bias)]
        if not all(np.abs(_whole(value, scale) - value * scale).max() < NEAR for value in numbers):
            continue
        made[name] = replace(
            population, v_th=_whole(population.v_th, scale),
            v_init=_whole(population.v_init, scale), scale=1.0,
        )  # fmt: skip
        for source, stage in zip(sources, stages, strict=True):
            synapse = replace(stage.synapse, w=_whole(stage.synapse.w, scale))
            made[source] = replace(stage, synapse=synapse, bias=_whole(stage.bias, scale))
    return replace(parts, parts=made)


def _whole(value: Any, scale: float) -> Any:
    """The integers that `value` is on the chip."""
    return np.rint(value * scale)


def _alone(parts: Parts, source: str) -> Stage | None:
    """The weights called `source` if they lead to one part."""
    stage = parts.parts.get(source)
    if not isinstance(stage, Stage) or isinstance(stage.synapse, FloatSumPool2d):
        return None
    return stage if [link.source for link in parts.links].count(source) == 1 else None


def _filtered(parts: Parts) -> Parts:
    """Weights divided by the share of the current that a step keeps, for a reader that lets it
    decay before it is used."""
    made = dict(parts.parts)
    for population in parts.populations:
        name, layer = population.name, parts.layers.get(population.name)
        least = min(population.keep_u.min(), population.keep_v.min())
        if least <= LEAST_KEPT:
            raise Unsupported(
                name, layer,
                f"a step keeps {least:.3g} of its current or potential, and Xylo's neurons keep"
                f" more than {LEAST_KEPT:.3g} of both; train a Synaptic with larger alpha and beta",
            )  # fmt: skip
        for link in (link for link in parts.links if link.target == name):
            stage, synapse = _own_weights(parts, link, layer)
            weights = _times(synapse, 1 / population.keep_u.reshape(-1, 1))
            made[link.source] = replace(stage, synapse=weights, bias=stage.bias / population.keep_u)
    return replace(parts, parts=made)


def _own_weights(parts: Parts, link: Link, layer: nn.Module | None) -> tuple[Stage, FloatDense]:
    """The stage at the start of `link` to a population, which must be its own, and its weights."""
    stage = parts.parts.get(link.source)
    arriving = [before.delay for before in parts.links if before.target == link.source]
    if link.delay or any(arriving):
        raise Unsupported(
            link.target, layer,
            f"what arrives through {link.source!r} is late or comes back, and rockpool runs no"
            " loops; train without recurrence, and mind that snnTorch's reset by subtraction is a"
            " loop where neurons leak",
        )  # fmt: skip
    shared = [other for other in parts.links if other.source == link.source and other != link]
    if not isinstance(stage, Stage) or not isinstance(stage.synapse, FloatDense) or shared:
        raise Unsupported(
            link.target, layer,
            "Xylo's neurons take spikes through dense weights of their own; put a Linear between"
            f" {link.source!r} and it",
        )  # fmt: skip
    return stage, stage.synapse
