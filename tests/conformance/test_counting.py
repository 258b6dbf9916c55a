"""The counts of benchmarks/conformance.py: a planted bit is found, named and makes it fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.sim import engine, reference
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import Trace

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark(load_file: Callable[[Path], ModuleType]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return load_file(BENCHMARKS / "conformance.py")


def recorded(net: FixedNet, x: NDArray[Any]) -> Trace:
    return engine.run(net, x, record=True)


def planted(net: FixedNet, x: NDArray[Any]) -> Trace:
    """The reference, but two bits of one potential are the other way round."""
    trace = reference.run(net, x)
    name, part = list(trace.populations.items())[-1]
    v = np.array(part.v)
    v[0, 0, 0] ^= 0b101
    return Trace(populations={**trace.populations, name: replace(part, v=v)})


def test_differing_bits_of_signed_numbers(benchmark: Any) -> None:
    left = np.array([5, -1, 0, 7], np.int32)
    assert benchmark.differing_bits(left, left.astype(np.int64)) == 0
    assert benchmark.differing_bits(left, np.array([4, -2, 0, 0], np.int32)) == 1 + 1 + 3


def test_counts_of_equal_and_of_planted_runs(benchmark: Any) -> None:
    equal = benchmark.measure("lava", benchmark.lava_cases(20), run=recorded, count=20)
    assert equal["total"]["differing_bits"] == 0
    assert equal["first_difference"] is None
    assert equal["total"]["nets"] == 20
    assert {part["nets"] for part in equal["kinds"].values()} == {2}
    assert len(equal["kinds"]) == 10
    assert equal["total"]["bits"] == 65 * equal["total"]["neuron_steps"]
    wrong = benchmark.measure("lava", benchmark.lava_cases(20), run=planted, count=20)
    assert wrong["total"]["differing_bits"] == 40
    assert wrong["first_difference"].startswith("mixed, Lava neurons, seed 10000: population")
    assert "v of neuron 0, sample 0, first differs at step 0" in wrong["first_difference"]


def test_the_features_of_nets(benchmark: Any) -> None:
    found = [benchmark.features(case.net) for case in benchmark.lava_cases(30)]
    assert all(set(counter.values()) <= {0, 1} for counter in found)
    # A net of every kind with either neurons, three times; loops and resets where they belong.
    kinds = [case.kind for case in benchmark.lava_cases(10)]
    assert [kinds.index(f"{k}, Lava neurons") for k in ("mixed", "dense", "conv")] == [0, 1, 2]
    loops = {kinds[i % 10] for i, counter in enumerate(found) if counter["loop"]}
    assert loops == {"recurrent, Lava neurons", "recurrent, own neurons"}
    own = {kinds[i % 10] for i, c in enumerate(found) if c["subtract"] or c["v_init"]}
    assert own
    assert all(kind.endswith("own neurons") for kind in own)


def test_a_differing_bit_ends_in_failure(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "result.json"
    monkeypatch.setattr("sys.argv", ["x", "--lava", "10", "--emulators", "0", "--out", str(out)])
    monkeypatch.setattr(benchmark.lava_inprocess, "run", planted)
    with pytest.raises(SystemExit) as ended:
        benchmark.main()
    assert ended.value.code == 1
    assert "lava: 10/10 nets, 20 differing bits" in capsys.readouterr().out
    assert json.loads(out.read_text("utf-8"))["emulators"]["lava"]["total"]["nets"] == 10
