"""What a population did inside its window, cut out of chip steps. Imports nothing of Lava.

Chip steps count from 1. A population at depth d lives through input step t of an execution's
sample n at chip step 1 + d + n * T + t; all before and after is start-up and run-out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from spikeport.hw import lava_file
from spikeport.hw.lava_axes import lava_shape, to_rows
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import PopulationTrace

PARTS = {"spikes": np.uint8, "u": np.int32, "v": np.int32, "progress": np.int64}


@dataclass(frozen=True, kw_only=True)
class Window:
    """Where a population's samples lie. With `record`, u and v are kept of every step, else of
    each sample's last step only. shape: the population's shape in Lava's axis order. samples:
    those of the `batch` that the execution plays which is being recorded."""

    depth: int
    steps: int
    batch: int
    samples: range
    shape: tuple[int, ...]
    record: bool

    @property
    def every(self) -> int:
        """Steps per kept state."""
        return 1 if self.record else self.steps

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of a recording; "progress" counts chip steps."""
        total = self.steps * self.batch
        states = (total // self.every, *self.shape)
        return {"spikes": (total, *self.shape), "u": states, "v": states, "progress": (1,)}

    def row(self, chip_step: int) -> int | None:
        """Which of all B * T steps `chip_step` of the execution is, None outside the window."""
        at = chip_step - 1 - self.depth
        if not 0 <= at < self.steps * len(self.samples):
            return None
        return self.samples.start * self.steps + at


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
    def create(cls, window: Window, stem: Path) -> Recording:
        """An empty recording in the new files `stem`.spikes.npy and so on."""
        sizes = window.sizes()
        parts = {n: lava_file.create(f"{stem}.{n}.npy", PARTS[n], sizes[n]) for n in PARTS}
        return cls(window=window, **parts)

    @classmethod
    def open(cls, window: Window, stem: Path) -> Recording:
        """The recording that another process created in files, to go on with."""
        return cls(window=window, **{n: open_memmap(f"{stem}.{n}.npy", "r+") for n in PARTS})

    def of(self, samples: range) -> Recording:
        """This recording for the execution that plays `samples`; the arrays are the same."""
        return replace(self, window=replace(self.window, samples=samples))

    def note_spikes(self, chip_step: int, spikes: NDArray[Any]) -> None:
        """Keep what was sent in `chip_step`, if it lies in the window."""
        self.progress[0] += 1
        row = self.window.row(chip_step)
        if row is not None:
            self.spikes[row] = spikes

    def wants_state(self, chip_step: int) -> bool:
        """Whether u and v after `chip_step` are to be noted."""
        row = self.window.row(chip_step)
        return row is not None and (row + 1) % self.window.every == 0

    def note_state(self, chip_step: int, *, u: NDArray[Any], v: NDArray[Any]) -> None:
        """Keep u and v as they are after `chip_step`, which `wants_state`."""
        row = self.window.row(chip_step)
        if row is not None:
            self.u[row // self.window.every], self.v[row // self.window.every] = u, v

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


def alone(net: FixedNet) -> bool:
    """Whether a sample must not follow another in one execution, as delays would mix them."""
    return any(p.delay for p in net.projections)


def executions(net: FixedNet, batch: int) -> tuple[range, ...]:
    """The samples that each execution plays."""
    return tuple(range(i, i + 1) for i in range(batch)) if alone(net) else (range(batch),)


def chip_steps(net: FixedNet, shape: tuple[int, ...]) -> int:
    """Steps until the last sample of input [T, B, ...] has left the deepest population, when all
    are played in one execution."""
    return shape[0] * shape[1] + max(net.depths.values())


def windows(net: FixedNet, x: NDArray[np.int64], *, record: bool) -> dict[str, Window]:
    """Where the samples of input `x` [T, B, *shape] lie among each population's chip steps.

    A readout that sums potentials needs them all, with or without `record`.
    """
    summed = net.readout.population if net.readout.kind == "sum_v" else None
    return {
        p.name: Window(
            depth=net.depths[p.name],
            steps=x.shape[0],
            batch=x.shape[1],
            samples=range(x.shape[1]),
            shape=lava_shape(p.shape),
            record=record or p.name == summed,
        )
        for p in net.populations
    }


def recordings(
    net: FixedNet,
    x: NDArray[np.int64],
    folder: Path,
    *,
    record: bool,
    each: Callable[[Window, Path], Recording],
) -> dict[str, Recording]:
    """A recording for each population of `net`, which input `x` [T, B, *shape] runs through, in
    files of `folder`; each: `Recording.create` or `Recording.open`."""
    found = windows(net, x, record=record).items()
    return {
        name: each(window, stem) for (name, window), stem in zip(found, stems(folder), strict=False)
    }


def stems(folder: Path) -> Iterator[Path]:
    """Where the files of a job's recordings lie, population by population."""
    return (folder / f"population{i}" for i in count())
