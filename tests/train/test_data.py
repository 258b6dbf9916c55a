"""Data sets: the bundled digits, and real small files in the formats that users have."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from spikeport.train.data import load
from spikeport.train.image_files import CIFAR10_FILES, IDX_FILES


def idx(array: NDArray[np.uint8]) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def arrays(train: int = 60, test: int = 20) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(1)
    parts = []
    for n in (train, test):
        parts += [
            rng.integers(0, 256, (n, 6, 5), dtype=np.uint8),
            (np.arange(n) % 10).astype(np.uint8),
        ]
    return parts


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """Two of the files gzipped, two not."""
    for i, (name, array) in enumerate(zip(IDX_FILES, arrays(), strict=True)):
        if i % 2:
            (tmp_path / name).write_bytes(idx(array))
        else:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in CIFAR10_FILES:
        records = rng.integers(0, 256, (20, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(20) % 10
        (folder / name).write_bytes(records.tobytes())
    return tmp_path


def test_digits_are_8_bit_split_and_stratified() -> None:
    data = load("digits", seed=3)
    assert data.shape == (1, 8, 8)
    assert (len(data.y_train), len(data.y_val), len(data.y_test)) == (1131, 126, 540)
    assert data.x_train.dtype == np.uint8
    assert data.y_train.dtype == np.int64
    assert sorted(np.unique(data.x_train))[:3] == [0, 16, 32]  # 16/255ths, rounded: 15.9, 31.9
    assert data.x_train.max() == 255
    for y in (data.y_train, data.y_val, data.y_test):
        shares = np.bincount(y, minlength=10) / len(y)
        assert shares.min() > 0.08
        assert shares.max() < 0.12
    with pytest.raises(ValueError, match="read-only"):
        data.x_train[0] = 0


def test_the_three_parts_are_all_of_the_digits() -> None:
    data = load("digits", seed=3)
    together = np.concatenate([data.x_train, data.x_val, data.x_test]).reshape(1797, 64)
    original = np.rint(load_digits().data * 255 / 16)
    assert (np.sort(together, axis=0) == np.sort(original, axis=0)).all()
    assert (together.astype(int).sum(1).sum()) == original.sum()


def test_seed_moves_validation_but_never_the_test_set() -> None:
    one, same, two = (load("digits", seed=s, validation_share=0.2) for s in (1, 1, 2))
    assert (one.x_val == same.x_val).all()
    assert (one.x_val != two.x_val).any()
    assert (one.x_test == two.x_test).all()
    assert len(one.y_val) == 252


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files_come_back_byte_for_byte(name: str, mnist: Path) -> None:
    data = load(name, mnist, seed=0, validation_share=0.5)
    x_train, y_train, x_test, y_test = arrays()
    assert (data.x_test[:, 0] == x_test).all()
    assert (data.y_test == y_test).all()
    seen = {image.tobytes(): label for image, label in zip(x_train, y_train, strict=True)}
    assert len(data.y_train) == len(data.y_val) == 30
    for x, y in ((data.x_train, data.y_train), (data.x_val, data.y_val)):
        assert all(seen[image.tobytes()] == label for image, label in zip(x, y, strict=True))


def test_cifar_binary_is_channels_first(cifar: Path) -> None:
    data = load("cifar10", cifar, seed=0)
    raw = np.frombuffer((cifar / "cifar-10-batches-bin/test_batch.bin").read_bytes(), np.uint8)
    first = raw[1:3073]
    assert data.x_test.shape == (20, 3, 32, 32)
    assert data.x_test[0, 2, 1, 4] == first[2 * 1024 + 32 + 4]
    assert len(data.y_train) + len(data.y_val) == 100
    inside = load("cifar10", cifar / "cifar-10-batches-bin", seed=0)
    assert (inside.x_train == data.x_train).all()


def check(message: str, name: str, folder: Path | None) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared whole below)
        load(name, folder, seed=0)
    assert str(caught.value) == message


def test_missing_folder_or_file_names_what_is_wanted(mnist: Path, tmp_path: Path) -> None:
    wanted = f"{', '.join(IDX_FILES)} (each also as .gz)"
    check(f"mnist: name the folder that holds {wanted}", "mnist", None)
    gone = tmp_path / "gone"
    check(f"{gone}: no such folder; mnist is read from {wanted}", "mnist", gone)
    (mnist / f"{IDX_FILES[2]}.gz").unlink()
    check(f"{mnist}: {IDX_FILES[2]} is missing; mnist is read from {wanted}", "mnist", mnist)
    check(
        "cifar10: name the folder that holds data_batch_1.bin, data_batch_2.bin, data_batch_3.bin, "
        "data_batch_4.bin, data_batch_5.bin, test_batch.bin",
        "cifar10",
        None,
    )


def test_truncated_and_corrupt_idx(mnist: Path) -> None:
    labels = mnist / IDX_FILES[1]
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-3])
    check(
        f"{labels}: holds 65 bytes, its header promises 68 for shape (60,); download it again",
        "mnist",
        mnist,
    )
    labels.write_bytes(whole[:6])
    check(
        f"{labels}: holds 6 bytes, its header promises 8 for shape (0,); download it again",
        "mnist",
        mnist,
    )
    labels.write_bytes(b"\0\0\x0d\x01" + whole[4:])
    check(
        f"{labels}: starts with '00000d01', an IDX file of bytes with 1 axes starts with "
        "'00000801'",
        "mnist",
        mnist,
    )
    labels.write_bytes(whole[:-1] + b"\x0a")
    check(f"{labels}: label 10 found; allowed are 0..9", "mnist", mnist)
    labels.write_bytes(idx(arrays()[1][:59]))
    check(f"{labels}: holds 59 labels for 60 images", "mnist", mnist)


@pytest.mark.parametrize("damage", ["cut", "no gzip", "bits"])
def test_damaged_gzip(mnist: Path, damage: str) -> None:
    images = mnist / f"{IDX_FILES[0]}.gz"
    whole = images.read_bytes()
    images.write_bytes(
        {
            "cut": whole[:100],
            "no gzip": b"<html>" * 9,
            "bits": whole[:300] + b"\xff" * 9 + whole[309:],
        }[damage]
    )
    check(f"{images}: truncated or no gzip file; download it again", "mnist", mnist)


def test_a_header_that_promises_the_world_allocates_nothing(mnist: Path) -> None:
    labels = mnist / IDX_FILES[1]
    labels.write_bytes(b"\0\0\x08\x01\xff\xff\xff\xff" + bytes(60))
    check(
        f"{labels}: holds 68 bytes, its header promises 4294967303 for shape (4294967295,); "
        "download it again",
        "mnist",
        mnist,
    )


def test_images_of_two_sizes(mnist: Path) -> None:
    images = mnist / f"{IDX_FILES[2]}.gz"
    images.write_bytes(gzip.compress(idx(arrays()[2][:, :4])))
    check(
        f"{images}: images are (4, 5), but those to train on are (6, 5); take both from one data "
        "set",
        "mnist",
        mnist,
    )


def test_damaged_cifar(cifar: Path) -> None:
    path = cifar / "cifar-10-batches-bin/data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    check(
        f"{path}: holds 61459 bytes, no whole number of 3073-byte records; download it again",
        "cifar10",
        cifar,
    )
    path.write_bytes(b"\x0b" + whole[1:])
    check(f"{path}: label 11 found; allowed are 0..9", "cifar10", cifar)


def test_pickled_cifar_is_refused_unopened(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    check(
        f"{tmp_path}: this is CIFAR-10's Python version, pickles that can run code when opened; "
        "download the binary version, with data_batch_1.bin",
        "cifar10",
        tmp_path,
    )


def test_other_refusals(tmp_path: Path) -> None:
    check(
        "data set is 'imagenet'; allowed are braille, cifar10, cifar100, digits, dvs_gesture, "
        "fashion_mnist, mnist, nmnist, nmnist_small, shd",
        "imagenet",
        None,
    )
    check(
        f"digits: they come with scikit-learn, so leave out the folder {tmp_path}",
        "digits",
        tmp_path,
    )
    for name, array in zip(IDX_FILES, arrays(train=12), strict=True):
        (tmp_path / name).write_bytes(idx(array))
    check(
        "mnist: 12 training images are too few to set 0.1 of them aside with every class present; "
        "use more images or another validation_share",
        "mnist",
        tmp_path,
    )
