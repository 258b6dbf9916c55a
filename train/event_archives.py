"""Readers of two small sets of events that come as one npz file each: `nmnist_small.npz`, a part
of N-MNIST, and `braille.npz`, readings of a fingertip's 12 taxels that slides over letters."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikeport.train.data_files import (
    Indices,
    Samples,
    Source,
    check_labels,
    find,
    read_arrays,
    scattered,
)
from spikeport.train.event_files import NMNIST_SENSOR
from spikeport.train.event_frames import Bins, Events, Sensor, recordings

NMNIST_TRAIN = 60_000
"""Recordings 1..60000 are made of MNIST's training images, later ones of its test images."""
BRAILLE_CLASSES = 27
BRAILLE_TAXELS = 12
BRAILLE_SENSOR: Sensor = (2, 1, BRAILLE_TAXELS)
BRAILLE_NO_CONTACT = 255
BRAILLE_TEST = 40
"""Repetitions of every letter from this one on are for the test: the last 10 of 50."""


def nmnist_small(folder: Path | None, bins: Bins) -> Source:
    """Arrays x, y, p, t (microseconds) of all events, one recording after the other; offset [n + 1]
    of its first event, label [n] and index [n], its number in N-MNIST, which tells its part."""
    path = find("nmnist_small", folder, ("nmnist_small.npz",))[0]
    x, y, p, t, offset, labels, index = read_arrays(
        path, ("x", "y", "p", "t", "offset", "label", "index")
    )
    sizes = {len(column) for column in (x, y, p, t)}
    if sizes != {offset[-1] if len(offset) else 0} or offset[0] or (np.diff(offset) < 0).any():
        raise ValueError(f"{path}: offset does not cut x, y, p and t into recordings")
    if len(index) != len(offset) - 1:
        raise ValueError(f"{path}: index names {len(index)} of {len(offset) - 1} recordings")
    check_labels(path, labels, samples=len(index), classes=10)

    def part(chosen: Indices) -> Samples:
        def recording(i: int) -> Events:
            own = slice(offset[chosen[i]], offset[chosen[i] + 1])
            return Events(x[own], y[own], p[own], t[own])

        return recordings(labels[chosen], NMNIST_SENSOR, bins, recording, lambda i: path)

    is_test = index > NMNIST_TRAIN
    return Source(10, part(np.flatnonzero(~is_test)), part(np.flatnonzero(is_test)))


def braille(folder: Path | None, bins: Bins) -> Source:
    """Braille letters (Mueller-Cleve et al. 2022): taxel uint8 [n, time, 12], label [n] 0..26 and
    repetition [n] 0..49.

    Sigma-delta coding with threshold 1, as the NIR paper uses: a reading that is k higher than the
    one before makes k events of polarity 0 at its taxel, one that is k lower k of polarity 1;
    before the first reading nothing touches, which reads 255.
    """
    path = find("braille", folder, ("braille.npz",))[0]
    taxel, labels, repetition = read_arrays(path, ("taxel", "label", "repetition"))
    if taxel.ndim != 3 or taxel.shape[2] != BRAILLE_TAXELS or len(taxel) != len(repetition):
        raise ValueError(
            f"{path}: taxel is {taxel.shape} for {len(repetition)} repetitions; wanted is "
            f"[n, time, {BRAILLE_TAXELS}]"
        )
    check_labels(path, labels, samples=len(taxel), classes=BRAILLE_CLASSES)
    change = np.diff(taxel.astype(np.int64), axis=1, prepend=BRAILLE_NO_CONTACT)
    length = float(taxel.shape[1])

    def part(chosen: Indices) -> Samples:
        chosen = chosen[scattered(len(chosen))]

        def recording(i: int) -> Events:
            time, taxels = np.nonzero(change[chosen[i]])
            size = change[chosen[i]][time, taxels]
            x, p, t = np.repeat(np.stack((taxels, size < 0, time)), np.abs(size), axis=1)
            return Events(x, np.zeros_like(x), p, t, window=(0.0, length))

        return recordings(labels[chosen], BRAILLE_SENSOR, bins, recording, lambda i: path)

    is_test = repetition >= BRAILLE_TEST
    return Source(BRAILLE_CLASSES, part(np.flatnonzero(~is_test)), part(np.flatnonzero(is_test)))
