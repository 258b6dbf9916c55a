"""Readers of events: N-MNIST, DVS-Gesture and SHD as Tonic (https://tonic.readthedocs.io) lays
them out in a folder.

A recording becomes T frames that count its events per pixel and time bin; see `event_frames`. Sets
whose files are sorted by class are put into one fixed mixed order, so that the first samples of a
part are of all classes. Nothing is downloaded here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from spikeport.sim.files import read_array
from spikeport.train.data_files import (
    Samples,
    Source,
    check_labels,
    existing_folder,
    find,
    inside,
    read_bytes,
    scattered,
)
from spikeport.train.event_frames import Bins, Events, Sensor, recordings

NMNIST_SENSOR: Sensor = (2, 34, 34)
NMNIST_OVERFLOW_ROW = 240
NMNIST_OVERFLOW = 1 << 13
GESTURE_SENSOR: Sensor = (2, 128, 128)
GESTURES = 11
SHD_SENSOR: Sensor = (1, 1, 700)
SHD_SECONDS = 1.4
SHD_CLASSES = 20


def nmnist(folder: Path | None, bins: Bins) -> Source:
    """N-MNIST (Orchard et al. 2015): Train/0/*.bin to Test/9/*.bin, 34 x 34, two polarities."""
    listed = "Train/0..9/*.bin and Test/0..9/*.bin"
    root = existing_folder("nmnist", inside(folder, "NMNIST"), listed)

    def part(name: str) -> Samples:
        files = [sorted((root / name / str(digit)).glob("*.bin")) for digit in range(10)]
        for digit, found in enumerate(files):
            if not found:
                raise ValueError(f"{root}: {name}/{digit} holds no .bin file; nmnist is read from "
                                 f"{listed}")  # fmt: skip
        return _files(
            [(path, digit) for digit, found in enumerate(files) for path in found],
            NMNIST_SENSOR, bins, _read_aer,
        )  # fmt: skip

    return Source(10, part("Train"), part("Test"))


def dvs_gesture(folder: Path | None, bins: Bins) -> Source:
    """DVS-Gesture (Amir et al. 2017), cut by gesture: ibmGestureTrain/USER_LIGHT/LABEL.npy, 128 x
    128, two polarities."""
    listed = "ibmGestureTrain/*/0..10.npy and ibmGestureTest/*/0..10.npy"
    root = existing_folder("dvs_gesture", inside(folder, "DVSGesture"), listed)

    def part(name: str) -> Samples:
        files = sorted((root / name).glob("*/*.npy"))
        if not files:
            raise ValueError(f"{root}: {name} holds no .npy file; dvs_gesture is read from "
                             f"{listed}")  # fmt: skip
        for path in files:
            if not (path.stem.isdecimal() and int(path.stem) < GESTURES):
                raise ValueError(f"{path}: is named after no label; files are 0.npy to 10.npy")
        return _files(
            [(path, int(path.stem)) for path in files], GESTURE_SENSOR, bins, _read_gesture
        )

    return Source(GESTURES, part("ibmGestureTrain"), part("ibmGestureTest"))


def _files(
    labelled: list[tuple[Path, int]], sensor: Sensor, bins: Bins, read: Callable[[Path], Events]
) -> Samples:
    """Samples of one file each, sorted by class, in the fixed mixed order."""
    mixed = [labelled[i] for i in scattered(len(labelled))]
    return recordings(
        np.array([label for _, label in mixed]), sensor, bins,
        lambda i: read(mixed[i][0]), lambda i: mixed[i][0],
    )  # fmt: skip


def _read_aer(path: Path) -> Events:
    """Records of 40 bits: column, row, polarity (1 bit) and time (23 bits, microseconds). A row of
    240 is no event: from there on the clock has wrapped once more and is 2**13 further."""
    raw = np.frombuffer(read_bytes(path), np.uint8)
    if len(raw) % 5:
        raise ValueError(
            f"{path}: holds {len(raw)} bytes, no whole number of 5-byte events; download it again"
        )
    x, y, *rest = raw.reshape(-1, 5).T
    high, middle, low = (part.astype(np.int64) for part in rest)
    wrapped = y == NMNIST_OVERFLOW_ROW
    t = ((high & 127) << 16 | middle << 8 | low) + np.cumsum(wrapped) * NMNIST_OVERFLOW
    event = ~wrapped
    return Events(x[event], y[event], (high >> 7)[event], t[event])


def _read_gesture(path: Path) -> Events:
    """An array [n, 4] of columns, rows, polarities and times (milliseconds)."""
    try:
        table = read_array(path)
    except ValueError as error:
        raise ValueError(f"{path}: truncated or no npy file; download it again") from error
    numbers = table.dtype.kind in "iuf" and bool(np.isfinite(table).all())
    if not numbers or table.ndim != 2 or table.shape[1] != 4:
        raise ValueError(
            f"{path}: holds {table.dtype} {table.shape}; numbers [n, 4] of x, y, p, t are wanted"
        )
    return Events(*table.T)


def shd(folder: Path | None, bins: Bins) -> Source:
    """Spiking Heidelberg Digits (Cramer et al. 2020, arXiv 1910.07407): spikes of 700 channels, of
    which the first 1.4 s are taken, as in the authors' examples."""
    paths = find("shd", inside(folder, "SHD"), ("shd_train.h5", "shd_test.h5"))
    return Source(SHD_CLASSES, *(_shd_part(path, bins) for path in paths))


def _shd_part(path: Path, bins: Bins) -> Samples:
    try:
        with h5py.File(path, "r") as file:
            labels, times, units = (
                file[name][()] for name in ("labels", "spikes/times", "spikes/units")
            )
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{path}: truncated or without labels, spikes/times and spikes/units; download it again"
        ) from error
    if not len(labels) == len(times) == len(units):
        raise ValueError(f"{path}: holds {len(labels)} labels, {len(times)} lists of times and "
                         f"{len(units)} of units; download it again")  # fmt: skip
    check_labels(path, labels, samples=len(times), classes=SHD_CLASSES)

    def recording(i: int) -> Events:
        zeros = np.zeros(len(units[i]), np.int64)
        return Events(units[i], zeros, zeros, times[i], window=(0.0, SHD_SECONDS))

    return recordings(labels, SHD_SENSOR, bins, recording, lambda i: path)
