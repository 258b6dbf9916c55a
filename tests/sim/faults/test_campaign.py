"""Campaigns: what is drawn, what is counted, and that the same seed is the same file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.sim import engine
from spikeport.sim.faults import (
    KINDS,
    Campaign,
    Cores,
    Fault,
    inject,
    read,
    run,
    run_trials,
    write,
)
from spikeport.sim.faults import campaign as module
from spikeport.sim.faults.campaign import decisions
from spikeport.sim.faults.replay import Replay, bytes_of
from spikeport.sim.faults.result import place_of
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, Dense

CORES: Cores = {3: {"out": [2]}, 1: {"hidden": range(5)}, 20: {"hidden": [6]}}
EVERY = Campaign(
    seed=5, kinds=dict.fromkeys(KINDS, 1.0), at_once=(1, 3), rate=0.5, cores=CORES
)  # fmt: skip


def task() -> tuple[FixedNet, dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """A small classifier, two sets of its inputs, and what it decides on the first as labels."""
    rng = np.random.default_rng(1)
    net = FixedNet(
        input=Input(shape=(6,)),
        populations=(
            Population(name="hidden", shape=(8,), v_th=60, dv=500),
            Population(name="out", shape=(3,), v_th=131071, dv=0),
        ),
        projections=(
            Projection(
                source="input", target="hidden", synapse=Dense(w=rng.integers(-60, 99, (8, 6)))
            ),
            Projection(
                source="hidden", target="out", synapse=Dense(w=rng.integers(-99, 99, (3, 8)))
            ),
        ),
        readout=Readout(population="out", kind="last_v"),
        steps=5,
    )
    x = rng.integers(0, 2, (5, 12, 6))
    labels = engine.run(net, x).logits(net.readout).argmax(1)
    return net, {"worst": rng.integers(0, 2, (5, 12, 6)), "clean": x}, labels


def campaign(**changes: Any) -> Campaign:
    return Campaign(**{"seed": 0, "kinds": {"weight": 1}, "at_once": (1,), **changes})


@pytest.mark.parametrize(
    ("logits", "decided"),
    [([1, 3, 2], 1), ([3, 3, 2], -1), ([0, 0, 0], -1), ([-5, -7, -5], -1), ([2, 2, 9], 2)],
)
def test_a_tie_is_no_decision(logits: list[int], decided: int) -> None:
    assert decisions(np.array([logits])).tolist() == [decided]


def test_counts_are_those_of_the_definition() -> None:
    net, sets, labels = task()
    result = run(net, sets, labels, campaign=EVERY, trials=24)
    assert result.samples == 12
    assert result.sets == ("clean", "worst")
    differ = 0
    for name, x in sets.items():
        usual = decisions(engine.run(net, x).logits(net.readout))
        assert result.header["right"][name] == (usual == labels).sum()
        for trial in result.trials:
            trace = inject.run(net, x, trial.faults, cores=CORES)
            decided = decisions(trace.logits(net.readout))
            assert trial.right[name] == (decided == labels).sum()
            assert trial.changed[name] == (decided != usual).sum()
            differ += trial.changed[name]
    assert differ > 0
    assert result.header["right"]["clean"] == 12


def test_a_changed_decision_may_be_a_right_one() -> None:
    """Wrong labels: what the faults change is counted all the same."""
    net, sets, labels = task()
    wrong = (labels + 1) % 3
    found = run(net, {"clean": sets["clean"]}, wrong, campaign=EVERY, trials=24)
    assert found.header["right"]["clean"] == 0
    assert max(t.right["clean"] for t in found.trials) > 0
    right = run(net, {"clean": sets["clean"]}, labels, campaign=EVERY, trials=24)
    assert [t.changed for t in found.trials] == [t.changed for t in right.trials]


def test_a_trial_depends_on_seed_and_number_alone() -> None:
    net, sets, labels = task()
    result = run(net, sets, labels, campaign=EVERY, trials=8)
    assert run_trials(net, sets, labels, campaign=EVERY, numbers=[6, 2]) == (
        result.trials[6], result.trials[2],
    )  # fmt: skip
    assert [len(t.faults) for t in result.trials] == [1, 3] * 4
    other = campaign(seed=6)
    drawn = [other.draw(net, 0, steps=5), campaign(seed=7).draw(net, 0, steps=5)]
    assert drawn[0] != drawn[1]
    assert drawn[0] != other.draw(net, 1, steps=5)


def test_the_order_of_kinds_and_cores_does_not_matter() -> None:
    net, _, _ = task()
    turned = Campaign(
        seed=5, kinds=dict.fromkeys(reversed(list(KINDS)), 1.0), at_once=(1, 3), rate=0.5,
        cores=dict(reversed(list(CORES.items()))),
    )  # fmt: skip
    assert [turned.draw(net, i, steps=5) for i in range(20)] == [
        EVERY.draw(net, i, steps=5) for i in range(20)
    ]
    assert json.dumps(turned.to_json()) == json.dumps(EVERY.to_json())


def test_the_same_seed_is_the_same_file(tmp_path: Path) -> None:
    net, sets, labels = task()
    whole = run(net, sets, labels, campaign=EVERY, trials=9)
    write(tmp_path / "whole.json", whole)
    # Continued from a file, over several processes, sets in another order.
    write(tmp_path / "begun.json", run(net, sets, labels, campaign=EVERY, trials=4))
    begun = read(tmp_path / "begun.json")
    more = run(
        net, dict(reversed(sets.items())), list(labels), campaign=EVERY, trials=9, done=begun
    )  # fmt: skip
    assert more.to_json() == whole.to_json() == (tmp_path / "whole.json").read_text()
    assert read(tmp_path / "whole.json").to_json() == whole.to_json()
    assert read(tmp_path / "whole.json").trials == whole.trials
    # Nothing is thrown away, and nothing left to do is no work.
    assert run(net, sets, labels, campaign=EVERY, trials=2, done=begun) == begun


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is drawn for samples of a later portion nor what is counted."""
    net, sets, labels = task()
    lossy = campaign(kinds={"dropped": 1, "duplicated": 1, "v": 1}, at_once=(2, 5), rate=0.5)
    whole = run(net, sets, labels, campaign=lossy, trials=12)
    shown = []

    def noted(net: FixedNet, x: Any, *, first: int) -> Replay:
        shown.append(first)
        return Replay(net, x, first=first)

    monkeypatch.setattr(module, "Replay", noted)
    monkeypatch.setattr(module, "PORTION_BYTES", 5 * 5 * bytes_of(net))
    assert run(net, sets, labels, campaign=lossy, trials=12) == whole
    assert shown == [0, 5, 10] * 2


def test_processes_change_nothing() -> None:
    net, sets, labels = task()
    one = run(net, sets, labels, campaign=EVERY, trials=5)
    assert run(net, sets, labels, campaign=EVERY, trials=5, processes=2) == one


def test_every_place_is_drawn_and_each_as_often() -> None:
    net, _, _ = task()
    drawn = campaign(kinds={"weight": 3, "u": 1}, at_once=(1800,)).draw(net, 0, steps=5)
    # 72 weights of 8 bits are 576 different flips, so that they run out; u takes the rest.
    kinds = Counter(f.kind for f in drawn)
    assert kinds == {"weight": 576, "u": 1800 - 576}
    single = campaign(kinds={"weight": 3, "u": 1})
    drawn = tuple(single.draw(net, i, steps=5)[0] for i in range(3000))
    weights = [f for f in drawn if f.kind == "weight"]
    # Standard deviations: sqrt(3000 * 3/16) = 24; of 2250 * 24/72 hits, 22.
    assert abs(len(weights) - 2250) < 120
    assert abs(sum(f.part == 1 for f in weights) - 750) < 150
    assert {f.bit for f in weights} == set(range(8))
    assert {f.index for f in weights if f.part == 0} == set(range(48))
    assert {f.index for f in weights if f.part == 1} == set(range(24))
    assert {f.step for f in drawn if f.kind == "u"} == set(range(5))
    assert {f.bit for f in drawn if f.kind == "u"} == set(range(24))
    assert {(f.part, f.index) for f in drawn if f.kind == "u"} == {
        *(("hidden", i) for i in range(8)), *(("out", i) for i in range(3)),
    }  # fmt: skip


def test_cores_are_drawn_by_their_numbers() -> None:
    net, _, _ = task()
    drawn = campaign(kinds={"core": 1}, at_once=(3,), cores=CORES).draw(net, 0, steps=5)
    assert sorted(str(f) for f in drawn) == ["dead core 1", "dead core 20", "dead core 3"]


def test_faults_of_one_trial_differ() -> None:
    net, _, _ = task()
    for trial in range(20):
        drawn = campaign(kinds={"dropped": 1}, at_once=(14,), rate=1).draw(net, trial, steps=5)
        assert len({f.site for f in drawn}) == 14
    words = "trial 0 needs 15 different faults, the network has places for 14; draw fewer at once"
    with pytest.raises(ValueError, match=words):
        campaign(kinds={"dropped": 1}, at_once=(15,), rate=1).draw(net, 0, steps=5)


def test_parts_in_words() -> None:
    net, sets, labels = task()
    result = run(net, sets, labels, campaign=EVERY, trials=0)
    weight = Fault(kind="weight", part=1, index=0, bit=0)
    assert place_of(result, weight) == "hidden -> out (projection 1)"
    assert place_of(result, Fault(kind="dead", part="out", index=0)) == "out"
    assert place_of(result, Fault(kind="core", part=3)) == "core 3"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kinds": {}}, "kinds and at_once must not be empty; name what to draw"),
        ({"at_once": ()}, "kinds and at_once must not be empty"),
        ({"kinds": {"rust": 1}}, "campaign kind is 'rust'; allowed are"),
        ({"kinds": {"dead": 0}}, "'dead': its chance is 0; it must be a positive number"),
        ({"at_once": (0,)}, "campaign at_once is 0; allowed are 1.."),
        ({"seed": -1}, "campaign seed is -1; allowed are 0.."),
        ({"rate": 0.5}, "rate is 0.5 and kinds are weight; give a rate where spikes are dropped"),
        ({"kinds": {"dropped": 1}}, "rate is None and kinds are dropped; give a rate"),
        ({"kinds": {"dropped": 1}, "rate": 2}, "campaign: rate is 2; a share of spikes"),
    ],
)
def test_campaigns_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        campaign(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sets": {}}, "campaign: there are no images; give"),
        ({"labels": [0] * 11}, r"labels have shape \(11,\); needed is \(12,\)"),
        ({"labels": [3] * 12}, "campaign labels is 3; allowed are 0..2"),
        ({"trials": -1}, "campaign trials is -1; allowed are"),
        ({"processes": 0}, "campaign processes is 0; allowed are"),
        ({"campaign": campaign(kinds={"core": 1})}, "which neurons a core holds is unknown"),
        (
            {"campaign": campaign(kinds={"core": 1}, cores={0: {"out": [3]}})},
            "'dead' of 'out': index is 3",
        ),
    ],
)
def test_runs_refused(changes: dict[str, Any], words: str) -> None:
    net, sets, labels = task()
    settings: dict[str, Any] = {"sets": sets, "labels": labels, "campaign": campaign()}
    with pytest.raises(ValueError, match=words):
        run(net, **{"trials": 1, **settings, **changes})


def test_sets_must_show_the_same_samples() -> None:
    net, sets, labels = task()
    sets["few"] = sets["clean"][:, :5]
    with pytest.raises(ValueError, match="all must show the same samples for the same steps"):
        run(net, sets, labels, campaign=campaign(), trials=1)


def test_weights_that_no_core_holds_are_refused_before_any_trial() -> None:
    net = FixedNet(
        input=Input(shape=(1, 1, 2)),
        populations=(Population(name="a", shape=(2, 1, 2), v_th=1),),
        projections=(
            Projection(source="input", target="a", synapse=Conv2d(w=[[[[129]]], [[[-1]]]])),
        ),
        readout=Readout(population="a"),
        steps=1,
    )
    x = np.ones((1, 1, 1, 1, 2), np.int64)
    with pytest.raises(ValueError, match="some odd, which no eight bits hold"):
        run(net, {"clean": x}, [0], campaign=campaign(), trials=0)


@pytest.mark.parametrize("other", ["seed", "labels", "images", "network"])
def test_only_the_same_campaign_is_continued(other: str) -> None:
    net, sets, labels = task()
    begun = run(net, sets, labels, campaign=campaign(), trials=1)
    settings: dict[str, Any] = {"campaign": campaign(seed=1)} if other == "seed" else {}
    if other == "labels":
        labels = (labels + 1) % 3
    if other == "images":
        sets["clean"] = 1 - sets["clean"]
    if other == "network":
        first = net.populations[0]
        changed = Population(name=first.name, shape=first.shape, v_th=61, dv=500)
        net = FixedNet(
            input=net.input, populations=(changed, net.populations[1]), readout=net.readout,
            projections=net.projections, steps=5,
        )  # fmt: skip
    with pytest.raises(ValueError, match="the earlier result is of another network, campaign or"):
        run(net, sets, labels, **{"campaign": campaign(), "trials": 2, "done": begun, **settings})


def damaged(text: str, how: str) -> str:
    content = json.loads(text)
    if how == "cut":
        return text[:-20]
    if how == "no trials":
        del content["trials"]
    if how == "a list":
        content = []
    if how == "odd fault":
        content["trials"][0]["faults"][0]["bit"] = 99
    if how == "version":
        content["version"] = 2
    if how == "gap":
        del content["trials"][0]
    return json.dumps(content)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("cut", "is damaged or no fault campaign; run it again"),
        ("no trials", "is damaged or no fault campaign"),
        ("a list", "is damaged or no fault campaign"),
        ("odd fault", "is damaged or no fault campaign"),
        ("version", "is a fault campaign of version 2, this program reads 1"),
        ("gap", "or lacks trials; run it again"),
    ],
)
def test_damaged_files(tmp_path: Path, how: str, words: str) -> None:
    net, sets, labels = task()
    path = tmp_path / "faults.json"
    write(path, run(net, sets, labels, campaign=campaign(), trials=2))
    path.write_text(damaged(path.read_text(), how))
    with pytest.raises(ValueError, match=words):
        read(path)


def test_a_file_has_one_trial_a_line_and_no_times(tmp_path: Path) -> None:
    net, sets, labels = task()
    text = run(net, sets, labels, campaign=campaign(at_once=(2,)), trials=3).to_json()
    assert sum(line.startswith('{"changed"') for line in text.splitlines()) == 3
    assert set(json.loads(text)) == {
        "campaign", "images", "labels", "network", "parts", "right", "samples", "steps", "trials",
        "version",
    }  # fmt: skip
