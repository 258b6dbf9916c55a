"""Bad input, command by command: one sentence, exit code 2, nothing written.

Every case starts from a small finished run and its bundle, damages something, and calls the real
command. Where the sentence comes from is not the point here; that it is one, that it names what is
wrong, and that the disk is as it was, is.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from spikeport.hw import lava_group
from spikeport.hw.lava_import import available

ROOT = Path(__file__).resolve().parent.parent
Damage = Callable[[Path], object]


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: tiny.toml, run, bundle, and a place for temporary files."""
    folder = tmp_path / "here"
    shutil.copytree(finished, folder)
    (folder / "temporary").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "temporary"))
    return folder


# Ways to damage things. Each takes the working folder.


def replaced(name: str, old: str, new: str) -> Damage:
    """Text `old` of a file becomes `new`."""

    def damage(here: Path) -> None:
        path = here / name
        text = path.read_text("utf-8")
        assert old in text, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new), "utf-8")

    return damage


def holds(name: str, content: bytes) -> Damage:
    """A file with this content, in place of what was there."""

    def damage(here: Path) -> None:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(content)

    return damage


def cut(name: str) -> Damage:
    """The second half of a file is lost."""
    return lambda here: (here / name).write_bytes(
        (here / name).read_bytes()[: (here / name).stat().st_size // 2]
    )


def flipped(name: str) -> Damage:
    """One bit in the middle of a file is turned over."""

    def damage(here: Path) -> None:
        content = bytearray((here / name).read_bytes())
        content[len(content) // 2] ^= 1
        (here / name).write_bytes(content)

    return damage


def removed(name: str) -> Damage:
    return lambda here: (here / name).unlink()


def both(*damages: Damage) -> Damage:
    return lambda here: [damage(here) for damage in damages]


def summed(here: Path) -> None:
    """The bundle's checksums are made to fit again, as a careful forger would."""
    listing = here / "bundle" / "checksums.json"
    content = json.loads(listing.read_text("utf-8"))
    for name in content["sha256"]:
        file = here / "bundle" / name
        content["sha256"][name] = hashlib.sha256(file.read_bytes()).hexdigest()
    listing.write_text(json.dumps(content), "utf-8")


def in_a_sweep(here: Path) -> None:
    """The run is one of a sweep."""
    shutil.copytree(here / "run", here / "sweep" / "train.seed=0")


def recorded(here: Path) -> None:
    """A record such as a board would leave; half of it is noise, which no zip can shrink."""
    rng = np.random.default_rng(0)
    np.savez(here / "spikes.npz", lif1=rng.integers(0, 2, (3, 500, 16)))


def recorded_objects(here: Path) -> None:
    np.savez(here / "spikes.npz", lif1=np.array([{}], object))


def in_hdf5(name: str, change: Callable[[Any], object]) -> Damage:
    """The open HDF5 file is changed."""

    def damage(here: Path) -> None:
        with h5py.File(here / name, "r+") as file:
            change(file)

    return damage


def value(key: str, new: Any) -> Callable[[Any], object]:
    """Dataset `key` gets another value, of whatever shape."""

    def change(file: Any) -> None:
        if key in file:
            del file[key]
        file[key] = new

    return change


def about(key: str, **new: Any) -> Callable[[Any], object]:
    """Our metadata of a NIR node say something else."""

    def change(file: Any) -> None:
        place = f"node/{key}metadata/spikeport"
        known = json.loads(file[place][()])
        value(place, json.dumps(known | new))(file)

    return change


def with_nan(name: str, file: str) -> Damage:
    """The first number of a tensor in a checkpoint is NaN."""

    def damage(here: Path) -> None:
        with safe_open(here / file, framework="pt") as opened:
            header = opened.metadata()
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}
        tensors[name].view(-1)[0] = float("nan")
        save_file(tensors, here / file, metadata=header)

    return damage


def new_header(file: str, **entries: str) -> Damage:
    """Entries of a checkpoint's header are replaced."""

    def damage(here: Path) -> None:
        with safe_open(here / file, framework="pt") as opened:
            header = opened.metadata() | entries
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}
        save_file(tensors, here / file, metadata=header)

    return damage


def idx(*, images: bytes = b"", labels: bytes = b"") -> Damage:
    """Four IDX files of 40 images of 8x8 pixels in data/; those to train on can be given."""
    digits = bytes(range(10)) * 4
    pictures = (0x803).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in (40, 8, 8))
    good = {
        "train-images-idx3-ubyte": images or pictures + bytes(40 * 64),
        "train-labels-idx1-ubyte": labels or b"\0\0\x08\x01" + (40).to_bytes(4, "big") + digits,
        "t10k-images-idx3-ubyte": pictures + bytes(40 * 64),
        "t10k-labels-idx1-ubyte": b"\0\0\x08\x01" + (40).to_bytes(4, "big") + digits,
    }
    return both(*(holds(f"data/{name}", content) for name, content in good.items()))


def nir_file(**nodes: Any) -> Damage:
    """other.nir: the nodes one after the other, between an Input and an Output of size 4."""

    def damage(here: Path) -> None:
        row = {"input": nir.Input(np.array([4])), **nodes, "output": nir.Output(np.array([2]))}
        names = list(row)
        edges = list(pairwise(names))
        nir.write(here / "other.nir", nir.NIRGraph(row, edges, type_check=False))

    return damage


def lif(size: int = 2, *, tau: float = 1.0) -> Any:
    ones = np.ones(size)
    return nir.LIF(tau=tau * ones, r=ones, v_leak=0 * ones, v_threshold=ones)


def affine(n_out: int = 2, n_in: int = 4) -> Any:
    return nir.Affine(weight=np.ones((n_out, n_in)), bias=np.zeros(n_out))


def without_lif1(file: Any) -> None:
    spikes = file["spikes"]
    (key,) = (key for key, s in spikes.items() if s.attrs["name"] == "lif1")
    del spikes[key]


def loop(here: Path) -> None:
    one = np.ones(4)
    nodes = {
        "input": nir.Input(np.array([4])),
        "a": nir.IF(r=one, v_threshold=one),
        "back": nir.Linear(weight=np.eye(4)),
        "output": nir.Output(np.array([4])),
    }
    edges = [("input", "back"), ("back", "back"), ("back", "a"), ("a", "output")]
    nir.write(here / "other.nir", nir.NIRGraph(nodes, edges, type_check=False))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command line, what its sentence must say, and what was done before."""

    name: str
    line: str
    says: str
    damage: Damage | None = None


TRAIN = "train tiny.toml --out new"
RESUME = "train tiny.toml --out run --resume"
EXPORT = "export run --target loihi --vectors 4 --out new"
OTHER = "export other.nir --target loihi --out new --dt 0.1 --steps 3"
OURS = "export bundle/float.nir --target loihi --out new"
ENGINE = "simulate bundle --backend engine"
FGSM = "attack bundle --attack fgsm --samples 2 --no-checks --replay none"
DEPLOY = "deploy bundle --board oheo-gulch --out new"
LIF = "node/nodes/lif1/"
MNIST = f"{TRAIN} --set data.name=mnist --set data.folder=data"


def case(name: str, line: str, says: str, damage: Damage | None = None) -> Case:
    return Case(name=name, line=line, says=says, damage=damage)


TRAINING = [
    case(
        "demo in a file", "demo --out tiny.toml", "tiny.toml: cannot be made (File exists); name a"
    ),
    case(
        "sweep over half a summary",
        "train tiny.toml --out sweep --sweep train.seed=0",
        "sweep/train.seed=0: its metrics.jsonl or summary.json is missing or damaged (",
        both(in_a_sweep, cut("sweep/train.seed=0/summary.json")),
    ),
    case(
        "sweep without metrics",
        "train tiny.toml --out sweep --sweep train.seed=0",
        "sweep/train.seed=0: its metrics.jsonl or summary.json is missing or damaged (",
        both(in_a_sweep, removed("sweep/train.seed=0/metrics.jsonl")),
    ),
    case("no config", "train none.toml --out new", "none.toml: cannot read the configuration"),
    case("folder as config", "train run --out new", "run: cannot read the configuration"),
    case("config not UTF-8", TRAIN, "not UTF-8", holds("tiny.toml", b"\xff\xfe[data]")),
    case("bad TOML", TRAIN, "no valid TOML", holds("tiny.toml", b"[data\nname = 3")),
    case(
        "unknown key",
        TRAIN,
        "unknown key 'train.epoch'; did you mean 'epochs'",
        replaced("tiny.toml", "epochs = 1\nlr", "epoch = 1\nlr"),
    ),
    case("missing key", TRAIN, "data is missing", holds("tiny.toml", b"")),
    case("wrong type", f"{TRAIN} --set train.epochs=many", "train.epochs is 'many'"),
    case("out of range", f"{TRAIN} --set train.lr=-1", "train.lr is -1"),
    case("NaN setting", f"{TRAIN} --set train.lr=nan", "train.lr is nan"),
    case("bool for a number", f"{TRAIN} --set train.epochs=true", "train.epochs is True"),
    case("unknown section", f"{TRAIN} --set tran.lr=1", "unknown key 'tran'; did you mean 'train'"),
    case("unknown set key", f"{TRAIN} --set train.rate=1", "unknown key 'train.rate'"),
    case("set without value", f"{TRAIN} --set train.lr", "write it as section.key=value"),
    case("set without section", f"{TRAIN} --set lr=1", "write it as section.key=value"),
    case(
        "subtract on loihi",
        f"{TRAIN} --set model.reset=subtract --set quantise.target=loihi",
        "model.reset is 'subtract', but target 'loihi' resets to zero",
    ),
    case("run exists", "train tiny.toml --out run", "already holds a run"),
    case("out is a file", "train tiny.toml --out tiny.toml", "is a file"),
    case("out below a file", "train tiny.toml --out tiny.toml/run", "tiny.toml"),
    case("out too long", f"train tiny.toml --out {'x' * 300}", "name too long"),
    case("other config", f"{RESUME} --set train.lr=0.03", "run of another configuration"),
    case("run's config damaged", RESUME, "no valid TOML", cut("run/config.toml")),
    case("cut checkpoint", RESUME, "float.safetensors: truncated", cut("run/float.safetensors")),
    case(
        "checkpoint of others",
        RESUME,
        "quantised.safetensors",
        holds("run/quantised.safetensors", b"x" * 99),
    ),
    case(
        "damaged facts",
        RESUME,
        "float.safetensors: truncated or no checkpoint",
        new_header("run/float.safetensors", facts="{"),
    ),
    case(
        "facts are a list",
        RESUME,
        "float.safetensors",
        new_header("run/float.safetensors", facts="[1]"),
    ),
    case(
        "damaged optimiser",
        RESUME,
        "float.safetensors",
        new_header("run/float.safetensors", optimiser='{"groups": 3}'),
    ),
    case("damaged metrics", RESUME, "metrics.jsonl", holds("run/metrics.jsonl", b"{oops\n")),
    case("metrics of others", RESUME, "metrics.jsonl", holds("run/metrics.jsonl", b"[1]\n")),
    case("no data folder", MNIST, "data: no such folder"),
    case("data folder unnamed", f"{TRAIN} --set data.name=mnist", "mnist: name the folder"),
    case("folder for digits", f"{TRAIN} --set data.folder=run", "digits: they come with"),
    case(
        "no data files", f"{MNIST}", "images-idx3-ubyte is missing", lambda h: (h / "data").mkdir()
    ),
    case(
        "cut IDX",
        MNIST,
        "holds 1288 bytes, its header promises 2576",
        both(idx(), cut("data/train-images-idx3-ubyte")),
    ),
    case("IDX magic", MNIST, "starts with '6e6f2069'", idx(images=b"no idx file")),
    case("short IDX", MNIST, "train-images-idx3-ubyte", idx(images=b"\0\0\x08\x03\0")),
    case(
        "IDX label",
        MNIST,
        "label 11 found",
        idx(labels=b"\0\0\x08\x01\0\0\0\x28" + bytes([11]) * 40),
    ),
    case(
        "IDX counts",
        MNIST,
        "holds 2 labels for 40 images",
        idx(labels=b"\0\0\x08\x01\0\0\0\x02\0\1"),
    ),
    case(
        "cut gzip",
        MNIST,
        "truncated or no gzip file",
        both(
            idx(),
            removed("data/t10k-images-idx3-ubyte"),
            holds("data/t10k-images-idx3-ubyte.gz", gzip.compress(bytes(range(99)))[:-9]),
        ),
    ),
    case(
        "CIFAR pickles",
        MNIST.replace("mnist", "cifar10"),
        "pickles that can run code",
        holds("data/data_batch_1", b"\x80\x04."),
    ),
    case(
        "cut CIFAR",
        MNIST.replace("mnist", "cifar10"),
        "no whole number of 3073-byte records",
        both(
            *(
                holds(f"data/{n}.bin", b"\0" * 3000)
                for n in (
                    "data_batch_1",
                    "data_batch_2",
                    "data_batch_3",
                    "data_batch_4",
                    "data_batch_5",
                    "test_batch",
                )
            )
        ),
    ),
    case(
        "images too small",
        f"{TRAIN} --set model.name=conv --set data.name=mnist --set data.folder=data",
        "data",
        idx(images=b"\0\0\x08\x03\0\0\0\x28\0\0\0\1\0\0\0\1" + bytes(40)),
    ),
    case("no such packaged name", "train digits --out new", "digits: cannot read"),
]

EXPORTING = [
    case("no run", "export none --target loihi --out new", "none: no such run folder or file"),
    case("empty folder as run", "export temporary --target loihi --out new", "config.toml"),
    case("empty folder to NIR", "export temporary --target nir --out new", "config.toml"),
    case(
        "not quantised",
        EXPORT,
        "quantised.safetensors: no such",
        removed("run/quantised.safetensors"),
    ),
    case(
        "cut weights", EXPORT, "quantised.safetensors: truncated", cut("run/quantised.safetensors")
    ),
    case("cut float weights", EXPORT, "float.safetensors: truncated", cut("run/float.safetensors")),
    case(
        "weights of another net",
        EXPORT,
        "saved from another network",
        lambda h: shutil.copy(h / "run/float.safetensors", h / "run/quantised.safetensors"),
    ),
    case(
        "facts without shape",
        EXPORT,
        "float.safetensors",
        new_header("run/float.safetensors", facts="{}"),
    ),
    case(
        "facts with odd shape",
        EXPORT,
        "float.safetensors",
        new_header("run/float.safetensors", facts='{"shape": 3, "classes": "x"}'),
    ),
    case(
        "NaN in float weights",
        EXPORT,
        "'layers.fc1.weight' holds NaN or infinity",
        with_nan("model.layers.fc1.weight", "run/float.safetensors"),
    ),
    case(
        "NaN in quantised weights",
        EXPORT,
        "'layers.lif1.synapses.0.weight' holds NaN or infinity",
        with_nan("model.layers.lif1.synapses.0.weight", "run/quantised.safetensors"),
    ),
    case("unknown target", "export run --target tianjic --out new", "target is 'tianjic'; allowed"),
    case("negative vectors", EXPORT.replace("4", "-1"), "vectors is -1"),
    case("foreign folder", EXPORT.replace("new", "run"), "run: exists and is no bundle"),
    case("out is a file", EXPORT.replace("new", "tiny.toml"), "tiny.toml: exists and is no bundle"),
    case("no parent", EXPORT.replace("new", "no/new"), "does not exist; create it first"),
    case("parent is a file", EXPORT.replace("new", "tiny.toml/new"), "tiny.toml"),
    case("name too long", EXPORT.replace("new", "x" * 300), "name too long"),
    case(
        "the bundle holds a result too",
        EXPORT.replace("new", "bundle"),
        "bundle: holds result.json beside its bundle; move that away",
        holds("bundle/result.json", b"{}"),
    ),
    case(
        "NIR into a bundle", "export run --target nir --out bundle", "bundle: holds a bundle, whose"
    ),
    case("NIR below a file", "export run --target nir --out tiny.toml/new", "tiny.toml"),
    case("NIR out is a file", "export run --target nir --out tiny.toml", "tiny.toml"),
    case("NIR to NIR", "export bundle/net.nir --target nir --out new", "is no run folder"),
    case("graded on loihi1", EXPORT.replace("loihi", "loihi1"), "graded with 8 payload bits"),
    case("no HDF5", OTHER, "it is no intact HDF5 file", holds("other.nir", b"hello")),
    case("empty NIR", OTHER, "it is no intact HDF5 file", holds("other.nir", b"")),
    case("cut NIR", OURS, "it is truncated", cut("bundle/float.nir")),
    case("HDF5, but no NIR", "export bundle/net.h5 --target loihi --out new", "holds no graph"),
    case(
        "no edges",
        OURS,
        "no edges",
        in_hdf5("bundle/float.nir", lambda f: f.__delitem__("node/edges")),
    ),
    case(
        "edge to nowhere",
        OURS,
        "an edge leads to",
        in_hdf5("bundle/float.nir", value("node/edges", [["input", "moon"]])),
    ),
    case(
        "delay between steps",
        OTHER,
        "a delay of 0.25 s is 2.5 steps",
        nir_file(fc=affine(), slow=nir.Delay(delay=np.full(2, 0.25)), lif=lif()),
    ),
    case(
        "NaN weights",
        OURS,
        "node 'fc1' (Affine): weight holds NaN or infinity",
        in_hdf5("bundle/float.nir", value("node/nodes/fc1/weight", np.full((16, 64), np.nan))),
    ),
    case(
        "text as weights",
        OURS,
        "node 'fc1'",
        in_hdf5("bundle/float.nir", value("node/nodes/fc1/weight", "heavy")),
    ),
    case(
        "missing field",
        OURS,
        "node 'lif1' (LIF) lacks tau",
        in_hdf5("bundle/float.nir", lambda f: f.__delitem__(f"{LIF}tau")),
    ),
    case(
        "no dt",
        "export other.nir --target loihi --out new --steps 3",
        "give dt_s in seconds",
        nir_file(fc=affine(), lif=lif()),
    ),
    case(
        "no steps",
        "export other.nir --target loihi --out new --dt 0.1",
        "give steps",
        nir_file(fc=affine(), lif=lif()),
    ),
    case(
        "NaN dt", OTHER.replace("0.1", "nan"), "must be positive", nir_file(fc=affine(), lif=lif())
    ),
    case(
        "dt above tau",
        OTHER.replace("0.1", "2"),
        "not longer than the time constant",
        nir_file(fc=affine(), lif=lif()),
    ),
    case(
        "no steps at all",
        OTHER.replace("steps 3", "steps 0"),
        "steps",
        nir_file(fc=affine(), lif=lif()),
    ),
    case(
        "wrong shapes",
        OTHER,
        "do not fit a source of shape (4,)",
        nir_file(fc=affine(2, 5), lif=lif()),
    ),
    case(
        "wrong number of neurons",
        OTHER,
        "has 3 neurons, but 2 values arrive",
        nir_file(fc=affine(), lif=lif(3)),
    ),
    case("no neurons", OTHER, "which has no neurons", nir_file(fc=affine())),
    case("loop", OTHER, "closes a loop without neurons", loop),
    case(
        "metadata damaged",
        OURS,
        "damaged",
        in_hdf5("bundle/float.nir", value("node/metadata/spikeport", "{")),
    ),
    case(
        "group in itself",
        OURS,
        "the group '/node/nodes/fc1' lies in itself",
        in_hdf5("bundle/float.nir", value("node/nodes/fc1", h5py.SoftLink("/node"))),
    ),
    case(
        "format of the future",
        OURS,
        "written in format 99",
        in_hdf5("bundle/float.nir", about("", format=99)),
    ),
    case(
        "metadata dt is text",
        OURS,
        "float.nir",
        in_hdf5("bundle/float.nir", about("", dt_s="soon")),
    ),
    case(
        "metadata steps is text",
        OURS,
        "steps",
        in_hdf5("bundle/float.nir", about("", steps="many")),
    ),
    case(
        "metadata readout is text",
        OURS,
        "float.nir",
        in_hdf5("bundle/float.nir", about("", readout="x")),
    ),
    case(
        "metadata unknown readout",
        OURS,
        "readout",
        in_hdf5("bundle/float.nir", about("", readout={"kind": "x"})),
    ),
    case(
        "metadata input is text",
        OURS,
        "float.nir",
        in_hdf5("bundle/float.nir", about("nodes/input/", scale="x")),
    ),
    case(
        "metadata decay is text",
        OURS,
        "float.nir",
        in_hdf5("bundle/float.nir", about("nodes/lif1/", keep_v="x")),
    ),
    case(
        "metadata decays edited",
        OURS,
        "disagree",
        in_hdf5("bundle/float.nir", about("nodes/lif1/", keep_v=0.75)),
    ),
    case(
        "subtract in NIR",
        OURS,
        "reset",
        in_hdf5("bundle/float.nir", about("nodes/lif1/", reset="subtract")),
    ),
    case(
        "overflow",
        "export bundle/net.nir --target loihi --out new",
        "lif1",
        in_hdf5("bundle/net.nir", about("nodes/lif1/", scale=1e9)),
    ),
    case(
        "scale is NaN",
        "export bundle/net.nir --target loihi --out new",
        "scale",
        in_hdf5("bundle/net.nir", about("nodes/lif1/", scale=float("nan"))),
    ),
]

AGAINST = "simulate bundle --against spikes.npz"

SIMULATING = [
    case(
        "record no zip", AGAINST, "is no numpy file", holds("spikes.npz", b"PK\x03\x04 and so on")
    ),
    case("record cut", AGAINST, "is no numpy file", both(recorded, cut("spikes.npz"))),
    case("record flipped", AGAINST, "is no numpy file", both(recorded, flipped("spikes.npz"))),
    case("record of objects", AGAINST, "is no numpy file", recorded_objects),
    case(
        "checksums of nothing",
        ENGINE,
        "checksums.json: is damaged",
        holds("bundle/checksums.json", b'{"version": 1, "sha256": {}}'),
    ),
    case("no bundle", "simulate none --backend engine", "none: is no bundle"),
    case("run as bundle", "simulate run --backend engine", "run: is no bundle"),
    case("net.h5 damaged", ENGINE, "net.h5: was changed", flipped("bundle/net.h5")),
    case("net.h5 missing", ENGINE, "net.h5 is missing", removed("bundle/net.h5")),
    case("vectors tampered with", ENGINE, "vectors.h5: was changed", flipped("bundle/vectors.h5")),
    case("report changed", ENGINE, "report.txt: was changed", holds("bundle/report.txt", b"fine")),
    case("checksums damaged", ENGINE, "checksums.json: is damaged", cut("bundle/checksums.json")),
    case(
        "checksums not UTF-8",
        ENGINE,
        "checksums.json: is damaged",
        holds("bundle/checksums.json", b"\xff"),
    ),
    case(
        "checksums a list",
        ENGINE,
        "checksums.json: is damaged",
        holds("bundle/checksums.json", b"[1]"),
    ),
    case(
        "other version",
        ENGINE,
        "is a bundle of version 7",
        replaced("bundle/checksums.json", '"version": 1', '"version": 7'),
    ),
    case(
        "cut net with sums",
        ENGINE,
        "net.h5: is damaged or no HDF5",
        both(cut("bundle/net.h5"), summed),
    ),
    case(
        "cut vectors with sums",
        ENGINE,
        "vectors.h5: is damaged",
        both(cut("bundle/vectors.h5"), summed),
    ),
    case(
        "net values with sums",
        ENGINE,
        "do not match its digest",
        both(in_hdf5("bundle/net.h5", value("populations/0000/v_th", 5)), summed),
    ),
    case(
        "net header with sums",
        ENGINE,
        "net.h5",
        both(in_hdf5("bundle/net.h5", lambda f: f.attrs.update(chip="{")), summed),
    ),
    case(
        "net version with sums",
        ENGINE,
        "of version 9",
        both(in_hdf5("bundle/net.h5", lambda f: f.attrs.update(version=9)), summed),
    ),
    case(
        "vectors of wrong shape",
        ENGINE,
        "vectors",
        both(in_hdf5("bundle/vectors.h5", value("inputs", np.zeros((3, 8, 1, 4, 4), int))), summed),
    ),
    case(
        "flat vectors",
        ENGINE,
        "vectors",
        both(in_hdf5("bundle/vectors.h5", value("inputs", np.zeros(5, int))), summed),
    ),
    case(
        "vectors of another T",
        ENGINE,
        "3",
        both(in_hdf5("bundle/vectors.h5", value("inputs", np.zeros((4, 8, 1, 8, 8), int))), summed),
    ),
    case(
        "vectors out of range",
        ENGINE,
        "255",
        both(in_hdf5("bundle/vectors.h5", value("inputs", np.full((3, 8, 1, 8, 8), 256))), summed),
    ),
    case(
        "text as vectors",
        ENGINE,
        "vectors",
        both(in_hdf5("bundle/vectors.h5", value("inputs", "text")), summed),
    ),
    case(
        "logits of wrong shape",
        ENGINE,
        "logits",
        both(in_hdf5("bundle/vectors.h5", value("logits", np.zeros((8, 3), int))), summed),
    ),
    case(
        "scalar logits",
        ENGINE,
        "logits",
        both(in_hdf5("bundle/vectors.h5", value("logits", 3)), summed),
    ),
    case(
        "labels of wrong shape",
        ENGINE,
        "labels",
        both(in_hdf5("bundle/vectors.h5", value("labels", np.zeros((8, 2), int))), summed),
    ),
    case(
        "spikes of one layer missing",
        ENGINE,
        "lif1",
        both(in_hdf5("bundle/vectors.h5", without_lif1), summed),
    ),
    case("unknown backend", "simulate bundle --backend brian", "backend is 'brian'; allowed are"),
    case("no samples for Lava", f"{ENGINE} --lava-samples 0", "lava_samples is 0"),
    case("timeout 0", f"{ENGINE} --timeout 0", "timeout"),
    case("timeout NaN", f"{ENGINE} --timeout nan", "timeout"),
    case(
        "float NIR with sums", "simulate bundle", "float.nir", both(cut("bundle/float.nir"), summed)
    ),
]

ATTACKING = [
    case("result is a folder", f"{FGSM} --out run", "run: is a folder; name a file for the result"),
    case("result is here", f"{FGSM} --out .", ".: is a folder; name a file for the result"),
    case("result is ours", f"{FGSM} --out tiny.toml", "tiny.toml: exists and is no result of an"),
    case("result in a bundle", f"{FGSM} --out bundle/net.h5", "net.h5: exists and is no result of"),
    case(
        "parts are a file",
        f"{FGSM} --out r",
        "r.parts: is a file, where parts of the result are to lie; move it away",
        holds("r.parts", b""),
    ),
    case(
        "parts with half a header",
        f"{FGSM} --out r",
        "r.parts: holds parts of another attack",
        both(lambda h: (h / "r.parts").mkdir(), holds("r.parts/header.json", b'{"bun')),
    ),
    case("nothing for --norm", f"{FGSM} --norm ''", "--norm is empty; give it a value, or leave"),
    case("nothing at --norm=", f"{FGSM} --norm=", "--norm is empty; give it a value, or leave"),
    case("no name at all", "attack ''", "argument 2 is empty; give it a value, or leave"),
    case("no bundle", "attack none", "none: is no bundle"),
    case("eps above 1", f"{FGSM} --eps 3", "eps is 3"),
    case("eps negative", f"{FGSM} --eps -0.1", "eps is -0.1"),
    case("eps NaN", f"{FGSM} --eps nan", "eps is nan"),
    case("eps no number", f"{FGSM} --eps 8/0", "eps is 8/0; write a number such as 0.03 or 8/255"),
    case("eps without end", f"{FGSM} --eps 1e400", "eps is 1e400; write a number such as 0.03"),
    case(
        "unknown attack", "attack bundle --attack hack", "attack is 'hack'; allowed on images are"
    ),
    case("norm unknown", f"{FGSM} --norm l7", "norm is 'l7'; allowed are linf, l2, l0"),
    case("radii shrink", f"{FGSM} --eps 0.2 --eps 0.1", "eps is (0.2, 0.1); give one radius or"),
    case(
        "events in images", "attack bundle --flips 3", "no events to flip or to retime; give --eps"
    ),
    case("flips and eps", "attack bundle --flips 3 --eps 0.1", "three ways to measure a change"),
    case("flips negative", "attack bundle --flips -3", "flip budget: flips is -3; allowed are 0.."),
    case("step without flips", f"{FGSM} --flips-per-step 1", "flips per step are a limit of flips"),
    case(
        "retiming without size", "attack bundle --retime shift", "--retime is shift; write shift=N"
    ),
    case(
        "images' attack", "attack bundle --flips 3 --attack pgd", "allowed on trains are random-fl"
    ),
    case(
        "other norm", "attack bundle --attack square --norm l0 --eps 2 --out r", "square: the bud"
    ),
    case("standard and more", f"{FGSM} --standard", "the standard names its own attacks"),
    case(
        "standard too weak", "attack bundle --standard --steps 40", "steps is 40; the standard ta"
    ),
    case(
        "standard again", "attack bundle --standard --restarts 5", "restarts is 5; the attacks of"
    ),
    case("no processes", f"{FGSM} --jobs -1", "attack: jobs is -1; it must be at least 1"),
    case("no process", f"{FGSM} --jobs 0", "attack: jobs is 0; it must be at least 1"),
    case("fault processes", "faults bundle --jobs -1", "faults: jobs is -1; it must be at least 1"),
    case("cluster alone", f"{FGSM} --cluster tcp://a:1", "attack: a cluster needs --out, a file"),
    case(
        "no such result",
        "attack bundle --again none.json --jobs 2 --timeout 9",
        "none.json: is no result of an attack",
    ),
    case(
        "again, but otherwise",
        f"{FGSM} --again r.json",
        "--again makes a result from the settings in its file; leave --attack, --samples, --repl",
    ),
    case("fault unknown", "faults bundle --kind rust", "campaign kind is 'rust'; allowed are"),
    case("fault chance", "faults bundle --kind dead=x", "--kind 'dead=x': write a kind, or kind="),
    case("fault of cores", "faults bundle --kind core", "--kind core: needs to know which neurons"),
    case(
        "cores of no chip", "faults bundle --kind core --target none", "target is 'none'; allowed"
    ),
    case("fault twice", "faults bundle --kind u --kind u=2", "--kind u: stands twice; give it one"),
    case(
        "target without cores",
        "faults bundle --kind dead --target loihi2",
        "--target says what a dead core takes, and no --kind core is asked for; add it, or leave",
    ),
    case("fault images negative", "faults bundle --samples -1", "samples is -1; give 0 for all"),
    case("unknown replay", f"{FGSM} --replay brian", "replay is 'brian'; allowed are"),
    case("negative samples", f"{FGSM} --samples -1", "samples is -1"),
    case("no steps", "attack bundle --attack bim --steps 0 --no-checks --replay none", "steps"),
    case(
        "no restarts",
        "attack bundle --attack pgd --restarts 0 --no-checks --replay none",
        "restarts",
    ),
    case(
        "no queries",
        "attack bundle --attack square --queries 0 --no-checks --replay none",
        "queries",
    ),
    case("timeout negative", f"{FGSM} --timeout -1", "timeout"),
    case(
        "rate coded",
        FGSM,
        "so its events are attacked: give --flips N (and --flips-per-step N), or --retime shift=N,",
        both(
            in_hdf5(
                "bundle/vectors.h5", value("inputs", np.arange(1536).reshape(3, 8, 1, 8, 8) % 251)
            ),
            summed,
        ),
    ),
    case(
        "no labels",
        FGSM,
        "no labels",
        both(in_hdf5("bundle/vectors.h5", lambda f: f.__delitem__("labels")), summed),
    ),
    case(
        "labels out of range",
        FGSM,
        "label",
        both(in_hdf5("bundle/vectors.h5", value("labels", np.full(8, 10))), summed),
    ),
    case("float NIR with sums", FGSM, "float.nir", both(cut("bundle/float.nir"), summed)),
]

DEPLOYING = [
    case("no bundle", "deploy none --board oheo-gulch --out new", "none: is no bundle"),
    case(
        "unknown board", "deploy bundle --board teapot --out new", "board is 'teapot'; allowed are"
    ),
    case("folder exists", "deploy bundle --board oheo-gulch --out run", "exists already"),
    case("no parent", "deploy bundle --board oheo-gulch --out no/new", "does not exist; create it"),
    case("parent is a file", "deploy bundle --board oheo-gulch --out tiny.toml/new", "tiny.toml"),
    case("name too long", f"deploy bundle --board oheo-gulch --out {'x' * 300}", "name too long"),
    case("rule broken", "deploy bundle --board kapoho-bay --out new", "does not fit kapoho-bay"),
    case("no samples", f"{DEPLOY} --samples 0", "samples is 0; allowed are 1.."),
    case(
        "more samples than vectors",
        f"{DEPLOY} --samples 1000",
        "samples is 1000; allowed are 1..8, the test vectors of bundle; for more export with more",
    ),
    case("no time", f"{DEPLOY} --timeout 0", "timeout is 0; allowed are 0 to"),
    case("unknown host", f"{DEPLOY} --host ssh", "--host is 'ssh'; allowed are slurm, ethernet"),
    case("no address", f"{DEPLOY} --host ethernet", "--host ethernet needs --address, the host of"),
    case(
        "unknown generation",
        f"{DEPLOY} --host slurm --generation N9",
        "--generation is 'N9'; allowed are N2A2, N3B2, N3B3, N3C1, N3D1",
    ),
    case(
        "generation without a host",
        f"{DEPLOY} --generation N3B3 --no-run",
        "--generation needs --host; without it",
    ),
    case("no generation", f"{DEPLOY} --host slurm", "--host needs --generation, the chip's: N2A2"),
    case("another host's option", f"{DEPLOY} --node x", "--node is for --host slurm; give that"),
    case("empty partition", f"{DEPLOY} --host slurm --partition ''", "--partition is empty; give"),
    case("no board", f"{DEPLOY} --profile", "--profile: for boards only, and no board can be used"),
    case(
        "spikes of one layer missing",
        DEPLOY,
        "lif1",
        both(in_hdf5("bundle/vectors.h5", without_lif1), summed),
    ),
]

CHECKING = [
    case("no bundle", "check none --target loihi2", "none: is no bundle"),
    case(
        "NIR on cores", "check a.nir --target loihi2", "a.nir: a NIR file is checked for speck, x"
    ),
    case("no file", "check none.h5 --target loihi2", "none.h5: there is no such file"),
    case(
        "no net", "check tiny.h5 --target loihi2", "is damaged or no HDF5", holds("tiny.h5", b"a")
    ),
    case(
        "unknown target", "check bundle --target teapot", "target is 'teapot'; allowed are loihi1"
    ),
    case("no NIR file", "check none.nir --target xylo", "none.nir: there is no such file"),
    case(
        "no time constant",
        "check other.nir --target spinnaker2",
        "other.nir: node 'lif' (LIF): tau is 0 s; time constants must be positive",
        nir_file(fc=affine(), lif=lif(tau=0.0)),
    ),
    case(
        "shapes that do not fit",
        "check other.nir --target speck",
        "other.nir: node 'fc' (Affine): weights of shape (2, 5) do not fit a source of shape (4,)",
        nir_file(fc=affine(2, 5), lif=lif()),
    ),
    case(
        "nothing to place",
        "check bundle --target speck --fewest",
        "--fewest places a network on cores, target speck does not",
    ),
    case("no table", "check bundle --target my.toml", "my.toml: there is no such file"),
    case(
        "number without a source",
        "check bundle --target my.toml",
        "my.toml: [cores] must hold a value and its source, nothing else",
        holds("my.toml", b'base = "loihi2"\nname = "my"\n[cores]\nvalue = 3\n'),
    ),
    case("table is binary", "check bundle --target my.toml", "no TOML", holds("my.toml", b"\xff")),
]

COSTING = [
    case("no bundle", "cost none --target loihi2", "none: is no bundle"),
    case("unknown target", "cost bundle --target teapot", "target is 'teapot'; allowed are loihi1"),
    case(
        "unknown constants",
        "cost bundle --target loihi2 --runtime best",
        "runtime constants are 'best'; allowed are 'scaled'",
    ),
    case("samples negative", "cost bundle --target loihi2 --samples -1", "samples is -1; give 0"),
    case("pictures there", "cost bundle --target loihi2 --pictures run", "run: exists already"),
    case(
        "pictures nowhere",
        "cost bundle --target loihi2 --pictures none/run",
        "none/run: the folder none does not exist; create it first",
    ),
    case(
        "no inputs",
        "cost bundle --target loihi2 --inputs x.npy",
        "x.npy: cannot be read as a .npy file (",
    ),
    case(
        "inputs are text",
        "cost bundle --target loihi2 --inputs x.npy",
        "x.npy: cannot be read as a .npy file (the magic string is not correct",
        holds("x.npy", b"no numbers"),
    ),
    case("target of export", "cost bundle --target loihi", "'loihi', which is what export calls"),
    case("simulator", "cost bundle --target lava", "target is 'lava', a simulator, which has no"),
    case(
        "constants without a source",
        "cost bundle --target loihi2 --runtime my.toml",
        "my.toml: [word] must hold a value and its source, nothing else",
        holds("my.toml", b'name = "a"\nchip = "b"\nstatus = "c"\n[word]\nvalue = 3\n'),
    ),
    case("no constants", "cost bundle --target loihi2 --runtime my.toml", "my.toml: there is no"),
    case(
        "fault unknown",
        "cost bundle --target loihi2 --fault rust:1",
        "--fault 'rust:1': write one of weight:PART:index:bit, threshold:PART:index:bit,",
    ),
    case(
        "fault too short",
        "cost bundle --target loihi2 --fault stuck:lif1",
        "--fault 'stuck:lif1': write one of weight",
    ),
    case(
        "fault without a number",
        "cost bundle --target loihi2 --fault stuck:lif1:x",
        "--fault 'stuck:lif1:x': write index as whole numbers from 0",
    ),
    case(
        "fault of a wire",
        "cost bundle --target loihi2 --fault dropped:0:1:0.5:3",
        "cannot tell what happens to them on the way; name a fault of another kind",
    ),
    case(
        "fault elsewhere",
        "cost bundle --target loihi2 --fault stuck:lif9:1",
        "there is no part 'lif9'; there are 'lif1'",
    ),
    case("radius", "cost bundle --target loihi2 --eps x", "eps is x; write a number such as"),
    case("sponge", "cost bundle --target loihi2 --sponge x", "sponge is x; write a number such as"),
]

REPORTING = [
    case("no bundle", "report none --target loihi2 --out new.html", "none: is no bundle"),
    case(
        "unknown target",
        "report bundle --target teapot --out new.html",
        "target is 'teapot'; allowed are loihi1",
    ),
    case("out there", "report bundle --target loihi2 --out tiny.toml", "tiny.toml: exists already"),
    case(
        "no folder for it",
        "report bundle --target loihi2 --out none/new.html",
        "none/new.html: the folder none does not exist; create it first",
    ),
]

CASES = [
    pytest.param(found, id=f"{command}: {found.name}")
    for command, cases in (
        ("train", TRAINING),
        ("export", EXPORTING),
        ("simulate", SIMULATING),
        ("attack", ATTACKING),
        ("check", CHECKING),
        ("cost", COSTING),
        ("report", REPORTING),
        ("deploy", DEPLOYING),
    )
    for found in cases
]


def expect_sentence(done: Any, says: str) -> None:
    """Exit code 2, nothing but one line of ours on standard error, and in it `says`."""
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("spikeport: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.endswith("\n")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_sentence_and_changes_nothing(case: Case, here: Path, cli: Any) -> None:
    if case.damage is not None:
        case.damage(here)
    before = cli.snapshot(here)
    done = cli.spikeport(*shlex.split(case.line), "--json")
    expect_sentence(done, case.says)
    assert cli.snapshot(here) == before


def test_the_snapshot_sees_what_is_left(here: Path, cli: Any) -> None:
    """The check above can fail: one more file, or one more byte, shows."""
    before = cli.snapshot(here)
    (here / "run" / ".half.tmp").touch()
    assert set(cli.snapshot(here)) - set(before) == {"run/.half.tmp"}
    (here / "run" / ".half.tmp").write_bytes(b"x")
    assert cli.snapshot(here)["run/.half.tmp"] != hashlib.sha256(b"").hexdigest()


def test_the_undamaged_input_is_good(here: Path, cli: Any) -> None:
    """The command lines that the cases damage things for succeed as they stand."""
    nir_file(fc=affine(), lif=lif())(here)
    idx()(here)
    mnist = f"{MNIST} --set data.validation_share=0.25"
    for i, line in enumerate((TRAIN, RESUME, mnist, EXPORT, OURS, OTHER, ENGINE, FGSM, DEPLOY)):
        arguments = shlex.split(line.replace("new", f"new{i}"))
        assert cli.spikeport(*arguments, "--json").code == 0, line


def test_training_that_diverges_says_so(here: Path, cli: Any) -> None:
    line = (
        f"{TRAIN} --set train.lr=10 --set methods.mpd_sgr.eta=1000"
        " --set methods.mpd_sgr.warm_up=0 --set methods.mpd_sgr.gamma=1e6"
        " --set model.surrogate_width=1e-30 --json"
    )
    before = cli.snapshot(here)
    done = cli.spikeport(*shlex.split(line))
    expect_sentence(done, "float training diverged: the loss of epoch 1 is NaN or infinite; choose")
    assert cli.snapshot(here) == before


def test_integers_that_diverge_say_so(here: Path, cli: Any) -> None:
    done = cli.spikeport(*shlex.split(f"{TRAIN} --set quantise.lr=10 --json"))
    expect_sentence(done, "layer 'lif1': training diverged, its scale is ")
    assert not list((here / "new").glob("quantised*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(here: Path, cli: Any) -> None:
    before = cli.snapshot(here)
    done = cli.spikeport(*shlex.split(f"{TRAIN} --set train.device=cuda"))
    expect_sentence(done, 'train.device is "cuda", but torch sees no such device; use "cpu"')
    assert cli.snapshot(here) == before


def test_a_colon_in_a_path_is_no_emoji(here: Path, cli: Any) -> None:
    expect_sentence(cli.spikeport("attack", "a:bug:b[red]"), "a:bug:b[red]: is no bundle")


def test_without_json_the_sentence_is_the_same(here: Path, cli: Any) -> None:
    lines = ["simulate none", "train none.toml", "deploy none --board oheo-gulch", "attack none"]
    for line in lines:
        plain, as_json = (cli.spikeport(*shlex.split(line), *more) for more in ((), ("--json",)))
        expect_sentence(plain, "none")
        assert plain == as_json


# Lava: missing, too slow, killed.


@pytest.mark.parametrize("backend", ["lava", "lava-inprocess"])
def test_lava_asked_for_but_missing(
    here: Path, cli: Any, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name == "lava" else find(name, package),
    )
    before = cli.snapshot(here)
    done = cli.spikeport("simulate", "bundle", "--backend", backend, "--json")
    expect_sentence(done, str(available()))
    assert cli.snapshot(here) == before


LONG = "simulate long --backend lava --lava-samples 540"


def long_run(cli: Any) -> None:
    """A bundle that keeps Lava busy for seconds."""
    done = cli.spikeport(*shlex.split("export run --target loihi --vectors 0 --out long --json"))
    assert done.code == 0


def has_segments(here: Path) -> bool:
    """Whether a job in this folder shares memory by now."""
    jobs = list(here.glob("spikeport-lava-*"))
    prefixes = [lava_group.segment_prefix(job) for job in jobs]
    return any(any(lava_group.SEGMENTS.glob(f"{prefix}*")) for prefix in prefixes)


def lava_children(here: Path) -> set[int]:
    """Processes that were started for a job in this folder."""
    found = set()
    for entry in lava_group.PROC.glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(here) in entry.read_bytes():
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.lava
@pytest.mark.usefixtures("nothing_left")
def test_lava_that_takes_too_long(here: Path, cli: Any) -> None:
    long_run(cli)
    before = cli.snapshot(here)
    done = cli.spikeport(*shlex.split(f"{LONG} --timeout 1.5 --json"))
    expect_sentence(done, "Lava did not finish within 1.5 s (chip step")
    assert cli.snapshot(here) == before
    assert lava_children(here) == set()


# In a process of its own: the exit code and the streams as a shell sees them.


def shell(here: Path, line: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spikeport", *shlex.split(line)],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(here / "temporary")},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train none.toml", "cannot read the configuration (No such file or directory)"),
        ("simulate run --json", "run: is no bundle (checksums.json is missing); export again"),
        ("deploy bundle --board teapot", "board is 'teapot'; allowed are"),
    ],
)
def test_a_real_process_ends_with_2(here: Path, cli: Any, line: str, says: str) -> None:
    before = cli.snapshot(here)
    done = shell(here, line)
    expect_sentence(cli.Done(done.returncode, done.stdout, done.stderr), says)
    assert cli.snapshot(here) == before


@pytest.mark.parametrize(
    "line",
    [TRAIN, "export run --target loihi --out new", "export run --target nir --out new", DEPLOY],
)
def test_a_full_disk_is_a_sentence_and_leaves_nothing(here: Path, cli: Any, line: str) -> None:
    """No file of this process may grow above 500 bytes."""
    before = cli.snapshot(here)
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        f"sys.argv[1:] = {[*shlex.split(line), '--json']!r}\n"
        "from spikeport.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited],
        cwd=here,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(here / "temporary"),
            "NUMBA_DISABLE_JIT": "1",  # its cache is a file of its own
        },
        capture_output=True,
        text=True,
        check=False,
    )
    expect_sentence(cli.Done(done.returncode, done.stdout, done.stderr), "File too large")
    left = {name: sha for name, sha in cli.snapshot(here).items() if name not in before}
    assert set(left) <= {"new", "new/config.toml"}, "a run folder is made before its first epoch"


@pytest.fixture
def short() -> Iterator[Path]:
    """A temporary folder with a short path: the system allows sockets only in such."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


def interruptible() -> None:
    """In a child: take SIGINT, which a suite in the background of a shell ignores."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(here: Path, temporary: Path, **streams: Any) -> subprocess.Popen[str]:
    """The long run in a process of its own, whose Lava shares memory by now."""
    command = subprocess.Popen(
        [sys.executable, "-m", "spikeport", *shlex.split(LONG), "--json"],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        text=True,
        preexec_fn=interruptible,
        **streams,
    )
    wait_until(lambda: has_segments(temporary) or command.poll() is not None)
    assert lava_children(temporary)
    return command


@pytest.mark.lava
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_command_leaves_no_lava(
    here: Path, short: Path, cli: Any, number: signal.Signals
) -> None:
    long_run(cli)
    command = started(here, short, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    command.send_signal(number)
    assert command.wait(30) == -number
    wait_until(lambda: not lava_children(short))


@pytest.mark.lava
@pytest.mark.usefixtures("nothing_left")
def test_a_stopped_command_is_a_sentence_and_leaves_no_lava(
    here: Path, short: Path, cli: Any
) -> None:
    long_run(cli)
    before = cli.snapshot(here)
    command = started(here, short, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    command.send_signal(signal.SIGINT)
    assert command.communicate(timeout=60) == (
        "", "spikeport: stopped by the user; what was already written is whole\n"
    )  # fmt: skip
    assert command.returncode == 130
    assert lava_children(short) == set()
    assert not list(short.iterdir())
    assert cli.snapshot(here) == before


def wait_until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not so():
        assert time.monotonic() < deadline, "it did not come about in a minute"
        time.sleep(0.05)


# Usage errors are the parser's, in its own words.


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", ""),
        ("paint", "No such command 'paint'"),
        ("export", "Missing argument"),
        ("export run", "Missing option '--target'"),
        ("deploy bundle", "Missing option '--board'"),
        ("check bundle", "Missing option '--target'"),
        ("cost bundle", "Missing option '--target'"),
        ("report bundle --target loihi2", "Missing option '--out'"),
        ("simulate bundle --colour red", "No such option"),
        ("simulate bundle --timeout soon", "--timeout"),
        ("attack bundle --steps 1.5", "--steps"),
        ("train one.toml two.toml", "unexpected extra argument"),
    ],
)
def test_wrong_usage(here: Path, cli: Any, line: str, says: str) -> None:
    before = cli.snapshot(here)
    done = cli.spikeport(*shlex.split(line))
    assert done.code == (2 if line else done.code)
    assert says in " ".join((done.stderr).split())
    assert "Traceback" not in done.stderr
    assert cli.snapshot(here) == before
