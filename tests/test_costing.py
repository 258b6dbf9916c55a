"""The `cost` command, its drawings and its refusals."""

from __future__ import annotations

import json
import re
import sys
import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from spikeport import costing
from spikeport.cost_report import cost_table
from spikeport.hw.activity import Activity, activity
from spikeport.hw.constants import SCALED, RuntimeConstants
from spikeport.hw.energy import band
from spikeport.hw.place import place
from spikeport.hw.target import TARGETS, Target
from spikeport.sim import bundle as bundles
from spikeport.sim import engine
from spikeport.sim.faults import Fault
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense


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
    assert run["joules"] == pytest.approx(band(expected).joules, rel=1e-9, abs=0)
    assert run["operations"]["synapses"] == expected.synapses.sum() / 5
    by_step = run["operations_by_step"]
    assert by_step["words"] == pytest.approx(expected.words.sum((1, 2)) / 5)
    assert {name: sum(each) for name, each in by_step.items()} == pytest.approx(
        {name: run["operations"][name] for name in by_step}
    )
    assert by_step.keys() == run["operations"].keys() >= {"synapses", "hops"}
    assert sum(row["synapses"] for row in run["layers"]) == run["operations"]["synapses"]
    assert sum(row["neurons"] for row in run["layers"]) == expected.neurons.sum()
    proxy = "as a proxy for loihi2" if target != "loihi1" else "loihi1, 14 nm"
    assert all(proxy in e["label"] for e in run["estimates"])
    assert run["bound"] is None
    assert found["changes"] == {}


def test_inputs_of_ones_own_are_told_beside_the_vectors(cli: Any, tmp_path: Path) -> None:
    """Images that are bright everywhere cost more, images that are black cost least."""
    net = bundles.read(Path("bundle")).net
    ends = {}
    for name, value in (("bright", net.input.largest), ("black", 0)):
        path = str(tmp_path / f"{name}.npy")
        np.save(path, np.full((net.steps, 2, *net.input.shape), value))
        found = told(cli, "--target", "loihi2", "--inputs", path)
        runs = found["runs"]
        assert list(runs) == ["vectors", "inputs"]
        assert (runs["inputs"]["shown"], runs["inputs"]["samples"]) == (path, 2)
        ends[name] = runs["inputs"]["joules"], runs["inputs"]["operations"]["synapses"]
        change = found["changes"]["inputs"]
        usual = runs["vectors"]["operations"]["synapses"]
        assert change["synapses"] == pytest.approx(ends[name][1] / usual - 1)
        assert change["hops"] == 0.0
    usual = runs["vectors"]
    assert ends["black"][0][0] < usual["joules"][0] < ends["bright"][0][0]
    assert ends["black"][1] < usual["operations"]["synapses"] < ends["bright"][1]


def test_a_file_called_vectors_does_not_replace_the_vectors(
    cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finished: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bundle").symlink_to(finished / "bundle")
    net = bundles.read(Path("bundle")).net
    with open("vectors", "wb") as file:
        np.save(file, np.zeros((net.steps, 1, *net.input.shape), np.int64))
    runs = told(cli, "--target", "loihi2", "--inputs", "vectors")["runs"]
    assert [run["samples"] for run in runs.values()] == [8, 1]
    assert runs["inputs"]["shown"] == "vectors"


def test_a_sponge_needs_no_labels(cli: Any, tmp_path: Path) -> None:
    """It starts from images of one's own where they are given, and is held against them."""
    whole = bundles.read(Path("bundle"))
    bare = replace(whole.vectors, labels=None)
    bundles.write(tmp_path / "bare", whole.net, files={}, vectors=bare)
    asked: Any = {"target": "loihi2", "sponge": "4/255", "seed": 1, "samples": 2}
    runs = costing.cost(tmp_path / "bare", **asked)["runs"]
    same = costing.cost(Path("bundle"), **asked)["runs"]
    assert runs == same
    with pytest.raises(ValueError, match="have no labels, so nothing can be fooled"):
        costing.cost(tmp_path / "bare", target="loihi2", eps="4/255", seed=1)
    with pytest.raises(ValueError, match=r"^budget: eps is 4\.0; allowed are 0\.\.1, in"):
        costing.cost(tmp_path / "bare", target="loihi2", eps="4/255", sponge="4", seed=1)
    path = tmp_path / "dark.npy"
    np.save(path, np.zeros((whole.net.steps, 3, *whole.net.input.shape), np.int64))
    found = costing.cost(tmp_path / "bare", inputs=path, **asked)
    ran, dark = found["runs"]["sponge"], found["runs"]["inputs"]
    assert (ran["samples"], ran["against"], dark["against"]) == (3, "inputs", "vectors")
    rise = ran["operations"]["synapses"] / dark["operations"]["synapses"] - 1
    assert found["changes"]["sponge"]["synapses"] == pytest.approx(rise)
    assert rise > 0
    head = cost_table(found)[0]
    assert head == [
        "mean of a sample", "vectors", "inputs", "change", "sponge", "change from inputs"
    ]  # fmt: skip
    longer = np.zeros((whole.net.steps + 1, 3, *whole.net.input.shape), np.int64)
    moving = longer[1:].copy()
    moving[0] = 1
    for x, said in (
        (longer, r"its inputs have \d+ steps; a sponge needs the \d+ of the network"),
        (moving, "its input changes from step to step, and a sponge's radius is one of still"),
    ):
        np.save(path, x)
        with pytest.raises(ValueError, match=f"dark.npy: {said}"):
            costing.cost(tmp_path / "bare", inputs=path, **asked)


def test_faults_are_told_beside_the_vectors(cli: Any) -> None:
    """A neuron that always fires reads its row in every step; a dead core sends nothing."""
    found = told(cli, "--target", "loihi2", "--fault", "stuck:lif1:3", "--fault", "dead:lif1:2")
    runs, bundle = found["runs"], bundles.read(Path("bundle"))
    assert runs["faults"]["shown"] == "stuck 3 of population 'lif1'; dead 2 of population 'lif1'"
    spikes = bundle.vectors.spikes["lif1"].sum((0, 1))
    steps, samples = bundle.vectors.inputs.shape[:2]
    change = int(steps * samples - spikes[3] - spikes[2])
    assert change != 0
    usual, struck = (runs[name]["layers"][0]["spikes"] for name in ("vectors", "faults"))
    assert (struck - usual) * samples == pytest.approx(change)
    # Ten neurons read: each spike of lif1 is a row of ten synapses.
    synapses = [runs[name]["operations"]["synapses"] for name in ("vectors", "faults")]
    assert (synapses[1] - synapses[0]) * samples == pytest.approx(10 * change)
    dead = told(cli, "--target", "loihi2", "--fault", "core:0")
    assert dead["changes"]["faults"]["sent"] == -1.0


def test_the_worst_images_are_told_beside_the_vectors(cli: Any) -> None:
    """Dark pixels that an attack makes brighter are events where there were none."""
    found = told(cli, "--target", "loihi2", "--eps", "8/255", "--seed", "1", "--samples", "4")
    assert found["runs"]["attacked"]["samples"] == 4
    assert found["runs"]["attacked"]["shown"] == "PGD-40, eps 8/255, seed 1"
    assert found["changes"]["attacked"]["synapses"] > 0
    more = told(cli, "--target", "loihi2", "--eps", "8/255", "--sponge", "8/255", "--samples", "4")
    assert more["runs"]["sponge"]["shown"] == (
        "APGD-100 for synaptic operations, eps 8/255, seed 0"
    )
    rise = {name: more["changes"][name]["synapses"] for name in ("attacked", "sponge")}
    assert rise["sponge"] > 1.1 * rise["attacked"] > 0
    nothing = told(cli, "--target", "loihi2", "--eps", "0", "--sponge", "0")
    assert set(nothing["changes"]["sponge"].values()) == {0.0}
    assert set(nothing["changes"]["attacked"].values()) == {0.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weight:0:17:7", Fault(kind="weight", part=0, index=17, bit=7)),
        ("v:a:b:3:20:1", Fault(kind="v", part="a:b", index=3, bit=20, step=1)),
        ("stuck:7:3", Fault(kind="stuck", part="7", index=3)),
        ("core:2", Fault(kind="core", part=2)),
    ],
)
def test_faults_are_read_as_their_table_has_them(text: str, expected: Fault) -> None:
    assert costing.fault_of(text) == expected


def test_what_was_nothing_has_no_share() -> None:
    run = {"samples": 1, "against": "vectors", "operations": dict.fromkeys(["x"], 0.0)}
    usual, other = ({**run, **figures(n)} for n in (0.0, 3.0))
    changes = costing._changes(usual, other)
    assert changes["spikes"] is None
    assert changes["updates"] == 0.0
    table = cost_table({"runs": {"vectors": usual, "x": other}, "changes": {"x": changes}})
    assert next(row for row in table if row[0] == "spikes") == ["spikes", "0.0", "3.0", "from 0"]


def figures(spikes: float) -> dict[str, Any]:
    """A run with nothing but spikes."""
    names = ("updates", "active", "synapses", "effective", "words", "sent", "hops", "left")
    counts = {**dict.fromkeys(names, 0.0), "spikes": spikes}
    return {"operations": counts, "estimates": [], "bound": None}


def test_the_bound_has_to_be_asked_for(cli: Any) -> None:
    bound = told(cli, "--target", "loihi2", "--runtime", "scaled")["runs"]["vectors"]["bound"]
    assert bound["constants"] == "scaled"
    assert bound["label"].startswith("scaled: loihi2, scaled from Loihi 1")
    assert "not measured" in bound["label"]
    assert bound["missing"] == ["words", "links"]
    assert bound["seconds"] > 0


def test_constants_of_ones_own(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    words = 'name = "board"\nchip = "loihi2"\nstatus = "measured"\n'
    path.write_text(f'{words}[barrier]\nvalue = 1e-3\nsource = "a stopwatch"\n', "utf-8")
    run = told(cli, "--target", "loihi2", "--runtime", str(path))["runs"]["vectors"]
    assert run["bound"]["label"] == "board: loihi2, measured"
    assert run["bound"]["seconds"] == pytest.approx(1e-3 * run["chip_steps"], rel=1e-9, abs=0)


def test_people_read_the_same(cli: Any) -> None:
    line = ("--target", "loihi2", "--runtime", "scaled", "--fewest", "--fault", "stuck:lif1:3")
    done = cli.spikeport("cost", "bundle", *line)
    assert done.code == 0
    assert re.search(r"mean of a sample +vectors +faults +change\n", done.stdout)
    for words in (
        "of 128 cores of loihi2", "synaptic operations", "J, ", "energy is dynamic only",
        "Davies 2018: loihi1 as a proxy for loihi2, 14 nm, voltage 0.75 V, pre-silicon",
        "max-affine model, scaled: loihi2", "not known: words, links",
        "faults: stuck 3 of population 'lif1', 8 samples of 5 chip steps",
    ):  # fmt: skip
        assert words in done.stdout


# Drawings.


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
    drawn = {name.split(".")[0] for name in files[0]}
    assert drawn == {"floor_plan", "energy", "layers", "roofline"}
    assert files[0]["layers.svg"].startswith(b"<?xml")
    assert files[0]["floor_plan.png"].startswith(b"\x89PNG")
    done = cli.spikeport("cost", "bundle", "--target", "loihi1", "--pictures", str(folder))
    assert (done.code, done.stdout) == (2, "")
    assert "exists already; name a new folder" in done.stderr


def test_drawings_appear_all_or_none(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="comes with Lava, or with the extra pictures")
    from spikeport.pictures import draw

    with pytest.raises(TypeError):  # half a character, in the last drawing
        draw(tmp_path / "drawn", run_of(3), [["layer"], ["\ud800"]], None)
    assert list(tmp_path.iterdir()) == []


def run_of(neurons: int, *, silent: bool = False, goal: Target = TARGETS["loihi1"]) -> Activity:
    """A layer whose neurons fire in every step, or do nothing at all."""
    ones = Dense(w=np.ones((neurons, 1)))
    net = FixedNet(
        input=Input(shape=(1,)),
        populations=(Population(name="a", shape=(neurons,), v_th=9, bias=0 if silent else 999),),
        projections=(Projection(source="input", target="a", synapse=ones),),
        readout=Readout(population="a"),
        steps=2,
    )
    x = np.full((2, 1, 1), 0 if silent else 1)
    return activity(net, x, engine.run(net, x, record=True), place(net, goal))


LOIHI_1 = TARGETS["loihi1"]
MANY = replace(LOIHI_1, chip=replace(LOIHI_1.chip, neurons=1), chips=9)
ONLY_WORDS = replace(SCALED, neuron=None, synapse=None, barrier=None, word=1e-9)


@pytest.mark.parametrize(
    ("neurons", "silent", "goal", "constants"),
    [
        (3, False, LOIHI_1, None),
        (3, True, LOIHI_1, SCALED),
        (3, True, LOIHI_1, ONLY_WORDS),
        (3, False, LOIHI_1, replace(ONLY_WORDS, name="half a $ and {a $ formula_")),
        (1100, False, MANY, None),
    ],
)
def test_drawings_of_extremes(
    neurons: int, silent: bool, goal: Target, constants: RuntimeConstants | None
) -> None:
    """One core, nothing done, no time taken, names that look like formulae, nine chips."""
    pytest.importorskip("matplotlib", reason="comes with Lava, or with the extra pictures")
    from spikeport.pictures import inline

    a = run_of(neurons, silent=silent, goal=goal)
    drawn = inline(a, constants)
    assert set(drawn) == {"floor_plan", "energy", *(["roofline"] if constants else [])}
    for svg in drawn.values():
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert len(svg) < 300_000
        assert "mathdefault" not in svg  # a formula that nothing sets
    for title in ("load, share of the fullest limit", "joules a sample, SANA-FE"):
        assert f">{title}</text>" in drawn["floor_plan"]
    if constants:
        assert constants.name in drawn["roofline"]


def test_a_roofline_can_be_read() -> None:
    """Decades stand there as plain numbers, and the words above it end before the picture does."""
    pytest.importorskip("matplotlib", reason="comes with Lava, or with the extra pictures")
    from matplotlib import rc_context

    from spikeport.pictures import STYLE, figures

    # 3 neurons and 3 operations: 12.6 ns, 2.1 ns and 200 ns.
    with rc_context(STYLE):
        figure = figures(run_of(3), replace(SCALED, chip="another chip"))["roofline"]
        figure.draw_without_rendering()
    axes = figure.axes[0]
    texts = [label.get_text() for label in axes.get_xticklabels()]
    assert {"1", "10"} <= set(texts)
    seconds = {label.get_text() for label in axes.get_yticklabels()}
    assert {"1 ns", "10 ns", "100 ns", "1 \N{MICRO SIGN}s"} <= seconds
    assert "a chip step" in axes.get_xlabel()
    assert axes.get_ylabel() == "time of a chip step, at least"
    words = figure.get_suptitle()
    assert " ".join(words.split()).endswith("stated factors, not measured")
    assert figure._suptitle.get_window_extent().width < figure.bbox.width


def test_lines_between_tiles_say_how_many_messages_they_stand_for() -> None:
    """Four neurons of the first tile send to one in the second, in each of two steps."""
    pytest.importorskip("matplotlib", reason="comes with Lava, or with the extra pictures")
    from spikeport.pictures import figures

    alone = replace(LOIHI_1, chip=replace(LOIHI_1.chip, neurons=1))
    titles = [axes.get_title() for axes in figures(run_of(3, goal=alone), None)["floor_plan"].axes]
    assert "messages in and out, a sample" in titles  # nothing goes from tile to tile
    net = run_of_two()
    titles = [axes.get_title() for axes in figures(net, None)["floor_plan"].axes]
    assert "messages in and out, a sample\nlines: between tiles, the thickest 8.0" in titles


def run_of_two() -> Activity:
    """Four neurons, then one, a core each, that all fire in both steps; two samples."""
    names, goal = ("a", "b"), replace(LOIHI_1, chip=replace(LOIHI_1.chip, neurons=1))
    net = FixedNet(
        input=Input(shape=(1,)),
        populations=tuple(
            Population(name=name, shape=(n,), v_th=0, bias=1)
            for name, n in zip(names, (4, 1), strict=True)
        ),
        projections=(
            Projection(source="input", target="a", synapse=Dense(w=np.ones((4, 1)))),
            Projection(source="a", target="b", synapse=Dense(w=np.ones((1, 4)))),
        ),
        readout=Readout(population="b"),
        steps=2,
    )
    x = np.ones((2, 2, 1), np.int64)
    return activity(net, x, engine.run(net, x, record=True), place(net, goal))


def test_the_floor_plan_names_the_layers() -> None:
    """Cores carry the number of what they hold, and the legend says what that is."""
    pytest.importorskip("matplotlib", reason="comes with Lava, or with the extra pictures")
    from spikeport.pictures import figures

    plan = figures(run_of_two(), None)["floor_plan"].axes[0]
    assert [text.get_text() for text in plan.texts] == ["1"] * 4 + ["2"]
    legend = [text.get_text() for text in plan.get_legend().get_texts()]
    assert legend == ["1  a", "2  b"]
    colours = [tuple(each) for each in plan.collections[-1].get_facecolor()]
    shown = [patch.get_facecolor() for patch in plan.get_legend().get_patches()]
    assert colours == [shown[0]] * 4 + [shown[1]]


def test_a_floor_plan_of_many_layers_names_the_first() -> None:
    """Names of 64 letters are cut, and what has no room in the legend is counted."""
    pytest.importorskip("matplotlib", reason="comes with Lava, or with the extra pictures")
    from matplotlib import rc_context

    from spikeport.floor_plan import LETTERS, NAMED, floor_plan
    from spikeport.pictures import STYLE

    whole = run_of(3)
    (core,) = whole.placement.cores
    names = [f"{i:02}" + "W" * 64 for i in range(100)]
    cores = [replace(core, slices=(replace(core.slices[0], population=n),)) for n in names]
    counts: dict[str, Any] = {
        f.name: np.repeat(getattr(whole, f.name), 100, axis=-1)
        for f in fields(whole)
        if f.name not in ("placement", "links")
    }
    placement = replace(whole.placement, cores=tuple(cores))
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = floor_plan(replace(whole, placement=placement, **counts))
        figure.draw_without_rendering()  # warns where the names leave no room
    plan = figure.axes[0]
    legend = [text.get_text() for text in plan.get_legend().get_texts()]
    assert legend[0] == f"1  00{'W' * (LETTERS - 3)}\N{HORIZONTAL ELLIPSIS}"
    assert legend[NAMED:] == [f"and {100 - NAMED} more"]


def test_chips_are_drawn_apart() -> None:
    pytest.importorskip("matplotlib", reason="comes with Lava, or with the extra pictures")
    from spikeport.floor_plan import tile_corners

    corners = tile_corners(run_of(1100, goal=MANY).placement).tolist()
    assert len(set(map(tuple, corners))) == len(corners) == 9 * 32
    assert tile_corners(run_of(1).placement)[31].tolist() == [7.0, 3.0]


def test_drawings_without_a_place_are_refused_before_anything_runs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="comes with Lava, or with the extra pictures")
    with pytest.raises(ValueError, match="none does not exist; create it first"):
        costing.cost(tmp_path / "bundle", target="loihi2", pictures=tmp_path / "none" / "drawn")


def test_without_matplotlib_there_are_no_drawings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that is said before anything is read."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"install spikeport\[pictures\]"):
        costing.cost(tmp_path / "none", target="loihi2", seed=0, pictures=tmp_path / "drawn")
    assert not (tmp_path / "drawn").exists()


def test_a_network_without_room_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(
        'base = "loihi2"\nname = "small"\n[cores]\nvalue = 1\nsource = "a test"\n', "utf-8"
    )
    with pytest.raises(ValueError, match=r"takes 2 cores.*there are 1 on small"):
        costing.cost(Path("bundle"), target=str(path), seed=0)


def test_an_attack_needs_a_seed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="within eps or sponge draws numbers; give it a seed"):
        costing.cost(Path("bundle"), target="loihi2", eps="8/255")
    with pytest.raises(ValueError, match="within eps or sponge draws numbers; give it a seed"):
        costing.cost(Path("bundle"), target="loihi2", sponge="8/255")


@pytest.mark.parametrize("name", ["cut.npy", "whole.npz"])
def test_an_archive_is_no_input(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "whole.npz", x=np.zeros(3))
    (tmp_path / "cut.npy").write_bytes(b"PK\x03\x04cut")
    with pytest.raises(ValueError, match=f"{name}: cannot be read as a .npy file"):
        costing.cost(Path("bundle"), target="loihi2", inputs=tmp_path / name)


def test_inputs_must_be_of_the_network(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"x\.npy: holds no input of this network \("):
        costing.cost(Path("bundle"), target="loihi2", inputs=tmp_path / "x.npy")
