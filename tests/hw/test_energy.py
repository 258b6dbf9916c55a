"""Energy, time and NeuroBench's figures: by hand from the cited constants, and by two others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from spikeport.hw.activity import Activity, activity
from spikeport.hw.constants import DAVIES, RUNTIMES, SANA_FE, SCALED, SETS, RuntimeConstants
from spikeport.hw.energy import band, energy, label
from spikeport.hw.mesh import MESH
from spikeport.hw.metrics import metrics
from spikeport.hw.place import place
from spikeport.hw.runtime import constants, runtime
from spikeport.hw.target import TARGETS, Target
from spikeport.sim import engine
from spikeport.sim.chip import unsourced
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d

HERE = Path(__file__).parent
LOIHI_1 = TARGETS["loihi1"]
PICO, NANO = 1e-12, 1e-9


def near(value: Any) -> Any:
    """As `value` but for rounding; pytest's own absolute 1e-12 would hide a picojoule."""
    return pytest.approx(value, rel=1e-9, abs=0)


def ones(*shape: int) -> Dense:
    return Dense(w=np.ones(shape))


def firing(
    source: Input, layers: list[tuple[str, tuple[int, ...], Any]], *, steps: int
) -> FixedNet:
    """Layers one after the other whose neurons all fire in every step."""
    names = ["input", *(name for name, _, _ in layers)]
    return FixedNet(
        input=source,
        populations=tuple(
            Population(name=name, shape=shape, v_th=0, bias=1) for name, shape, _ in layers
        ),
        projections=tuple(
            Projection(source=before, target=name, synapse=synapse)
            for before, (name, _, synapse) in zip(names, layers, strict=False)
        ),
        readout=Readout(population=names[-1]),
        steps=steps,
    )


def busy(net: FixedNet, target: Target = LOIHI_1, *, batch: int = 1) -> Activity:
    """Activity under input that is never silent."""
    x = np.full((net.steps, batch, *net.input.shape), net.input.largest)
    return activity(net, x, engine.run(net, x, record=True), place(net, target))


def dense_net() -> FixedNet:
    """4 inputs, 3 neurons, 2 neurons, 5 steps; all on a tile of two cores."""
    return firing(Input(shape=(4,)), [("a", (3,), ones(3, 4)), ("b", (2,), ones(2, 3))], steps=5)


def conv_net() -> FixedNet:
    """Graded 4 x 4, a convolution to 2 x 4 x 4, a pool to 2 x 2 x 2, 3 neurons, 4 steps."""
    same = ConvGeometry(padding=(1, 1))
    return firing(
        Input(shape=(1, 4, 4), kind="graded", payload_bits=8),
        [
            ("conv", (2, 4, 4), Conv2d(w=np.ones((2, 1, 3, 3)), geometry=same)),
            ("pool", (2, 2, 2), SumPool2d(kernel=(2, 2), stride=(2, 2))),
            ("out", (3,), ones(3, 8)),
        ],
        steps=4,
    )


def far_net() -> FixedNet:
    """33 neurons of one core each, in tiles 0 to 8, feed one neuron on core 33, in tile 8."""
    return firing(Input(shape=(1,)), [("a", (33,), ones(33, 1)), ("b", (1,), ones(1, 33))], steps=2)


ALONE = replace(LOIHI_1, chip=replace(LOIHI_1.chip, neurons=1))

# joules by Davies and by SANA-FE, from counts worked out on paper. A neuron with a bias is active
# in every chip step; there are as many as steps of the network and layers.
BY_HAND = {
    # 7 chip steps of 5 neurons, 5 x 5 spikes, 5 x (4 x 3 + 3 x 2) synapses, 5 x 3 messages.
    "dense": (
        dense_net,
        LOIHI_1,
        (35 * 81 + 90 * 23.6 + 15 * 1.7) * PICO,
        (35 * 72.8 + 25 * 69.3 + 90 * 35.5 + 15 * 111) * PICO,
    ),
    # 7 chip steps of 43 neurons, 4 x 43 spikes. A row of a map has 4 x 3 - 2 taps, hence 2 x 100
    # synapses of the convolution; 32 of the pool, 24 dense ones. 4 x (32 + 8) messages.
    "conv": (
        conv_net,
        LOIHI_1,
        (301 * 81 + 4 * (232 + 24) * 23.6 + 160 * 1.7) * PICO,
        (301 * 72.8 + 172 * 69.3 + 4 * (232 * 24.0 + 24 * 35.5) + 160 * 111) * PICO,
    ),
    # 4 chip steps of 34 neurons, 2 x 34 spikes, 2 x (33 + 33) synapses, 2 x 33 messages; of each
    # step's, four go from every tile of the first row t columns and one row, the last none.
    "far": (
        far_net,
        ALONE,
        (136 * 81 + 132 * 23.6 + 66 * 1.7 + 2 * (4 * 28 * 3.0 + 32 * 4.0)) * PICO,
        (136 * 72.8 + 68 * 69.3 + 132 * 35.5 + 66 * 111 + 2 * (4 * 28 * 3.0 + 32 * 4.2)) * PICO,
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_joules_are_those_worked_out_by_hand(name: str) -> None:
    make, target, davies, sanafe = BY_HAND[name]
    found = band(busy(make(), target, batch=2))
    assert [e.joules for e in found.estimates] == pytest.approx([davies, sanafe], rel=1e-12, abs=0)
    assert found.joules == pytest.approx(
        (min(davies, sanafe), max(davies, sanafe)), rel=1e-12, abs=0
    )
    for estimate in found.estimates:
        assert sum(estimate.parts.values()) == near(estimate.joules)
        assert estimate.cores.sum() == near(estimate.joules)
        assert estimate.steps.sum() == near(estimate.joules)
        assert estimate.each == near([estimate.joules] * 2)


# Nanoseconds a sample by Davies and by SANA-FE on paper: of each chip step those of the core that
# sends or receives longest, and the barrier of all tiles in use.
NANOSECONDS = {
    # "a" reads 12 synapses of 4 events in steps 0 to 4, fires in 1 to 5; "b" alone fires in 6.
    "dense": (
        5 * 12 * 3.5 + 3 * (8.4 + 2.1) + 3 * 8.4 + 7 * 113,
        4 * 16 + 12 * 3.8 + 5 * 3 * (9.7 + 30 + 5.1) + 2 * (9.7 + 30) + 7 * 600,
    ),
    # The convolution reads 200 synapses of 16 events in steps 0 to 3, fires in 1 to 4; by SANA-FE
    # the pool is busiest in step 5, its 8 neurons fire.
    "conv": (
        4 * 200 * 3.5 + 32 * (8.4 + 2.1) + 2 * 32 * 8.4 + 7 * 113,
        16 * 16 + 200 * 3.1 + 4 * 32 * (9.7 + 30 + 5.1) + 8 * (9.7 + 30 + 5.1) + 32 * 9.7 + 7 * 600,
    ),
    # One event a core, then 33 for the last core in each of two steps, then that fires; 9 tiles.
    "far": (
        8.4 + 2 * 33 * 3.5 + 8.4 + 4 * (113 + 352 * 8 / 31),
        16 + 3.8 + 2 * 33 * (16 + 3.8) + 9.7 + 30 + 4 * (1400 + 400 * 5 / 25),
    ),
}


@pytest.mark.parametrize("name", NANOSECONDS)
def test_seconds_are_those_worked_out_by_hand(name: str) -> None:
    make, target, *_ = BY_HAND[name]
    found = band(busy(make(), target, batch=2))
    by_hand = [n * NANO for n in NANOSECONDS[name]]
    assert [e.seconds for e in found.estimates] == pytest.approx(by_hand, rel=1e-12, abs=0)
    assert found.seconds == pytest.approx((min(by_hand), max(by_hand)), rel=1e-12, abs=0)


def test_an_inactive_neuron_costs_less() -> None:
    net = dense_net()
    rest = [replace(p, bias=0, v_th=1000) for p in net.populations]
    net = replace(net, populations=tuple(rest), projections=net.projections)
    x = np.zeros((5, 1, 4), np.int64)
    found = activity(net, x, engine.run(net, x, record=True), place(net, LOIHI_1))
    assert energy(found, DAVIES).joules == near(35 * 52 * PICO)
    assert energy(found, SANA_FE).joules == near(35 * 51.2 * PICO)


def test_seconds_by_hand() -> None:
    """Layer "a" updates 3 neurons, sends 3 spikes; it receives 4 events and reads 12 synapses."""
    found = busy(dense_net())
    davies, sanafe = (e.seconds_steps for e in band(found).estimates)
    # Steps 1 to 4: input to "a", and "a" alive. Davies: synapses take longest; SANA-FE: sending.
    assert davies[1] == near(12 * 3.5 * NANO + 113 * NANO)
    assert sanafe[1] == near((3 * (9.7 + 30 + 5.1)) * NANO + 600 * NANO)
    # Step 0: input arrives, neurons only update.
    assert sanafe[0] == near((4 * 16 + 12 * 3.8) * NANO + 600 * NANO)
    assert band(found).seconds == near((davies.sum(), sanafe.sum()))


def test_a_barrier_lies_on_a_line_between_published_points() -> None:
    assert DAVIES.barrier_seconds(1) == near(113 * NANO)
    assert DAVIES.barrier_seconds(32) == near(465 * NANO)
    assert DAVIES.barrier_seconds(300) == near(465 * NANO)
    assert SANA_FE.barrier_seconds(3) == near(1.2e-6)
    assert SANA_FE.barrier_seconds(4) == 1.4e-6
    late = replace(DAVIES, barrier=((4, 1e-6), (8, 3e-6)))
    assert late.barrier_seconds(1) == 1e-6


def test_every_number_has_a_source() -> None:
    tables: tuple[Any, ...] = (*SETS, *RUNTIMES.values(), MESH)
    for table in tables:
        assert unsourced(table) == []
        assert set(table.sources) == {f.name for f in fields(table)} - {"sources"}
    planted = replace(DAVIES, sources={**DAVIES.sources, "joules_hop_x": ""})
    assert unsourced(planted) == ["joules_hop_x"]


def test_numbers_say_what_they_stand_for() -> None:
    assert label(DAVIES, "loihi1") == "Davies 2018: loihi1, 14 nm, voltage 0.75 V, pre-silicon"
    assert label(SANA_FE, "loihi2") == (
        "SANA-FE: loihi1 as a proxy for loihi2, 14 nm, voltage not stated, fitted to measurements"
        " on a Nahuku board"
    )
    found = energy(busy(dense_net(), TARGETS["oheo-gulch"]), DAVIES)
    assert "as a proxy for loihi2" in found.label


# The run-time model.

KNOWN = RuntimeConstants(
    name="known", chip="loihi2", status="made up", neuron=10 * NANO, synapse=1 * NANO,
    word=4 * NANO, link_bits=1e9, message_bits=32, barrier=11 * NANO, sources={},
)  # fmt: skip


def test_the_bound_by_hand() -> None:
    """Two cores: "a" of 3 neurons gets 12 synapses and 4 words a step, "b" 3 messages of "a"."""
    found = runtime(busy(dense_net()), KNOWN)
    assert found.missing == ()
    per_step = {name: term[:, 0] for name, term in found.terms.items()}
    assert per_step["neurons"] == near([30 * NANO] * 7)
    # "a" hears the input in steps 0 to 4, "b" hears "a", 6 synapses and 3 words, in 1 to 5.
    assert per_step["synapses"] == near([*[12 * NANO] * 5, 6 * NANO, 0])
    assert per_step["words"] == near([*[16 * NANO] * 5, 12 * NANO, 0])
    assert per_step["links"] == near([0, *[96 * NANO] * 5, 0])
    assert per_step["barrier"] == near([11 * NANO] * 7)
    assert found.seconds == near((2 * 30 + 5 * 96) * NANO)
    assert found.bound_by["links"] == pytest.approx(5 / 7)
    assert found.bound_by["neurons"] == pytest.approx(2 / 7)


def test_what_is_not_known_is_left_out_and_said() -> None:
    found = runtime(busy(dense_net()), SCALED)
    assert found.missing == ("words", "links")
    assert found.label.startswith("scaled: loihi2 as a proxy for loihi1, scaled from Loihi 1")
    assert found.seconds == near(7 * 200 * NANO)
    assert found.bound_by == {"neurons": 0.0, "synapses": 0.0, "barrier": 1.0}
    only = replace(SCALED, barrier=None)
    assert runtime(busy(dense_net()), only).missing == ("words", "links", "barrier")


def test_there_are_no_default_constants() -> None:
    assert constants("scaled") is SCALED
    with pytest.raises(ValueError, match="are 'best'; allowed are 'scaled' and the name of a"):
        constants("best")
    nothing = replace(SCALED, name="empty", neuron=None, synapse=None, barrier=None)
    with pytest.raises(ValueError, match="constants 'empty' hold no number; give one at least"):
        runtime(busy(dense_net()), nothing)


OWN = """\
name = "our board"
chip = "loihi1"
status = "measured"
[synapse]
value = 2e-9
source = "log 17"
[link_bits]
value = 1e9
source = "log 18"
[message_bits]
value = 32
source = "Davies et al. 2021"
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_constants_of_ones_own_by_hand(tmp_path: Path) -> None:
    """As in `test_the_bound_by_hand`: 12 synapses a step on "a", 3 messages over a link."""
    own = constants(written(tmp_path, OWN))
    assert own.sources["synapse"] == "log 17"
    assert unsourced(own) == []
    found = runtime(busy(dense_net()), own)
    assert found.missing == ("neurons", "words", "barrier")
    assert found.label == "our board: loihi1, measured"
    assert found.terms["synapses"][0, 0] == near(24 * NANO)
    assert found.seconds == near((24 + 5 * 96) * NANO)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('source = "log 17"', "", r"own.toml: \[synapse\] must hold a value and its source"),
        ('"log 17"', '""', r"\[synapse\]: its source is empty"),
        ("[synapse]", "[synapses]", r"\[synapses\] is no run-time constant; known are neuron, syn"),
        ("2e-9", "0", "value is 0; it must be a number above 0"),
        ("2e-9", "inf", "value is inf; it must be a number above 0"),
        ("2e-9", "1e308", "value is 1e.308; it must be a number above 0, from 1e-30 to 1e.30"),
        ("1e9", "5e-324", "value is 5e-324; it must be a number above 0, from 1e-30 to 1e.30"),
        ("2e-9", "nan", "value is nan; it must be a number above 0"),
        ("2e-9", "true", "value is True; it must be a number above 0"),
        ("2e-9", "'2'", "value is '2'; it must be a number above 0"),
        ("32", "32.5", "value is 32.5; it must be a whole number above 0"),
        ('status = "measured"', "", "status is None; say it in words"),
        ('"our board"', '"scaled"', "name is 'scaled', which is taken; choose another"),
        ("[synapse]", "[synapse", "is no TOML file"),
        ("[message_bits]", "[neuron]", "link_bits and message_bits make one term of time; give"),
        (OWN[OWN.index("[synapse]") :], "", "holds no number; known are neuron, synapse"),
    ],
)
def test_mistakes_in_a_file_of_constants(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in OWN
    with pytest.raises(ValueError, match=sentence):
        constants(written(tmp_path, OWN.replace(old, new)))


def test_a_file_of_constants_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file; check the path"):
        constants(str(tmp_path / "none.toml"))
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"cannot be read \(Is a directory\); name a file"):
        constants(str(folder))


# NeuroBench's figures.


def test_metrics_by_hand() -> None:
    """The convolution multiplies pixels; everything behind it adds spikes."""
    net = conv_net()
    w = np.ones((3, 8))
    w[0, :4] = 0
    projections = (*net.projections[:2], replace(net.projections[2], synapse=Dense(w=w)))
    net = replace(net, projections=projections)
    x = np.full((4, 1, 1, 4, 4), 255)
    x[0] = 0
    trace = engine.run(net, x, record=True)
    found = metrics(net, trace, activity(net, x, trace, place(net, LOIHI_1)))
    words = sum(core.use.synapse_words for core in place(net, LOIHI_1).cores)
    assert found == {
        "effective_macs": 3 * 200,
        "effective_acs": 4 * (32 + 20),
        "dense_operations": 4 * (200 + 32 + 24),
        "connection_sparsity": 4 / (18 + 24),
        "activation_sparsity": 0.0,
        "membrane_updates": 4 * 43,
        "footprint_bytes": 8 * words,
    }


def test_metrics_count_the_steps_of_the_run() -> None:
    """Twice as many steps as the network is made for, all neurons fire in each."""
    net, steps = conv_net(), 8
    x = np.full((steps, 1, 1, 4, 4), 255)
    trace = engine.run(net, x, record=True)
    found = metrics(net, trace, activity(net, x, trace, place(net, LOIHI_1)))
    assert found["effective_macs"] == steps * 200
    assert found["dense_operations"] == steps * (200 + 32 + 24)
    assert found["activation_sparsity"] == 0.0
    assert found["membrane_updates"] == steps * 43


# What two others say.


@pytest.fixture(scope="module")
def others(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    return load_file(HERE / "other_estimates.py")


SAID = json.loads((HERE / "estimates.json").read_text("utf-8"))


@pytest.mark.parametrize("name", SAID)
def test_sana_fe_says_the_same(others: ModuleType, name: str) -> None:
    """It runs neurons of its own, and both agree on every step until the first window ends."""
    net, said = others.nets()[name], SAID[name]["sanafe"]
    x, trace, placement = others.run(net)
    found = activity(net, x, trace, placement)
    steps = slice(0, others.STEPS)

    def per_step(counts: Any) -> list[int]:
        return np.asarray(counts[steps].sum((1, 2))).tolist()  # type: ignore[no-any-return]

    assert per_step(found.spikes) == said["fired"]
    assert per_step(found.active) == said["updated"]
    assert per_step(found.hops_x + found.hops_y) == said["hops"]
    estimate = energy(found, SANA_FE)
    assert estimate.steps[steps].sum() == near(sum(said["joules"].values()))
    tiles = -(-len(placement.cores) // 4)
    # It takes the barrier of the next smaller number of tiles in its table, we go on a line.
    cores = estimate.seconds_steps[steps] - (1.4e-6 + (tiles - 4) / (29 - 4) * 0.4e-6)
    assert cores + 1.4e-6 == near(said["sim_time"])


@pytest.mark.parametrize("name", SAID)
def test_neurobench_says_the_same(others: ModuleType, name: str) -> None:
    net, said = others.nets()[name], SAID[name]["neurobench"]
    x, trace, placement = others.run(net)
    found = metrics(net, trace, activity(net, x, trace, placement))
    assert {key: found[key] for key in said} == pytest.approx(said, abs=5e-5)  # it rounds
