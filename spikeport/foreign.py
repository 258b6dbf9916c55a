"""Files of others, NIR graphs and NetX networks, on their way into a bundle."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from spikeport.export import nir_read, quantise
from spikeport.hw import netx_read
from spikeport.sim.chip import Chip
from spikeport.sim.files import read_array
from spikeport.sim.net import FixedNet, FloatNet, Input

READING = "reading.json"  # in a bundle: how its NIR file was read, where it does not say itself
SAID = ("dt_s", "rule", "reset", "start", "readout", "round_delays")
ROUNDING = ("weight_bits", "objective", "exponents", "for_netx")
# What only NIR files need: NetX says it, or leaves no choice.
NIR_ONLY = (
    "dt_s", "rule", "reset", "start", "round_delays", "input_scale", "weight_bits", "objective",
    "calibration", "exponents", "for_netx",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a file does not say about itself, and how to round it; None: not given.

    dt_s: seconds a step. steps: of a sample. rule, reset, start, round_delays: see
    `export.nir_read.read`. readout: kind of readout. payload_bits: of graded input, with
    input_scale integers per unit. weight_bits, objective, exponents, for_netx:
    see `export.quantise.to_fixed`; calibration: a .npy file of integers [T, B, *input.shape].
    allow_overflow: export integers that some input can overflow; all backends overflow alike.
    """

    dt_s: float | None = None
    steps: int | None = None
    rule: str | None = None
    reset: str | None = None
    start: str | None = None
    readout: str | None = None
    round_delays: bool | None = None
    payload_bits: int | None = None
    input_scale: float | None = None
    weight_bits: int | None = None
    objective: str | None = None
    calibration: Path | None = None
    exponents: int | None = None
    for_netx: bool | None = None
    allow_overflow: bool | None = None

    def given(self) -> dict[str, Any]:
        """What is not None, by name."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


def refuse_options(source: Path, reading: Reading, names: tuple[str, ...]) -> None:
    """ValueError when `reading` gives one of `names`, which mean nothing for `source`."""
    given = [name for name in names if name in reading.given()]
    useless = [f"--{name.removesuffix('_s').replace('_', '-')}" for name in given]
    if useless:
        raise ValueError(f"{source}: says itself what {', '.join(useless)} would; leave it out")


def load(source: Path, chip: Chip, reading: Reading) -> tuple[FloatNet | None, FixedNet]:
    """The float net (None for NetX, which holds integers) and the integers of file `source`."""
    if source.suffix == ".net":
        refuse_options(source, reading, NIR_ONLY)
        net = netx_read.read(
            source, steps=reading.steps, chip=chip, readout=reading.readout,
            input_bits=reading.payload_bits,
        )  # fmt: skip
        return None, net
    given = reading.given()
    said: dict[str, Any] = {name: given[name] for name in ("steps", *SAID) if name in given}
    float_net = nir_read.read(source, **said)
    if "payload_bits" in given or "input_scale" in given:
        float_net = nir_read.read(source, input=_graded(float_net.input, given), **said)
    rounding: dict[str, Any] = {name: given[name] for name in ROUNDING if name in given}
    if reading.calibration is not None:
        rounding["calibration"] = read_array(reading.calibration)
    return float_net, quantise.to_fixed(float_net, chip, **rounding)


def _graded(found: Input, given: dict[str, Any]) -> Input:
    if "payload_bits" not in given:
        raise ValueError("--input-scale is of graded input; give --payload-bits too")
    scale = given.get("input_scale", 1.0)
    return replace(found, kind="graded", payload_bits=given["payload_bits"], scale=scale)
