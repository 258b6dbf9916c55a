"""What the gradient rules of a twin remember of the samples under attack. Needs torch."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Memory:
    """Tensors [samples, T, n] of each population (and step, in loops), by sample.

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
        """What is kept of these samples, [B, T, n] each where `like` is [T, B, n]; `begin` for new
        ones. Where samples are neighbours, the memory itself, to be written to."""
        steps, batch, n = like.shape
        if self.rows is None:
            return tuple(like.new_full((batch, steps, n), value) for value in begin)
        if self.key not in self.memory.kept:
            everyone = (self.memory.samples, steps, n)
            self.memory.kept[self.key] = tuple(like.new_full(everyone, b) for b in begin)
        where = self._neighbours()
        return tuple(
            values[self.rows] if where is None else values[where]
            for values in self.memory.kept[self.key]
        )

    def keep(self, found: tuple[Tensor, ...]) -> None:
        """Keep `found`, [B, T, n] each, for the next time."""
        if self.rows is None or not self.learns:
            return
        for values, new in zip(self.memory.kept.get(self.key, ()), found, strict=True):
            there = values[self.rows[0] :]
            if there.data_ptr() != new.data_ptr():  # else it is the memory itself
                values[self.rows] = new

    def _neighbours(self) -> slice | None:
        """The samples as a slice, if they are neighbours."""
        assert self.rows is not None
        first, last = int(self.rows[0]), int(self.rows[-1])
        in_a_row = last - first + 1 == len(self.rows) and bool((self.rows.diff() == 1).all())
        return slice(first, last + 1) if in_a_row else None
