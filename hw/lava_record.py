"""What a population did inside its window, cut out of chip steps. Imports nothing of Lava.

Chip steps count from 1. A population at depth d lives through input step t of sample n at chip
step 1 + d + n * T + t; all that happens before and after is start-up and run-out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from spikeport.sim.net import FixedNet
from spikeport.sim.synapse import Shape
from spikeport.sim.trace import PopulationTrace

PARTS = {"spikes": np.uint8, "u": np.int32, "v": np.int32, "progress": np.int64}


@dataclass(frozen=True, kw_only=True)
class Window:
    """Where a population's samples lie. With `record`, u and v are kept of every step, else of
    each sample's last step only. shape: the population's shape in Lava's axis order."""

    depth: int
    steps: int
    batch: int
    shape: tuple[int, ...]
    record: bool

    @property
    def every(self) -> int:
        """Steps per kept state."""
        return 1 if self.record else self.steps

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of a recording; "progress" holds the last chip step alone."""
        total = self.steps * self.batch
        states = (total // self.every, *self.shape)
        return {"spikes": (total, *self.shape), "u": states, "v": states, "progress": (1,)}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Arrays that fill up while a population runs, in memory or in files."""

    window: Window
    spikes: NDArray[np.uint8]
    u: NDArray[np.int32]
    v: NDArray[np.int32]
    progress: NDArray[np.int64]

    @classmethod
    def in_memory(cls, window: Window) -> Recording:
        """An empty recording in memory."""
        sizes = window.sizes()
        return cls(window=window, **{name: np.zeros(sizes[name], PARTS[name]) for name in PARTS})

    @classmethod
    def in_files(cls, window: Window, stem: Path, *, mode: str) -> Recording:
        """A recording in the files `stem`.spikes.npy and so on; mode "w+" creates, "r+" opens."""
        sizes = window.sizes()
        return cls(
            window=window,
            **{
                name: open_memmap(f"{stem}.{name}.npy", mode, PARTS[name], sizes[name])
                for name in PARTS
            },
        )

    def note_spikes(self, chip_step: int, spikes: NDArray[Any]) -> None:
        """Keep what was sent in `chip_step`, if it lies in the window."""
        self.progress[0] = chip_step
        at = chip_step - 1 - self.window.depth
        if 0 <= at < len(self.spikes):
            self.spikes[at] = spikes

    def wants_state(self, chip_step: int) -> bool:
        """Whether u and v after `chip_step` are to be noted."""
        at = chip_step - 1 - self.window.depth
        return 0 <= at < len(self.spikes) and (at + 1) % self.window.every == 0

    def note_state(self, chip_step: int, *, u: NDArray[Any], v: NDArray[Any]) -> None:
        """Keep u and v as they are after `chip_step`."""
        at = (chip_step - 1 - self.window.depth) // self.window.every
        self.u[at], self.v[at] = u, v

    def trace(self) -> PopulationTrace:
        """The recording as arrays [T, B, n], n in C order of (C, H, W)."""
        v = self._cut(self.v)
        return PopulationTrace(
            spikes=self._cut(self.spikes),
            v_last=v[-1].copy(),
            u=self._cut(self.u) if self.window.record else None,
            v=v if self.window.record else None,
        )

    def _cut(self, rows: NDArray[Any]) -> NDArray[Any]:
        """[B * k, *lava shape] -> [k, B, n]."""
        flat = to_rows(rows)
        return np.ascontiguousarray(
            flat.reshape(self.window.batch, -1, flat.shape[1]).swapaxes(0, 1)
        )


def windows(net: FixedNet, x: NDArray[np.int64], *, record: bool) -> dict[str, Window]:
    """Where the samples of input `x` [T, B, *shape] lie among each population's chip steps."""
    return {
        p.name: Window(
            depth=net.depths[p.name],
            steps=x.shape[0],
            batch=x.shape[1],
            shape=lava_shape(p.shape),
            record=record,
        )
        for p in net.populations
    }


def stems(folder: Path) -> Iterator[Path]:
    """Where the files of a job's recordings lie, population by population."""
    return (folder / f"population{i}" for i in count())


def lava_shape(shape: Shape) -> Shape:
    """(C, H, W) -> (x, y, channel); (n,) stays."""
    return shape[::-1]


def to_rows(maps: NDArray[Any]) -> NDArray[Any]:
    """[rows, *shape in Lava's order] -> [rows, n in C order of (C, H, W)]."""
    if maps.ndim == 4:
        maps = maps.transpose(0, 3, 2, 1)
    return maps.reshape(len(maps), -1)
