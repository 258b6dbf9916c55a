"""Images in the folders that torchvision makes, and CIFAR-100 (damaged files: test_data.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.train.data import load
from spikeport.train.image_files import CIFAR10_FILES, CIFAR100_FILES, IDX_FILES


def write_idx(folder: Path, seed: int) -> NDArray[np.uint8]:
    """Four IDX files of random images; those of the test are returned."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for images, labels, n in zip(IDX_FILES[::2], IDX_FILES[1::2], (40, 20), strict=True):
        x = rng.integers(0, 256, (n, 3, 5), dtype=np.uint8)
        y = (np.arange(n) % 10).astype(np.uint8)
        for name, array in ((images, x), (labels, y)):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            header = bytes((0, 0, 8, array.ndim)) + sizes
            (folder / name).write_bytes(header + array.tobytes())
    return x


def write_cifar(folder: Path, names: tuple[str, ...], *, label_bytes: int, classes: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(6)
    for name in names:
        records = rng.integers(0, 256, (2 * classes, label_bytes + 3072), dtype=np.uint8)
        records[:, label_bytes - 1] = np.arange(2 * classes) % classes
        (folder / name).write_bytes(records.tobytes())


def test_one_root_of_torchvision_holds_both_mnists(tmp_path: Path) -> None:
    digits = write_idx(tmp_path / "MNIST" / "raw", 1)
    fashion = write_idx(tmp_path / "FashionMNIST" / "raw", 2)
    for name, expected in (("mnist", digits), ("fashion_mnist", fashion)):
        data = load(name, tmp_path, seed=0, validation_share=0.25)
        assert (data.x_test[:, 0] == expected).all()
        assert not data.events


def test_cifar100_takes_the_finer_label(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    write_cifar(folder, CIFAR100_FILES, label_bytes=2, classes=100)
    data = load("cifar100", tmp_path, seed=0, validation_share=0.5)
    assert (data.classes, data.shape) == (100, (3, 32, 32))
    assert (len(data.y_train), len(data.y_val), len(data.y_test)) == (100, 100, 200)
    assert (data.y_test == np.arange(200) % 100).all()
    raw = np.frombuffer((folder / "test.bin").read_bytes(), np.uint8)
    assert data.x_test[1, 2, 3, 4] == raw[3074 + 2 + 2 * 1024 + 3 * 32 + 4]
    (folder / "test.bin").write_bytes(raw.tobytes()[:-1])
    with pytest.raises(
        ValueError, match=r"test\.bin: holds 614799 bytes, no whole number of 3074-byte records; "
    ):
        load("cifar100", folder, seed=0)


@pytest.mark.parametrize(
    ("name", "title", "below", "pickled", "binary"),
    [
        ("cifar10", "CIFAR-10", "cifar-10-batches-py", "data_batch_1", "data_batch_1.bin"),
        ("cifar100", "CIFAR-100", "cifar-100-python", "train", "train.bin"),
    ],
)
def test_torchvisions_pickles_are_refused_unopened(
    tmp_path: Path, name: str, title: str, below: str, pickled: str, binary: str
) -> None:
    folder = tmp_path / below
    folder.mkdir()
    (folder / pickled).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    for given in (tmp_path, folder):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared whole below)
            load(name, given, seed=0)
        assert str(caught.value) == (
            f"{folder}: this is {title}'s Python version, pickles that can run code when opened; "
            f"download the binary version, with {binary}"
        )


def test_binaries_beside_pickles_are_read(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar-10-batches-bin", CIFAR10_FILES, label_bytes=1, classes=10)
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"pickle")
    assert load("cifar10", tmp_path, seed=0).x_test.shape == (20, 3, 32, 32)
