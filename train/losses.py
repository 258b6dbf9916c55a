"""Task losses: logits [B, K] and labels int64 [B] -> scalar."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of softmax(logits)."""
    return functional.cross_entropy(logits, labels)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy}
