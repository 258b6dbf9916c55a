"""What robustness figures are kept under, the attack's rows that go on, and what the README says of
them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spikeport.sim.attack import Fgsm, SaPgd
from spikeport.sim.attack.search import Aimed
from spikeport.sim.surrogate import Surrogate

Script = Callable[[str], ModuleType]


@pytest.fixture
def job(script: Script, tmp_path: Path) -> Any:
    return script("lab_plan").Job(
        data=tmp_path, runs=tmp_path, scale="tiny", set="digits", recipe="plain", seed=0
    )


def comparison(script: Script, **changed: Any) -> Any:
    settings = {
        "samples": 20, "eps": 16 / 255, "seed": 0,
        "specs": {"fgsm": Aimed(attack=Fgsm(), views=("triangle-1",))},
        "views": {"triangle-1": Surrogate("triangle", 1.0)},
    }  # fmt: skip
    return script("robustness").Comparison(**settings | changed)


def test_every_setting_changes_what_figures_are_kept_under(script: Script, job: Any) -> None:
    robustness = script("robustness")
    least = robustness.minimum([0.1, 0.2], images=20)
    asked = [
        comparison(script), comparison(script, samples=21), comparison(script, eps=0.1),
        comparison(script, seed=1), comparison(script, specs={"fgsm": Fgsm()}),
        comparison(script, views={"triangle-1": Surrogate("triangle", 2.0)}),
        comparison(script, specs=robustness.compared(), views=robustness.VIEWS),
        least, replace(least, eps=(0.1, 0.3)), replace(least, samples=21), replace(least, seed=1),
        replace(least, steps=200), replace(least, checks=False),
    ]  # fmt: skip
    jobs = [job, replace(job, seed=1), replace(job, recipe="mpd_sgr"), replace(job, steps=2)]
    digests = [robustness.digest(job, a) for a in asked]
    digests += [robustness.digest(other, asked[0]) for other in jobs[1:]]
    assert len(set(digests)) == len(digests)
    assert robustness.digest(job, comparison(script)) == digests[0]
    assert " at 0x" not in repr(asked)  # no address, which differs from process to process


def test_the_standard_and_where_it_is_made_are_part_of_it(
    script: Script, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    robustness = script("robustness")
    least = robustness.minimum([0.1], images=20)
    before = robustness.digest(job, least)
    for name, other in (
        ("SHARPNESS", (0.4,)), ("machine", dict), ("versions", lambda _: {"torch": "0.1"}),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(robustness, name, other)
            assert robustness.digest(job, least) != before
    assert robustness.digest(job, least) == before


def test_what_was_asked_so_is_not_measured_again(script: Script, job: Any) -> None:
    robustness = script("robustness")
    asked = comparison(script)
    row = robustness.done(job, {robustness.compare: asked})
    found = row["compare"]["found"]
    assert row == {"compare": {"images": 20, "found": {"fgsm": found["fgsm"]}}}
    assert 0 <= found["fgsm"] < 1
    (kept,) = job.folder.glob("robustness/compare-*/found.json")
    kept.write_text('{"fgsm": "kept"}', "utf-8")
    again = robustness.done(job, {robustness.compare: asked})
    assert again["compare"]["found"] == {"fgsm": "kept"}
    wider = robustness.done(job, {robustness.compare: comparison(script, eps=64 / 255)})
    assert wider["compare"]["found"]["fgsm"] <= found["fgsm"]
    assert robustness.done(job, {robustness.compare: comparison(script, samples=0)}) == {}


def test_the_windows_are_the_standards(script: Script) -> None:
    views = script("robustness").VIEWS
    assert views["triangle-1"] == Surrogate("triangle", 1.0)
    assert views["atan-2"] == Surrogate("atan", 2.0)
    assert script("robustness").SHARPENED == ("assg-0.35", "assg-0.425", "assg-0.475")


def called(main: Callable[[], None], folder: Path, *options: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        places = ["--data", str(folder), "--runs", str(folder / "runs")]
        patch.setattr("sys.argv", ["harder.py", *places, *options])
        main()


def test_rows_of_another_attack_are_not_overwritten(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harder, out = script("harder"), tmp_path / "harder.json"
    assert harder.known(out) == ([], {})
    row = {"run": "lab/mnist/plain-T4-seed0", "left": 0.25}
    harder.write(out, [row], commands=["one", "two"])
    assert harder.known(out) == (["one", "two"], {row["run"]: row})
    assert json.loads(out.read_text("utf-8"))["command"] == "one && two"

    mine = out.read_text("utf-8")
    for text, said in (
        (mine.replace('"steps": 100', '"steps": 50'), "settings is {'attack': "),
        (mine.replace('"torch": "', '"torch": "0.'), "versions is {"),
        (mine.replace('"cores": ', '"cores": 9'), "machine is {"),
        (mine.replace('"rows"', '"lines"'), "holds no rows of harder.py"),
        ("[]", "no result to go on with"),
    ):
        assert text != mine
        out.write_text(text, "utf-8")
        with pytest.raises(ValueError, match=said):
            harder.known(out)
        with pytest.raises(SystemExit, match="2"):
            called(harder.main, tmp_path, "--out", str(out))
        assert said in capsys.readouterr().err
        assert out.read_text("utf-8") == text


def test_a_network_that_fails_costs_none_but_itself(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    harder, out = script("harder"), tmp_path / "harder.json"
    monkeypatch.setattr(harder, "in_process", harder.attacked)
    monkeypatch.setattr(harder, "ATTACK", SaPgd(steps=1))
    small = replace(script("lab_plan").SCALES["lab"], attacked=20)
    monkeypatch.setitem(harder.SCALES, "lab", small)
    asked = ("--sets", "mnist", "digits", "--recipes", "plain", "--seeds", "0", "--jobs", "1")
    with pytest.raises(SystemExit, match="1 of 2 networks failed: lab/mnist/plain-T4-seed0"):
        called(harder.main, tmp_path, "--out", str(out), *asked)
    printed = capsys.readouterr().out
    assert "lab/mnist/plain-T4-seed0: ValueError: " in printed
    assert "mnist: no such folder" in printed
    (row,) = json.loads(out.read_text("utf-8"))["rows"]
    assert (row["run"], row["images"]) == ("lab/digits/plain-T3-seed0", 20)
    assert row["left"] <= row["clean"]
    with pytest.raises(SystemExit, match="1 of 1 networks failed"):
        called(harder.main, tmp_path, "--out", str(out), *asked)
    assert "1 of 2 networks are done" in capsys.readouterr().out


def test_the_published_rows_go_on(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    harder = script("harder")
    told = json.loads(harder.OUT.read_text("utf-8"))
    # Where they were made they go on; other machines and versions are refused.
    monkeypatch.setattr(harder, "machine", lambda: told["machine"])
    monkeypatch.setattr(harder, "versions", lambda packages: told["versions"])
    commands, rows = harder.known(harder.OUT)
    assert commands == ["python benchmarks/harder.py --data FOLDER --runs FOLDER"]
    assert {row["images"] for row in rows.values()} == {500}


def test_replays_are_counted_as_what_they_are(script: Script) -> None:
    blocks = script("readme_robustness")
    networks = script("readme_parts").load("robustness")["networks"]
    attacked = sum(r["replay"]["images"] for n in networks for r in n["standard"]["found"]["radii"])
    clean = sum(n["standard"]["images"] for n in networks)
    assert (attacked, clean) == (9000, 3000)
    # Four steps of 6,272 + 3,136 + 10 neurons each.
    assert (
        f"{attacked:,} attacked images were replayed on Lava, and {clean:,} clean ones, 500 for"
        " each network: 0 of 12,000 decided otherwise than by the twin, of"
        f" {12_000 * 4 * 9_418:,} spikes 0 differ."
    ) in blocks.standard()
