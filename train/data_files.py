"""What all readers of data sets share: samples not yet read, finding files, reading their bytes."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.files import UNREADABLE_ZIP

Images = NDArray[np.uint8]
"""Images [n, C, H, W], or event frames [n, T, C, H, W]: events of each pixel per time bin."""
Labels = NDArray[np.int64]
Indices = NDArray[np.int64]

ORDER_SEED = 4
"""Of the one fixed order in which samples are taken where their files are sorted by class."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a data set. labels: int64 [n]; read: the images or frames of those indices."""

    labels: Labels
    read: Callable[[Indices], Images]


@dataclass(frozen=True, eq=False)
class Source:
    """The two parts that a data set is published in. Labels are 0..classes - 1."""

    classes: int
    train: Samples
    test: Samples


def held(images: Images, labels: NDArray[Any]) -> Samples:
    """Samples of arrays in memory."""
    return Samples(labels.astype(np.int64), lambda indices: images[indices])


def scattered(count: int) -> Indices:
    """The same permutation of `count` samples at all times, on all machines and numpy versions."""
    # Of numpy's generators only the raw stream of bits is promised to stay.
    raw = np.random.PCG64(ORDER_SEED).random_raw(count)
    return np.argsort(raw, kind="stable").astype(np.int64)


def inside(folder: Path | None, below: str) -> Path | None:
    """`folder`/`below` if there is one: torchvision and Tonic make such folders in their root."""
    return folder / below if folder is not None and (folder / below).is_dir() else folder


def find(
    name: str, folder: Path | None, wanted: tuple[str, ...], *, endings: tuple[str, ...] = ("",)
) -> list[Path]:
    """The files `wanted` of data set `name`, each with the first of `endings` that is there."""
    listed = f"{', '.join(wanted)}{' (each also as .gz)' if '.gz' in endings else ''}"
    existing = existing_folder(name, folder, listed)
    found = []
    for file in wanted:
        path = next((p for e in endings if (p := existing / f"{file}{e}").is_file()), None)
        if path is None:
            raise ValueError(f"{folder}: {file} is missing; {name} is read from {listed}")
        found.append(path)
    return found


def existing_folder(name: str, folder: Path | None, listed: str) -> Path:
    """`folder`, or ValueError that says what of data set `name` it should hold."""
    if folder is None:
        raise ValueError(f"{name}: name the folder that holds {listed}")
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; {name} is read from {listed}")
    return folder


def read_bytes(path: Path) -> bytes:
    """All bytes of a file, unpacked if it ends in .gz."""
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: truncated or no gzip file; download it again") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot read it ({error.strerror})") from error


def read_arrays(path: Path, names: tuple[str, ...]) -> list[NDArray[Any]]:
    """Arrays of an npz file, all of whole numbers; an array of pickles is not opened."""
    try:
        with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as file:
            held = set(archive.namelist())
            arrays = {name: np.asarray(file[name]) for name in names if f"{name}.npy" in held}
    except UNREADABLE_ZIP as error:
        raise ValueError(f"{path}: truncated or no npz file of plain arrays") from error
    for name in names:
        if name not in arrays:
            raise ValueError(f"{path}: holds no array {name!r}; choose another file")
        array = arrays[name]
        if array.dtype.kind not in "iu":
            raise ValueError(f"{path}: {name} is an array of {array.dtype}, not of whole numbers")
    return [arrays[name] for name in names]


def check_labels(path: Path, labels: NDArray[Any], *, samples: int, classes: int) -> None:
    """ValueError unless there is one label 0..classes - 1 for each sample, and a sample at all."""
    if len(labels) != samples:
        raise ValueError(f"{path}: holds {len(labels)} labels for {samples} images")
    if not samples:
        raise ValueError(f"{path}: holds no samples; download it again")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise ValueError(f"{path}: label {wrong[0]} found; allowed are 0..{classes - 1}")
