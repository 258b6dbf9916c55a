"""Folders for boards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from spikeport.hw import deploy, lava_import
from spikeport.hw.place import place
from spikeport.hw.target import TARGETS
from spikeport.sim import reference
from spikeport.sim.chip import CHIPS
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense, SumPool2d


def network(*, bias: Any = 64, reset: str = "zero") -> FixedNet:
    return FixedNet(
        input=Input(shape=(3,), kind="graded", payload_bits=4),
        populations=(Population(name="out", shape=(1,), v_th=np.array(3), bias=bias, reset=reset),),
        projections=(
            Projection(source="input", target="out", synapse=Dense(w=np.array([[2, -4, 6]]))),
        ),
        readout=Readout(population="out"),
        steps=8,
    )


X = np.random.default_rng(0).integers(0, 16, (8, 5, 3))


CODE = [
    "board.py", "graph.py", "lava_group.py", "lava_guard.py", "lava_import.py", "lava_watch.py",
    "play.py", "processes/__init__.py", "processes/adapters.py", "processes/recorder.py", "run.py",
]  # fmt: skip
OTHERS = ["network.txt", "placement.json", "placement.txt", "vectors.npz", "README.txt"]


def names(files: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files]


def test_the_folder_holds_all_that_a_board_needs(tmp_path: Path) -> None:
    net, folder = network(), tmp_path / "out"
    trace = reference.run(net, X)
    files = deploy.write_folder(net, folder, board="oheo-gulch", vectors=(X, trace))
    wanted = [*CODE, *OTHERS, "SHA256SUMS", "network.json", "network.net"]
    assert names(files, folder) == sorted(wanted)
    assert list(tmp_path.iterdir()) == [folder]
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    assert {line.split("  ")[1] for line in lines} == set(wanted) - {"SHA256SUMS"}
    for line in lines:
        expected, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    with np.load(folder / "vectors.npz") as vectors:
        assert set(vectors) == {"x", "spikes.out"}
        np.testing.assert_array_equal(vectors["x"], X)
        np.testing.assert_array_equal(vectors["spikes.out"], trace["out"].spikes)
    loading = json.loads((folder / "network.json").read_text())["netx"]
    assert loading == {"reset_interval": 8, "reset_offset": 1, "input_message_bits": 8}
    with h5py.File(folder / "network.net") as file:
        assert file["layer/1/weight"][()].tolist() == [[2, -4, 6]]
    readme = (folder / "README.txt").read_text()
    assert f"Network {net.digest()[:12]} for oheo-gulch (1 x loihi2)" in readme
    assert f"The digest {net.digest()}\n" in readme


def test_the_folder_says_which_core_holds_what(tmp_path: Path) -> None:
    net, folder = network(), tmp_path / "out"
    deploy.write_folder(net, folder, board="kapoho-point", vectors=(X, reference.run(net, X)))
    placement = place(net, TARGETS["kapoho-point"])
    assert (folder / "placement.txt").read_text() == placement.as_text() + "\n"
    found = json.loads((folder / "placement.json").read_text())
    assert found["cores"] == [{"out": [[0, 1]]}]
    assert (found["target"], found["of"]) == ("kapoho-point", 8 * 128)


def test_readouts_of_potentials_bring_their_scores(tmp_path: Path) -> None:
    for kind in ("last_v", "sum_v"):
        net = replace(network(), readout=Readout(population="out", kind=kind))
        trace = reference.run(net, X)
        vectors = (X, trace)
        deploy.write_folder(net, tmp_path / kind, board="oheo-gulch", vectors=vectors)
        with np.load(tmp_path / kind / "vectors.npz") as file:
            np.testing.assert_array_equal(file["logits"], trace.logits(net.readout))


def test_the_readme_tells_how_samples_follow_each_other(tmp_path: Path) -> None:
    net = network()
    again = Projection(source="out", target="out", synapse=Dense(w=np.array([[2]])), delay=1)
    for name, built in {
        "row": net,
        "loop": replace(net, projections=(*net.projections, again)),
    }.items():
        vectors = (X, reference.run(built, X))
        deploy.write_folder(built, tmp_path / name, board="oheo-gulch", vectors=vectors)
    row, loop = ((tmp_path / name / "README.txt").read_text() for name in ("row", "loop"))
    assert "play the samples of `x` one after the other, T steps each" in row
    assert "chip step n * T + t + d + 1, counted from 1." in row
    assert "start the network anew for every sample: its delays would carry spikes" in loop
    assert "t leaves it at chip step t + d + 1, counted from 1.\n" in loop
    assert "Let all potentials start at -8388607, so that no bias fires before" in loop


def test_without_netx_there_are_arrays_and_the_readme_says_why(tmp_path: Path) -> None:
    net, folder = network(bias=65), tmp_path / "out"
    vectors = (X, reference.run(net, X))
    files = deploy.write_folder(net, folder, board="hala-point", vectors=vectors)
    wanted = [*CODE, *OTHERS, "SHA256SUMS", "network.json", "network.npz"]
    assert names(files, folder) == sorted(wanted)
    assert (
        "There is no NetX file, because population 'out': some biases are no multiple of 64"
        in (folder / "README.txt").read_text()
    )
    with np.load(folder / "network.npz") as arrays:
        assert arrays["connections.0.weights"].tolist() == [[2, -4, 6]]
        assert arrays["populations.0.bias"] == 65
    header = json.loads((folder / "network.json").read_text())
    assert header["netx"] is None
    assert header["connections"] == [
        {"source": "input", "target": "out", "message_bits": 8, "kind": "dense", "w_exp": 0,
         "delay": 0},
    ]  # fmt: skip


def wide(neurons: int) -> FixedNet:
    """`neurons` with so many sources that three of them fill a core."""
    w = np.full((neurons, 9000), 2)
    return FixedNet(
        input=Input(shape=(9000,)),
        populations=(Population(name="out", shape=(neurons,), v_th=np.array(3)),),
        projections=(Projection(source="input", target="out", synapse=Dense(w=w)),),
        readout=Readout(population="out"),
        steps=8,
    )


@pytest.mark.parametrize(
    ("net", "board", "message"),
    [
        (
            network(), "abacus",
            r"^board is 'abacus'; allowed are hala-point, kapoho-bay, kapoho-point, nahuku-32,"
            r" nahuku-8, oheo-gulch, pohoiki-springs$",
        ),
        (network(), "kapoho-bay", r"^the network does not fit kapoho-bay: input: spikes carry 4"),
        (network(reset="subtract"), "oheo-gulch", r"^the network does not fit oheo-gulch: popul"),
    ],
)  # fmt: skip
def test_what_does_not_fit_leaves_no_folder(
    net: FixedNet, board: str, message: str, tmp_path: Path
) -> None:
    vectors = (X, reference.run(net, X))
    with pytest.raises(ValueError, match=message):
        deploy.write_folder(net, tmp_path / "out", board=board, vectors=vectors)
    assert not list(tmp_path.iterdir())


def test_more_cores_than_there_are_leave_no_folder(tmp_path: Path) -> None:
    net = wide(400)  # three a core
    x = np.zeros((8, 1, 9000), np.int64)
    vectors = (x, reference.run(net, x))
    message = r"fit oheo-gulch: network: it takes 134 cores, but there are 128 on oheo-gulch"
    with pytest.raises(ValueError, match=message):
        deploy.write_folder(net, tmp_path / "out", board="oheo-gulch", vectors=vectors)
    assert not list(tmp_path.iterdir())


def test_what_lava_cannot_run_leaves_no_folder(tmp_path: Path) -> None:
    net = FixedNet(
        input=Input(shape=(1, 1, 128)),
        populations=(Population(name="out", shape=(1, 1, 1), v_th=np.array(3)),),
        projections=(
            Projection(
                source="input", target="out", synapse=SumPool2d(kernel=(1, 128), stride=(1, 1))
            ),
        ),
        readout=Readout(population="out"),
        steps=8,
    )
    x = np.zeros((8, 1, 1, 1, 128), np.int64)
    vectors = (x, reference.run(net, x))
    with pytest.raises(
        ValueError, match=r"Lava keeps them in 8 bits, at most 127; split the layer"
    ):
        deploy.write_folder(net, tmp_path / "out", board="oheo-gulch", vectors=vectors)
    assert not list(tmp_path.iterdir())


def test_an_older_folder_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    vectors = (X, reference.run(network(), X))
    with pytest.raises(ValueError, match=r"out exists already; name a new folder or remove it$"):
        deploy.write_folder(network(), tmp_path / "out", board="oheo-gulch", vectors=vectors)
    with pytest.raises(ValueError, match=r"away does not exist; create it first$"):
        deploy.write_folder(
            network(), tmp_path / "away" / "out", board="oheo-gulch", vectors=vectors
        )
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


def test_wrong_vectors_leave_no_folder(tmp_path: Path) -> None:
    trace = reference.run(network(), X)
    with pytest.raises(ValueError, match=r"^network input is 16; allowed are 0..15$"):
        deploy.write_folder(
            network(), tmp_path / "out", board="oheo-gulch", vectors=(X * 0 + 16, trace)
        )
    assert not list(tmp_path.iterdir())


def test_boards_carry_known_chips_and_a_source() -> None:
    for board in deploy.BOARDS.values():
        assert board.chip.name in CHIPS
        assert board.chips >= 1
        assert board.source


def test_without_lava_no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikeport.hw.lava_board.available", lambda: "Lava is away")
    assert deploy.board_status() == "no board can be used: Lava is away"


@pytest.mark.lava
def test_a_board_needs_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    assert deploy.board_status() == (
        "no board can be used: Lava-Loihi, the extension that Intel gives to members of its"
        " research community, is not installed; ask Intel for access, or copy the folder to a"
        " machine that has it"
    )
    with lava_import.quiet():
        from lava.utils import loihi
    monkeypatch.setattr(loihi, "is_installed", lambda: True)
    assert deploy.board_status() is None
