"""The model as attacks find it, and as they leave it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Model = Callable[[Tensor], Tensor]
"""x float [B, C, H, W] or [B, n] in [0, 1], or a train of events with a time axis after B -> logits
[B, K]; sample by sample, no memory."""

EVENT_NORMS = ("flips", "shift", "total_shift", "moves")
"""Of the budgets for trains of events, `attack.events.FlipBudget` and `RetimingBudget`."""


@contextmanager
def undisturbed(model: Model) -> Iterator[None]:
    """Run a block with `model` in eval mode and no parameter collecting gradients.

    Afterwards every module's mode, every requires_grad flag and every buffer (tensor and contents)
    is what it was, also after an exception. Weights and .grad are never written. A model that is
    a plain function is left alone: what it closes over is its owner's affair.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    flags = [(p, p.requires_grad) for p in model.parameters()]
    buffers = [
        (module, name, b, b.detach().clone())
        for module in model.modules()
        for name, b in module._buffers.items()
        if b is not None
    ]
    try:
        model.eval()
        for p, _ in flags:
            p.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for p, flag in flags:
            p.requires_grad_(flag)
        with torch.no_grad():
            for module, name, buffer, contents in buffers:
                module._buffers[name] = buffer
                buffer.copy_(contents)


def logits_of(model: Model, x: Tensor) -> Tensor:
    """model(x), checked: finite numbers of shape [B, K] with K >= 2."""
    logits = model(x)
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise ValueError(
            f"attack: the model gives logits of shape {tuple(logits.shape)} for {len(x)} samples; "
            f"needed is [{len(x)}, K] with K >= 2"
        )
    if not torch.isfinite(logits).all():
        raise ValueError("attack: the model gives NaN or infinite logits; repair the model first")
    return logits


def batches(x: Tensor, size: int) -> list[Tensor]:
    """Consecutive parts of `x` along its first axis, `size` samples each but the last."""
    return [x[i : i + size] for i in range(0, len(x), size)]


def logits_in_batches(model: Model, x: Tensor, *, batch: int) -> Tensor:
    """Logits [B, K] of `x` without gradients, `batch` samples at a time, model undisturbed."""
    with undisturbed(model), torch.no_grad():
        return torch.cat([logits_of(model, part) for part in batches(x, batch)])


def check_batch(x: Tensor, y: Tensor, *, norm: str = "linf") -> None:
    """Raise ValueError unless x is float [B, n] or [B, C, H, W], or [B, T, n] or [B, T, C, H, W] if
    the budget's `norm` is one of events, and y int64 [B], B >= 1."""
    trains = norm in EVENT_NORMS
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        values = "whole counts of events" if trains else "pixels in [0, 1]"
        raise ValueError(f"attack: x is {kind}; needed is a float tensor with {values}")
    if x.ndim not in ((3, 5) if trains else (2, 4)) or 0 in x.shape:
        shapes = "[B, T, n] and [B, T, C, H, W]" if trains else "[B, n] and [B, C, H, W]"
        raise ValueError(f"attack: x has shape {tuple(x.shape)}; allowed are {shapes}, none empty")
    if not isinstance(y, Tensor) or y.dtype != torch.int64:
        kind = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"attack: y is {kind}; needed is an int64 tensor of labels")
    if y.shape != x.shape[:1]:
        raise ValueError(
            f"attack: y has shape {tuple(y.shape)}; needed is ({len(x)},), one label a sample"
        )


def check_labels(y: Tensor, classes: int) -> None:
    """Raise ValueError unless every label names one of the model's classes."""
    if y.min() < 0 or y.max() >= classes:
        wrong = int(y.max() if y.max() >= classes else y.min())
        raise ValueError(f"attack: a label is {wrong}; the model has classes 0..{classes - 1}")
