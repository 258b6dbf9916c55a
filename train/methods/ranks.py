"""Sums over the processes of a distributed run."""

from __future__ import annotations

import torch.distributed
from torch import Tensor


def summed(x: Tensor) -> Tensor:
    """The sum of `x` over all ranks; `x` itself where training is not distributed."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        x = x.clone()
        torch.distributed.all_reduce(x)
    return x
