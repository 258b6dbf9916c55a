"""Images and labels: scikit-learn's digits, and MNIST, Fashion-MNIST and CIFAR-10 from files.

Files are read with plain numpy. CIFAR-10's Python version is a set of pickles, which can run any
code when opened, so only its binary version is read.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Split = tuple[Images, Labels, Images, Labels]
"""x_train, y_train, x_test, y_test."""

DIGITS_TEST_SEED = 0
DIGITS_TEST_SIZE = 540
"""The test set of the digits never moves: these 540 of 1797 images, stratified, by this seed."""

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
CIFAR_SHAPE = (3, 32, 32)
CLASSES = 10


@dataclass(frozen=True, eq=False)
class Dataset:
    """x_*: uint8 [n, C, H, W], read-only. y_*: int64 [n], 0..classes - 1, read-only."""

    name: str
    classes: int
    x_train: Images
    y_train: Labels
    x_val: Images
    y_val: Labels
    x_test: Images
    y_test: Labels

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.x_train.shape[1:]
        return channels, height, width


def load(
    name: str, folder: Path | str | None = None, *, seed: int, validation_share: float = 0.1
) -> Dataset:
    """The data set `name`, a key of `LOADERS`; its files lie in `folder` (none for "digits").

    `seed` picks the stratified validation images out of the training set, `validation_share` of
    them; the test set does not depend on it. Raises ValueError in one sentence when files are
    missing, truncated or of another format.
    """
    if name not in LOADERS:
        raise ValueError(f"data set is {name!r}; allowed are {', '.join(sorted(LOADERS))}")
    x, y, x_test, y_test = LOADERS[name](None if folder is None else Path(folder))
    try:
        x_train, x_val, y_train, y_val = train_test_split(
            x, y, test_size=validation_share, stratify=y, random_state=seed
        )
    except ValueError as error:
        raise ValueError(
            f"{name}: {len(y)} training images are too few to set {validation_share:g} of them "
            "aside with every class present; use more images or another validation_share"
        ) from error
    return Dataset(name, CLASSES, x_train, y_train, x_val, y_val, x_test, y_test)


def _digits(folder: Path | None) -> Split:
    if folder is not None:
        raise ValueError(f"digits: they come with scikit-learn, so leave out the folder {folder}")
    bunch = load_digits()
    # 16 grey levels become the 8-bit pixels that a chip is sent; no level falls halfway.
    x = np.rint(bunch.images * 255 / 16).astype(np.uint8)[:, None]
    x_train, x_test, y_train, y_test = train_test_split(
        x,
        bunch.target.astype(np.int64),
        test_size=DIGITS_TEST_SIZE,
        stratify=bunch.target,
        random_state=DIGITS_TEST_SEED,
    )
    return x_train, y_train, x_test, y_test


def _idx(name: str) -> Callable[[Path | None], Split]:
    """A loader of the four IDX files (http://yann.lecun.com/exdb/mnist), gzipped or not."""

    def read(folder: Path | None) -> Split:
        paths = _find(name, folder, IDX_FILES, endings=("", ".gz"))
        x_train, y_train, x_test, y_test = (
            _read_idx(path, axes=1 if "labels" in path.name else 3) for path in paths
        )
        for path, x, y in ((paths[1], x_train, y_train), (paths[3], x_test, y_test)):
            _check_labels(path, y, images=len(x))
        if x_train.shape[1:] != x_test.shape[1:]:
            raise ValueError(
                f"{paths[2]}: images are {x_test.shape[1:]}, but those to train on are "
                f"{x_train.shape[1:]}; take both from one data set"
            )
        return x_train[:, None], y_train.astype(np.int64), x_test[:, None], y_test.astype(np.int64)

    return read


def _cifar10(folder: Path | None) -> Split:
    """Records of one label byte and 3072 pixels (https://www.cs.toronto.edu/~kriz/cifar.html)."""
    if folder is not None and (folder / "cifar-10-batches-bin").is_dir():
        folder = folder / "cifar-10-batches-bin"
    if folder is not None and (folder / "data_batch_1").exists():
        raise ValueError(
            f"{folder}: this is CIFAR-10's Python version, pickles that can run code when opened; "
            f"download the binary version, with {CIFAR_FILES[0]}"
        )
    *train, (x_test, y_test) = map(_read_cifar, _find("cifar10", folder, CIFAR_FILES))
    return *(np.concatenate(part) for part in zip(*train, strict=True)), x_test, y_test


LOADERS: dict[str, Callable[[Path | None], Split]] = {
    "digits": _digits,
    "mnist": _idx("mnist"),
    "fashion_mnist": _idx("fashion_mnist"),
    "cifar10": _cifar10,
}


def _find(
    name: str, folder: Path | None, wanted: tuple[str, ...], *, endings: tuple[str, ...] = ("",)
) -> list[Path]:
    listed = f"{', '.join(wanted)}{' (each also as .gz)' if '.gz' in endings else ''}"
    if folder is None:
        raise ValueError(f"{name}: name the folder that holds {listed}")
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; {name} is read from {listed}")
    found = []
    for file in wanted:
        path = next((p for e in endings if (p := folder / f"{file}{e}").is_file()), None)
        if path is None:
            raise ValueError(f"{folder}: {file} is missing; {name} is read from {listed}")
        found.append(path)
    return found


def _read_idx(path: Path, *, axes: int) -> NDArray[np.uint8]:
    """The uint8 array of `axes` axes in an IDX file: magic 0, 0, 8, axes; sizes; bytes."""
    raw = _read_bytes(path)
    magic = bytes((0, 0, 8, axes))
    if raw[:4] != magic:
        raise ValueError(
            f"{path}: starts with {raw[:4].hex()!r}, an IDX file of bytes with "
            f"{axes} axes starts with {magic.hex()!r}"
        )
    start = 4 + 4 * axes
    sizes = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4))
    expected = start + math.prod(sizes)
    if len(raw) != expected or 0 in sizes:
        raise ValueError(
            f"{path}: holds {len(raw)} bytes, its header promises {expected} for shape {sizes}; "
            "download it again"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(sizes)


def _read_cifar(path: Path) -> tuple[Images, Labels]:
    raw = _read_bytes(path)
    size = 1 + math.prod(CIFAR_SHAPE)
    if not raw or len(raw) % size:
        raise ValueError(
            f"{path}: holds {len(raw)} bytes, no whole number of {size}-byte records; "
            "download it again"
        )
    records = np.frombuffer(raw, np.uint8).reshape(-1, size)
    labels = records[:, 0].astype(np.int64)
    _check_labels(path, labels, images=len(records))
    return records[:, 1:].reshape(-1, *CIFAR_SHAPE), labels


def _read_bytes(path: Path) -> bytes:
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: truncated or no gzip file; download it again") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot read it ({error.strerror})") from error


def _check_labels(path: Path, labels: NDArray[Any], *, images: int) -> None:
    if len(labels) != images:
        raise ValueError(f"{path}: holds {len(labels)} labels for {images} images")
    if labels.max() >= CLASSES:
        raise ValueError(f"{path}: label {labels.max()} found; allowed are 0..{CLASSES - 1}")
