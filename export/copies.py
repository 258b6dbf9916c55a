"""Copies of modules to run without leaving a trace in the original."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikeport.export.neurons import STATES
from spikeport.export.torch_calls import flattened


@contextmanager
def doubles() -> Iterator[None]:
    """Make float64 the type of new tensors."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def copied(module: nn.Module) -> nn.Module:
    """A copy in float64, in evaluation mode, whose neurons have no state yet.

    Raises ValueError where Python cannot copy it.
    """
    done: dict[int, Any] = {}
    for part in module.modules():  # tensors with a graph cannot be copied
        for tensor in flattened([list(vars(part).values()), dict(part._buffers)]):
            if isinstance(tensor, Tensor) and not tensor.is_leaf:
                done[id(tensor)] = tensor.detach().clone()
    try:
        own = copy.deepcopy(module, done).cpu().double().eval()
    except Exception as error:  # whatever a module of others holds
        raise ValueError(
            f"{type(module).__name__} cannot be copied, which running it on the sample needs:"
            f" {type(error).__name__}: {error}; keep what cannot be copied outside the module"
        ) from error
    for part in own.modules():
        for key in STATES.get(type(part), ()):
            setattr(part, key, torch.zeros(0))
    return own
