"""Frames hold the events of every recording, each in its bin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.train.event_frames import Bins, Events, frames

HERE = Path("recording.bin")
SENSOR = (2, 5, 7)


def recording(n: int = 400, *, window: tuple[float, float] | None = None) -> Events:
    rng = np.random.default_rng(5)
    return Events(
        rng.integers(0, 7, n), rng.integers(0, 5, n), rng.integers(0, 2, n),
        np.sort(rng.integers(1000, 1000 + 600, n)), window,
    )  # fmt: skip


def counted(events: Events, shape: tuple[int, ...], width: float) -> NDArray[np.int64]:
    """One event after the other."""
    found = np.zeros(shape, np.int64)
    start = events.t.min()
    for x, y, p, t in zip(events.x, events.y, events.p, events.t, strict=True):
        found[int((t - start) // width), p, y, x] += 1
    return found


def test_every_event_is_counted_once_in_its_bin() -> None:
    events = recording()
    duration = events.t.max() - events.t.min() + 1
    found = frames(events, SENSOR, bins=Bins(steps=6), where=HERE)
    assert found.dtype == np.uint8
    assert (found == counted(events, (6, *SENSOR), duration / 6)).all()
    assert found.sum() == 400


def test_order_of_events_does_not_matter() -> None:
    events, order = recording(), np.random.default_rng(1).permutation(400)
    mixed = Events(events.x[order], events.y[order], events.p[order], events.t[order])
    bins = Bins(steps=9)
    found = frames(events, SENSOR, bins=bins, where=HERE)
    assert (frames(mixed, SENSOR, bins=bins, where=HERE) == found).all()


def test_one_event_and_one_moment_come_in_the_first_bin() -> None:
    zero = np.zeros(3, int)
    found = frames(Events(zero, zero, zero, zero + 99), SENSOR, bins=Bins(steps=4), where=HERE)
    assert found[0, 0, 0, 0] == found.sum() == 3


def test_a_window_leaves_out_what_is_beyond() -> None:
    t = np.array([-0.1, 0.0, 0.49, 0.5, 0.99, 1.0, 3.0])
    zero = np.zeros(7, int)
    events = Events(zero, zero, zero, t, window=(0.0, 1.0))
    found = frames(events, SENSOR, bins=Bins(steps=2), where=HERE)
    assert found[:, 0, 0, 0].tolist() == [2, 2]
    assert found.sum() == 4


def test_counts_stop_at_255() -> None:
    zero = np.zeros(300, int)
    found = frames(Events(zero, zero, zero, zero), SENSOR, bins=Bins(steps=1), where=HERE)
    assert found.max() == found.sum() == 255
    found = frames(Events(zero, zero, zero, zero), SENSOR, bins=Bins(steps=1, most=7), where=HERE)
    assert found.max() == found.sum() == 7


def test_downsampling_sums_squares_the_last_ones_cut_off() -> None:
    events = recording()
    fine = frames(events, SENSOR, bins=Bins(steps=2), where=HERE)
    coarse = frames(events, SENSOR, bins=Bins(steps=2, downsample=2), where=HERE)
    assert coarse.shape == (2, 2, 3, 4)
    padded = np.pad(fine, ((0, 0), (0, 0), (0, 1), (0, 1)))
    assert (coarse == padded.reshape(2, 2, 3, 2, 4, 2).sum((3, 5))).all()


@pytest.mark.parametrize(("size", "rows", "columns"), [(3, (1, 4), (2, 5)), (5, (0, 5), (1, 6))])
def test_size_cuts_about_the_centre(
    size: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    whole = frames(recording(), SENSOR, bins=Bins(steps=3), where=HERE)
    cut = frames(recording(), SENSOR, bins=Bins(steps=3, size=size), where=HERE)
    assert (cut == whole[:, :, slice(*rows), slice(*columns)]).all()


def test_size_pads_about_the_centre() -> None:
    whole = frames(recording(), SENSOR, bins=Bins(steps=3), where=HERE)
    wide = frames(recording(), SENSOR, bins=Bins(steps=3, size=9), where=HERE)
    assert wide.shape == (3, 2, 9, 9)
    assert (wide[:, :, 2:7, 1:8] == whole).all()
    assert wide.sum() == whole.sum()


@pytest.mark.parametrize(
    "given", [{"steps": 0}, {"steps": 2, "downsample": 0}, {"steps": 2, "size": 0}]
)
def test_refuses_bins_below_one(given: dict[str, int]) -> None:
    name = next(key for key, value in given.items() if value == 0)
    with pytest.raises(ValueError, match=rf"^bins: {name} is 0; it must be at least 1$"):
        Bins(**given)


@pytest.mark.parametrize("most", [0, 256])
def test_refuses_counts_that_no_byte_holds(most: int) -> None:
    with pytest.raises(ValueError, match=rf"^bins: most is {most}; a count holds 1\.\.255$"):
        Bins(steps=1, most=most)


def check(message: str, *columns: Any) -> None:
    x, y, p, t = (np.array(column, int) for column in columns)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared whole below)
        frames(Events(x, y, p, t), SENSOR, bins=Bins(steps=2), where=HERE)
    assert str(caught.value) == message


def test_refuses_recordings_that_cannot_be() -> None:
    check("recording.bin: holds no events; download it again", [], [], [], [])
    check(
        "recording.bin: a recording has 2 places and 1 times; download it again",
        [0, 1], [0, 1], [0, 1], [3],
    )  # fmt: skip
    spans = "recording.bin: events span polarities 0..1, rows 2..4 and columns {}; the sensor has "
    check(f"{spans.format('1..7')}2 x 5 x 7", [7, 1], [2, 4], [0, 1], [3, 4])
    check(f"{spans.format('-1..3')}2 x 5 x 7", [-1, 3], [2, 4], [0, 1], [3, 4])
