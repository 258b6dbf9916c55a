"""Two small event sets in one npz file each: written here, and the real ones where they lie beside
the checkout (`shared/data`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.train.data import load
from spikeport.train.event_frames import Bins

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
Arrays = dict[str, NDArray[Any]]


@pytest.fixture
def nmnist() -> Arrays:
    """40 training and 20 test recordings of 7 events each, 34 x 34."""
    rng = np.random.default_rng(3)
    return {
        "x": rng.integers(0, 34, 420).astype(np.uint8),
        "y": rng.integers(0, 34, 420).astype(np.uint8),
        "p": rng.integers(0, 2, 420).astype(np.uint8),
        "t": np.sort(rng.integers(0, 300_000, (60, 7)), axis=1).ravel().astype(np.uint32),
        "offset": np.arange(0, 421, 7),
        "label": (np.arange(60) % 10).astype(np.uint8),
        "index": np.concatenate([np.arange(1, 41), np.arange(60_001, 60_021)]).astype(np.int32),
    }


@pytest.fixture
def braille() -> Arrays:
    """27 letters x 50 repetitions, 8 readings of 12 taxels."""
    rng = np.random.default_rng(4)
    return {
        "taxel": rng.integers(0, 256, (1350, 8, 12)).astype(np.uint8),
        "label": np.repeat(np.arange(27), 50).astype(np.uint8),
        "repetition": np.tile(np.arange(50), 27).astype(np.uint8),
    }


def test_recordings_are_cut_at_their_offsets(nmnist: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "nmnist_small.npz", **nmnist)
    data = load("nmnist_small", tmp_path, seed=0, validation_share=0.25, bins=Bins(steps=3))
    assert (data.events, data.shape, data.classes) == (True, (2, 34, 34), 10)
    assert (len(data.y_train), len(data.y_val), len(data.y_test)) == (30, 10, 20)
    assert (data.y_test == np.arange(20) % 10).all()
    for row in (0, 11, 19):
        own = slice(280 + 7 * row, 287 + 7 * row)
        x, y, p, t = (nmnist[name][own].astype(int) for name in ("x", "y", "p", "t"))
        expected = np.zeros((3, 2, 34, 34), np.uint8)
        np.add.at(expected, ((t - t[0]) * 3 // (t[-1] - t[0] + 1), p, y, x), 1)
        assert (data.x_test[row] == expected).all()


def test_changes_of_a_taxel_are_events(braille: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "braille.npz", **braille)
    data = load("braille", tmp_path, seed=0, bins=Bins(steps=8))
    assert (data.shape, data.classes) == ((2, 1, 12), 27)
    assert (len(data.y_train), len(data.y_val), len(data.y_test)) == (972, 108, 270)
    assert (np.bincount(data.y_test) == 10).all()
    change = data.x_test[:, :, 0, 0].astype(int) - data.x_test[:, :, 1, 0]
    readings = 255 + change.cumsum(1)
    held_out = braille["repetition"] >= 40
    found = {(x.astype(np.uint8).tobytes(), y) for x, y in zip(readings, data.y_test, strict=True)}
    taxel, label = braille["taxel"][held_out], braille["label"][held_out]
    assert found == {(x.tobytes(), y) for x, y in zip(taxel, label, strict=True)}
    assert not (data.x_test[:, :, 0] * data.x_test[:, :, 1]).any()  # up or down, never both


def test_coarser_bins_sum_finer_ones(braille: Arrays, tmp_path: Path) -> None:
    braille["taxel"] = braille["taxel"] // 4 + 191  # so that no sum passes 255
    np.savez(tmp_path / "braille.npz", **braille)
    fine, coarse = (load("braille", tmp_path, seed=0, bins=Bins(steps=s)) for s in (8, 2))
    assert (coarse.x_test == fine.x_test.reshape(270, 2, 4, 2, 1, 12).sum(2)).all()


def check(message: str, name: str, folder: Path, arrays: Arrays | None = None) -> None:
    if arrays is not None:
        np.savez(folder / f"{name}.npz", **arrays)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared whole below)
        load(name, folder, seed=0, bins=Bins(steps=2))
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["nmnist_small", "braille"])
def test_missing_and_damaged_archives(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / f"{name}.npz"
    arrays = request.getfixturevalue("nmnist" if name == "nmnist_small" else name)
    check(f"{tmp_path}: {name}.npz is missing; {name} is read from {name}.npz", name, tmp_path)
    np.savez(path, **arrays)
    whole = path.read_bytes()
    middle = len(whole) // 2
    locked = bytearray(whole)
    for first in re.finditer(rb"PK\x01\x02", whole):  # all entries of the archive's directory
        locked[first.start() + 8] |= 1  # are said to be encrypted
    for damaged in (
        whole[:middle], b"", b"text", whole[:middle] + b"\xff" * 9 + whole[middle + 9 :], locked
    ):  # fmt: skip
        path.write_bytes(damaged)
        check(f"{path}: truncated or no npz file of plain arrays", name, tmp_path)
    label = arrays["label"]
    pickled = np.array([{"a": 1}] * len(label))
    np.savez(path, **(arrays | {"label": pickled}))
    check(f"{path}: truncated or no npz file of plain arrays", name, tmp_path)
    floats = arrays | {"label": label.astype(np.float32)}
    check(f"{path}: label is an array of float32, not of whole numbers", name, tmp_path, floats)
    check(
        f"{path}: holds {len(label) - 1} labels for {len(label)} images", name, tmp_path,
        arrays | {"label": label[1:]},
    )  # fmt: skip
    classes = 27 if name == "braille" else 10
    check(
        f"{path}: label {label.max() + 200} found; allowed are 0..{classes - 1}", name, tmp_path,
        arrays | {"label": np.where(label == label.max(), label + 200, label)},
    )  # fmt: skip
    del arrays["label"]
    path.unlink()
    check(f"{path}: holds no array 'label'; choose another file", name, tmp_path, arrays)


def test_offsets_that_cut_nothing(nmnist: Arrays, tmp_path: Path) -> None:
    path, offset = tmp_path / "nmnist_small.npz", nmnist["offset"]
    sentence = f"{path}: offset does not cut x, y, p and t into recordings"
    swapped = offset.copy()
    swapped[[5, 6]] = offset[[6, 5]]
    for wrong in (offset + 1, offset[:-1], swapped, offset[:0], np.r_[1, offset[1:]]):
        check(sentence, "nmnist_small", tmp_path, nmnist | {"offset": wrong})
    check(sentence, "nmnist_small", tmp_path, nmnist | {"p": nmnist["p"][:-1]})
    fewer = nmnist | {"index": nmnist["index"][1:]}
    check(f"{path}: index names 59 of 60 recordings", "nmnist_small", tmp_path, fewer)


def test_taxels_of_another_shape(braille: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "braille.npz"
    wanted = "repetitions; wanted is [n, time, 12]"
    wider = braille | {"taxel": braille["taxel"][:, :, :11]}
    check(f"{path}: taxel is (1350, 8, 11) for 1350 {wanted}", "braille", tmp_path, wider)
    fewer = braille | {"repetition": braille["repetition"][:9]}
    check(f"{path}: taxel is (1350, 8, 12) for 9 {wanted}", "braille", tmp_path, fewer)


def test_the_real_nmnist() -> None:
    if not (DATA / "nmnist_small").is_dir():
        pytest.skip("no folder of data beside this checkout")
    data = load("nmnist_small", DATA / "nmnist_small", seed=1, bins=Bins(steps=4))
    assert (len(data.y_train), len(data.y_val), len(data.y_test)) == (900, 100, 100)
    assert data.y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]  # MNIST's own
    total = sum(int(x.sum()) for x in (data.x_train, data.x_val, data.x_test))
    assert total == 4_518_827


def test_the_real_braille() -> None:
    if not (DATA / "braille").is_dir():
        pytest.skip("no folder of data beside this checkout")
    data = load("braille", DATA / "braille", seed=1, bins=Bins(steps=76))
    assert data.x_train.shape == (972, 76, 2, 1, 12)
    assert (np.bincount(data.y_test) == 10).all()
    active = data.x_train.sum((0, 1, 2, 3), dtype=np.int64)
    assert set(np.argsort(active)[-4:]) == {1, 2, 6, 10}  # the only ones with a signal
