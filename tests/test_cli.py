"""Every command does its work and says what it did, for people and as JSON."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import typer

import spikeport
from spikeport import demo
from spikeport.backends import BACKENDS
from spikeport.cli import app
from spikeport.hw.lava_import import available
from spikeport.sim.attack import ATTACKS
from spikeport.sim.attack.events import EVENT_ATTACKS
from spikeport.sim.bundle import sha256


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: tiny.toml, run and bundle."""
    shutil.copytree(finished, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def document(cli: Any, line: str, *, code: int = 0) -> Any:
    """The JSON that a command prints; nothing else may be on either stream."""
    done = cli.spikeport(*shlex.split(line), "--json")
    assert (done.code, done.stderr) == (code, "")
    return json.loads(done.stdout)


def test_train(here: Path, cli: Any) -> None:
    found = document(cli, "train tiny.toml --out new --set train.epochs=2")
    assert (found["folder"], found["test_images"]) == ("new", 540)
    assert found.keys() == {
        "folder", "float_test_accuracy", "quantised_test_accuracy", "test_images", "seconds",
    }  # fmt: skip
    assert found["quantised_test_accuracy"] > 0.5
    assert json.loads((here / "new" / "summary.json").read_text()) == found
    assert "epochs = 2" in (here / "new" / "config.toml").read_text()


def test_resume_of_a_finished_run_changes_no_weights(here: Path, cli: Any) -> None:
    before = {path.name: sha256(path) for path in (here / "run").glob("*.safetensors")}
    document(cli, "train tiny.toml --out run --resume")
    assert {path.name: sha256(path) for path in (here / "run").glob("*.safetensors")} == before


def test_export(here: Path, cli: Any) -> None:
    found = document(cli, "export run --target loihi2 --vectors 5 --out new")
    assert (found["passed"], found["samples"], found["chip"]) == (True, 5, "loihi2")
    assert set(found["files"]) == {p.name for p in (here / "new").iterdir()} - {"checksums.json"}
    exact = [rung for rung in found["fidelity"]["rungs"] if rung["exact"]]
    assert exact
    assert {rung["differing"] for rung in exact} == {0}
    assert found["digest"] == document(cli, "attack new --attack fgsm --samples 2 --no-checks"
                                            " --replay none")["header"]["digest"]  # fmt: skip


def test_export_to_nir_and_back(here: Path, cli: Any) -> None:
    found = document(cli, "export run --target nir --out plain")
    assert found["files"] == [path.name for path in (here / "plain").iterdir()] == ["net.nir"]
    again = document(cli, "export plain/net.nir --target loihi --vectors 3 --out new")
    first = document(cli, "export run --target loihi --vectors 3 --out other")
    assert again["digest"] == first["digest"]
    assert again["samples"] == 3


def test_a_second_export_replaces_the_first(here: Path, cli: Any) -> None:
    assert document(cli, "export run --target loihi --vectors 2 --out bundle")["samples"] == 2
    with h5py.File(here / "bundle" / "vectors.h5") as file:
        assert file["inputs"].shape == (3, 2, 1, 8, 8)


def test_simulate(here: Path, cli: Any) -> None:
    found = document(cli, "simulate bundle --backend engine --backend twin")
    assert found.keys() == {"passed", "accuracy", "rungs", "missing"}
    names = [(rung["left"], rung["right"]) for rung in found["rungs"]]
    assert names == [
        ("written at export", "reference"), ("reference", "engine"), ("reference", "twin"),
    ]  # fmt: skip
    assert {rung["differing"] for rung in found["rungs"]} == {0}
    assert {rung["samples"] for rung in found["rungs"]} == {8}
    assert found["accuracy"].keys() == {"reference", "engine", "twin"}


@pytest.mark.lava
def test_simulate_on_everything(here: Path, cli: Any) -> None:
    found = document(cli, "simulate bundle --lava-samples 2")
    exact = {rung["right"]: rung for rung in found["rungs"] if rung["exact"]}
    assert exact.keys() == set(BACKENDS)
    assert exact["lava"]["samples"] == 2
    assert found["missing"] == []
    assert found["passed"]


def test_altered_spikes_fail_the_check(here: Path, cli: Any) -> None:
    """A bundle whose sums fit but whose spikes no backend gives: exit code 1, and where."""
    with h5py.File(here / "bundle" / "vectors.h5", "r+") as file:
        file["spikes/0000"][1, 2, 0] ^= 0b0010_0000  # step 1, sample 2, neuron 2
    listing = here / "bundle" / "checksums.json"
    content = json.loads(listing.read_text())
    content["sha256"]["vectors.h5"] = sha256(here / "bundle" / "vectors.h5")
    listing.write_text(json.dumps(content))
    found = document(cli, "simulate bundle --backend engine", code=1)
    stored, engine = found["rungs"]
    assert (found["passed"], stored["passed"], engine["passed"]) == (False, False, True)
    assert stored["differing"] == 1
    assert "'lif1': spikes of neuron 2, sample 2, first differs at step 1" in stored["first"]
    plain = cli.spikeport("simulate", "bundle", "--backend", "engine")
    assert plain.code == 1
    assert "an exact rung FAILED" in plain.stdout


def test_attack(here: Path, cli: Any) -> None:
    line = "attack bundle --attack fgsm --attack noise --samples 4 --eps 51/510 --replay none"
    found = document(cli, f"{line} --no-checks")
    assert found.keys() == {"passed", "header", "radii", "checks"}
    assert found["header"]["settings"]["attacks"] == ["fgsm", "noise"]
    assert found["header"]["samples"] == 4
    (radius,) = found["radii"]
    assert set(radius["evaluation"]["models"]) == {"float", "quantised", "integer"}
    for model in radius["evaluation"]["models"].values():
        assert model["attacks"].keys() == {"fgsm", "noise-100"}
        assert 0 <= model["worst_accuracy"] <= model["clean_accuracy"] <= 1
    assert radius["replay"]["reason"] == "replay none was asked for"
    assert found["checks"] is None


@pytest.mark.lava
def test_attack_with_replay(here: Path, cli: Any) -> None:
    found = document(cli, "attack bundle --attack fgsm --samples 4 --no-checks --eps 0.2")
    replayed = found["radii"][0]["replay"]
    assert (replayed["images"], replayed["disagreeing"]) == (4, 0)
    assert replayed["differing"] == 0 < replayed["spikes"]


def test_attack_again(here: Path, cli: Any) -> None:
    line = "attack bundle --attack fgsm --samples 4 --eps 0.1 --eps 0.2 --replay none --no-checks"
    found = document(cli, f"{line} --out r.json")
    assert len(found["radii"]) == 2
    again = document(cli, "attack bundle --again r.json")
    assert (again["radii"], again["differing"]) == (found["radii"], [])


def test_attack_leaves_what_others_keep_beside_its_shares(here: Path, cli: Any) -> None:
    (here / "r.json.parts").mkdir()
    (here / "r.json.parts" / "notes.txt").write_text("mine")
    for half in (".header.json.0a.json", ".000000.safetensors.0a.safetensors"):  # of killed ones
        (here / "r.json.parts" / half).touch()
    line = "attack bundle --attack fgsm --samples 4 --replay none --no-checks --out r.json"
    first = document(cli, line)
    assert [p.name for p in (here / "r.json.parts").iterdir()] == ["notes.txt"]
    (here / "r.json.parts" / "notes.txt").unlink()
    assert document(cli, line) == first  # over a result of ours
    assert not (here / "r.json.parts").exists()


MORE = (
    "--attack fgsm", "--eps 0.1", "--norm l2", "--flips 3", "--flips-per-step 2", "--standard",
    "--retime moves=1", "--steps 40", "--restarts 1", "--queries 500", "--samples 128", "--seed 0",
    "--replay none", "--no-checks", "--checks", "--out r.json", "--cluster tcp://a:1",
)  # fmt: skip


@pytest.mark.parametrize("more", MORE)
def test_attack_again_takes_no_other_settings(here: Path, cli: Any, more: str) -> None:
    """Not even those that are the default: the result in the file may be of others."""
    done = cli.spikeport(*shlex.split(f"attack bundle --again r.json {more}"))
    name = more.split()[0].replace("--no-", "--")
    sentence = f"--again makes a result from the settings in its file; leave {name}"
    assert (done.code, done.stdout, done.stderr) == (2, "", f"spikeport: {sentence}\n")


def test_every_other_setting_is_tried() -> None:
    command: Any = typer.main.get_command(app)
    options = {p.opts[0] for p in command.commands["attack"].params if p.opts[0].startswith("--")}
    told = {option.split()[0] for option in MORE} - {"--no-checks"}
    assert told | {"--again", "--jobs", "--timeout", "--json"} == options - {"--help"}


def test_faults(here: Path, cli: Any) -> None:
    line = "faults bundle --kind weight=2 --kind dead --samples 4 --at-once 1 --at-once 3"
    found = document(cli, f"{line} --trials 6 --eps 0.2 --out faults.json")
    assert [len(trial["faults"]) for trial in found["trials"]] == [1, 3, 1, 3, 1, 3]
    assert set(found["right"]) == {"clean", "worst"}
    assert found["right"]["worst"] <= found["right"]["clean"] <= found["samples"] == 4
    more = document(cli, f"{line} --trials 9 --eps 0.2 --out faults.json --jobs 1")
    assert more["trials"][:6] == found["trials"]
    assert "most critical kind" in more["report"]
    assert len(document(cli, "faults bundle --trials 20 --samples 2")["trials"]) == 20


def test_deploy(here: Path, cli: Any) -> None:
    found = document(cli, "deploy bundle --board oheo-gulch --out board --no-run")
    assert found.keys() == {"passed", "folder", "board", "files", "state", "ran", "missing"}
    files = {p.relative_to(here / "board").as_posix() for p in (here / "board").rglob("*.*")}
    assert set(found["files"]) == files | {"SHA256SUMS"}
    assert {"vectors.npz", "run.py", "placement.txt", "cost.txt", "cost.json"} <= files
    assert (found["passed"], found["state"], found["ran"]) == (True, "not asked", None)
    assert found["missing"] == "--no-run was given"


@pytest.mark.lava
def test_deploy_runs_the_folder(here: Path, cli: Any) -> None:
    found = document(cli, "deploy bundle --board oheo-gulch --out board --samples 2")
    assert found["state"] == "compared"
    assert found["ran"] == json.loads((here / "board" / "result.json").read_text())
    assert (found["ran"]["samples"], found["ran"]["ran_on"]) == (2, "Lava's CPU simulator")
    with np.load(here / "board" / "vectors.npz") as vectors:
        sizes = {
            name: vectors[f"spikes.{name}"][:, :2].size for name in found["ran"]["populations"]
        }
    for name, count in found["ran"]["populations"].items():
        assert (count["differing"], count["compared"]) == (0, sizes[name])
    # No test machine carries a board.
    assert found["missing"].startswith("no board can be used: Lava-Loihi, the extension that")


def test_check(here: Path, cli: Any) -> None:
    found = document(cli, "check bundle --target loihi2")
    assert found.keys() == {"passed", "target", "digest", "issues", "placement"}
    assert (found["passed"], found["target"]) == (True, "loihi2")
    placement = found["placement"]
    assert placement["cores"] == sum(layer["cores"] for layer in placement["layers"])
    assert placement["of"] == 128
    assert document(cli, "check bundle/net.h5 --target loihi2") == found
    few = document(cli, "check bundle --target loihi2 --fewest")["placement"]
    assert few["cores"] <= placement["cores"]


def test_check_of_what_does_not_fit(here: Path, cli: Any) -> None:
    done = cli.spikeport("check", "bundle", "--target", "loihi1", "--json")
    assert (done.code, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert not found["passed"]
    assert [issue["rule"] for issue in found["issues"] if issue["severity"] == "error"] == [
        "graded_input"
    ]
    table = 'base = "loihi2"\nname = "toy"\n[cores]\nvalue = 1\nsource = "none"\n'
    (here / "toy.toml").write_text(table, "utf-8")
    done = cli.spikeport("check", "bundle", "--target", "toy.toml")
    assert done.code == 1
    assert "error: network: it takes 2 cores, but there are 1 on toy;" in done.stdout
    tiny = table.replace("[cores]", "[synapse_words]")
    (here / "toy.toml").write_text(tiny, "utf-8")
    done = cli.spikeport("check", "bundle", "--target", "toy.toml", "--json")
    assert done.code == 1
    found = json.loads(done.stdout)
    assert found["placement"] is None
    assert {issue["rule"] for issue in found["issues"]} >= {"one_neuron"}


def test_a_chip_of_ones_own_may_be_called_like_a_reader(here: Path, cli: Any) -> None:
    (here / "own.toml").write_text('base = "loihi2"\nname = "speck"\n', "utf-8")
    done = cli.spikeport("check", "bundle", "--target", "own.toml")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.endswith("the network fits speck\n")


def test_doctor(cli: Any) -> None:
    found = document(cli, "doctor")
    assert (found["passed"], found["spikeport"]) == (True, spikeport.__version__)
    for name in ("engine", "twin"):
        assert found["backends"][name] == "ok"
    for name in ("lava-inprocess", "lava"):
        assert found["backends"][name] == (available() or "ok")


WORDS = {
    "export run --target loihi --vectors 2 --out new": "2 test vectors",
    "simulate bundle --backend engine": "all exact rungs hold",
    "attack bundle --attack fgsm --samples 2 --no-checks --replay none": "accuracy on 2 images",
    "faults bundle --trials 3 --samples 2": "3 trials on 2 images",
    "check bundle --target loihi2": "the network fits loihi2",
    "deploy bundle --board oheo-gulch --out board --no-run": "wrote board for oheo-gulch",
    "train tiny.toml --out again": "trained into again",
}


@pytest.mark.parametrize("line", WORDS)
def test_for_people_there_is_text(here: Path, cli: Any, line: str) -> None:
    done = cli.spikeport(*shlex.split(line))
    assert done.code == 0
    assert WORDS[line] in done.stdout
    assert not done.stdout.startswith("{")


OPTIONS = {
    "train": ("--out", "--set", "--resume"),
    "export": ("--target", "--out", "--vectors", "--dt", "--steps"),
    "simulate": ("--backend", "--lava-samples", "--timeout"),
    "attack": ("--attack", "--eps", "--steps", "--restarts", "--queries", "--samples", "--replay",
               "--seed", "--checks", "--timeout", "--norm", "--standard", "--out", "--again",
               "--jobs", "--cluster", "--flips", "--flips-per-step", "--retime"),
    "faults": ("--kind", "--at-once", "--trials", "--rate", "--samples", "--eps", "--seed", "--out",
               "--jobs"),
    "check": ("--target", "--fewest"),
    "deploy": ("--board", "--out", "--run", "--no-run", "--samples", "--timeout", "--host",
               "--partition", "--node", "--address", "--binary", "--generation", "--profile"),
    "demo": ("--out",),
    "doctor": (),
}  # fmt: skip


@pytest.mark.parametrize("command", OPTIONS)
def test_help_names_the_options(cli: Any, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = cli.spikeport(command, "--help")
    assert (done.code, done.stderr) == (0, "")
    for option in (*OPTIONS[command], "--json"):
        assert option in done.stdout


def test_help_names_every_attack(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "2000")  # one line an option
    lines = cli.spikeport("attack", "--help").stdout.splitlines()
    (told,) = (line for line in lines if "--attack " in line)
    assert set(re.findall(r"[a-z][a-z-]*", told)) >= {*ATTACKS, *EVENT_ATTACKS}


def test_the_table_of_the_demo(here: Path, cli: Any) -> None:
    """Built from small results of the commands that the demo joins."""
    line = f"attack bundle --attack pgd --steps {demo.PGD_STEPS} --samples 2 --no-checks"
    result = {
        "seconds": 12.0,
        "export": document(cli, "export run --target loihi --vectors 0 --out bundle"),
        "simulate": document(cli, "simulate bundle --backend engine"),
        "attack": document(cli, f"{line} --replay none"),
    }
    lines = demo.describe_demo(result).splitlines()
    assert lines[0].split() == ["float", "quantised", "integer", "Lava"]
    assert lines[1].startswith("clean, all 540 test images")
    assert lines[1].endswith("not run")
    assert "PGD-40" in lines[3]
    assert "spikes differing: 0" in lines[-1]
