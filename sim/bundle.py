"""A bundle: one folder with everything that is needed to run, check and repeat an exported network.

    net.h5          the integers (FixedNet), see `spikeport.sim.net_file`
    vectors.h5      inputs, labels, the spikes and logits that every backend must produce
    checksums.json  SHA-256 of every other file, and the bundle's version
    net.nir, float.nir, net.net, report.json, report.txt ...   whatever the exporter adds

A bundle is built beside its place and moved there when it is complete. Reading checks every sum.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

import h5py
import numpy as np
from numpy.typing import NDArray

from spikeport.sim import checks
from spikeport.sim.files import hdf5, naming, write_text
from spikeport.sim.net import FixedNet
from spikeport.sim.net_file import read_net, write_net

VERSION = 1
NET, VECTORS, CHECKSUMS = "net.h5", "vectors.h5", "checksums.json"

Content = Union[Path, bytes, str]  # noqa: UP007 (evaluated at run time)


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Test vectors. inputs: int64 [T, B, *shape]. spikes: per population uint8 [T, B, n].
    logits: [B, n] of the readout. labels: int64 [B], or None where nobody knows them."""

    inputs: NDArray[np.int64]
    spikes: Mapping[str, NDArray[np.uint8]]
    logits: NDArray[Any]
    labels: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        inputs = checks.frozen_ints(
            self.inputs, where="vectors: inputs", low=0, high=(1 << 24) - 1, dtype=np.int64
        )
        object.__setattr__(self, "inputs", inputs)
        if inputs.ndim < 3:
            raise ValueError(f"vectors: inputs have shape {inputs.shape}; needed is [T, B, *shape]")
        spikes = {
            name: checks.frozen_ints(s, where=f"spikes of {name!r}", low=0, high=1, dtype=np.uint8)
            for name, s in self.spikes.items()
        }
        for name, s in spikes.items():
            if s.ndim != 3 or s.shape[:2] != inputs.shape[:2]:
                raise ValueError(
                    f"vectors: spikes of {name!r} have shape {s.shape}; needed is"
                    f" [{inputs.shape[0]}, {inputs.shape[1]}, n]"
                )
        object.__setattr__(self, "spikes", spikes)
        for name, axes in (("logits", 2), ("labels", 1)):
            value = getattr(self, name)
            found = np.shape(value)
            if value is not None and (len(found) != axes or found[0] != inputs.shape[1]):
                raise ValueError(
                    f"vectors: {name} have shape {found}; needed are {axes} axes, the first for"
                    f" the {inputs.shape[1]} samples of the inputs"
                )

    @property
    def samples(self) -> int:
        return int(self.inputs.shape[1])


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle on disk, read and verified. `files`: names of all files but the checksums."""

    folder: Path
    net: FixedNet
    vectors: Vectors
    files: tuple[str, ...] = field(default=())

    def path(self, name: str) -> Path:
        """Path of file `name`; FileNotFoundError when the bundle has none of that name."""
        if name not in self.files:
            raise FileNotFoundError(
                f"{self.folder}: the bundle has no {name!r}; it holds {', '.join(self.files)}"
            )
        return self.folder / name


def write(
    folder: Path | str, net: FixedNet, *, files: Mapping[str, Content], vectors: Vectors
) -> Bundle:
    """Write a bundle to `folder` and return it as read back.

    files: further files by name; a Path is copied, bytes and str are written. An older bundle in
    `folder` is replaced only when the new one is complete; any other folder there, or a bundle
    with files of others beside it, is left alone and ValueError raised.
    """
    folder = Path(folder)
    taken = set(files) & {NET, VECTORS, CHECKSUMS}
    odd = [name for name in files if Path(name).name != name or name.startswith(".")]
    if taken or odd:
        raise ValueError(
            f"{folder}: files cannot be called {', '.join(sorted(taken | set(odd)))}; use plain"
            " names other than those of the bundle's own files"
        )
    check_fit(net, vectors)
    with replacing(folder) as beside:
        write_net(beside / NET, net)
        write_vectors(beside / VECTORS, vectors)
        for name, content in files.items():
            _put(beside / name, content)
        sums = {path.name: sha256(path) for path in sorted(beside.iterdir())}
        write_text(
            beside / CHECKSUMS,
            json.dumps({"version": VERSION, "digest": net.digest(), "sha256": sums}, indent=1),
        )
    return read(folder)


def read(folder: Path | str) -> Bundle:
    """Read and verify the bundle in `folder`.

    Raises FileNotFoundError or ValueError with one sentence when it is missing, incomplete,
    changed, or of another version.
    """
    folder = Path(folder)
    listing = folder / CHECKSUMS
    if not listing.is_file():
        raise FileNotFoundError(f"{folder}: is no bundle ({CHECKSUMS} is missing); export again")
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
        version, sums = content["version"], dict(content["sha256"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{listing}: is damaged; export again") from None
    if version != VERSION:
        raise ValueError(
            f"{folder}: is a bundle of version {version}, this program reads {VERSION}; export it"
            " again"
        )
    if not {NET, VECTORS} <= sums.keys():
        raise ValueError(f"{listing}: is damaged; export again")
    for name, expected in sums.items():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: {name} is missing from the bundle; export again")
        if sha256(folder / name) != expected:
            raise ValueError(f"{folder / name}: was changed after the export; export again")
    net, vectors = read_net(folder / NET), read_vectors(folder / VECTORS)
    check_fit(net, vectors)
    return Bundle(folder=folder, net=net, vectors=vectors, files=tuple(sorted(sums)))


def write_vectors(path: Path | str, vectors: Vectors) -> None:
    """Write `vectors` to an HDF5 file, spikes packed eight to a byte."""
    small = vectors.inputs.max(initial=0) < 256
    with hdf5(path) as file:
        file.attrs["version"] = VERSION
        inputs = vectors.inputs.astype(np.uint8 if small else np.int32)
        file.create_dataset("inputs", data=inputs, compression="gzip")
        file.create_dataset("logits", data=vectors.logits)
        if vectors.labels is not None:
            file.create_dataset("labels", data=np.asarray(vectors.labels, np.int64))
        group = file.create_group("spikes")
        for i, (name, s) in enumerate(vectors.spikes.items()):
            bits = np.packbits(s, axis=-1)
            # HDF5 would take a name with a slash for a path.
            packed = group.create_dataset(f"{i:04}", data=bits, compression="gzip")
            packed.attrs.update(name=name, n=s.shape[-1])


def read_vectors(path: Path | str) -> Vectors:
    """What `write_vectors` wrote; ValueError with one sentence when the file is damaged."""
    try:
        with h5py.File(path, "r") as file:
            return Vectors(
                inputs=file["inputs"][()],
                logits=file["logits"][()],
                labels=file["labels"][()] if "labels" in file else None,
                spikes={
                    str(s.attrs["name"]): np.unpackbits(s[()], axis=-1, count=int(s.attrs["n"]))
                    for s in file["spikes"].values()
                },
            )
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: is damaged or holds no test vectors; export again") from None
    except ValueError as error:
        raise ValueError(f"{path}: is damaged ({error}); export again") from None


def sha256(path: Path) -> str:
    """64 hex digits of a file's content."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; when the block ends well it takes that place.

    An older bundle there survives until then, and an exception leaves it as it was.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.parent.is_dir():
        raise FileNotFoundError(
            f"{folder}: the folder {folder.parent} does not exist; create it first"
        )
    if folder.exists() and not _replaceable(folder):
        raise ValueError(
            f"{folder}: exists and is no bundle; choose another place or remove it yourself"
        )
    if more := _beside(folder):
        raise ValueError(
            f"{folder}: holds {', '.join(more)} beside its bundle; move that away, or choose"
            " another place"
        )
    with naming(folder):
        workshop = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            fresh, old = workshop / "new", workshop / "old"
            fresh.mkdir()
            yield fresh
            if folder.exists():
                os.replace(folder, old)
            try:
                os.replace(fresh, folder)
            except OSError:
                if old.exists():
                    os.replace(old, folder)
                raise
        finally:
            shutil.rmtree(workshop, ignore_errors=True)


def _replaceable(folder: Path) -> bool:
    return folder.is_dir() and ((folder / CHECKSUMS).is_file() or not any(folder.iterdir()))


def _beside(folder: Path) -> list[str]:
    """What lies in a bundle's folder and was not written with it, which replacing it would lose;
    nothing where a damaged listing no longer says."""
    try:
        known = set(json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return sorted(p.name for p in folder.iterdir() if p.name not in {*known, CHECKSUMS})


def _put(path: Path, content: Content) -> None:
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")


def check_fit(net: FixedNet, vectors: Vectors) -> None:
    """Raise ValueError unless `vectors` have the steps, shapes and populations of `net`."""
    if vectors.inputs.shape[2:] != net.input.shape:
        raise ValueError(
            f"vectors: inputs have shape {vectors.inputs.shape}; the network needs"
            f" [T, B, *{net.input.shape}]"
        )
    if len(vectors.inputs) != net.steps:
        raise ValueError(
            f"vectors: inputs have {len(vectors.inputs)} steps; the network runs {net.steps}"
        )
    sizes = {p.name: p.size for p in net.populations}
    classes = sizes[net.readout.population]
    if np.shape(vectors.logits)[1] != classes:
        raise ValueError(
            f"vectors: logits are for {np.shape(vectors.logits)[1]} classes, the network has"
            f" {classes}"
        )
    for name, s in vectors.spikes.items():
        if sizes.get(name) != s.shape[-1]:
            raise ValueError(
                f"vectors: spikes of {name!r} are for {s.shape[-1]} neurons, the network has"
                f" {sizes.get(name, 'no such population')}"
            )
    absent = [name for name in sizes if name not in vectors.spikes]
    if absent:
        raise ValueError(f"vectors: have no spikes of {absent[0]!r}; a bundle keeps those of all")
