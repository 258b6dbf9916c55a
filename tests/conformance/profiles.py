"""The arithmetic of four simulators of the chip, point by point, and what shows each point.

python tests/conformance/profiles.py   writes docs/conformance.md
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "conformance.md"
RESULTS = ROOT / "benchmarks" / "results" / "conformance.json"
SAME = "same"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of the arithmetic. ours: spikeport's, which is Lava 0.10's `fixed_pt`. nengo,
    brian: the emulators', SAME where equal. subset: what nets in the common subset do about it,
    empty where all agree. tests: functions in `tests/conformance` that show it."""

    name: str
    ours: str
    nengo: str = SAME
    brian: str = SAME
    subset: str = ""
    tests: tuple[str, ...]


POINTS = (
    Point(
        name="comparison",
        ours="spike where v > v_th * 64",
        tests=("test_a_potential_on_the_threshold_does_not_spike",),
    ),
    Point(
        name="decay",
        ours="toward zero: u keeps 4095 - du of 4096, v keeps 4096 - dv",
        brian="same, but decay_I is du + 1: no hidden offset",
        tests=("test_decays_round_toward_zero", "test_mutants_of_driving_brian2_loihi"),
    ),
    Point(
        name="reset",
        ours="v to zero, or by subtraction (our own Lava process)",
        nengo="to zero",
        brian="to zero",
        subset="to zero",
        tests=("test_refused",),
    ),
    Point(
        name="refractory period",
        ours="none",
        nengo="r >= 1: v held at 0 for r - 1 steps",
        brian="r >= 1: v held at 0 for r - 1 steps",
        subset="r = 1, which is none",
        tests=(
            "test_a_refractory_period_of_one_is_none",
            "test_longer_refractory_periods_agree_between_the_emulators",
        ),
    ),
    Point(
        name="synaptic sum",
        ours="32 bits before the shift by 6; a convolution's wraps at 24",
        nengo="wraps at 21 bits and sign after the shift",
        brian="no limit",
        subset="nengo-loihi: within 21 bits and sign",
        tests=("test_nengo_wraps_the_synaptic_sum_at_21_bits_and_sign",),
    ),
    Point(
        name="current u",
        ours="one wrap by 2^24 into (-2^23, 2^23]",
        nengo="two's complement, [-2^23, 2^23)",
        brian="no limit",
        subset="nengo-loihi: u never exactly +-2^23; brian2-loihi: no wrap",
        tests=(
            "test_nengo_wraps_the_current_at_minus_two_to_the_23",
            "test_currents_wrap_alike_elsewhere",
        ),
    ),
    Point(
        name="bias",
        ours="mantissa << exponent, added to v with u",
        nengo="u + bias wraps at 23 bits and sign",
        brian="none",
        subset="nengo-loihi: u + bias in range; brian2-loihi: no bias",
        tests=("test_nengo_wraps_current_plus_bias", "test_refused"),
    ),
    Point(
        name="potential v",
        ours="clipped at +-(2^23 - 1)",
        nengo="clipped at vmin and vmax, 0 and +inf unless set",
        brian="no limit",
        subset="nengo-loihi: limits set to ours; brian2-loihi: no clip",
        tests=(
            "test_potentials_are_clipped_but_not_in_brian",
            "test_nengo_keeps_potentials_above_zero_unless_told",
        ),
    ),
    Point(
        name="mixed weights",
        ours="-256..255, lowest bit dropped by floor",
        nengo="-254..254, to even, nearest, ties to a multiple of 4",
        brian="-256..254, lowest bit dropped toward zero",
        subset="even",
        tests=("test_odd_weights_of_mixed_signs", "test_brian_refuses_255_among_mixed_signs"),
    ),
    Point(
        name="weights of one sign",
        ours="0..255 and -255..0, every bit kept",
        nengo="as mixed weights",
        brian="0..255 and -256..0, every bit kept",
        subset="nengo-loihi: even",
        tests=("test_weights_of_one_sign",),
    ),
    Point(
        name="weight exponent",
        ours="-8..7; a negative one shifts the sum, floor",
        nengo="-7..7; each weight to the nearest, ties to even",
        brian="-8..7; each weight, floor",
        subset="-6..7; weights are multiples of 2^-exponent",
        tests=("test_negative_exponents_shift_the_sum_or_each_weight",),
    ),
    Point(
        name="scaled weight",
        ours="no limit of its own",
        brian="clipped at +-(2^21 - 64)",
        subset="never -256 with exponent 7",
        tests=("test_brian_clips_each_scaled_weight",),
    ),
    Point(
        name="delay",
        ours="0..62 steps, one a projection",
        nengo="none",
        brian="0..62 steps, one a projection",
        subset="nengo-loihi: no synapse waits on the chip",
        tests=(
            "test_nengo_has_no_delays",
            "test_brian_has_the_delays_of_the_chip",
            "test_bending_leaves_nothing_that_an_emulator_refuses",
        ),
    ),
    Point(
        name="latency",
        ours="each population's window begins with its first input",
        nengo="one chip step a synapse, input too; biases act from the first step",
        brian="one chip step a synapse; a generator's spikes arrive at once",
        subset="windows aligned by the schedule; nengo-loihi: bias held back until then;"
        " brian2-loihi: input given a step later",
        tests=(
            "test_mutant_of_driving_nengo_loihi",
            "test_mutants_of_driving_brian2_loihi",
            "test_random_nets_give_the_same_bits",
        ),
    ),
    Point(
        name="parameters",
        ours="one number, or one a neuron",
        brian="one number a group",
        subset="brian2-loihi: one number a population",
        tests=("test_refused",),
    ),
    Point(
        name="start of v",
        ours="v_init, one number or one a neuron",
        nengo="0",
        brian="0",
        subset="0",
        tests=("test_refused",),
    ),
    Point(
        name="payload of a spike",
        ours="up to 24 bits from the input",
        nengo="none",
        brian="none",
        subset="none",
        tests=("test_refused",),
    ),
    Point(
        name="convolutions",
        ours="weights keep every bit, no exponent",
        nengo="given as the matrix of their synapses",
        brian="given as the matrix of their synapses",
        subset="as the other weights",
        tests=("test_random_nets_give_the_same_bits",),
    ),
)


def table() -> list[str]:
    """The profile as lines of Markdown."""
    rows = [
        "| point | spikeport, Lava 0.10 | nengo-loihi 1.1 | brian2-loihi 0.5 | common subset |",
        "|---|---|---|---|---|",
    ]
    for p in POINTS:
        rows.append(f"| {p.name} | {p.ours} | {p.nengo} | {p.brian} | {p.subset or 'all'} |")
    return rows


def counts(results: dict[str, Any]) -> list[str]:
    """What was compared, as lines of Markdown; `results`: of benchmarks/conformance.py."""
    rows = [
        "| against | nets | neuron-steps | bits compared | spikes | wraps | clips | differ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    keys = ("nets", "neuron_steps", "bits", "spikes", "wraps", "clips", "differing_bits")
    for name, part in results["emulators"].items():
        cells = " | ".join(f"{part['total'][key]:,}" for key in keys)
        rows.append(f"| {name} {part['version']} | {cells} |")
    return rows


def page(results: dict[str, Any]) -> str:
    """The text of docs/conformance.md."""
    lines = [
        "# Conformance",
        "",
        "The same integer networks run here, in Lava 0.10 (in this process), in nengo-loihi's"
        " emulator and in brian2-loihi. Spikes, u and v of every neuron are compared at every"
        " step.",
        "This page is written by `python tests/conformance/profiles.py`.",
        "",
        "## What was compared",
        "",
        *counts(results),
        "",
        "Random networks of all layer kinds, with fixed seeds. `make conformance` runs them and"
        " keeps the counts per kind of net in `benchmarks/results/conformance.json`; a small part"
        " runs in the plain suite.",
        "",
        "## Where the arithmetic differs",
        "",
        "Against Lava no network that is drawn is left out. With the two emulators only networks"
        " are compared on which the rules agree; the last column says what that means. Each row is"
        " shown by tests in `tests/conformance`.",
        "",
        *table(),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Write the page from the table above and the stored results."""
    PAGE.write_text(page(json.loads(RESULTS.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    main()
