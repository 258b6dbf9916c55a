"""Readers of images: scikit-learn's digits, the IDX files of MNIST and Fashion-MNIST, CIFAR.

Files are read with plain numpy. CIFAR's Python versions are pickles, which can run any code when
opened, so only its binary versions are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from spikeport.train.data_files import Source, check_labels, find, held, inside, read_bytes

DIGITS_TEST_SEED = 0
DIGITS_TEST_SIZE = 540
"""The test set of the digits never moves: these 540 of 1797 images, stratified, by this seed."""

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
IDX_CLASSES = 10
CIFAR_SHAPE = (3, 32, 32)
CIFAR10_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
CIFAR100_FILES = ("train.bin", "test.bin")


def digits(folder: Path | None) -> Source:
    """1797 images of 8 x 8 pixels that come with scikit-learn."""
    if folder is not None:
        raise ValueError(f"digits: they come with scikit-learn, so leave out the folder {folder}")
    bunch = load_digits()
    # 16 grey levels become the 8-bit pixels that a chip is sent; no level falls halfway.
    x = np.rint(bunch.images * 255 / 16).astype(np.uint8)[:, None]
    x_train, x_test, y_train, y_test = train_test_split(
        x,
        bunch.target,
        test_size=DIGITS_TEST_SIZE,
        stratify=bunch.target,
        random_state=DIGITS_TEST_SEED,
    )
    return Source(10, held(x_train, y_train), held(x_test, y_test))


def idx(name: str, below: str) -> Callable[[Path | None], Source]:
    """A reader of four IDX files (http://yann.lecun.com/exdb/mnist), gzipped or not, that lie in
    the folder itself or, as torchvision puts them, in `below` of it."""

    def read(folder: Path | None) -> Source:
        paths = find(name, inside(folder, below), IDX_FILES, endings=("", ".gz"))
        x_train, y_train, x_test, y_test = (
            _read_idx(path, axes=1 if "labels" in path.name else 3) for path in paths
        )
        for path, x, y in ((paths[1], x_train, y_train), (paths[3], x_test, y_test)):
            check_labels(path, y, samples=len(x), classes=IDX_CLASSES)
        if x_train.shape[1:] != x_test.shape[1:]:
            raise ValueError(
                f"{paths[2]}: images are {x_test.shape[1:]}, but those to train on are "
                f"{x_train.shape[1:]}; take both from one data set"
            )
        return Source(IDX_CLASSES, held(x_train[:, None], y_train), held(x_test[:, None], y_test))

    return read


def cifar10(folder: Path | None) -> Source:
    """Records of one label byte and 3072 pixels (https://www.cs.toronto.edu/~kriz/cifar.html)."""
    folder = inside(folder, "cifar-10-batches-bin")
    for place in () if folder is None else (folder, folder / "cifar-10-batches-py"):
        _refuse_pickles(place, "CIFAR-10", pickled="data_batch_1", binary=CIFAR10_FILES[0])
    paths = find("cifar10", folder, CIFAR10_FILES)
    *train, (x_test, y_test) = (_read_cifar(path, label_bytes=1, classes=10) for path in paths)
    x_train, y_train = (np.concatenate(part) for part in zip(*train, strict=True))
    return Source(10, held(x_train, y_train), held(x_test, y_test))


def cifar100(folder: Path | None) -> Source:
    """As `cifar10`, but two label bytes, of which the second tells the finer class of 100."""
    folder = inside(folder, "cifar-100-binary")
    for place in () if folder is None else (folder, folder / "cifar-100-python"):
        _refuse_pickles(place, "CIFAR-100", pickled="train", binary=CIFAR100_FILES[0])
    train, test = (
        held(*_read_cifar(path, label_bytes=2, classes=100))
        for path in find("cifar100", folder, CIFAR100_FILES)
    )
    return Source(100, train, test)


def _refuse_pickles(folder: Path, title: str, *, pickled: str, binary: str) -> None:
    if (folder / pickled).exists():
        raise ValueError(
            f"{folder}: this is {title}'s Python version, pickles that can run code when opened; "
            f"download the binary version, with {binary}"
        )


def _read_idx(path: Path, *, axes: int) -> NDArray[np.uint8]:
    """The uint8 array of `axes` axes in an IDX file: magic 0, 0, 8, axes; sizes; bytes."""
    raw = read_bytes(path)
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


def _read_cifar(
    path: Path, *, label_bytes: int, classes: int
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Images [n, 3, 32, 32] and labels [n], the last of the label bytes before each image."""
    raw = read_bytes(path)
    size = label_bytes + math.prod(CIFAR_SHAPE)
    if not raw or len(raw) % size:
        raise ValueError(
            f"{path}: holds {len(raw)} bytes, no whole number of {size}-byte records; "
            "download it again"
        )
    records = np.frombuffer(raw, np.uint8).reshape(-1, size)
    labels = records[:, label_bytes - 1]
    check_labels(path, labels, samples=len(records), classes=classes)
    return records[:, label_bytes:].reshape(-1, *CIFAR_SHAPE), labels
