"""Rungs and reports: what is counted, what fails, what is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spikeport.sim.fidelity import FidelityReport, Rung, compare, in_batches, predict
from spikeport.sim.net import Readout
from spikeport.sim.trace import PopulationTrace, Trace

COUNT, LAST = Readout(population="b", kind="count"), Readout(population="b", kind="last_v")
STEPS, SAMPLES = 5, 2


def trace(*, record: bool = True) -> Trace:
    """Two populations, 3 and 4 neurons, of numbers that no two places share."""
    parts = {}
    for name, n in (("a", 3), ("b", 4)):
        v = np.arange(STEPS * SAMPLES * n, dtype=np.int32).reshape(STEPS, SAMPLES, n)
        parts[name] = PopulationTrace(
            spikes=(v % 3 == 0).astype(np.uint8),
            v_last=v[-1].copy(),
            u=v + 1000 if record else None,
            v=v.copy() if record else None,
        )
    return Trace(populations=parts)


def changed(source: Trace, name: str, quantity: str, at: tuple[int, ...], value: int) -> Trace:
    array = getattr(source[name], quantity).copy()
    assert array[at] != value
    array[at] = value
    part = replace(source[name], **{quantity: array})
    return Trace(populations={**source.populations, name: part})


def rung(right: Trace, **options: Any) -> Rung:
    readout = options.pop("readout", COUNT)
    return compare(("one", trace()), ("other", right), readout, **options)


def test_equal_runs() -> None:
    found = rung(trace(), seconds=1.5)
    assert (found.left, found.right, found.seconds) == ("one", "other", 1.5)
    assert (found.samples, found.steps) == (2, 5)
    assert (found.spikes, found.differing) == (5 * 2 * 7, 0)
    assert (found.state, found.differing_state, found.predictions) == (2 * 5 * 2 * 7, 0, 0)
    assert found.exact
    assert found.passed
    assert found.first is None


def test_without_a_record_the_last_potential_is_compared() -> None:
    found = rung(trace(record=False))
    assert (found.state, found.differing_state) == (2 * 7, 0)
    found = rung(changed(trace(record=False), "b", "v_last", (1, 2), -5))
    assert (found.differing, found.differing_state, found.passed) == (0, 1, False)
    assert str(found.first) == (
        "population 'b': v_last of neuron 2, sample 1, first differs at step 4: 38 against -5"
        " (1 entries differ in all)"
    )


@pytest.mark.parametrize("quantity", ["u", "v"])
def test_one_potential_fails_an_exact_rung_only(quantity: str) -> None:
    right = changed(trace(), "a", quantity, (3, 1, 2), -1)
    found = rung(right)
    assert (found.differing, found.differing_state, found.passed) == (0, 1, False)
    assert found.first is not None
    assert (found.first.quantity, found.first.step) == (quantity, 3)
    assert rung(right, exact=False).passed
    untold = rung(right, potentials=False)
    assert (untold.state, untold.passed, untold.first) == (0, True, None)


def test_one_spike_fails_an_exact_rung_only() -> None:
    right = changed(trace(), "a", "spikes", (2, 0, 1), 1)
    found = rung(right, potentials=False)
    assert (found.differing, found.passed) == (1, False)
    assert found.first is not None
    assert (found.first.step, found.first.sample, found.first.neuron) == (2, 0, 1)
    loose = rung(right, potentials=False, exact=False)
    assert (loose.differing, loose.passed) == (1, True)


def test_predictions_are_counted_and_fail_an_exact_rung() -> None:
    """The logits of an integrating readout may be all that two runs can compare."""
    right = changed(trace(), "b", "v_last", (0, 1), 99)
    found = rung(right, readout=LAST, potentials=False)
    assert (found.differing, found.predictions, found.passed) == (0, 1, False)
    assert rung(right, readout=LAST, potentials=False, exact=False).passed


def test_predictions_take_the_lowest_of_equals() -> None:
    part = PopulationTrace(
        spikes=np.array([[[0, 1, 1], [0, 0, 0]]], np.uint8),
        v_last=np.array([[1, 7, 7], [0, -1, 2]]),
    )
    both = Trace(populations={"b": part})
    assert predict(both, COUNT).tolist() == [1, 0]
    assert predict(both, LAST).tolist() == [1, 2]


def test_traces_of_different_nets_are_refused() -> None:
    other = Trace(populations={"a": trace()["a"]})
    with pytest.raises(ValueError, match=r"^traces hold different populations: \['a', 'b'\] and"):
        rung(other)


def test_a_report_passes_if_every_exact_rung_does() -> None:
    good = rung(trace())
    off = changed(trace(), "b", "spikes", (0, 0, 1), 1)
    bad, loose = rung(off), rung(off, exact=False)
    assert FidelityReport(rungs=(good, loose)).passed
    assert not FidelityReport(rungs=(good, bad, loose)).passed
    report = FidelityReport(
        rungs=(good, bad), missing=(("lava", "Lava is not installed"),), accuracy={"engine": 0.5}
    )
    told = json.loads(json.dumps(report.to_json()))
    assert told["passed"] is False
    assert told["missing"] == [{"rung": "lava", "reason": "Lava is not installed"}]
    assert told["accuracy"] == {"engine": 0.5}
    assert [r["passed"] for r in told["rungs"]] == [True, False]
    assert told["rungs"][0]["first"] is None
    assert told["rungs"][1]["first"].startswith("population 'b': spikes of neuron 1, sample 0, fir")
    assert told["rungs"][1]["spikes"] == 70


def test_batches_add_up_to_one_rung() -> None:
    rng = np.random.default_rng(5)
    spikes = rng.integers(0, 2, (3, 7, 4)).astype(np.uint8)
    other = spikes.copy()
    other[1, 5, 2] ^= 1
    other[2, 6, 0] ^= 1

    def of(s: np.ndarray[Any, Any]) -> Trace:
        part = PopulationTrace(spikes=s, v_last=np.zeros(s.shape[1:]))
        return Trace(populations={"a": part})

    readout = Readout(population="a")

    def over(part: slice) -> Rung:
        left, right = of(spikes[:, part]), of(other[:, part])
        return compare(("x", left), ("y", right), readout, potentials=False, seconds=1.5)

    whole = over(slice(0, 7))
    found = in_batches(over, samples=7, batch=3)
    assert found == replace(whole, seconds=4.5, first=found.first)
    assert (whole.samples, whole.differing) == (7, 2)
    assert found.first is not None
    assert (found.first.sample, found.first.step, found.first.neuron) == (5, 1, 2)
    with pytest.raises(ValueError, match=r"^there are no samples to compare$"):
        in_batches(over, samples=0, batch=3)
