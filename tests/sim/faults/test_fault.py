"""The fault as a value: what it takes, what it refuses, where it fits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spikeport.sim.faults import KINDS, Cores, Fault
from spikeport.sim.faults.fault import places, resolved
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, Dense, SumPool2d

FULL: dict[str, dict[str, Any]] = {
    "weight": {"part": 1, "index": 3, "bit": 7},
    "threshold": {"part": "a", "index": 0, "bit": 16},
    "u": {"part": "a", "index": 5, "bit": 23, "step": 2},
    "v": {"part": "a", "index": 5, "bit": 0, "step": 0},
    "stuck": {"part": "a", "index": 1},
    "dead": {"part": "a", "index": 1},
    "dropped": {"part": 0, "index": 4, "rate": 0.5, "seed": 9},
    "duplicated": {"part": 0, "index": 4, "rate": 1, "seed": 9},
    "core": {"part": 12},
}


def network() -> FixedNet:
    """Input 2x4x4 -> conv of 3 maps 3x3 -> pool (one shared weight) -> dense of 2, each v_th."""
    return FixedNet(
        input=Input(shape=(2, 4, 4)),
        populations=(
            Population(name="conv", shape=(3, 3, 3), v_th=10),
            Population(name="pool", shape=(3, 2, 2), v_th=0),
            Population(name="out", shape=(2,), v_th=[7, 8]),
        ),
        projections=(
            Projection(source="input", target="conv", synapse=Conv2d(w=[[[[1] * 2] * 2] * 2] * 3)),
            Projection(
                source="conv", target="pool", synapse=SumPool2d(kernel=(2, 2), stride=(1, 1))
            ),
            Projection(source="pool", target="out", synapse=Dense(w=[[2] * 12] * 2)),
        ),
        readout=Readout(population="out"),
        steps=3,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_json_and_back(kind: str) -> None:
    fault = Fault(kind=kind, **FULL[kind])
    text = json.dumps(fault.to_json())
    assert "null" not in text
    assert set(fault.to_json()) == {"kind", *FULL[kind]}
    assert Fault(**json.loads(text)) == fault


def test_every_kind_has_a_row_here() -> None:
    assert FULL.keys() == KINDS.keys()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("weight", "weight 3 of projection 1, bit 7"),
        ("threshold", "threshold 0 of population 'a', bit 16"),
        ("u", "u of neuron 5 of population 'a', bit 23, step 2"),
        ("stuck", "stuck 1 of population 'a'"),
        ("dropped", "dropped 4 of projection 0, rate 0.5"),
        ("core", "dead core 12"),
    ],
)
def test_a_fault_describes_itself(kind: str, text: str) -> None:
    assert str(Fault(kind=kind, **FULL[kind])) == text


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_more_and_nothing_less(kind: str) -> None:
    for name in set(FULL[kind]) - {"part"}:
        with pytest.raises(ValueError, match=r"it takes .*, no more and no less"):
            Fault(kind=kind, **{**FULL[kind], name: None})
    spare: dict[str, Any] = {"index": 0, "bit": 0, "step": 0, "rate": 0.5, "seed": 0}
    for name in spare.keys() - FULL[kind].keys():
        with pytest.raises(ValueError, match=r"it takes .*, no more and no less"):
            Fault(kind=kind, **FULL[kind], **{name: spare[name]})


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("weight", {"part": "a"}, "part is 'a'; it must be a number"),
        ("weight", {"part": True}, "part is True; it must be a number"),
        ("weight", {"part": -1}, "part is -1; allowed are 0.."),
        ("core", {"part": "a"}, "part is 'a'; it must be a number"),
        ("dead", {"part": 3}, "part is 3; it must be the name of a population"),
        ("weight", {"bit": 8}, "'weight': bit is 8; allowed are 0..7"),
        ("threshold", {"bit": 17}, "'threshold': bit is 17; allowed are 0..16"),
        ("u", {"bit": 24}, "'u': bit is 24; allowed are 0..23"),
        ("v", {"bit": -1}, "'v': bit is -1; allowed are 0..23"),
        ("v", {"step": -1}, "'v': step is -1; allowed are"),
        ("dead", {"index": 1.5}, "'dead': index is 1.5; it must be a whole number"),
        ("dropped", {"rate": 0.0}, "'dropped': rate is 0.0; a share of spikes is above 0"),
        ("dropped", {"rate": 1.1}, "rate is 1.1; a share of spikes is above 0 and at most 1"),
    ],
)
def test_refused(kind: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fault(kind=kind, **{**FULL[kind], **change})


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="fault kind is 'melted'; allowed are 'weight'"):
        Fault(kind="melted", part=0)


def test_places() -> None:
    net = network()
    assert places(net, "weight") == {0: 3 * 2 * 2 * 2, 1: 1, 2: 24}
    assert places(net, "threshold") == {"conv": 1, "pool": 1, "out": 2}
    assert places(net, "dropped") == {0: 32, 1: 27, 2: 12}
    for kind in ("u", "v", "stuck", "dead"):
        assert places(net, kind) == {"conv": 27, "pool": 12, "out": 2}
    assert places(net, "core", cores={7: {}, 2: {}}) == {2: 1, 7: 1}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(kind="weight", part=3, index=0, bit=0), "no part 3; there are 0, 1, 2"),
        (Fault(kind="dead", part="x", index=0), "no part 'x'; there are 'conv', 'pool', 'out'"),
        (Fault(kind="dead", part="out", index=2), "of 'out': index is 2; allowed are 0..1"),
        (Fault(kind="weight", part=1, index=1, bit=0), "of 1: index is 1; allowed are 0..0"),
        (Fault(kind="u", part="out", index=1, bit=0, step=3), "step is 3; the run has steps 0..2"),
    ],
)
def test_faults_that_do_not_fit_the_network(fault: Fault, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        resolved(network(), [fault], steps=3)


def test_a_core_is_its_neurons() -> None:
    cores = {4: {"out": [1], "conv": [26, 0, 0]}, 5: {"pool": [3]}}
    found = resolved(network(), [Fault(kind="core", part=4)], steps=3, cores=cores)
    assert found == tuple(
        Fault(kind="dead", part=part, index=i)
        for part, i in (("conv", 0), ("conv", 26), ("out", 1))
    )


def test_a_core_needs_to_know_its_neurons() -> None:
    fault = Fault(kind="core", part=4)
    unknown: tuple[Cores | None, ...] = (None, {})
    for cores in unknown:
        with pytest.raises(ValueError, match="which neurons a core holds is unknown; give cores="):
            resolved(network(), [fault], steps=3, cores=cores)
    with pytest.raises(ValueError, match="'core': there is no part 4; there are 5"):
        resolved(network(), [fault], steps=3, cores={5: {}})
    with pytest.raises(ValueError, match="'dead' of 'out': index is 2"):
        resolved(network(), [fault], steps=3, cores={4: {"out": [2]}})
