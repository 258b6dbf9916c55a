"""Recorded runs come in as traces, or are refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeport.sim import effective, recorded, reference
from spikeport.sim.divergence.diagnose import diagnose
from spikeport.sim.divergence.explain import explain
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, Dense


@pytest.fixture
def net() -> FixedNet:
    rng = np.random.default_rng(0)
    return FixedNet(
        input=Input(shape=(1, 3, 3)),
        populations=(
            Population(name="maps", shape=(2, 2, 2), v_th=20, dv=400),
            Population(name="out", shape=(3,), v_th=15),
        ),
        projections=(
            Projection(
                source="input",
                target="maps",
                synapse=Conv2d(w=rng.integers(-10, 25, (2, 1, 2, 2))),
            ),
            Projection(
                source="maps", target="out", synapse=Dense(w=2 * rng.integers(-5, 9, (3, 8)))
            ),
        ),
        readout=Readout(population="out"),
        steps=9,
    )


@pytest.fixture
def x() -> Any:
    return np.random.default_rng(1).integers(0, 2, (9, 4, 1, 3, 3))


def arrays(net: FixedNet, x: Any) -> dict[str, Any]:
    run = reference.run(net, x)
    return {name: part.spikes for name, part in run.populations.items()}


def test_spikes_and_states_come_back(net: FixedNet, x: Any, tmp_path: Path) -> None:
    run = reference.run(net, x)
    path = tmp_path / "run.npz"
    maps = run["maps"].spikes.reshape(9, 4, 2, 2, 2)
    np.savez(path, maps=maps, **{"out.spikes": run["out"].spikes == 1, "out.v": run["out"].v})
    trace = recorded.read(path, net)
    assert list(trace.populations) == ["maps", "out"]
    for name in ("maps", "out"):
        assert trace[name].spikes.dtype == np.uint8
        assert np.array_equal(trace[name].spikes, run[name].spikes)
    assert trace["maps"].v is None
    assert trace["out"].u is None
    assert trace["out"].v is not None
    assert run["out"].v is not None
    assert np.array_equal(trace["out"].v, run["out"].v)
    assert np.array_equal(trace["out"].v_last, run["out"].v_last)
    assert diagnose(net, x, trace) is None


def test_one_sample_needs_no_axis(net: FixedNet, x: Any, tmp_path: Path) -> None:
    one = {name: spikes[:, 0] for name, spikes in arrays(net, x[:, :1]).items()}
    np.savez(tmp_path / "run.npz", **one)
    trace = recorded.read(tmp_path / "run.npz", net)
    assert trace["out"].spikes.shape == (9, 1, 3)
    assert np.array_equal(trace["maps"].spikes[:, 0], one["maps"])


def test_one_array_is_enough_for_one_population(tmp_path: Path) -> None:
    net = FixedNet(
        input=Input(shape=(2,)),
        populations=(Population(name="out", shape=(2,), v_th=3),),
        projections=(Projection(source="input", target="out", synapse=Dense(w=4 * np.eye(2))),),
        readout=Readout(population="out"),
        steps=5,
    )
    spikes = np.ones((5, 2, 2))
    np.save(tmp_path / "run.npy", spikes)
    assert np.array_equal(recorded.read(tmp_path / "run.npy", net)["out"].spikes, spikes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": None}, r"holds no spikes of population 'out'; it holds \['maps'\]"),
        ({"other": np.zeros((9, 4, 3))}, r"holds arrays \['other'\] of no population"),
        ({"out": np.zeros((9, 4, 2))}, r"out has shape \(9, 4, 2\); needed is \[T, B, 3\] or"),
        ({"out": np.zeros((0, 4, 3))}, r"out has shape \(0, 4, 3\); .* none empty"),
        ({"out": np.zeros((8, 4, 3))}, "steps and samples differ between populations"),
        ({"out": np.full((9, 4, 3), 2)}, "spikes of population 'out' must be 0 or 1"),
        ({"out": np.full((9, 4, 3), np.nan)}, "out has type float64; finite numbers are needed"),
        ({"out": np.full((9, 4, 3), "a")}, "out has type <U1; finite numbers are needed"),
        ({"out.v": np.zeros((8, 4, 3))}, r"out.v has shape \(8, 4, 3\), the spikes \(9, 4, 3\)"),
    ],
)
def test_other_records_are_refused(
    net: FixedNet, x: Any, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    content = {k: v for k, v in (arrays(net, x) | change).items() if v is not None}
    np.savez(tmp_path / "run.npz", **content)
    with pytest.raises(ValueError, match=message):
        recorded.read(tmp_path / "run.npz", net)


def test_other_files_are_refused(net: FixedNet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a '.csv' file; recorded spikes are .npz or .npy"):
        recorded.read(tmp_path / "run.csv", net)
    (tmp_path / "run.npz").write_text("no")
    with pytest.raises(ValueError, match=r"run\.npz: is no numpy file"):
        recorded.read(tmp_path / "run.npz", net)
    with pytest.raises(FileNotFoundError):
        recorded.read(tmp_path / "none.npz", net)
    np.save(tmp_path / "run.npy", np.zeros((9, 4, 3)))
    with pytest.raises(ValueError, match="holds one array, but the network has 2 populations"):
        recorded.read(tmp_path / "run.npy", net)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_whatever_bit_is_wrong_it_is_the_record_or_refused(
    net: FixedNet, x: Any, tmp_path: Path, save: Callable[..., None]
) -> None:
    path, content = tmp_path / "run.npz", arrays(net, x)
    save(path, **content)
    good = path.read_bytes()
    refused: list[str] = []
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        try:
            trace = recorded.read(path, net)
        except ValueError as problem:
            refused.append(str(problem))
        else:
            for name, spikes in content.items():
                np.testing.assert_array_equal(trace[name].spikes, spikes)
    assert len(refused) > len(good) / 2
    assert all("run.npz: " in said for said in refused)


def test_one_array_is_not_enough_for_several_populations(net: FixedNet, tmp_path: Path) -> None:
    np.save(tmp_path / "run.npy", np.zeros((9, 4, 3)))
    with pytest.raises(
        ValueError,
        match=r"run\.npy: holds one array, but the network has 2 populations; write a \.npz with"
        r" one array for each$",
    ):
        recorded.read(tmp_path / "run.npy", net)


def test_networks_that_do_not_belong_together_are_not_explained(net: FixedNet, x: Any) -> None:
    exact = effective.float_net(net)
    late = replace(exact.projections[0], delay=1)
    other = replace(exact, projections=(late, *exact.projections[1:]))
    with pytest.raises(
        ValueError,
        match=r"^the two networks have different projections: \[.*\('input', 'maps', 1\).*\] and"
        r" \[.*\('input', 'maps', 0\).*\]; explain a network and the integers that were made of"
        r" it$",
    ):
        explain(other, net, x)
    message = r"^there is no population 'moon'; there are \['maps', 'out'\]$"
    with pytest.raises(ValueError, match=message):
        explain(exact, net, x, population="moon")
