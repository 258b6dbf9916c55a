"""The whole way on the smallest runs: train, export, simulate, attack; what is refused on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
import torch

from spikeport import (
    attack_report,
    attack_shares,
    attacking,
    bundling,
    demo,
    exporting,
    faulting,
    simulating,
)
from spikeport.attack_settings import Settings
from spikeport.foreign import Reading
from spikeport.hw import lava_import
from spikeport.hw.place import place
from spikeport.hw.target import target
from spikeport.sim import apart, engine
from spikeport.sim import bundle as bundles
from spikeport.sim.attack.evaluate import evaluation
from spikeport.train import epochs, loop
from spikeport.train.config import DIGITS, load, override, to_toml

TINY = ("train.epochs=2", "model.name=dense", "model.hidden=24", "encode.steps=3",
        "quantise.epochs=1", "train.seed=3")  # fmt: skip
ATTACK: dict[str, Any] = {
    "attacks": ("fgsm", "noise"),
    "samples": 12,
    "checks": False,
    "eps": (16 / 255,),
}


def trained(folder: Path, *settings: str) -> Path:
    loop.fit(override(load(DIGITS), [*TINY, *settings]), folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("direct") / "run")


@pytest.fixture(scope="module")
def rate_coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poisson") / "run"
    return trained(folder, "encode.name=poisson", "model.readout=count")


@pytest.fixture(scope="module")
def exported(run: Path) -> dict[str, Any]:
    return exporting.export(run, run.parent / "bundle", target="loihi", vectors=20)


@pytest.fixture
def bundle(exported: dict[str, Any]) -> Path:
    return Path(exported["folder"])


def test_export_writes_a_bundle_whose_exact_rungs_hold(exported: dict[str, Any]) -> None:
    assert exported["passed"] is True
    assert (exported["target"], exported["chip"], exported["samples"]) == ("loihi", "loihi2", 20)
    assert exported["netx_refused"].startswith("projection 'input' -> 'lif1': w_exp is ")
    assert exported["files"] == [
        "fidelity.json", "float.nir", "net.h5", "net.nir", "network.txt", "report.json",
        "report.txt", "vectors.h5",
    ]  # fmt: skip
    rungs = exported["fidelity"]["rungs"]
    assert [(r["left"], r["right"], r["exact"]) for r in rungs] == [
        ("torch float", "FloatNet", False),
        ("FloatNet", "FixedNet", False),
        ("torch integers", "engine", True),
    ]
    assert all(r["samples"] == 540 and r["steps"] == 3 for r in rungs)
    assert (rungs[2]["differing"], rungs[2]["predictions"]) == (0, 0)
    assert rungs[2]["spikes"] == 540 * 3 * (24 + 10)
    assert rungs[0]["differing"] < 0.001 * rungs[0]["spikes"]
    found = bundles.read(exported["folder"])
    assert found.net.digest() == exported["digest"]
    assert found.vectors.labels is not None
    assert json.loads(found.path("fidelity.json").read_text())["passed"] is True
    text = bundling.describe_export(exported)
    assert "0 of 55,080 spikes and 0 predictions differ [ok]" in text
    assert "vectors.h5; 20 test vectors\nno NetX file: projection 'input'" in text


def test_a_convolutional_run_has_a_netx_file(tmp_path: Path) -> None:
    folder = trained(tmp_path / "run", "model.name=conv", "model.channels=[4,8]", "train.epochs=1")
    result = exporting.export(folder, tmp_path / "b", target="loihi", vectors=4)
    assert result["passed"] is True
    assert result["netx_refused"] is None
    with h5py.File(bundles.read(tmp_path / "b").path("net.net")) as file:
        assert len(file["layer"]) == 5  # input, two convolutions, flatten, dense


def test_a_second_export_replaces_the_bundle(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    first = exporting.export(run, folder, target="loihi2", vectors=3)
    second = exporting.export(run, folder, target="loihi", vectors=0)
    assert (first["samples"], second["samples"]) == (3, 540)
    assert bundles.read(folder).vectors.samples == 540
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_target_nir_is_the_file_alone(run: Path, tmp_path: Path) -> None:
    result = exporting.export(run, tmp_path / "out", target="nir")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["net.nir"] == result["files"]
    assert bundling.describe_export(result) == f"wrote {tmp_path}/out/net.nir"


def test_a_chip_without_graded_spikes_needs_rate_coding(run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"^the input is graded with 8 payload bits, but spikes of loihi1 carry 0; train with"
        r" rate-coded \(spike\) input instead$",
    ):
        exporting.export(run, tmp_path / "b", target="loihi1")
    assert not (tmp_path / "b").exists()


def test_rate_coding_goes_to_loihi1(rate_coded: Path, tmp_path: Path) -> None:
    result = exporting.export(rate_coded, tmp_path / "b", target="loihi1", vectors=10)
    assert (result["passed"], result["chip"]) == (True, "loihi1")
    inputs = bundles.read(tmp_path / "b").vectors.inputs
    assert (inputs.max(), inputs.shape[:2]) == (1, (3, 10))
    again = exporting.export(rate_coded, tmp_path / "again", target="loihi1", vectors=10)
    assert np.array_equal(bundles.read(tmp_path / "again").vectors.inputs, inputs)
    assert again["digest"] == result["digest"]
    options: dict[str, Any] = {"at_once": [1], "trials": 4, "rate": 0.5, "samples": 3, "seed": 0}
    broken = faulting.faults(tmp_path / "b", ["dead"], eps=None, **options)
    assert (len(broken["trials"]), broken["samples"]) == (4, 3)  # faults need no gradient
    with pytest.raises(
        ValueError,
        match=r"b: its input changes from step to step, and a radius is one of still images; leave"
        r" it out$",
    ):
        faulting.faults(tmp_path / "b", ["dead"], eps="0.1", **options)


@pytest.fixture(scope="module")
def trains(rate_coded: Path) -> Path:
    """A bundle of 12 spike trains of 3 steps."""
    exporting.export(rate_coded, rate_coded.parent / "trains", target="loihi1", vectors=12)
    return rate_coded.parent / "trains"


def right(net: Any, x: Any, y: Any) -> float:
    """Share of trains x [T, B, ...] that the integers decide for label y [B], ties against it."""
    logits = engine.run(net, x).logits(net.readout)
    others = np.where(np.eye(logits.shape[1], dtype=bool)[y], -1, logits).max(1)
    return float((logits[np.arange(len(y)), y] > others).mean())


@pytest.mark.parametrize("limit", [None, 1])
def test_trains_of_spikes_are_attacked_within_flips(
    trains: Path, limit: int | None, tmp_path: Path
) -> None:
    settings = Settings(norm="flips", eps=(3, 6), per_step=limit, steps=6, attacks=("flips",),
                        replay="none")  # fmt: skip
    result = attacking.attack(trains, settings)
    assert (result["passed"], result["checks"]) == (True, None)
    text = attack_report.describe_attack(result)
    target = attack_shares.Target.of(trains, 0)
    found = attack_shares.search(
        target, settings, folder=tmp_path, jobs=1, cluster=None, progress=lambda _: None
    )
    stored = bundles.read(trains)
    clean, y = stored.vectors.inputs, stored.vectors.labels
    assert np.array_equal(target.shown(target.x), clean)
    shares = [right(stored.net, clean, y)]
    for radius, search, findings, flips in zip(
        result["radii"], target.searches(settings), found, (3, 6), strict=True
    ):
        worst = target.shown(evaluation(search, findings, target.y).worst_images["integer"])
        assert set(np.unique(worst)) == {0, 1}
        different = (worst != clean).reshape(3, 12, -1).sum(2)
        assert different.sum(0).max() == (flips if limit is None else 3)
        assert limit is None or different.max() == limit
        moved, added, deleted = radius["changes"].values()
        assert 2 * moved + added + deleted == pytest.approx(different.sum(0).mean())
        integer = radius["evaluation"]["models"]["integer"]
        shares.append(right(stored.net, worst, y))
        assert (integer["clean_accuracy"], integer["worst_accuracy"]) == (shares[0], shares[-1])
        assert f"mean, {moved:.2f} moved, {added:.2f} added, {deleted:.2f} deleted events" in text
    assert shares[0] > shares[1] >= shares[2]
    assert f"accuracy on 12 trains, flips = 3{', 1 a step' if limit else ''}; worst case" in text
    assert "no gradient-masking checks: they are made for linf, not flips" in text
    assert text.endswith("publish a figure with the attacks and efforts above")


def test_attacks_on_trains_and_what_they_climb(trains: Path) -> None:
    settings = Settings(norm="flips", eps=(1,), samples=2, steps=2, queries=30, replay="none")
    models = attacking.attack(trains, settings)["radii"][0]["evaluation"]["models"]
    assert list(models) == ["float", "quantised", "integer"]
    for model in models.values():
        views = {view["view"]: view for view in model["settings"]["views"]}
        assert set(views) == {"triangle-1", "atan-2"}
        assert (views["atan-2"]["surrogate"]["name"], views["atan-2"]["steps"]) == ("atan", 3)
        assert list(model["attacks"]) == [
            "random-flips-100", "random-flips-30-kept", "flips-2", "sda-2", "spikefool-2", "frame",
            "corner", "dash",
        ]  # fmt: skip


@pytest.mark.lava
def test_the_worst_trains_are_replayed_on_lava(trains: Path) -> None:
    if reason := lava_import.available():
        pytest.skip(reason)
    (radius,) = attacking.attack(trains, Settings(norm="moves", eps=(4,), steps=3))["radii"]
    replayed, integer = radius["replay"], radius["evaluation"]["models"]["integer"]
    assert (replayed["images"], replayed["disagreeing"], replayed["differing"]) == (12, 0, 0)
    assert replayed["spikes"] == 2 * 12 * 3 * 34
    assert replayed["worst_accuracy"] == integer["worst_accuracy"] < integer["clean_accuracy"]


def test_spikes_are_retimed_on_two_processes_and_once_more(
    trains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(norm="shift", eps=(1,), steps=4, attacks=("retiming",), replay="none")
    out = tmp_path / "r.json"
    one = attacking.attack(trains, settings, out=out, jobs=1)
    assert one["radii"][0]["changes"]["moved"] > 0
    assert one["radii"][0]["changes"]["added"] == one["radii"][0]["changes"]["deleted"] == 0
    assert "12 trains, shift = 1;" in attack_report.describe_attack(one)
    assert attacking.again(trains, out)["passed"]
    monkeypatch.setattr(attack_shares, "SHARE", 7)
    assert attacking.attack(trains, settings, jobs=2)["radii"] == one["radii"]


def test_budgets_of_images_and_of_trains_do_not_mix(trains: Path, bundle: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"trains: its input changes from step to step, as rate coded images and events do, so"
        r" its events are attacked: give --flips N \(and --flips-per-step N\), or --retime shift=N,"
        r" total_shift=N or moves=N, and neither --eps nor --norm$",
    ):
        attacking.attack(trains, Settings())
    with pytest.raises(
        ValueError,
        match=r"bundle: its input is still images, in which there are no events to flip or to"
        r" retime; give --eps and --norm$",
    ):
        attacking.attack(bundle, Settings(norm="flips", eps=(3,)))


def test_an_unfinished_run_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, watch = tmp_path / "run", epochs.watch

    def stop_in_the_second(model: Any, *more: Any) -> Any:
        if (folder / "quantised.safetensors").exists():
            raise KeyboardInterrupt
        return watch(model, *more)

    monkeypatch.setattr(epochs, "watch", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        trained(folder, "quantise.epochs=4", "train.epochs=1")
    with pytest.raises(
        ValueError, match=r"quantised\.safetensors: holds epoch 1 of 4; resume the training first$"
    ):
        exporting.export(folder, tmp_path / "b", target="loihi")


@pytest.mark.parametrize("edit", ["quantise.epochs=4", "model.keep_v=0.25", "methods.tet={}"])
def test_a_run_with_an_edited_configuration_is_not_exported(
    edit: str, run: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    changed = override(load(folder / "config.toml"), [edit])
    (folder / "config.toml").write_text(to_toml(changed))
    said = rf"config\.toml: \[{edit.split('.')[0]}\] is not what the weights were trained with; put"
    with pytest.raises(ValueError, match=said):
        exporting.export(folder, tmp_path / "b", target="loihi")
    moved = override(load(run / "config.toml"), ["train.devices=2"])
    (folder / "config.toml").write_text(to_toml(moved))
    assert exporting.export(folder, tmp_path / "b", target="loihi", vectors=2)["passed"] is True


def test_a_run_without_epochs_on_integers_is_rounded_and_exported(tmp_path: Path) -> None:
    folder = trained(tmp_path / "run", "quantise.epochs=0", "train.epochs=1")
    assert exporting.export(folder, tmp_path / "b", target="loihi", vectors=4)["passed"] is True


def test_refused_arguments(run: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"target": "truenorth"}, "target is 'truenorth'; allowed are "),
        ({"target": "loihi", "vectors": -1}, "vectors is -1; give 0 for the whole test set or a n"),
    ):
        with pytest.raises(ValueError, match=rf"^{message}"):
            exporting.export(run, tmp_path / "b", **options)
    with pytest.raises(ValueError, match=r"gone: no such run folder or file; train first or"):
        exporting.export(tmp_path / "gone", tmp_path / "b", target="loihi")


def test_exports_a_foreign_nir_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    dt = 1e-3
    nodes = {
        "input": nir.Input(input_type={"input": np.array([6])}),
        "fc": nir.Affine(weight=rng.normal(0, 1, (4, 6)), bias=np.zeros(4)),
        "lif": nir.LIF(
            tau=np.full(4, 2 * dt), r=np.full(4, 2.0), v_leak=np.zeros(4),
            v_threshold=np.full(4, 0.5), v_reset=np.zeros(4),
        ),
        "output": nir.Output(output_type={"output": np.array([4])}),
    }  # fmt: skip
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "output")]
    nir.write(str(tmp_path / "net.nir"), nir.NIRGraph(nodes=nodes, edges=edges))
    result = exporting.export(
        tmp_path / "net.nir",
        tmp_path / "b",
        target="loihi2",
        vectors=30,
        reading=Reading(dt_s=dt, steps=9),
    )
    found = bundles.read(tmp_path / "b")
    assert found.net.steps == 9
    assert found.vectors.inputs.shape == (9, 30, 6)
    assert set(np.unique(found.vectors.inputs)) == {0, 1}
    assert 0.05 < np.mean([s.mean() for s in found.vectors.spikes.values()]) < 0.95
    assert found.vectors.labels is None
    assert found.path("net.nir").read_bytes() == (tmp_path / "net.nir").read_bytes()
    (rung,) = result["fidelity"]["rungs"]
    assert rung["differing"] < 0.05 * rung["spikes"]
    report = simulating.simulate(tmp_path / "b", ["engine", "twin"])
    assert report["passed"] is True
    assert report["accuracy"] == {}
    with pytest.raises(ValueError, match=r"b: its test vectors have no labels, so nothing can be"):
        attacking.attack(tmp_path / "b", Settings())
    with pytest.raises(ValueError, match=r"b: its test vectors have no labels, so no decision is"):
        faulting.faults(
            tmp_path / "b", ["dead"], at_once=[1], trials=1, rate=0.5, samples=0, eps=None, seed=0
        )


def test_simulate_compares_what_can_run(bundle: Path) -> None:
    told: list[str] = []
    report = simulating.simulate(bundle, lava_samples=4, progress=told.append)
    assert report["passed"] is True
    exact = [r for r in report["rungs"] if r["exact"]]
    missing = [m["rung"] for m in report["missing"]]
    names = {r["right"] for r in exact} | set(missing)
    assert names == {"reference", "engine", "twin", "lava-inprocess", "lava"}
    assert exact[0]["left"] == "written at export"
    assert (exact[0]["state"], exact[0]["differing_state"]) == (20 * 10, 0)
    assert all(r["differing"] == r["differing_state"] == 0 for r in exact)
    assert {"float", "quantised", "reference", "engine", "twin"} <= set(report["accuracy"])
    assert report["accuracy"]["engine"] == report["accuracy"]["reference"] > 0.3
    assert told[0] == "reference"
    assert simulating.describe_report(report).endswith("all exact rungs hold")


@pytest.mark.lava
def test_simulate_and_replay_on_lava(bundle: Path) -> None:
    if reason := lava_import.available():
        pytest.skip(reason)
    report = simulating.simulate(bundle, ["lava-inprocess", "lava"], lava_samples=3)
    sizes = {r["right"]: (r["samples"], r["differing"], r["state"]) for r in report["rungs"]}
    assert sizes["lava-inprocess"][:2] == (20, 0)
    assert sizes["lava"][:2] == (3, 0)
    assert sizes["lava"][2] > 0
    said: list[str] = []
    settings = Settings(**ATTACK | {"eps": (16 / 255, 64 / 255)})
    result = attacking.attack(bundle, settings, progress=said.append)
    for radius in result["radii"]:
        replayed = radius["replay"]
        assert (replayed["images"], replayed["disagreeing"], replayed["differing"]) == (12, 0, 0)
        assert replayed["spikes"] == 2 * 12 * 3 * 34
        integer = radius["evaluation"]["models"]["integer"]
        assert replayed["clean_accuracy"] == integer["clean_accuracy"]
        assert replayed["worst_accuracy"] == integer["worst_accuracy"]
    assert len({radius["replay"]["worst_accuracy"] for radius in result["radii"]}) == 2
    assert result["passed"] is True
    played = [f"replay of 12 {which} samples" for which in ("clean", "attacked", "attacked")]
    assert [text.partition(" on ")[0] for text in said if "replay" in text] == played


def test_one_wrong_decision_on_lava_fails_the_attack(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lava decides otherwise on one clean sample, which stands in the counts of every radius."""
    shown: list[Any] = []

    def run(net: Any, x: Any, *, backend: str, **_: Any) -> Any:
        trace = engine.run(net, x)
        shown.extend([x] * (backend == "lava-inprocess"))
        if backend == "lava-inprocess" and len(shown) == 1:
            part, decided = trace[net.readout.population], trace.logits(net.readout)[0].argmax()
            for values in (part.spikes[:, 0], part.v_last[0]):
                values[..., [decided, decided - 1]] = values[..., [decided - 1, decided]]
        return trace

    monkeypatch.setattr("spikeport.hw.lava_run.available", lambda: None)
    monkeypatch.setattr("spikeport.backends.run", run)
    result = attacking.attack(bundle, Settings(**ATTACK | {"eps": (16 / 255, 64 / 255)}))
    assert [x.shape[1] for x in shown] == [12, 12, 12]
    replays = [radius["replay"] for radius in result["radii"]]
    assert [each["disagreeing"] for each in replays] == [1, 1]
    assert result["passed"] is False


@pytest.mark.parametrize("what", ["spikes/0000", "logits"])
def test_other_expectations_fail_the_simulation(run: Path, tmp_path: Path, what: str) -> None:
    exporting.export(run, tmp_path / "b", target="loihi", vectors=5)
    with h5py.File(tmp_path / "b" / "vectors.h5", "r+") as file:
        values = file[what][()]
        values.flat[0] ^= 1
        file[what][...] = values
    with pytest.raises(
        ValueError, match=r"vectors\.h5: was changed after the export; export again"
    ):
        simulating.simulate(tmp_path / "b", ["engine"])
    sums = json.loads((tmp_path / "b" / "checksums.json").read_text())
    sums["sha256"]["vectors.h5"] = bundles.sha256(tmp_path / "b" / "vectors.h5")
    (tmp_path / "b" / "checksums.json").write_text(json.dumps(sums))
    report = simulating.simulate(tmp_path / "b", ["engine"])
    assert report["passed"] is False
    assert [r["passed"] for r in report["rungs"]] == [False, True]
    assert simulating.describe_report(report).endswith("an exact rung FAILED")


def test_attack_tells_of_every_network(bundle: Path) -> None:
    settings = Settings(**ATTACK, replay="none", seed=5)
    result = attacking.attack(bundle, settings)
    (radius,) = result["radii"]
    models = radius["evaluation"]["models"]
    assert list(models) == ["float", "quantised", "integer"]
    for model in models.values():
        assert list(model["attacks"]) == ["fgsm", "noise-100"]
        robust = [a["robust_accuracy"] for a in model["attacks"].values()]
        assert model["worst_accuracy"] <= min(robust) <= model["clean_accuracy"]
    assert models["integer"]["worst_accuracy"] < models["integer"]["clean_accuracy"]
    assert radius["replay"]["reason"] == "replay none was asked for"
    assert result["header"]["digest"] == bundles.read(bundle).net.digest()
    again = attacking.attack(bundle, settings)
    assert again["radii"] == result["radii"]
    other = attacking.attack(bundle, replace(settings, seed=6))
    assert other["radii"] != result["radii"]
    text = attack_report.describe_attack(result)
    assert "accuracy on 12 images, eps = 0.0627 (16 grey levels)" in text
    assert "not replayed on Lava: replay none was asked for" in text
    assert text.endswith("\na figure to be published needs --standard")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attacks": ("cw",)}, r"^attack is 'cw'; allowed on images are "),
        ({"replay": "board"}, r"^replay is 'board'; allowed are lava-inprocess, lava, none$"),
        ({"samples": -1}, r"^samples is -1; give 0 for all or a number from 1$"),
    ],
)
def test_attack_refuses_unknown_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": ()}, r"^eps is \(\); give one radius or more, growing$"),
        ({"eps": (0.2, 0.1)}, r"^eps is \(0.2, 0.1\); give one radius or more, growing$"),
        ({"norm": "l3"}, r"^norm is 'l3'; allowed are linf, l2, l0, flips, shift, total_shift, m"),
        ({"standard": True, "norm": "l2"}, r"^the standard names its own attacks, all of them in"),
        ({"standard": True, "norm": "flips", "eps": (1,)}, r"^the standard names its own attacks"),
        ({"norm": "flips", "eps": (1.5,)}, r"^flip budget: flips is 1.5; it must be a whole"),
        ({"norm": "moves", "eps": (-1,)}, r"^retiming budget: eps is -1; allowed are 0\.\."),
        ({"norm": "l0", "eps": (2,), "attacks": ("pgd", "square")}, r"^square: the budget is one"),
        ({"norm": "flips", "eps": (2,), "attacks": ("retiming",)}, r"^retiming: the budget is one"),
        (
            {"norm": "moves", "eps": (1,), "per_step": 2},
            r"^flips per step are a limit of flips; give the number of flips too$",
        ),
        (
            {"norm": "flips", "eps": (1,), "attacks": ("flips", "pgd")},
            r"^attack is 'pgd'; allowed on trains are random-flips, flips, sda, spikefool, frame",
        ),
        ({"standard": True, "attacks": ("pgd",)}, r"^the standard names its own attacks, all of"),
    ],
)
def test_attack_refuses_settings_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_several_radii_and_the_same_again(bundle: Path, tmp_path: Path) -> None:
    settings = Settings(attacks=("pgd", "noise"), samples=12, steps=3, checks=False,
                        eps=(16 / 255, 64 / 255), replay="none")  # fmt: skip
    out = tmp_path / "result.json"
    result = attacking.attack(bundle, settings, out=out)
    assert [r["evaluation"]["budget"]["eps"] for r in result["radii"]] == [16 / 255, 64 / 255]
    for r in result["radii"]:
        # Rounded parameters in float arithmetic fire nearly as the chip does.
        found = r["fidelity"]["quantised against integer, clean"]
        assert found["spikes"] == 12 * 3 * 34
        assert 0 <= found["differing"] < 0.03 * found["spikes"]
        assert found["decided_otherwise"] <= 1
    small, large = (r["evaluation"]["models"]["integer"] for r in result["radii"])
    assert large["worst_accuracy"] < small["worst_accuracy"]
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    same = attacking.again(bundle, out)
    assert (same["passed"], same["differing"]) == (True, [])
    assert attack_report.describe_attack(same).endswith("made again: the same, bit for bit")
    told = json.loads(out.read_text())
    told["radii"][1]["evaluation"]["models"]["integer"]["worst_accuracy"] += 0.1
    out.write_text(json.dumps(told))
    other = attacking.again(bundle, out)
    assert (other["passed"], other["differing"]) == (False, ["radii"])
    assert attack_report.describe_attack(other).endswith("made again: radii differ")


def test_what_cannot_be_made_again(bundle: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    told.write_text("{}")
    with pytest.raises(ValueError, match=r"told.json: is no result of an attack \("):
        attacking.again(bundle, told)
    header = {"settings": Settings(**ATTACK).to_json(), "digest": "f" * 64}
    told.write_text(json.dumps({"header": header}))
    with pytest.raises(ValueError, match=r"told.json: is about the network ffffffffffff, .* holds"):
        attacking.again(bundle, told)
    told.write_text(json.dumps({"header": header | {"digest": None}}))
    with pytest.raises(ValueError, match=r"told.json: is about the network None, .* holds"):
        attacking.again(bundle, told)
    told.write_text(json.dumps({"header": {"settings": {"eps": 3}, "digest": ""}}))
    with pytest.raises(ValueError, match=r"attack settings are \{'eps': 3\}; needed are those of"):
        attacking.again(bundle, told)


def test_shares_on_two_processes_find_the_same(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(attacks=("fgsm",), samples=0, checks=False, replay="none")
    one = attacking.attack(bundle, settings, jobs=1)
    monkeypatch.setattr(attack_shares, "SHARE", 10)
    assert attacking.attack(bundle, settings, jobs=1)["radii"] == one["radii"]
    assert attacking.attack(bundle, settings, jobs=2)["radii"] == one["radii"]
    # Work that was stopped goes on: one share is there, another attack's is refused.
    parts = tmp_path / "r.json.parts"
    target = attack_shares.Target.of(bundle, 0)
    said: list[str] = []
    attack_shares.search(target, settings, folder=parts, jobs=1, cluster=None, progress=said.append)
    assert said == ["attacked 1 of 2 shares", "attacked 2 of 2 shares"]
    (parts / "000001.safetensors").unlink()
    attack_shares.search(target, settings, folder=parts, jobs=1, cluster=None, progress=said.append)
    assert said[2:] == ["attacked 2 of 2 shares"]
    whole = (parts / "000000.safetensors").read_bytes()
    (parts / "000000.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"000000.safetensors: is damaged \(.*\); remove it and"):
        attack_shares.search(target, settings, folder=parts, jobs=1, cluster=None, progress=print)
    with pytest.raises(ValueError, match=r"parts: holds parts of another attack, or by other"):
        attack_shares.search(
            target, replace(settings, seed=9), folder=parts, jobs=1, cluster=None,
            progress=said.append,
        )  # fmt: skip


def test_shares_of_other_versions_are_not_mixed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither with those that are there, nor by workers that have others; who work elsewhere."""
    settings = Settings(attacks=("fgsm",), samples=4, checks=False, replay="none")
    target, parts = attack_shares.Target.of(bundle, 4), Path("some/parts")
    monkeypatch.chdir(tmp_path)
    options: Any = {"folder": parts, "jobs": 1, "cluster": None, "progress": lambda _: None}
    (found,) = attack_shares.search(target, settings, **options)
    (part,) = parts.glob("*.safetensors")
    part.unlink()

    def cluster(task: str, missing: list[str], **_: Any) -> Iterator[tuple[str, None]]:
        for each in missing:
            assert Path(each) == tmp_path / part
            attack_shares.search_share(each)
            yield each, None

    monkeypatch.setattr(apart, "each", cluster)
    (again,) = attack_shares.search(target, settings, **options | {"cluster": "tcp://a:1"})
    assert all(torch.equal(again[name], values) for name, values in found.items())
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1")
    with pytest.raises(ValueError, match=r"^this worker's versions are not those of the attack; g"):
        attack_shares.search_share(str(part))
    with pytest.raises(ValueError, match=r"parts: holds parts of another attack, or by other ve"):
        attack_shares.search(target, settings, **options)


def test_the_standard_is_a_cascade_over_its_views(bundle: Path) -> None:
    settings = Settings(standard=True, samples=4, checks=False, replay="none", eps=(0.3,))
    (radius,) = attacking.attack(bundle, settings)["radii"]
    integer = radius["evaluation"]["models"]["integer"]
    assert list(integer["attacks"]) == [
        "sa-pgd-100-assg-0.425", "sa-pgd-100-assg-0.475", "sa-pgd-100-assg-0.35", "apgd-ce-100",
        "apgd-t-100", "square-1000",
    ]  # fmt: skip
    left = [row["robust_accuracy"] for row in integer["attacks"].values()]
    assert left == sorted(left, reverse=True)
    assert integer["attacks"]["apgd-t-100"]["settings"]["views"] == ["triangle-1"]
    views = {view["view"]: view for view in integer["settings"]["views"]}
    assert views["atan-2"]["detach_reset"] is False
    assert views["assg-0.425"]["surrogate"]["area"] == 0.425


def test_dead_cores_take_along_what_is_placed_on_them(bundle: Path) -> None:
    options: dict[str, Any] = {"at_once": [1], "trials": 12, "rate": 0.2, "samples": 20, "seed": 0}
    result = faulting.faults(bundle, ["core"], eps=None, target="loihi2", **options)
    net = bundles.read(bundle).net
    cores = place(net, target("loihi2")).neurons()
    assert {t["faults"][0]["part"] for t in result["trials"]} <= set(cores)
    last = net.readout.population
    only = [core for core, held in cores.items() if len(held.get(last, ())) == 10]
    dead = [t["right"]["clean"] for t in result["trials"] if t["faults"][0]["part"] in only]
    assert dead
    assert max(dead) <= 6  # nothing answers: what is left is one class
    every = faulting.faults(bundle, [], eps=None, target="loihi2", **options)
    assert "core" in every["campaign"]["kinds"]


def test_other_norms_and_their_words(bundle: Path) -> None:
    for norm, eps, words in (("l2", 1.5, "eps = 1.5 in l2"), ("l0", 3.0, "eps = 3 pixels")):
        settings = Settings(samples=4, steps=2, queries=5, norm=norm, eps=(eps,), replay="none")
        result = attacking.attack(bundle, settings)
        assert result["checks"] is None
        assert f"no gradient-masking checks: they are made for linf, not {norm}" in (
            attack_report.describe_attack(result)
        )
        assert words in attack_report.describe_attack(result)
        attacks = result["radii"][0]["evaluation"]["models"]["integer"]["attacks"]
        assert ("square-5" in attacks, "sparse-rs-5" in attacks) == (norm == "l2", norm == "l0")


def test_effort_is_checked(bundle: Path) -> None:
    with pytest.raises(ValueError, match=r"^attack: jobs is -1; it must be at least 1$"):
        attacking.attack(bundle, Settings(**ATTACK), jobs=-1)
    with pytest.raises(ValueError, match=r"^timeout is 0; allowed are 0 to 1e\+06 seconds$"):
        attacking.attack(bundle, Settings(**ATTACK), timeout_s=0)
    with pytest.raises(ValueError, match=r"^attack: a cluster needs --out, a file where its worke"):
        attacking.attack(bundle, Settings(**ATTACK), cluster="tcp://127.0.0.1:9")


def test_the_demo_is_told_as_one_table(exported: dict[str, Any], bundle: Path) -> None:
    settings = Settings(**ATTACK, replay="none")
    text = demo.describe_demo({
        "export": exported,
        "simulate": simulating.simulate(bundle, lava_samples=2),
        "attack": attacking.attack(bundle, settings),
        "seconds": 12.4,
    })  # fmt: skip
    rows = text.splitlines()
    assert rows[0].split() == ["float", "quantised", "integer", "Lava"]
    assert rows[1].startswith("clean, all 540 test images")
    assert rows[2].startswith("clean, the 12 attacked ones")
    assert rows[3].startswith("the same under PGD-40, eps 16/255, worst case")
    assert rows[-1].endswith("spikes differing: 0; 12 s in all")
