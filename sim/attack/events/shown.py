"""Trains as models take them, and in words: samples first for attacks, time first for twins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


class Shown(nn.Module):
    """A model of trains [T, B, ...], such as `sim.twin.Twin`, as a model of samples [B, T, ...];
    same logits [B, K]. unit: events that make 1 in what the model is shown, the `scale` of its
    input. If the model's gradients remember (see `attack.Oracle`), so do these."""

    def __init__(self, model: nn.Module, *, unit: float = 1.0) -> None:
        super().__init__()
        self.model, self.unit = model, unit

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] of x [B, T, ...]."""
        logits: Tensor = self.model(x.transpose(0, 1) / self.unit)
        return logits

    def attend(self, rows: Tensor, *, samples: int, learn: bool = True) -> None:
        """Tell the model which of a batch of `samples` it is shown next: rows int64 [b]."""
        self._tell("attend", rows, samples=samples, learn=learn)

    def forget(self) -> None:
        """Tell the model that a climb begins."""
        self._tell("forget")

    def _tell(self, what: str, *values: Any, **named: Any) -> None:
        method = getattr(self.model, what, None)
        if method is not None:
            method(*values, **named)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The fewest events that were moved in time within their place, added and deleted to make one
    train of another: int64 [B] each. spikes: by how much the number of events rose."""

    moved: Tensor
    added: Tensor
    deleted: Tensor

    @property
    def spikes(self) -> Tensor:
        """Events after less events before, int64 [B]."""
        return self.added - self.deleted


def changes(x: Tensor, x0: Tensor) -> Changes:
    """What led from trains `x0` to `x`, both [B, T, ...] of whole counts."""
    delta = (x - x0).flatten(2).round().long()
    more, less = delta.clamp(min=0).sum(1), (-delta).clamp(min=0).sum(1)
    moved = more.minimum(less)
    return Changes(moved=moved.sum(1), added=(more - moved).sum(1), deleted=(less - moved).sum(1))
