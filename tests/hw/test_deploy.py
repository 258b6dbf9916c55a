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
from spikeport.sim import reference
from spikeport.sim.chip import CHIPS
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense


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


def test_the_folder_holds_all_that_a_board_needs(tmp_path: Path) -> None:
    net = network()
    trace = reference.run(net, X)
    files = deploy.write_folder(net, tmp_path / "out", board="oheo-gulch", vectors=(X, trace))
    assert [f.name for f in files] == [
        "README.txt", "SHA256SUMS", "network.json", "network.net", "network.txt", "vectors.npz",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    for line in (tmp_path / "out" / "SHA256SUMS").read_text().splitlines():
        expected, name = line.split("  ")
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == expected
    with np.load(tmp_path / "out" / "vectors.npz") as vectors:
        np.testing.assert_array_equal(vectors["x"], X)
        np.testing.assert_array_equal(vectors["spikes.out"], trace["out"].spikes)
    loading = json.loads((tmp_path / "out" / "network.json").read_text())
    assert loading == {"reset_interval": 8, "reset_offset": 1, "input_message_bits": 8}
    with h5py.File(tmp_path / "out" / "network.net") as file:
        assert file["layer/1/weight"][()].tolist() == [[2, -4, 6]]
    readme = (tmp_path / "out" / "README.txt").read_text()
    assert f"Network {net.digest()[:12]} for oheo-gulch (1 x loihi2)" in readme


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
    assert "at chip step n * T + t + d + 1, counted from 1.\n" in row
    assert "start the network anew for every sample: its delays would carry spikes" in loop
    assert "t leaves it at chip step t + d + 1, counted from 1.\n" in loop
    assert "Let all potentials start at -8388607, so that no bias fires before" in loop


def test_without_netx_the_readme_says_why(tmp_path: Path) -> None:
    net = network(bias=65)
    vectors = (X, reference.run(net, X))
    files = deploy.write_folder(net, tmp_path / "out", board="hala-point", vectors=vectors)
    assert [f.name for f in files if f.name.endswith((".net", ".json"))] == []
    assert (
        "There is no NetX file, because population 'out': some biases are no multiple of 64"
        in (tmp_path / "out" / "README.txt").read_text()
    )


@pytest.mark.parametrize(
    ("net", "board", "message"),
    [
        (
            network(), "abacus",
            r"^board is 'abacus'; allowed are hala-point, kapoho-bay, kapoho-point, nahuku-32,"
            r" nahuku-8, oheo-gulch, pohoiki-springs$",
        ),
        (network(), "kapoho-bay", r"^the network does not fit loihi1: input: spikes carry 4 bits"),
        (network(reset="subtract"), "oheo-gulch", r"^the network does not fit loihi2: population"),
    ],
)  # fmt: skip
def test_what_does_not_fit_leaves_no_folder(
    net: FixedNet, board: str, message: str, tmp_path: Path
) -> None:
    vectors = (X, reference.run(net, X))
    with pytest.raises(ValueError, match=message):
        deploy.write_folder(net, tmp_path / "out", board=board, vectors=vectors)
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
