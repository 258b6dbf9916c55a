"""The `cost` command, its drawings and its refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeport import costing
from spikeport.hw.activity import activity
from spikeport.hw.energy import band
from spikeport.hw.place import place
from spikeport.hw.target import TARGETS
from spikeport.sim import bundle as bundles
from spikeport.sim import engine


@pytest.fixture(autouse=True)
def _here(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)


def told(cli: Any, *arguments: str) -> dict[str, Any]:
    """What the command says as JSON."""
    done = cli.spikeport("cost", "bundle", *arguments, "--json")
    assert (done.code, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("target", ["loihi1", "loihi2", "kapoho-point"])
def test_figures_are_those_of_the_vectors(cli: Any, target: str) -> None:
    found = told(cli, "--target", target, "--samples", "5")
    bundle = bundles.read(Path("bundle"))
    x, placement = bundle.vectors.inputs[:, :5], place(bundle.net, TARGETS[target])
    expected = activity(bundle.net, x, engine.run(bundle.net, x, record=True), placement)
    run = found["runs"]["vectors"]
    assert (found["cores"], run["samples"]) == (len(placement.cores), 5)
    assert run["joules"] == pytest.approx(band(expected).joules)
    assert run["operations"]["synapses"] == expected.synapses.sum() / 5
    assert sum(row["synapses"] for row in run["layers"]) == run["operations"]["synapses"]
    assert sum(row["neurons"] for row in run["layers"]) == expected.neurons.sum()
    proxy = "as a proxy for loihi2" if target != "loihi1" else "loihi1, 14 nm"
    assert all(proxy in e["label"] for e in run["estimates"])
    assert run["bound"] is None


def test_inputs_of_ones_own_are_told_beside_the_vectors(cli: Any, tmp_path: Path) -> None:
    """Images that are bright everywhere cost more, images that are black cost least."""
    net = bundles.read(Path("bundle")).net
    ends = {}
    for name, value in (("bright", net.input.largest), ("black", 0)):
        path = str(tmp_path / f"{name}.npy")
        np.save(path, np.full((net.steps, 2, *net.input.shape), value))
        runs = told(cli, "--target", "loihi2", "--inputs", path)["runs"]
        assert list(runs) == ["vectors", path]
        ends[name] = runs[path]["joules"], runs[path]["operations"]["synapses"]
    usual = runs["vectors"]
    assert ends["black"][0][0] < usual["joules"][0] < ends["bright"][0][0]
    assert ends["black"][1] < usual["operations"]["synapses"] < ends["bright"][1]


def test_the_bound_has_to_be_asked_for(cli: Any) -> None:
    bound = told(cli, "--target", "loihi2", "--runtime", "scaled")["runs"]["vectors"]["bound"]
    assert bound["constants"] == "scaled"
    assert bound["label"].startswith("scaled: loihi2, scaled from Loihi 1")
    assert "not measured" in bound["label"]
    assert bound["missing"] == ["words", "links"]
    assert bound["seconds"] > 0


def test_people_read_the_same(cli: Any) -> None:
    done = cli.spikeport("cost", "bundle", "--target", "loihi2", "--runtime", "scaled", "--fewest")
    assert done.code == 0
    for words in (
        "of 128 cores of loihi2", "synaptic operations", "J, ", "dynamic only",
        "Davies 2018: loihi1 as a proxy for loihi2, 14 nm, voltage 0.75 V, pre-silicon",
        "by the max-affine model, scaled: loihi2", "not known: words, links",
    ):  # fmt: skip
        assert words in done.stdout


def test_drawings_are_the_same_every_time(cli: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="comes with Lava, or with the extra pictures")
    files = []
    for name in ("one", "two"):
        folder = tmp_path / name
        line = ("--target", "loihi1", "--runtime", "scaled", "--pictures", str(folder))
        written = told(cli, *line)["pictures"]
        assert sorted(map(str, folder.iterdir())) == sorted(written)
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert files[0] == files[1]
    assert {name.split(".")[0] for name in files[0]} == {"floor_plan", "layers", "roofline"}
    assert files[0]["layers.svg"].startswith(b"<?xml")
    assert files[0]["floor_plan.png"].startswith(b"\x89PNG")
    done = cli.spikeport("cost", "bundle", "--target", "loihi1", "--pictures", str(folder))
    assert (done.code, done.stdout) == (2, "")
    assert "exists already; name a new folder" in done.stderr


def test_without_matplotlib_there_are_no_drawings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"install spikeport\[pictures\]"):
        costing.cost(Path("bundle"), target="loihi2", pictures=tmp_path / "drawn")
    assert not (tmp_path / "drawn").exists()


def test_a_network_without_room_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(
        'base = "loihi2"\nname = "small"\n[cores]\nvalue = 1\nsource = "a test"\n', "utf-8"
    )
    with pytest.raises(ValueError, match=r"takes 2 cores.*there are 1 on small"):
        costing.cost(Path("bundle"), target=str(path))
