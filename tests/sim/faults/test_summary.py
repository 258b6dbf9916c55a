"""Summaries against figures worked out by hand and published intervals."""

from __future__ import annotations

import numpy as np
import pytest

from spikeport.sim.faults import (
    Fault,
    Result,
    Trial,
    accuracy,
    by_bit,
    by_kind,
    by_part,
    curve,
    report,
    wilson,
    worst,
)
from spikeport.sim.faults.summary import bootstrap


def flip(bit: int, *, part: int = 0) -> Fault:
    return Fault(kind="weight", part=part, index=bit, bit=bit)


DEAD = Fault(kind="dead", part="out", index=1)


def result(*trials: tuple[tuple[Fault, ...], int, int]) -> Result:
    """Trials of (faults, right on clean images, changed decisions); 20 images, 18 right at first;
    on the set "worst" half of it."""
    return Result(
        header={
            "samples": 20, "right": {"clean": 18, "worst": 9}, "parts": ["input -> out", "a -> b"],
            "campaign": {"seed": 3},
        },
        trials=tuple(
            Trial(
                trial=i, faults=faults, right={"clean": right, "worst": right // 2},
                changed={"clean": changed, "worst": changed},
            )
            for i, (faults, right, changed) in enumerate(trials)
        ),
    )  # fmt: skip


FOUND = result(
    ((flip(0),), 18, 0),
    ((flip(7),), 6, 14),
    ((flip(7, part=1),), 10, 8),
    ((DEAD,), 16, 2),
    ((flip(0, part=1),), 18, 1),
    ((flip(7), DEAD), 4, 16),
    ((flip(1), DEAD), 14, 16),
)


@pytest.mark.parametrize(
    ("right", "samples", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 1 - 0.1611, 1.0),
    ],
)
def test_wilson(right: int, samples: int, low: float, high: float) -> None:
    found = wilson(right, samples)
    assert list(found) == pytest.approx([low, high], abs=5e-5)


def test_bootstrap() -> None:
    """Of many zeros and ones the interval is that of the normal approximation."""
    values = np.repeat([0.0, 1.0], [300, 100])
    low, high = bootstrap(values, seed=1)
    half = 1.96 * (0.25 * 0.75 / 400) ** 0.5
    assert low == pytest.approx(0.25 - half, abs=0.006)
    assert high == pytest.approx(0.25 + half, abs=0.006)
    assert bootstrap(values, seed=1) == (low, high)
    assert list(bootstrap(np.full(5, 0.3), seed=1)) == pytest.approx([0.3, 0.3])


def test_accuracy_without_faults() -> None:
    assert accuracy(FOUND, "clean") == 0.9
    assert accuracy(FOUND, "worst") == 0.45
    with pytest.raises(ValueError, match="there is no set 'dirty'; there are 'clean', 'worst'"):
        accuracy(FOUND, "dirty")
    with pytest.raises(ValueError, match="there is no set 'dirty'"):
        worst(FOUND, "dirty", count=1)


def test_curve() -> None:
    one, two = curve(FOUND, "clean")
    assert (one.label, two.label) == ("1", "2")
    assert (one.trials, two.trials) == (5, 2)
    assert one.accuracy == pytest.approx((18 + 6 + 10 + 16 + 18) / 100)
    assert two.accuracy == pytest.approx((4 + 14) / 40)
    assert one.loss == pytest.approx(0.9 - 0.68)
    assert (one.worst, two.worst) == (0.3, 0.2)
    assert one.changed == pytest.approx((0 + 14 + 8 + 2 + 1) / 100)
    # Two trials: each mean of a resample is one of three values.
    assert [two.low, two.high] == pytest.approx([0.2, 0.7])
    assert one.low < one.accuracy < one.high
    assert curve(FOUND, "worst")[0].accuracy == pytest.approx((9 + 3 + 5 + 8 + 9) / 100)


def test_curve_goes_by_number_not_by_spelling() -> None:
    many = tuple(flip(i % 8, part=i // 8) for i in range(10))
    found = result((many, 3, 1), (many[:2], 4, 1), (many[:1], 5, 1))
    assert [row.label for row in curve(found, "clean")] == ["1", "2", "10"]


def test_most_critical() -> None:
    bits = by_bit(FOUND, "clean")
    assert [(row.label, row.trials) for row in bits] == [("weight bit 7", 2), ("weight bit 0", 2)]
    assert bits[0].loss == pytest.approx(0.9 - 0.4)
    assert bits[1].loss == pytest.approx(0)
    parts = by_part(FOUND, "clean")
    assert [(row.label, row.trials) for row in parts] == [
        ("input -> out (projection 0)", 2), ("a -> b (projection 1)", 2), ("out", 1),
    ]  # fmt: skip
    assert [row.label for row in by_kind(FOUND, "clean")] == ["weight", "dead"]
    assert [t.trial for t in worst(FOUND, "clean", count=3)] == [1, 2, 3]
    assert [t.trial for t in worst(FOUND, "clean", count=99)] == [1, 2, 3, 0, 4]
    # The same fault again is the same fault, whatever was drawn for it.
    lost = [Fault(kind="dropped", part=0, index=1, rate=0.5, seed=s) for s in range(3)]
    again = result(*(((fault,), right, 0) for fault, right in zip(lost, (5, 4, 6), strict=True)))
    assert [t.trial for t in worst(again, "clean", count=99)] == [1]


def test_faults_that_came_together_are_not_blamed() -> None:
    together = result(((flip(7), DEAD), 0, 20))
    assert by_bit(together, "clean") == by_part(together, "clean") == ()
    assert worst(together, "clean", count=5) == ()
    assert "most critical" not in report(together)


def test_report() -> None:
    text = report(FOUND)
    lines = text.splitlines()
    assert lines[0].startswith("7 trials on 20 images; accuracy with 95 % intervals")
    assert lines[1].split() == ["faults", "at", "once", "trials", "clean", "%", "worst", "%"]
    # Wilson's interval of 18 of 20.
    assert lines[2].split() == ["0", "-", "90.0", "[69.9,", "97.2]", "45.0", "[25.8,", "65.8]"]
    assert lines[3].split()[:3] == ["1", "5", "68.0"]
    assert lines[4].split() == ["2", "2", "45.0", "[20.0,", "70.0]", "22.5", "[10.0,", "35.0]"]
    critical = [line.split("  ")[0] for line in lines if line.startswith("weight 7")]
    assert critical == ["weight 7 of projection 0, bit 7", "weight 7 of projection 1, bit 7"]
    assert lines[-1].split()[-3:] == ["4", "90.0", "45.0"]
    assert text.endswith("\n")
    assert len({len(line) for line in lines[1:5]}) == 1
