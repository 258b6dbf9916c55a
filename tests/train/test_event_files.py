"""Files of N-MNIST, DVS-Gesture and SHD, written here byte for byte as they are published."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.train.data import Dataset, load
from spikeport.train.event_frames import Bins

Columns = tuple[NDArray[np.int64], ...]
BINS = Bins(steps=4)


def events(seed: int, sides: tuple[int, int], *, n: int = 60) -> Columns:
    """x, y, p and t in microseconds of one recording, its first at 0 and its last at 99,999."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 100_000, n))
    t[0], t[-1] = 0, 99_999
    return rng.integers(0, sides[0], n), rng.integers(0, sides[1], n), rng.integers(0, 2, n), t


def aer(columns: Columns) -> bytes:
    """5 bytes an event: x, y, then a polarity bit and 23 bits of time, highest first."""
    records = (
        bytes((x, y)) + (int(p) << 23 | int(t)).to_bytes(3, "big")
        for x, y, p, t in zip(*columns, strict=True)
    )
    return b"".join(records)


@pytest.fixture
def nmnist(tmp_path: Path) -> Path:
    """4 training and 2 test recordings of every digit."""
    for part, count in (("Train", 4), ("Test", 2)):
        for digit in range(10):
            folder = tmp_path / "NMNIST" / part / str(digit)
            folder.mkdir(parents=True)
            for i in range(count):
                columns = events(100 * digit + 10 * i + count, (34, 34))
                (folder / f"{10 * i:05}.bin").write_bytes(aer(columns))
    return tmp_path


@pytest.fixture
def gestures(tmp_path: Path) -> Path:
    for part, users in (("ibmGestureTest", range(2)), ("ibmGestureTrain", range(2, 6))):
        for user in users:
            folder = tmp_path / part / f"user{user:02}_fluorescent_led"
            folder.mkdir(parents=True)
            for label in range(11):
                x, y, p, t = events(20 * label + user, (128, 128))
                table = np.stack((x, y, p, t // 1000), 1).astype(np.float64)
                np.save(folder / f"{label}.npy", table)
    return tmp_path


def write_shd(path: Path, labels: NDArray[np.int64], seconds: float = 1.0) -> None:
    rng = np.random.default_rng(8)
    sizes = rng.integers(5, 50, len(labels))
    with h5py.File(path, "w") as file:
        file["labels"] = labels.astype(np.uint16)
        for name, kind in (("times", "f2"), ("units", "u2")):
            ragged = file.create_dataset(
                f"spikes/{name}", len(labels), dtype=h5py.vlen_dtype(np.dtype(kind))
            )
            for i, size in enumerate(sizes):
                values = rng.random(size) * seconds if kind == "f2" else rng.integers(0, 700, size)
                ragged[i] = values.astype(kind)


@pytest.fixture
def shd(tmp_path: Path) -> Path:
    write_shd(tmp_path / "shd_train.h5", np.arange(80) % 20)
    write_shd(tmp_path / "shd_test.h5", np.arange(40) % 20)
    return tmp_path


def keys(x: NDArray[np.uint8]) -> set[bytes]:
    return {sample.tobytes() for sample in x}


def parts(data: Dataset) -> list[NDArray[np.uint8]]:
    return [data.x_train, data.x_val, data.x_test]


def test_nmnist_comes_back_event_by_event(nmnist: Path) -> None:
    data = load("nmnist", nmnist, seed=0, validation_share=0.25, bins=BINS)
    assert (data.events, data.shape, data.classes) == (True, (2, 34, 34), 10)
    assert data.x_test.shape == (20, 4, 2, 34, 34)
    expected = {}
    for digit in range(10):
        for i in range(2):
            x, y, p, t = events(100 * digit + 10 * i + 2, (34, 34))
            frame = np.zeros((4, 2, 34, 34), np.uint8)
            np.add.at(frame, (t * 4 // 100_000, p, y, x), 1)
            expected[frame.tobytes()] = digit
    assert {x.tobytes(): y for x, y in zip(data.x_test, data.y_test, strict=True)} == expected
    inside = load("nmnist", nmnist / "NMNIST", seed=0, validation_share=0.25, bins=BINS)
    assert (inside.x_train == data.x_train).all()


def test_files_sorted_by_class_are_mixed_alike_for_all_seeds(nmnist: Path) -> None:
    one, two = (load("nmnist", nmnist, seed=s, validation_share=0.25, bins=BINS) for s in (1, 2))
    assert (one.y_test == two.y_test).all()
    assert (np.diff(one.y_test) < 0).any()
    assert len(np.unique(one.y_test[:10])) > 5
    assert not (one.x_val == two.x_val).all()


def test_a_wrapped_clock_goes_on(nmnist: Path) -> None:
    """Row 240 is no event but says that the clock, of 13 bits then, began anew."""
    path = nmnist / "NMNIST/Test/7/00000.bin"
    path.write_bytes(
        b"".join((
            bytes((1, 2)) + (100).to_bytes(3, "big"),
            bytes((0, 240)) + (0).to_bytes(3, "big"),
            bytes((1, 2)) + (100).to_bytes(3, "big"),
            bytes((0, 240)) + (0).to_bytes(3, "big"),
            bytes((3, 2)) + (1 << 23 | 100).to_bytes(3, "big"),
        ))
    )  # fmt: skip
    data = load("nmnist", nmnist, seed=0, validation_share=0.25, bins=Bins(steps=3))
    found = next(x for x in data.x_test if x.sum() == 3)
    assert [tuple(place) for place in np.argwhere(found)] == [
        (0, 0, 2, 1), (1, 0, 2, 1), (2, 1, 2, 3),
    ]  # fmt: skip


def test_gestures_come_back(gestures: Path) -> None:
    bins = Bins(steps=5, downsample=4)
    data = load("dvs_gesture", gestures, seed=0, validation_share=0.25, bins=bins)
    assert (data.shape, data.classes) == ((2, 32, 32), 11)
    assert (len(data.y_train), len(data.y_val), len(data.y_test)) == (33, 11, 22)
    x, y, p, t = events(20 * 9 + 1, (128, 128))
    expected = np.zeros((5, 2, 32, 32), np.uint8)
    np.add.at(expected, (t // 1000 * 5 // 100, p, y // 4, x // 4), 1)
    assert expected.tobytes() in keys(data.x_test[data.y_test == 9])


def test_spoken_digits_come_back(shd: Path) -> None:
    data = load("shd", shd, seed=0, bins=Bins(steps=7), validation_share=0.25)
    assert (data.shape, data.classes) == ((1, 1, 700), 20)
    assert (data.y_test == np.arange(40) % 20).all()
    with h5py.File(shd / "shd_test.h5") as file:
        times, units = file["spikes/times"][3].astype(float), file["spikes/units"][3]
    expected = np.zeros((7, 700), np.uint8)
    np.add.at(expected, (np.floor(times / 1.4 * 7).astype(int), units), 1)
    assert (data.x_test[3, :, 0, 0] == expected).all()
    assert expected[5:].sum() == 0  # one second of spikes in bins of 0.2 s


def test_spikes_after_the_first_1_4_seconds_are_left_out(shd: Path) -> None:
    write_shd(shd / "shd_test.h5", np.arange(40) % 20, seconds=2.8)
    data = load("shd", shd, seed=0, bins=Bins(steps=1), validation_share=0.25)
    with h5py.File(shd / "shd_test.h5") as file:
        early = [(times < 1.4).sum() for times in file["spikes/times"]]
        assert 0.4 < sum(early) / sum(len(times) for times in file["spikes/times"]) < 0.6
    assert data.x_test.sum((1, 2, 3, 4)).tolist() == early


@pytest.mark.parametrize("name", ["nmnist", "dvs_gesture", "shd"])
def test_parts_never_mix(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue({"dvs_gesture": "gestures"}.get(name, name))
    if name == "shd":
        write_shd(folder / "shd_test.h5", np.arange(60) % 20, seconds=0.9)
    tests = set()
    for seed in range(4):
        data = load(name, folder, seed=seed, validation_share=0.25, bins=BINS)
        found = [keys(x) for x in parts(data)]
        assert [len(k) for k in found] == [len(x) for x in parts(data)]
        assert len(set.union(*found)) == sum(len(x) for x in parts(data))
        tests.add(data.x_test.tobytes())
    assert len(tests) == 1


def check(message: str, name: str, folder: Path | None) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared whole below)
        load(name, folder, seed=0, validation_share=0.25, bins=BINS)
    assert str(caught.value) == message


def test_what_is_missing_is_named(nmnist: Path, tmp_path: Path) -> None:
    listed = "Train/0..9/*.bin and Test/0..9/*.bin"
    check(f"nmnist: name the folder that holds {listed}", "nmnist", None)
    gone = tmp_path / "gone"
    check(f"{gone}: no such folder; nmnist is read from {listed}", "nmnist", gone)
    for path in (nmnist / "NMNIST/Test/3").iterdir():
        path.unlink()
    root = nmnist / "NMNIST"
    check(f"{root}: Test/3 holds no .bin file; nmnist is read from {listed}", "nmnist", nmnist)
    gone.mkdir()
    listed = "ibmGestureTrain/*/0..10.npy and ibmGestureTest/*/0..10.npy"
    check(
        f"{gone}: ibmGestureTrain holds no .npy file; dvs_gesture is read from {listed}",
        "dvs_gesture",
        gone,
    )
    listed = "shd_train.h5, shd_test.h5"
    check(f"{gone}: shd_train.h5 is missing; shd is read from {listed}", "shd", gone)


def test_damaged_nmnist(nmnist: Path) -> None:
    path = nmnist / "NMNIST/Test/3/00010.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    check(
        f"{path}: holds 298 bytes, no whole number of 5-byte events; download it again",
        "nmnist",
        nmnist,
    )
    path.write_bytes(b"")
    check(f"{path}: holds no events; download it again", "nmnist", nmnist)
    path.write_bytes(bytes((34, 5)) + whole[2:5])
    polarity = whole[2] >> 7
    check(
        f"{path}: events span polarities {polarity}..{polarity}, rows 5..5 and columns 34..34; "
        "the sensor has 2 x 34 x 34",
        "nmnist",
        nmnist,
    )


def test_damaged_gestures(gestures: Path) -> None:
    path = gestures / "ibmGestureTest/user00_fluorescent_led/4.npy"
    whole = path.read_bytes()
    for damaged in (whole[:200], b"PK nothing", b"PK\x03\x04 cut", b""):
        path.write_bytes(damaged)
        check(f"{path}: truncated or no npy file; download it again", "dvs_gesture", gestures)
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    check(f"{path}: truncated or no npy file; download it again", "dvs_gesture", gestures)
    for table, held in (
        (np.zeros((3, 5)), "float64 (3, 5)"),
        (np.full((3, 4), np.nan), "float64 (3, 4)"),
        (np.zeros((2, 4), "S1"), "|S1 (2, 4)"),
    ):
        np.save(path, table)
        check(
            f"{path}: holds {held}; numbers [n, 4] of x, y, p, t are wanted",
            "dvs_gesture",
            gestures,
        )
    path.rename(path.with_name("11.npy"))
    check(
        f"{path.with_name('11.npy')}: is named after no label; files are 0.npy to 10.npy",
        "dvs_gesture",
        gestures,
    )


def test_damaged_spoken_digits(shd: Path) -> None:
    path = shd / "shd_train.h5"
    whole = path.read_bytes()
    sentence = (
        f"{path}: truncated or without labels, spikes/times and spikes/units; download it again"
    )
    path.write_bytes(whole[: len(whole) // 2])
    check(sentence, "shd", shd)
    path.write_bytes(b"no hdf5")
    check(sentence, "shd", shd)
    write_shd(path, np.arange(80) % 20)
    with h5py.File(path, "a") as file:
        del file["labels"]
        file["labels"] = np.arange(79) % 20
    check(
        f"{path}: holds 79 labels, 80 lists of times and 80 of units; download it again",
        "shd",
        shd,
    )
    write_shd(path, np.arange(80) % 20 + 1)
    check(f"{path}: label 20 found; allowed are 0..19", "shd", shd)
    write_shd(path, np.arange(0))
    check(f"{path}: holds no samples; download it again", "shd", shd)


def test_bins_are_for_events_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^nmnist: events need bins, which say how many frames "):
        load("nmnist", tmp_path, seed=0)
    with pytest.raises(ValueError, match=r"^digits: holds images, which are not binned; leave "):
        load("digits", seed=0, bins=BINS)
