"""Energy and time of a run between published sets of constants.

Energy is dynamic and linear in what is done. Time of a step is that of the busiest core, plus the
barrier that ends it: there updates, spikes and sending go on beside receiving and synapses, and the
longer of the two counts (SANA-FE 2.2.9, its simple timing); waiting in the mesh is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.activity import Activity
from spikeport.hw.constants import SETS, Constants, as_proxy
from spikeport.hw.mesh import tile_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a sample costs by one set of constants.

    label: what the numbers stand for, in words. parts: mean joules a sample of "synapses",
    "neurons", "spikes", "messages" and "hops". each: joules of every sample [B]. steps: mean joules
    of every chip step [S]. cores: mean joules a sample on every core. seconds_each [B],
    seconds_steps [S]: time alike.
    """

    constants: Constants
    label: str
    parts: Mapping[str, float]
    each: Floats
    steps: Floats
    cores: Floats
    seconds_each: Floats
    seconds_steps: Floats

    @property
    def joules(self) -> float:
        """Mean of the samples."""
        return float(self.each.mean())

    @property
    def seconds(self) -> float:
        """Mean of the samples."""
        return float(self.seconds_each.mean())


@dataclass(frozen=True, kw_only=True)
class Band:
    """One estimate a set of constants; what lies between them is not known any better."""

    estimates: tuple[Estimate, ...]

    @property
    def joules(self) -> tuple[float, float]:
        """Least and most of a sample."""
        found = [e.joules for e in self.estimates]
        return min(found), max(found)

    @property
    def seconds(self) -> tuple[float, float]:
        """Least and most of a sample."""
        found = [e.seconds for e in self.estimates]
        return min(found), max(found)


def band(activity: Activity, sets: tuple[Constants, ...] = SETS) -> Band:
    """An estimate for each of `sets`."""
    return Band(estimates=tuple(energy(activity, constants) for constants in sets))


def energy(activity: Activity, constants: Constants) -> Estimate:
    """Joules and seconds of `activity` by `constants`, those of Loihi 1 as a proxy elsewhere."""
    a, c = activity, constants
    parts: dict[str, Floats] = {
        "synapses": c.joules_dense * a.dense + c.joules_conv * a.conv,
        "neurons": c.joules_active * a.active + c.joules_at_rest * (a.neurons - a.active),
        "spikes": c.joules_spike * a.spikes,
        "messages": c.joules_message * a.sent,
        "hops": c.joules_hop_x * a.hops_x + c.joules_hop_y * a.hops_y,
    }
    joules = np.sum(list(parts.values()), axis=0)
    seconds = _seconds(a, c)
    return Estimate(
        constants=c,
        label=label(c, activity.placement.target.chip.name),
        parts={name: float(part.sum()) / a.samples for name, part in parts.items()},
        each=joules.sum((0, 2)),
        steps=joules.sum(2).mean(1),
        cores=joules.sum(0).mean(0),
        seconds_each=seconds.sum(0),
        seconds_steps=seconds.mean(1),
    )


def label(constants: Constants, chip: str) -> str:
    """What a number by `constants` stands for on `chip`."""
    c = constants
    proxy = as_proxy(c.chip, chip)
    return f"{c.name}: {c.chip}{proxy}, {c.process}, voltage {c.voltage}, {c.status}"


def _seconds(a: Activity, c: Constants) -> Floats:
    """Seconds [S, B] of every step."""
    sending = (
        c.seconds_active * a.active
        + c.seconds_at_rest * (a.neurons - a.active)
        + c.seconds_spike * a.spikes
        + c.seconds_sent * a.sent
    )
    receiving = (
        c.seconds_received * (a.received + a.outside)
        + c.seconds_dense * a.dense
        + c.seconds_conv * a.conv
    )
    cores = a.placement.target.chip.cores
    used = {tile_of(core, cores) for core in range(len(a.neurons))}
    busiest: Floats = np.maximum(sending, receiving).max(-1)
    return busiest + c.barrier_seconds(len(used))
