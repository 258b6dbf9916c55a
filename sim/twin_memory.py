"""What the gradient rules of a twin remember of the samples under attack. Needs torch."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Memory:
    """Tensors [T, samples, n] of each population (and step, in loops), by sample.

    rows int64 [b]: the samples that are shown next; None: strangers, of whom nothing is known or
    kept. samples: how many there are in all. learns: whether what they do next is kept.
    """

    rows: Tensor | None = None
    samples: int = 0
    learns: bool = True
    kept: dict[Hashable, tuple[Tensor, ...]] = field(default_factory=dict)

    def slot(self, key: Hashable, shape: tuple[int, ...]) -> Slot:
        """Where the samples shown now keep what population `key` of `shape` does."""
        return Slot(self, key, self.rows, shape, self.learns or self.rows is None)


@dataclass(frozen=True)
class Slot:
    """One population's share of a memory, for the samples of one pass."""

    memory: Memory
    key: Hashable
    rows: Tensor | None
    shape: tuple[int, ...]
    learns: bool

    def recall(self, like: Tensor, begin: tuple[float, ...]) -> tuple[Tensor, ...]:
        """What is kept of these samples, shape of `like` [T, B, n]; `begin` for new ones."""
        kept = self.memory.kept.get(self.key)
        if kept is None or self.rows is None:
            return tuple(torch.full_like(like, value) for value in begin)
        return tuple(values[:, self.rows] for values in kept)

    def keep(self, found: tuple[Tensor, ...], begin: tuple[float, ...]) -> None:
        """Keep `found`, tensors [T, B, n], for the next time."""
        if self.rows is None or not found:
            return
        if self.key not in self.memory.kept:
            steps, _, n = found[0].shape
            everyone = (steps, self.memory.samples, n)
            self.memory.kept[self.key] = tuple(found[0].new_full(everyone, b) for b in begin)
        for values, new in zip(self.memory.kept[self.key], found, strict=True):
            values[:, self.rows] = new
