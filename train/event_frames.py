"""From events to frames: how many fell on each pixel in each time bin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.train.data_files import Images, Indices, Samples

COUNT_MAX = 255
Sensor = tuple[int, int, int]
"""Polarities, rows, columns."""


@dataclass(frozen=True, kw_only=True)
class Bins:
    """How events become frames. steps: time bins T of a recording. downsample: side of the square
    of pixels whose events are counted together, cut off at the far edges. size: side of the square
    that the frames are then cut or padded to about their centre, None for their own sides.
    most: counts above it are clipped to it, 1..255."""

    steps: int
    downsample: int = 1
    size: int | None = None
    most: int = COUNT_MAX

    def __post_init__(self) -> None:
        for name in ("steps", "downsample", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"bins: {name} is {value}; it must be at least 1")
        if not 1 <= self.most <= COUNT_MAX:
            raise ValueError(f"bins: most is {self.most}; a count holds 1..{COUNT_MAX}")

    def shape(self, sensor: Sensor) -> tuple[int, int, int, int]:
        """(T, C, H, W) of the frames of one recording."""
        height, width = (self.size or self._summed(side) for side in sensor[1:])
        return self.steps, sensor[0], height, width

    def place(self, pixels: NDArray[np.int64], side: int) -> NDArray[np.int64]:
        """Where in a frame `pixels` [n] of a sensor `side` pixels wide come, maybe outside."""
        wanted = self.size or self._summed(side)
        moved: NDArray[np.int64] = pixels // self.downsample + (wanted - self._summed(side)) // 2
        return moved

    def _summed(self, side: int) -> int:
        return -(-side // self.downsample)


@dataclass(frozen=True, eq=False)
class Events:
    """One recording: columns x, rows y, polarities p (from 0) and times t of its events, each [n].
    window: (begin, end) of the time that is cut into bins, events outside are left out; None for
    the recording's own, from its first to its last event. t and window in one unit."""

    x: NDArray[Any]
    y: NDArray[Any]
    p: NDArray[Any]
    t: NDArray[Any]
    window: tuple[float, float] | None = None


def frames(events: Events, sensor: Sensor, *, bins: Bins, where: Path) -> Images:
    """Counts uint8 [T, C, H, W] of events per time bin, polarity and pixel, at most `bins.most`.

    The bins are equally long. Raises ValueError, naming the file `where`, if there are no events
    or some lie off the sensor.
    """
    sensed = np.stack([np.asarray(a, np.int64) for a in (events.p, events.y, events.x)])
    t = np.asarray(events.t, np.float64)
    if len(t) != sensed.shape[1]:
        raise ValueError(
            f"{where}: a recording has {sensed.shape[1]} places and {len(t)} times; download it "
            "again"
        )
    if not len(t):
        raise ValueError(f"{where}: holds no events; download it again")
    low, high = sensed.min(1), sensed.max(1)
    if (low < 0).any() or (high >= sensor).any():
        raise ValueError(
            f"{where}: events span polarities {low[0]}..{high[0]}, rows {low[1]}..{high[1]} and "
            f"columns {low[2]}..{high[2]}; the sensor has {sensor[0]} x {sensor[1]} x {sensor[2]}"
        )
    # The last event of a recording lies within its last bin, hence the unit of time added.
    begin, end = events.window or (t.min(), t.max() + 1)
    places = np.stack([
        np.floor((t - begin) / (end - begin) * bins.steps).astype(np.int64), sensed[0],
        bins.place(sensed[1], sensor[1]), bins.place(sensed[2], sensor[2]),
    ])  # fmt: skip
    shape = bins.shape(sensor)
    is_seen = ((places >= 0) & (places < np.array(shape)[:, None])).all(0)
    flat = np.ravel_multi_index(tuple(places[:, is_seen]), shape)
    counts = np.bincount(flat, minlength=int(np.prod(shape)))
    return np.minimum(counts, bins.most).astype(np.uint8).reshape(shape)


def recordings(
    labels: NDArray[Any],
    sensor: Sensor,
    bins: Bins,
    event_of: Callable[[int], Events],
    where: Callable[[int], Path],
) -> Samples:
    """Samples whose recording i is `event_of(i)`, from the file `where(i)`."""

    def read(indices: Indices) -> Images:
        found = np.empty((len(indices), *bins.shape(sensor)), np.uint8)
        for row, i in enumerate(indices):
            found[row] = frames(event_of(int(i)), sensor, bins=bins, where=where(int(i)))
        return found

    return Samples(labels.astype(np.int64), read)
