"""Bundles keep every bit, are written whole or not at all, and notice any change."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from spikeport.sim import bundle, reference
from spikeport.sim.bundle import Bundle, Vectors
from spikeport.sim.net import FixedNet, Input, Population, Readout
from spikeport.sim.net_file import read_net, write_net

Case = tuple[FixedNet, Vectors]


@pytest.fixture
def case(random_net: Callable[..., Any]) -> Case:
    net, x = random_net(11)
    trace = reference.run(net, x)
    vectors = Vectors(
        inputs=x,
        spikes={name: p.spikes for name, p in trace.populations.items()},
        logits=trace.logits(net.readout),
        labels=np.arange(x.shape[1]) + 7,
    )
    return net, vectors


def save(folder: Path, case: Case, **files: Any) -> Bundle:
    return bundle.write(folder, case[0], files=files or {"note": "x"}, vectors=case[1])


@pytest.mark.parametrize("seed", range(25))
def test_the_digest_survives_the_file(
    tmp_path: Path, random_net: Callable[..., Any], seed: int
) -> None:
    net, _ = random_net(seed)
    write_net(tmp_path / "net.h5", net)
    back = read_net(tmp_path / "net.h5")
    assert back.digest() == net.digest()
    for p, q in zip(net.populations, back.populations, strict=True):
        assert p.v_th.shape == q.v_th.shape
        assert p.bias.shape == q.bias.shape


def test_a_network_of_sources_alone_survives_the_file(tmp_path: Path) -> None:
    net = FixedNet(
        input=Input(shape=(1,)), populations=(Population(name="p", shape=(2,), v_th=3, bias=7),),
        projections=(), readout=Readout(population="p"), steps=4,
    )  # fmt: skip
    write_net(tmp_path / "net.h5", net)
    assert read_net(tmp_path / "net.h5") == net


def test_a_bundle_comes_back_as_it_was(tmp_path: Path, case: Case) -> None:
    (tmp_path / "source").write_bytes(b"\x00\x01")
    saved = save(tmp_path / "b", case, copied=tmp_path / "source", raw=b"\xff", text="ü")
    back = bundle.read(tmp_path / "b")
    assert back.net == saved.net == case[0]
    assert back.files == ("copied", "net.h5", "raw", "text", "vectors.h5")
    assert back.path("copied").read_bytes() == b"\x00\x01"
    assert back.path("raw").read_bytes() == b"\xff"
    assert back.path("text").read_text("utf-8") == "ü"
    assert np.array_equal(back.vectors.inputs, case[1].inputs)
    assert back.vectors.labels is not None
    assert back.vectors.labels[0] == 7
    for name, spikes in case[1].spikes.items():
        assert np.array_equal(back.vectors.spikes[name], spikes)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "source"]


def test_names_with_slashes_survive(tmp_path: Path, case: Case) -> None:
    net, vectors = case
    new = {p.name: f"block/{p.name}.lif" for p in net.populations} | {"input": "input"}
    renamed = replace(
        net,
        populations=tuple(replace(p, name=new[p.name]) for p in net.populations),
        projections=tuple(
            replace(p, source=new[p.source], target=new[p.target]) for p in net.projections
        ),
        readout=replace(net.readout, population=new[net.readout.population]),
    )
    spikes = {new[name]: s for name, s in vectors.spikes.items()}
    save(tmp_path / "b", (renamed, replace(vectors, spikes=spikes)))
    back = bundle.read(tmp_path / "b").vectors.spikes
    assert list(back) == list(spikes)
    assert all(np.array_equal(back[name], s) for name, s in spikes.items())


def test_a_failed_write_leaves_the_old_bundle(tmp_path: Path, case: Case) -> None:
    save(tmp_path / "b", case, note="old")
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "b", case, note=tmp_path / "missing")
    assert bundle.read(tmp_path / "b").path("note").read_text() == "old"
    save(tmp_path / "b", case, other="new")
    assert bundle.read(tmp_path / "b").files == ("net.h5", "other", "vectors.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path, case: Case) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("years")
    with pytest.raises(
        ValueError, match=r"b: exists and is no bundle; choose another place or rem"
    ):
        save(tmp_path / "b", case)
    assert (tmp_path / "b" / "thesis.tex").read_text() == "years"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def no_sums(path: Path) -> None:
    path.write_text(json.dumps({"version": 1, "sha256": 5}))


def version(path: Path) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "version": 9}))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("note", flip, "note: was changed after the export; export again"),
        ("net.h5", flip, "net.h5: was changed after the export; export again"),
        ("vectors.h5", Path.unlink, "b: vectors.h5 is missing from the bundle; export again"),
        ("checksums.json", Path.unlink, "b: is no bundle (checksums.json is missing); export"
         " again"),
        ("checksums.json", lambda p: p.write_text("{"), "checksums.json: is damaged; export again"),
        ("checksums.json", no_sums, "checksums.json: is damaged; export again"),
        ("checksums.json", version, "b: is a bundle of version 9, this program reads 1; export it"
         " again"),
    ],
)  # fmt: skip
def test_damage_is_noticed(
    tmp_path: Path, case: Case, name: str, damage: Callable[[Path], Any], message: str
) -> None:
    save(tmp_path / "b", case)
    damage(tmp_path / "b" / name)
    with pytest.raises((ValueError, FileNotFoundError), match=r"\S") as error:
        bundle.read(tmp_path / "b")
    assert str(error.value).endswith(message)
    if (tmp_path / "b" / "checksums.json").is_file():
        save(tmp_path / "b", case, note="new")  # takes its place
        assert bundle.read(tmp_path / "b").path("note").read_text() == "new"


def edit(path: Path) -> None:
    with h5py.File(path, "a") as file:
        group = next(iter(file["populations"].values()))
        group["v_th"][...] += 1


def other_version(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 1


def other_kind(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file.attrs["format"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:700])


def other_synapse(path: Path) -> None:
    with h5py.File(path, "a") as file:
        next(iter(file["projections"].values())).attrs["kind"] = "Moon"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit, "its values do not match its digest; export the network again"),
        (other_version, "is of version 1, this program reads 2; export the network again"),
        (other_kind, "holds no FixedNet; give the net.h5 of a bundle"),
        (other_synapse, "lacks a known synapse (found 'Moon'); export the network again"),
        (cut, "is damaged or no HDF5 file; export the network again"),
        (Path.unlink, "there is no such file; export the network again"),
    ],
)
def test_a_damaged_net_file_is_refused(
    tmp_path: Path, case: Case, damage: Callable[[Path], Any], message: str
) -> None:
    path = tmp_path / "net.h5"
    write_net(path, case[0])
    damage(path)
    with pytest.raises((ValueError, FileNotFoundError), match=r"\S") as error:
        read_net(path)
    assert str(error.value) == f"{path}: {message}"


def test_vectors_must_fit_the_net(tmp_path: Path, case: Case) -> None:
    net, vectors = case
    name = next(iter(vectors.spikes))
    wrong = {name: vectors.spikes[name][..., :-1]}
    with pytest.raises(ValueError, match=rf"^vectors: spikes of '{name}' are for \d+ neurons, the"):
        bundle.write(
            tmp_path / "b",
            net,
            files={},
            vectors=Vectors(inputs=vectors.inputs, spikes=wrong, logits=vectors.logits),
        )
    assert list(tmp_path.iterdir()) == []


def test_every_part_of_the_vectors_must_fit_the_net(tmp_path: Path, case: Case) -> None:
    net, vectors = case
    x, logits, name = vectors.inputs, vectors.logits, net.populations[0].name
    classes, samples = np.shape(logits)[1], x.shape[1]
    known = {key: s for key, s in vectors.spikes.items() if key != name}
    wrong: list[tuple[dict[str, Any], str]] = [
        (
            {"inputs": x[..., :-1]},
            f"inputs have shape {x[..., :-1].shape}; the network needs [T, B, *{net.input.shape}]",
        ),
        (
            {"inputs": x[:-1], "spikes": {n: s[:-1] for n, s in vectors.spikes.items()}},
            f"inputs have {len(x) - 1} steps; the network runs {len(x)}",
        ),
        (
            {"logits": np.zeros((samples, classes + 1))},
            f"logits are for {classes + 1} classes, the network has {classes}",
        ),
        ({"spikes": known}, f"have no spikes of {name!r}; a bundle keeps those of all"),
        (
            {"spikes": known | {"moon": vectors.spikes[name]}},
            f"spikes of 'moon' are for {net.populations[0].size} neurons, the network has no such"
            " population",
        ),
        (
            {"spikes": {name: vectors.spikes[name][:, :, 0]}},
            f"spikes of {name!r} have shape {x.shape[:2]}; needed is [{len(x)}, {samples}, n]",
        ),
        (
            {"logits": np.zeros(samples)},
            f"logits have shape {(samples,)}; needed are 2 axes, the first for the {samples}"
            " samples of the inputs",
        ),
        (
            {"labels": np.arange(samples + 1)},
            f"labels have shape {(samples + 1,)}; needed are 1 axes, the first for the {samples}"
            " samples of the inputs",
        ),
    ]
    assert len(x) > 1
    for changed, message in wrong:
        with pytest.raises(ValueError, match=f"^vectors: {re.escape(message)}$"):
            save(tmp_path / "b", (net, replace(vectors, **changed)))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["net.h5", "../up", ".hidden", "checksums.json"])
def test_names_of_files_are_plain(tmp_path: Path, case: Case, name: str) -> None:
    with pytest.raises(ValueError, match=r"files cannot be called .*; use plain names other than"):
        bundle.write(tmp_path / "b", case[0], files={name: "x"}, vectors=case[1])


def test_a_file_that_is_not_there(tmp_path: Path, case: Case) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"the bundle has no 'net\.nir'; it holds net\.h5, "
    ):
        save(tmp_path / "b", case).path("net.nir")
