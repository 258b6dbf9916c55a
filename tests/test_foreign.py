"""Files of others through the commands: NIR and NetX into a bundle, recorded spikes against it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from spikeport import bundling, exporting, simulating
from spikeport.foreign import Reading
from spikeport.hw import netx_file
from spikeport.sim import bundle as bundles
from spikeport.sim import engine
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense

DT, STEPS = 2.0**-10, 12


@pytest.fixture
def recurrent(tmp_path: Path) -> Path:
    """A loop of LIF neurons without a word on time, reset or readout."""
    rng = np.random.default_rng(3)
    one = np.ones(5)
    nodes = {
        "input": nir.Input(np.array([4])),
        "w": nir.Linear(weight=rng.normal(size=(5, 4))),
        "lif": nir.LIF(tau=4 * DT * one, r=4 * one, v_leak=0 * one, v_threshold=one),
        "back": nir.Affine(weight=rng.normal(size=(5, 5)), bias=0.1 * one),
        "output": nir.Output(np.array([5])),
    }
    edges = [("input", "w"), ("w", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "output")]
    path = tmp_path / "loop.nir"
    nir.write(path, nir.NIRGraph(nodes, edges, type_check=False))
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A dense layer of LIF neurons, nothing more."""
    rng = np.random.default_rng(5)
    one = np.ones(3)
    nodes = {
        "input": nir.Input(np.array([4])),
        "w": nir.Affine(weight=rng.normal(size=(3, 4)), bias=0.1 * one),
        "lif": nir.LIF(tau=4 * DT * one, r=4 * one, v_leak=0 * one, v_threshold=one),
        "output": nir.Output(np.array([3])),
    }
    path = tmp_path / "plain.nir"
    edges = [("input", "w"), ("w", "lif"), ("lif", "output")]
    nir.write(path, nir.NIRGraph(nodes, edges, type_check=False))
    return path


def test_how_a_file_was_read_stays_in_the_bundle(recurrent: Path, tmp_path: Path) -> None:
    reading = Reading(
        dt_s=DT, steps=STEPS, rule="exact", reset="subtract", weight_bits=4, objective="weight"
    )
    found = exporting.export(recurrent, tmp_path / "b", target="lava", vectors=9, reading=reading)
    assert found["samples"] == 9
    bundle = bundles.read(tmp_path / "b")
    assert bundle.net.population("lif").reset == "subtract"
    assert bundle.net.population("lif").dv == round(4096 * (1 - np.exp(-0.25)))
    assert json.loads(bundle.path("reading.json").read_text()) == {
        "dt_s": DT, "rule": "exact", "reset": "subtract"
    }  # fmt: skip
    report = simulating.simulate(tmp_path / "b", ["engine", "twin"])
    assert report["passed"]
    ((_, float_net),) = simulating.float_nets(bundle)
    assert float_net.population("lif").keep_v == pytest.approx(np.exp(-0.25))


def test_graded_input_of_a_foreign_file(recurrent: Path, tmp_path: Path) -> None:
    reading = Reading(dt_s=DT, steps=STEPS, payload_bits=5, input_scale=31.0)
    exporting.export(recurrent, tmp_path / "b", target="loihi2", vectors=3, reading=reading)
    bundle = bundles.read(tmp_path / "b")
    assert (bundle.net.input.kind, bundle.net.input.payload_bits) == ("graded", 5)
    assert bundle.net.input.scale == 31.0
    assert bundle.vectors.inputs.max() == 31


def test_calibration_samples_come_from_a_file(recurrent: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples.npy"
    rng = np.random.default_rng(0)
    np.save(samples, rng.integers(0, 2, (STEPS, 6, 4)))
    reading = Reading(dt_s=DT, steps=STEPS, objective="spikes", calibration=samples)
    found = exporting.export(recurrent, tmp_path / "b", target="loihi2", reading=reading)
    assert found["passed"]


def test_a_netx_file_becomes_a_bundle(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    net = FixedNet(
        input=Input(shape=(4,)),
        populations=(Population(name="out", shape=(3,), v_th=7, dv=100),),
        projections=(
            Projection(
                source="input", target="out", synapse=Dense(w=2 * rng.integers(-9, 10, (3, 4)))
            ),
        ),
        readout=Readout(population="out"),
        steps=8,
    )
    netx_file.write(net, tmp_path / "plain.net")
    found = exporting.export(tmp_path / "plain.net", tmp_path / "b", target="loihi2")
    assert "nothing was rounded" in found["report"]
    bundle = bundles.read(tmp_path / "b")
    assert bundle.net.steps == 8
    x = bundle.vectors.inputs
    ours, theirs = engine.run(net, x), engine.run(bundle.net, x)
    assert ours["out"].spikes.any()
    assert np.array_equal(ours.logits(net.readout), theirs.logits(bundle.net.readout))
    assert simulating.simulate(tmp_path / "b", ["engine"])["passed"]


def test_an_overflow_names_the_input_that_makes_it_happen(tmp_path: Path) -> None:
    """Five weights of 255 * 2**7, each with 4 bits of payload, leave the 24 bits of u."""
    net = FixedNet(
        input=Input(shape=(6,), kind="graded", payload_bits=4),
        populations=(Population(name="out", shape=(1,), v_th=131071, dv=0),),
        projections=(
            Projection(
                source="input", target="out",
                synapse=Dense(w=[[255, 255, 255, 0, 255, 255]], w_exp=7),
            ),
        ),
        readout=Readout(population="out"),
        steps=2,
    )  # fmt: skip
    reached = 5 * 255 * 15 << 13
    with pytest.raises(ValueError, match=r"^loihi2: population 'out': u can wrap in") as refusal:
        bundling.checked(net, net.chip)
    tells = (
        f"; it reaches {reached} in step 0 for an input with 10 of 12 values in 2 steps above 0,"
        " the largest 15 (export.witness.worst_input returns it)"
    )
    assert str(refusal.value).endswith(tells)

    # Integers of others cannot be scaled down; every backend overflows alike.
    net = replace(
        net,
        input=Input(shape=(6,)),
        projections=(replace(net.projections[0], synapse=Dense(w=[[90, 99, 80, 70, 60, 50]])),),
        steps=512,
    )
    netx_file.write(net, tmp_path / "wide.net")
    with pytest.raises(ValueError, match=r"^loihi2: population 'out': v can clip in neuron 0"):
        exporting.export(tmp_path / "wide.net", tmp_path / "b", target="loihi2")
    found = exporting.export(
        tmp_path / "wide.net", tmp_path / "b", target="loihi2",
        reading=Reading(allow_overflow=True),
    )  # fmt: skip
    assert found["notes"][-1].startswith("allowed: population 'out': v can clip in neuron 0")
    assert simulating.simulate(tmp_path / "b", ["engine", "twin"])["passed"]


def test_integers_chosen_for_netx_come_with_a_netx_file(plain: Path, tmp_path: Path) -> None:
    reading = Reading(dt_s=DT, steps=STEPS)
    free = exporting.export(plain, tmp_path / "a", target="loihi2", reading=reading)
    assert "NetX keeps" in free["netx_refused"]
    bound = exporting.export(
        plain, tmp_path / "b", target="loihi2", reading=replace(reading, for_netx=True)
    )
    assert bound["netx_refused"] is None
    assert "net.net" in bound["files"]


@pytest.mark.parametrize(
    ("reading", "sentence"),
    [
        (Reading(dt_s=DT), "does not say how many steps to run; give steps"),
        (Reading(dt_s=DT, steps=3, rule="rk4"), "rule is 'rk4'; allowed are 'euler', 'exact'"),
        (Reading(dt_s=DT, steps=3, reset="half"), "reset is 'half'"),
        (Reading(dt_s=DT, steps=3, input_scale=2.0), "--input-scale is of graded input; give"),
        (Reading(dt_s=DT, steps=3, weight_bits=9), "weight_bits"),
        (Reading(dt_s=DT, steps=3, objective="luck"), "objective is 'luck'; allowed are"),
        (
            Reading(dt_s=DT, steps=3, objective="spikes", calibration=Path("no.npy")),
            "no.npy: cannot be read as a .npy file (",
        ),
    ],
)
def test_refused_readings(recurrent: Path, tmp_path: Path, reading: Reading, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        exporting.export(recurrent, tmp_path / "b", target="loihi2", reading=reading)
    assert not (tmp_path / "b").exists()


def test_options_that_mean_nothing_are_refused(recurrent: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "x.net").write_bytes(b"")
    cases: list[tuple[str, Any, str]] = [
        ("run", {"dt_s": 0.1, "weight_bits": 4}, "says itself what --dt, --weight-bits would"),
        ("x.net", {"rule": "exact"}, "says itself what --rule would; leave it out"),
    ]
    for name, said, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            exporting.export(
                tmp_path / name, tmp_path / "b", target="loihi2", reading=Reading(**said)
            )


def test_spikes_recorded_elsewhere(recurrent: Path, tmp_path: Path) -> None:
    reading = Reading(dt_s=DT, steps=STEPS)
    exporting.export(recurrent, tmp_path / "b", target="loihi2", vectors=20, reading=reading)
    bundle = bundles.read(tmp_path / "b")
    trace = engine.run(bundle.net, bundle.vectors.inputs)
    record = {name: part.spikes.copy() for name, part in trace.populations.items()}
    np.savez(tmp_path / "same.npz", **record)
    good = simulating.simulate(tmp_path / "b", against=tmp_path / "same.npz")
    assert good["passed"]
    assert [r["right"] for r in good["rungs"]] == ["reference", "same.npz"]

    # The same neurons with another threshold, as a wrong scale factor would give them.
    lif = bundle.net.population("lif")
    lower = tuple(
        replace(p, v_th=int(lif.v_th) * 3 // 4) if p.name == "lif" else p
        for p in bundle.net.populations
    )
    wrong = engine.run(replace(bundle.net, populations=lower), bundle.vectors.inputs)
    np.savez(tmp_path / "wrong.npz", **{name: p.spikes for name, p in wrong.populations.items()})
    bad = simulating.simulate(tmp_path / "b", against=tmp_path / "wrong.npz")
    assert not bad["passed"]
    assert "threshold" in bad["rungs"][1]["cause"]
    assert bad["rungs"][1]["cause"] in simulating.describe_report(bad)

    np.savez(tmp_path / "long.npz", **{n: s.repeat(2, axis=0) for n, s in record.items()})
    with pytest.raises(ValueError, match=r"long.npz: holds 20 samples of 24 steps; the bundle"):
        simulating.simulate(tmp_path / "b", against=tmp_path / "long.npz")
