"""Energies and times of a chip's operations, each set as it was published.

No set is better than another: reports give all of them and call what lies between them a band.
Energies are dynamic; what a chip draws while it does nothing is in none of them. Intel has
published no energy of an operation on Loihi 2, so that Loihi 1 stands in for it there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Joules and seconds of one operation each on a core of `chip`.

    An update is that of one neuron in one step, of an active neuron or of one at rest. A dense or
    conv operation is one synapse of a list that a spike reads. `barrier`: (tiles in use, seconds)
    that cores need to end a step together, ascending. Between two points it goes on a straight
    line; below the first and beyond the last it stays at their seconds. That is too little where
    several chips are in use (14.3 us on 256: Frady et al. 2020, as quoted by others).

    `sources` holds one citation for every other field; a test fails when one is missing.
    """

    name: str
    chip: str
    process: str
    voltage: str
    status: str  # measured or pre-silicon
    joules_active: float
    joules_at_rest: float
    joules_spike: float  # of a neuron that fires
    joules_dense: float
    joules_conv: float
    joules_message: float  # from core to core, hops aside
    joules_hop_x: float  # east or west, from tile to tile
    joules_hop_y: float  # north or south
    seconds_active: float
    seconds_at_rest: float
    seconds_spike: float
    seconds_dense: float
    seconds_conv: float
    seconds_sent: float  # message
    seconds_received: float
    barrier: tuple[tuple[int, float], ...]
    sources: Mapping[str, str] = field(repr=False)

    def barrier_seconds(self, tiles: int) -> float:
        """Seconds that ending a step takes on so many tiles."""
        below = [point for point in self.barrier if point[0] <= tiles] or [self.barrier[0]]
        above = [point for point in self.barrier if point[0] >= tiles] or [self.barrier[-1]]
        (n0, t0), (n1, t1) = below[-1], above[0]
        return t0 if n0 == n1 else t0 + (t1 - t0) * (tiles - n0) / (n1 - n0)


_TABLE_2 = "Davies et al. 2018, IEEE Micro 38(1), Table 2, as quoted by two others"
_NO_ENTRY = f"{_TABLE_2}: has no such entry, counted as nothing"
DAVIES = Constants(
    name="Davies 2018",
    chip="loihi1",
    process="14 nm",
    voltage="0.75 V",
    status="pre-silicon",
    joules_active=81e-12,
    joules_at_rest=52e-12,
    joules_spike=0.0,
    joules_dense=23.6e-12,
    joules_conv=23.6e-12,
    joules_message=1.7e-12,
    joules_hop_x=3.0e-12,
    joules_hop_y=4.0e-12,
    seconds_active=8.4e-9,
    seconds_at_rest=5.3e-9,
    seconds_spike=0.0,
    seconds_dense=3.5e-9,
    seconds_conv=3.5e-9,
    seconds_sent=2.1e-9,
    seconds_received=0.0,
    barrier=((1, 113e-9), (32, 465e-9)),
    sources={
        "name": "Davies et al. 2018, Loihi: A Neuromorphic Manycore Processor",
        "chip": _TABLE_2,
        "process": "Davies et al. 2018: Intel's 14 nm",
        "voltage": _TABLE_2,
        "status": f"{_TABLE_2}: SDF and SPICE simulation, consistent with early silicon",
        "joules_active": f"{_TABLE_2}: neuron update, active",
        "joules_at_rest": f"{_TABLE_2}: neuron update, inactive",
        "joules_spike": _NO_ENTRY,
        "joules_dense": f"{_TABLE_2}: synaptic spike op, stated as a minimum",
        "joules_conv": f"{_TABLE_2}: synaptic spike op, stated as a minimum",
        "joules_message": f"{_TABLE_2}: within-tile spike; every message is counted as one",
        "joules_hop_x": f"{_TABLE_2}: tile hop, east or west",
        "joules_hop_y": f"{_TABLE_2}: tile hop, north or south",
        "seconds_active": f"{_TABLE_2}: neuron update, active",
        "seconds_at_rest": f"{_TABLE_2}: neuron update, inactive",
        "seconds_spike": _NO_ENTRY,
        "seconds_dense": f"{_TABLE_2}: synaptic spike op, stated as a maximum",
        "seconds_conv": f"{_TABLE_2}: synaptic spike op, stated as a maximum",
        "seconds_sent": f"{_TABLE_2}: within-tile spike",
        "seconds_received": _NO_ENTRY,
        "barrier": f"{_TABLE_2}: mesh barrier, 113 to 465 ns for 1 to 32 tiles",
    },
)

_FIT = "SANA-FE 2.2.9 loihi.yaml"
_TCAD = "Boyle et al. 2025, SANA-FE, IEEE TCAD, doi 10.1109/TCAD.2025.3537971"
SANA_FE = Constants(
    name="SANA-FE",
    chip="loihi1",
    process="14 nm",
    voltage="not stated",
    status="fitted to measurements on a Nahuku board",
    joules_active=72.8e-12,
    joules_at_rest=51.2e-12,
    joules_spike=69.3e-12,
    joules_dense=35.5e-12,
    joules_conv=24.0e-12,
    joules_message=111e-12,
    joules_hop_x=3.0e-12,
    joules_hop_y=4.2e-12,
    seconds_active=9.7e-9,
    seconds_at_rest=6.0e-9,
    seconds_spike=30e-9,
    seconds_dense=3.8e-9,
    seconds_conv=3.1e-9,
    seconds_sent=5.1e-9,
    seconds_received=16e-9,
    barrier=((1, 0.6e-6), (2, 1.0e-6), (4, 1.4e-6), (29, 1.8e-6)),
    sources={
        "name": _TCAD,
        "chip": _FIT,
        "process": "Davies et al. 2018: Intel's 14 nm",
        "voltage": f"{_FIT} and its paper do not say",
        "status": f"{_TCAD}, as quoted by others: within 11.7 % energy and 24.3 % latency; the"
        " file's own header credits Davies et al. 2018 for all numbers",
        "joules_active": f"{_FIT}: energy_access_neuron 51.2 and energy_update_neuron 21.6 pJ",
        "joules_at_rest": f"{_FIT}: energy_access_neuron",
        "joules_spike": f"{_FIT}: energy_spike_out",
        "joules_dense": f"{_FIT}: loihi_dense_synapse energy_process_spike",
        "joules_conv": f"{_FIT}: loihi_conv_synapse energy_process_spike",
        "joules_message": f"{_FIT}: energy_message_out 111 and energy_message_in 0 pJ",
        "joules_hop_x": f"{_FIT}: energy_east_hop, energy_west_hop",
        "joules_hop_y": f"{_FIT}: energy_north_hop, energy_south_hop",
        "seconds_active": f"{_FIT}: latency_access_neuron 6.0 and latency_update_neuron 3.7 ns",
        "seconds_at_rest": f"{_FIT}: latency_access_neuron",
        "seconds_spike": f"{_FIT}: latency_spike_out",
        "seconds_dense": f"{_FIT}: loihi_dense_synapse latency_process_spike",
        "seconds_conv": f"{_FIT}: loihi_conv_synapse latency_process_spike",
        "seconds_sent": f"{_FIT}: latency_message_out",
        "seconds_received": f"{_FIT}: latency_message_in",
        "barrier": f"{_FIT}: latency_sync for 1, 2, 4 and 29 tiles",
    },
)

SETS: tuple[Constants, ...] = (DAVIES, SANA_FE)


@dataclass(frozen=True, kw_only=True)
class RuntimeConstants:
    """Constants of the max-affine model of `spikeport.hw.runtime` for `chip`, in seconds.

    None: not known; that term is left out, which keeps the result a lower bound. `link_bits`: bits
    a second over one link of the mesh, `message_bits`: bits of a message.

    `sources` holds one citation for every other field; a test fails when one is missing.
    """

    name: str
    chip: str
    status: str
    neuron: float | None  # an update
    synapse: float | None  # an operation
    word: float | None  # read from synapse memory
    link_bits: float | None
    message_bits: int | None
    barrier: float | None
    sources: Mapping[str, str] = field(repr=False)


_BRIEF = "Intel, Loihi 2 technology brief"
_FIGURE = "Timcheck et al. 2026, arXiv 2601.10035: only in a figure, hence not known here"
SCALED = RuntimeConstants(
    name="scaled",
    chip="loihi2",
    status="scaled from Loihi 1 by Intel's stated factors, not measured",
    neuron=4.2e-9,
    synapse=0.7e-9,
    word=None,
    link_bits=None,
    message_bits=None,
    barrier=0.2e-6,
    sources={
        "name": "ours, for what follows",
        "chip": f"{_BRIEF}: factors over Loihi 1",
        "status": f"{_TABLE_2}; {_BRIEF}",
        "neuron": f"{_TABLE_2}: 8.4 ns; {_BRIEF}: neuron update 2 times as fast",
        "synapse": f"{_TABLE_2}: 3.5 ns, stated as a maximum; {_BRIEF}: synaptic operation 5 times"
        " as fast",
        "word": _FIGURE,
        "link_bits": _FIGURE,
        "message_bits": _FIGURE,
        "barrier": f"{_BRIEF}: chip-wide step below 200 ns, counted as 200",
    },
)
RUNTIMES: Mapping[str, RuntimeConstants] = {SCALED.name: SCALED}


def as_proxy(known: str, chip: str) -> str:
    """Words for numbers of the chip `known` that stand for another one; none for its own."""
    return "" if known == chip else f" as a proxy for {chip}"
