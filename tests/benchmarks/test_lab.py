"""The lab: its plan, a tiny run of it that is stopped and goes on, and what it computes of runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spikeport.sim.attack import Pgd

Script = Callable[[str], ModuleType]


@pytest.fixture
def first(script: Script, tmp_path: Path) -> Any:
    return script("lab_plan").Job(
        data=tmp_path, runs=tmp_path, scale="lab", set="mnist", recipe="plain", seed=0
    )


def test_every_recipe_fits_every_set(script: Script, first: Any) -> None:
    plan = script("lab_plan")
    for scale in ("lab", "full", "paper"):
        todo = plan.jobs(
            plan.replace(first, scale=scale),
            sets=("mnist", "fashion_mnist", "cifar10"), names=tuple(plan.recipes()), seeds=(0,),
        )  # fmt: skip
        assert len({job.folder for job in todo}) == len(todo)
        for job in todo:
            config = job.config
            assert (config.data.name, config.train.seed) == (job.set, job.seed)
            # 10,000 training images at least, as the acceptance says.
            assert config.data.train_images == (10_000 if scale == "lab" else None)
            assert config.train.device == ("cpu" if scale == "lab" else "cuda")
    assert plan.LAB.attacked == 500
    assert plan.replace(first, recipe="at").config.methods.active().keys() == {"adversarial"}


def test_the_order_leaves_the_most_useful_table(script: Script, first: Any) -> None:
    plan = script("lab_plan")
    todo = plan.jobs(
        first, sets=("mnist", "cifar10"), names=("plain", "mpd_sgr", "tet", "mpd_agl"), seeds=(3, 4)
    )
    found = [(job.seed, job.set, job.recipe, job.steps) for job in todo]
    assert found == [
        (3, "mnist", "plain", None), (3, "mnist", "mpd_sgr", None), (3, "mnist", "tet", None),
        (3, "mnist", "mpd_agl", None), (3, "mnist", "plain", 2), (3, "mnist", "mpd_agl", 2),
        (3, "cifar10", "plain", None), (3, "cifar10", "mpd_sgr", None),
        (3, "cifar10", "mpd_agl", None),
        (4, "mnist", "plain", None), (4, "mnist", "mpd_sgr", None), (4, "mnist", "tet", None),
        (4, "mnist", "mpd_agl", None), (4, "mnist", "plain", 2), (4, "mnist", "mpd_agl", 2),
    ]  # fmt: skip
    assert todo[0].folder == first.runs / "mnist" / "plain-T4-seed3"
    assert todo[4].folder == first.runs / "mnist" / "plain-T2-seed3"


def test_a_recipe_of_unknown_methods_is_refused(script: Script, first: Any, tmp_path: Path) -> None:
    plan = script("lab_plan")
    file = tmp_path / "mine.toml"
    file.write_text('mine = ["methods.moonlight={}"]', "utf-8")
    job = plan.replace(first, recipe="mine", recipe_file=file)
    with pytest.raises(ValueError, match=r"recipe 'mine' on mnist: --set: unknown key"):
        _ = job.config
    file.write_text("mine = [", "utf-8")
    with pytest.raises(ValueError, match="is no recipe file"):
        plan.recipes(file)


def test_the_papers_attacks(script: Script) -> None:
    plan = script("lab_plan")
    assert plan.paper_attacks(8 / 255)["pgd-7"] == Pgd(steps=7, step_size=0.01)
    assert plan.paper_attacks(24 / 255)["pgd-7"].step_size == pytest.approx(0.03)


@pytest.fixture(scope="module")
def tiny(
    script: Script, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Callable[..., int]]:
    """A folder and `lab(*options)`, the command on the digits there."""
    folder, lab = tmp_path_factory.mktemp("lab"), script("lab")

    def run(*options: str) -> int:
        fixed = ("--tiny", "--data", str(folder), "--runs", str(folder / "runs"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["lab.py", *fixed, "--jobs", "1", *options])
            code: int = lab.main()
        return code

    return folder, run


def test_a_tiny_lab_goes_on_where_it_was(
    tiny: tuple[Path, Callable[..., int]], script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, lab = tiny
    out = folder / "lab.json"
    options = ("--recipes", "mpd_sgr", "--seeds", "5", "--out", str(out))
    assert lab(*options) == 0
    printed = capsys.readouterr().out
    assert "0 of 1 runs are finished\n1/1 digits/mpd_sgr-T3-seed5" in printed
    assert "0 spikes differ" in printed
    result = json.loads(out.read_text("utf-8"))
    assert (result["finished"], result["wanted"], result["failed"]) == (1, 1, {})
    said = "--data FOLDER --seeds 5 --recipes mpd_sgr --tiny"
    assert result["command"] == f"python benchmarks/lab.py {said}"
    figures = result["results"]["digits"]["mpd_sgr"]["T3"]
    assert figures["seeds"] == [5]
    assert (figures["test_images"], figures["attacked_images"]) == (540, 10)
    assert figures["spikes_compared"] == 540 * 3 * (16 + 10)
    assert figures["differing_spikes_torch_chip"] == 0
    for network in ("float", "integer"):
        robust = figures["robust"][network]
        assert list(robust) == [
            "clean", "fgsm", "apgd-2", "square-3", "own worst", "worst case",
        ]  # fmt: skip
        least = min(robust[name]["mean"] for name in ("clean", "fgsm", "apgd-2", "square-3"))
        assert robust["worst case"]["mean"] <= robust["own worst"]["mean"] <= least
        assert list(figures["paper"][network]) == ["clean", "fgsm", "pgd-7", "bim-7"]
    assert str(folder) not in out.read_text("utf-8")
    # Figures survive the loss of the summary and of the runs; those of other settings do not count.
    out.unlink()
    assert lab(*options) == 0
    assert "1 of 1 runs are finished" in capsys.readouterr().out
    assert json.loads(out.read_text("utf-8")) == result
    place = folder / "runs" / "digits" / "mpd_sgr-T3-seed5" / "tiny.json"
    kept = json.loads(place.read_text("utf-8"))
    plan, run = script("lab_plan"), script("lab_run")
    job = plan.Job(
        data=folder, runs=folder / "runs", scale="tiny", set="digits", recipe="mpd_sgr", seed=5
    )
    assert run.finished(job) == kept
    place.unlink()
    assert lab(*options) == 0
    assert "1 of 1 runs are finished" in capsys.readouterr().out
    assert json.loads(out.read_text("utf-8")) == result
    lines = out.with_suffix(".jsonl")
    (row,) = map(json.loads, lines.read_text("utf-8").splitlines())
    assert row["run"] == "tiny/digits/mpd_sgr-T3-seed5"
    rows = script("lab_rows")
    assert rows.of(job, {row["run"]: row}) == row
    assert rows.of(job, {row["run"]: row | {"digest": "of other settings"}}) is None
    # Asked for again, it is not counted, but what is kept is not lost before there is better.
    assert lab(*options, "--again", "--jobs", "0") == 0
    assert json.loads(out.read_text("utf-8"))["finished"] == 0
    assert list(map(json.loads, lines.read_text("utf-8").splitlines())) == [row]
    lines.write_text("{}", "utf-8")
    with pytest.raises(SystemExit, match="2"):
        lab(*options)
    assert "holds no runs of the lab" in capsys.readouterr().err
    place.write_text(json.dumps(kept | {"settings": {"robust": None}}), "utf-8")
    assert run.finished(job) is None
    # Evaluated again, not trained again: the same figures.
    again = run.run(job)
    assert {**again, "seconds": 0} == {**kept, "seconds": 0}


def test_a_recipe_that_is_not_there_is_refused(
    tiny: tuple[Path, Callable[..., int]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        tiny[1]("--recipes", "plain", "moonlight")
    assert "spikeport: recipe is 'moonlight'; known are plain, " in capsys.readouterr().err


def test_a_failed_run_is_told_in_a_sentence(script: Script, first: Any) -> None:
    _, told = script("lab").run_in_process(first)
    assert told.startswith(f"spikeport: {first.data / 'mnist'}: train-images-idx3-ubyte is missing")


def test_flips_of_a_tiny_run(tiny: tuple[Path, Callable[..., int]], script: Script) -> None:
    folder, _ = tiny
    flips, plan = script("flips"), script("lab_plan")
    job = plan.Job(
        data=folder, runs=folder / "runs", scale="tiny", set="digits", recipe="mpd_sgr", seed=5
    )
    found = flips.measure(job, images=50, bits=(8, 3))
    assert found["images"] == 50
    assert found["flips"].keys() == {"8", "3"}
    assert 0 <= found["flips"]["8"]["lif1"] < found["flips"]["3"]["lif1"] < 0.5
    assert 0 < found["occupancy"]["lif1"] < 1
    assert found["density"].keys() == found["rate"].keys() == {"lif1"}


def test_flips_are_judged_seed_by_seed(script: Script) -> None:
    flips = script("flips")

    def row(recipe: str, seed: int, density: float, flipped: float) -> dict[str, Any]:
        layers = {"a": density, "b": 3 * density}
        return {
            "set": "mnist", "recipe": recipe, "seed": seed, "density": layers,
            "occupancy": layers, "rate": layers,
            "flips": {"8": {"a": flipped, "b": flipped}, "4": {"a": 0.1, "b": 0.1}},
        }  # fmt: skip

    rows = [
        row("plain", 0, 0.4, 0.02), row("plain", 1, 0.5, 0.03),
        row("mpd_sgr", 0, 0.2, 0.01), row("mpd_sgr", 1, 0.25, 0.015),
    ]  # fmt: skip
    found = flips.summary(rows)
    judged = found["mnist"]["verdict"]["mpd_sgr"]
    assert judged["density"] == {"ratio": {"mean": pytest.approx(0.5), "std": 0.0}, "falls": True}
    assert judged["flips"]["8"]["falls"] is True
    assert judged["flips"]["8"]["ratio"]["mean"] == pytest.approx(0.5)
    assert judged["flips"]["4"] == {"ratio": {"mean": 1.0, "std": 0.0}, "falls": False}
    assert found["mnist"]["correlation"]["8"]["a"] == pytest.approx(0.99, abs=0.02)
    assert found["mnist"]["correlation"]["4"]["a"] is None
    (sentence,) = flips.sentences(found)
    assert sentence == (
        "mnist: mpd_sgr over plain: density at the threshold times 0.50, flipped spikes times 0.50"
        " at 8 bits, 1.00 at 4 bits; that flips fall for every seed holds in part."
    )


def a_run(recipe: str, seed: int, *, paper: float, worst: float, test: float, steps: int) -> Any:
    robust = {"clean": test, "worst case": worst}
    attacked = {"clean": test, "fgsm": paper + 0.1, "pgd-7": paper}
    return {
        "set": "mnist", "recipe": recipe, "seed": seed, "steps": steps, "test_images": 100,
        "attacked_images": 50,
        "test_accuracy": {"float": test, "quantised": test - 0.01, "integer": None},
        "robust": {"float": robust, "integer": robust},
        "paper": {"float": attacked, "integer": attacked},
        "paper_attacks_at_eps": {"float": attacked, "integer": attacked},
        "training": {}, "seconds": {"training": 1.0},
        "differing_spikes_torch_chip": seed, "spikes_compared": 10,
    }  # fmt: skip


def test_what_survives_of_a_gain(script: Script) -> None:
    summary = script("lab_summary")
    runs = [
        a_run("plain", 0, paper=0.2, worst=0.1, test=0.9, steps=4),
        a_run("plain", 1, paper=0.3, worst=0.1, test=0.8, steps=4),
        a_run("mpd_sgr", 0, paper=0.6, worst=0.2, test=0.9, steps=4),
        a_run("mpd_sgr", 1, paper=0.5, worst=0.2, test=0.8, steps=4),
        a_run("mpd_sgr", 2, paper=0.9, worst=0.9, test=0.8, steps=4),  # no plain run to compare
    ]
    other = a_run("at_mpd_sgr", 0, paper=0.6, worst=0.2, test=1, steps=4)
    compared = summary.compared([*runs, other])["mpd_sgr_survives"]["mnist"]
    assert compared.keys() == {"mpd_sgr"}  # the other has nothing to be compared with
    found = summary.compared(runs)
    assert found["mpd_sgr_survives"]["mnist"]["mpd_sgr"]["over"] == "plain"
    left = found["mpd_sgr_survives"]["mnist"]["mpd_sgr"]["integer"]
    assert left["at_eps"]["pgd-7"] == {
        "mean": pytest.approx(0.3),
        "std": pytest.approx(0.1 * 2**0.5),
    }
    assert left["worst_case"]["mean"] == pytest.approx(0.1)
    assert left["share_left"]["pgd-7"] == pytest.approx(1 / 3)
    figures = found["results"]["mnist"]["mpd_sgr"]["T4"]
    assert figures["seeds"] == [0, 1, 2]
    assert figures["differing_spikes_torch_chip"] == 3
    assert "integer" not in figures["test_accuracy"]
    assert "mpd_sgr  integer      3  82.3 ± 5.8" in summary.described(found)


def test_beating_plain_takes_every_number_of_steps(script: Script) -> None:
    summary = script("lab_summary")
    runs = []
    for steps, tested in ((2, (0.7, 0.8, 0.9)), (4, (0.8, 0.7, 0.9))):
        for recipe, test in zip(("plain", "mp_init_trsg", "mpd_agl"), tested, strict=True):
            runs.append(a_run(recipe, 0, paper=0.1, worst=0.1, test=test, steps=steps))
    found = summary.compared(runs)
    assert found["clean_gains"]["mp_init_trsg"]["mnist"]["T2"]["float"]["better"] is True
    assert found["clean_gains"]["mp_init_trsg"]["mnist"]["T4"]["integer"]["better"] is False
    assert found["beats_plain"]["mp_init_trsg"] == {"float": [], "integer": []}
    assert found["beats_plain"]["mpd_agl"] == {"float": ["mnist"], "integer": ["mnist"]}
