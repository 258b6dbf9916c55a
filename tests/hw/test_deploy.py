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

from spikeport.hw import deploy, lava_import, netx_file
from spikeport.hw.place import place
from spikeport.hw.target import TARGETS
from spikeport.sim import reference
from spikeport.sim.bundle import Vectors
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


def vectors(net: FixedNet, x: Any = X) -> Vectors:
    """Inputs `x` and what the reference makes of them."""
    trace = reference.run(net, x)
    spikes = {name: part.spikes for name, part in trace.populations.items()}
    return Vectors(inputs=x, spikes=spikes, logits=trace.logits(net.readout))


CODE = [
    "board.py", "compare.py", "files.py", "graph.py", "interrupt.py", "lava_axes.py",
    "lava_board.py", "lava_file.py", "lava_group.py", "lava_guard.py", "lava_import.py",
    "lava_watch.py", "options.py", "play.py", "processes/__init__.py", "processes/adapters.py",
    "processes/recorder.py", "run.py",
]  # fmt: skip
OTHERS = ["network.txt", "placement.json", "placement.txt", "vectors.npz", "README.txt"]


def names(files: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files]


def test_the_folder_holds_all_that_a_board_needs(tmp_path: Path) -> None:
    net, folder = network(), tmp_path / "out"
    trace = reference.run(net, X)
    files = deploy.write_folder(net, folder, board="oheo-gulch", vectors=vectors(net))
    wanted = [*CODE, *OTHERS, "SHA256SUMS", "network.json", "network.net"]
    assert names(files, folder) == sorted(wanted)
    assert list(tmp_path.iterdir()) == [folder]
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    assert {line.split("  ")[1] for line in lines} == set(wanted) - {"SHA256SUMS"}
    for line in lines:
        expected, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    with np.load(folder / "vectors.npz") as file:
        assert set(file) == {"x", "spikes.out"}
        np.testing.assert_array_equal(file["x"], X)
        np.testing.assert_array_equal(file["spikes.out"], trace["out"].spikes)
    loading = json.loads((folder / "network.json").read_text())["netx"]
    assert loading == {"reset_interval": 8, "reset_offset": 1, "input_message_bits": 8}
    with h5py.File(folder / "network.net") as file:
        assert file["layer/1/weight"][()].tolist() == [[2, -4, 6]]
    readme = (folder / "README.txt").read_text()
    assert f"Network {net.digest()[:12]} for oheo-gulch (1 x loihi2)" in readme
    assert f"The digest {net.digest()}\n" in readme


def test_the_folder_says_which_core_holds_what(tmp_path: Path) -> None:
    net, folder = network(), tmp_path / "out"
    deploy.write_folder(net, folder, board="kapoho-point", vectors=vectors(net))
    placement = place(net, TARGETS["kapoho-point"])
    assert (folder / "placement.txt").read_text() == placement.as_text() + "\n"
    found = json.loads((folder / "placement.json").read_text())
    assert found["cores"] == [{"out": [[0, 1]]}]
    assert (found["target"], found["of"]) == ("kapoho-point", 8 * 128)


def test_readouts_of_potentials_bring_their_scores(tmp_path: Path) -> None:
    for kind in ("last_v", "sum_v"):
        net = replace(network(), readout=Readout(population="out", kind=kind))
        trace = reference.run(net, X)
        deploy.write_folder(net, tmp_path / kind, board="oheo-gulch", vectors=vectors(net))
        with np.load(tmp_path / kind / "vectors.npz") as file:
            np.testing.assert_array_equal(file["logits"], trace.logits(net.readout))


def test_the_readme_tells_how_samples_follow_each_other(tmp_path: Path) -> None:
    net = network()
    again = Projection(source="out", target="out", synapse=Dense(w=np.array([[2]])), delay=1)
    for name, built in {
        "row": net,
        "loop": replace(net, projections=(*net.projections, again)),
    }.items():
        deploy.write_folder(built, tmp_path / name, board="oheo-gulch", vectors=vectors(built))
    row, loop = ((tmp_path / name / "README.txt").read_text() for name in ("row", "loop"))
    assert "play the samples of `x` one after the other, T steps each" in row
    assert "chip step n * T + t + d + 1, counted from 1." in row
    assert "start the network anew for every sample: its delays would carry spikes" in loop
    assert "t leaves it at chip step t + d + 1, counted from 1.\n" in loop
    assert "Let all potentials start at -8388607, so that no bias fires before" in loop


def test_the_readme_warns_of_steps_that_no_board_resets_after(tmp_path: Path) -> None:
    again = Projection(source="out", target="out", synapse=Dense(w=np.array([[2]])), delay=2)
    net = network()
    odd, loop = replace(net, steps=6), replace(net, steps=6, projections=(*net.projections, again))
    for name, built in {"good": net, "odd": odd, "loop": loop}.items():
        told = vectors(built, X[: built.steps])
        deploy.write_folder(built, tmp_path / name, board="oheo-gulch", vectors=told)
        readme = (tmp_path / name / "README.txt").read_text()
        # The loop has no NetX file, and the graph of its arrays chooses a power of two.
        assert ("sample of this network has 6: a board may not run it so" in readme) == (
            name == "odd"
        )
    assert (tmp_path / "loop" / "network.npz").exists()


def test_without_netx_there_are_arrays_and_the_readme_says_why(tmp_path: Path) -> None:
    net, folder = network(bias=65), tmp_path / "out"
    files = deploy.write_folder(net, folder, board="hala-point", vectors=vectors(net))
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
    with pytest.raises(ValueError, match=message):
        deploy.write_folder(net, tmp_path / "out", board=board, vectors=vectors(net))
    assert not list(tmp_path.iterdir())


def test_more_cores_than_there_are_leave_no_folder(tmp_path: Path) -> None:
    net = wide(400)  # three a core
    x = np.zeros((8, 1, 9000), np.int64)
    message = r"fit oheo-gulch: network: it takes 134 cores, but there are 128 on oheo-gulch"
    with pytest.raises(ValueError, match=message):
        deploy.write_folder(net, tmp_path / "out", board="oheo-gulch", vectors=vectors(net, x))
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
    with pytest.raises(
        ValueError, match=r"Lava keeps them in 8 bits, at most 127; split the layer"
    ):
        deploy.write_folder(net, tmp_path / "out", board="oheo-gulch", vectors=vectors(net, x))
    assert not list(tmp_path.iterdir())


def test_an_older_folder_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    net, here = network(), "oheo-gulch"
    with pytest.raises(ValueError, match=r"out: exists already; name a new folder$"):
        deploy.write_folder(net, tmp_path / "out", board=here, vectors=vectors(net))
    with pytest.raises(ValueError, match=r"away does not exist; create it first$"):
        deploy.write_folder(net, tmp_path / "away" / "out", board=here, vectors=vectors(net))
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": X * 0 + 16}, r"^network input is 16; allowed are 0..15$"),
        ({"inputs": X[:7]}, r"^vectors: inputs have 7 steps; the network runs 8$"),
        ({"inputs": X[..., :2]}, r"^vectors: inputs have shape \(8, 5, 2\); the network needs"),
        ({"spikes": {}}, r"^vectors: have no spikes of 'out'; a bundle keeps those of all$"),
        (
            {"spikes": {"out": np.zeros((8, 5, 2))}},
            r"^vectors: spikes of 'out' are for 2 neurons, the network has 1$",
        ),
        (
            {"inputs": X[:, :0], "spikes": {"out": np.zeros((8, 0, 1))}, "logits": X[0, :0, :1]},
            r"^network input has shape \(8, 0, 3\); needed is \[T, B, \*\(3,\)\], none empty$",
        ),
    ],
)
def test_wrong_vectors_leave_no_folder(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    net, good = network(), vectors(network())
    steps = len(change.get("inputs", X))
    spikes = {"out": good.spikes["out"][:steps].astype(np.int64)}
    parts: dict[str, Any] = {"inputs": X, "spikes": spikes, "logits": good.logits} | change
    with pytest.raises(ValueError, match=message):
        deploy.write_folder(net, tmp_path / "out", board="oheo-gulch", vectors=Vectors(**parts))
    assert not list(tmp_path.iterdir())


def test_reports_and_the_boards_options_join_the_folder(tmp_path: Path) -> None:
    net, folder = network(), tmp_path / "out"
    files = deploy.write_folder(
        net, folder, board="oheo-gulch", vectors=vectors(net), words="--host=slurm --profile",
        reports=lambda: {"cost.txt": "much\n", "cost.json": "{}\n"},
    )  # fmt: skip
    assert {"cost.txt", "cost.json"} < set(names(files, folder))
    assert (folder / "cost.txt").read_text() == "much\n"
    readme = (folder / "README.txt").read_text()
    assert "\nOn the board: python run.py --host=slurm --profile\n" in readme
    assert "\ncost.txt         what a sample of `x` costs on the chip, by a model" in readme
    listed = (folder / "SHA256SUMS").read_text()
    assert "  cost.json\n" in listed
    deploy.write_folder(net, tmp_path / "bare", board="oheo-gulch", vectors=vectors(net))
    readme = (tmp_path / "bare" / "README.txt").read_text()
    assert "cost" not in readme
    assert "On the board:" not in readme


def test_the_page_on_folders_names_every_file_and_key(tmp_path: Path) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "bundle.md").read_text("utf-8")
    page = page.partition("a deployment folder\n")[2]
    for name, net in {"netx": network(), "arrays": network(bias=65)}.items():
        files = deploy.write_folder(
            net, tmp_path / name, board="oheo-gulch", vectors=vectors(net),
            reports=lambda: {"cost.txt": "", "cost.json": ""},
        )  # fmt: skip
        header = json.loads((tmp_path / name / "network.json").read_text())
        inner = {*header["input"], *header["populations"][0], *header}
        told = {f"`{key}`" for key in inner - {"kind", "population"}}
        stems = {path for path in names(files, tmp_path / name) if path.endswith(".py")}
        told |= {f"`{file}`" for file in {*names(files, tmp_path / name)} - stems}
        told -= {"`placement.json`", "`cost.json`"}  # beside the .txt
        assert {word for word in told if word not in page} == set()


def test_only_what_netx_cannot_hold_becomes_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(net: FixedNet, path: Path) -> None:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(netx_file, "write", broken)
    with pytest.raises(ValueError, match=r"^operands could not be"):
        deploy.write_folder(
            network(), tmp_path / "out", board="oheo-gulch", vectors=vectors(network())
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
