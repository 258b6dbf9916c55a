"""From images in [0, 1] to what the first layer sees in each of T steps, and to chip integers.

Both encoders pass gradients straight through to the image, so that attacks can use them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeport.sim.net import Input
from spikeport.sim.synapse import Shape

LEVELS = 255
"""Largest value of an 8-bit pixel; direct coding sends whole multiples of 1 / LEVELS."""

Encoder = Callable[[Tensor, int, torch.Generator | None], Tensor]


class _StraightThrough(torch.autograd.Function):
    """Forward `value` exactly, backward as if it were `x`. (x + (value - x) would round again.)"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _check(x: Tensor, steps: int) -> None:
    if steps < 1:
        raise ValueError(f"encoder: steps is {steps}; it must be at least 1")
    if x.numel() == 0:
        return
    low, high = (float(end) for end in x.detach().aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"encoder: pixels span {low:g}..{high:g}; they must lie in [0, 1]")


def direct(x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """The image itself in every step: x [B, C, H, W] in [0, 1] -> [T, B, C, H, W].

    Values are rounded to k / 255, the grid of the chip's 8-bit payload. Uses no randomness;
    `generator` is there because every encoder takes it.
    """
    _check(x, steps)
    grid: Tensor = _StraightThrough.apply(x, torch.round(x.detach() * LEVELS) / LEVELS)
    return grid.expand(steps, *x.shape)


def poisson(x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
    """Rate coding: x [B, C, H, W] in [0, 1] -> spikes 0 or 1 [T, B, C, H, W], P(spike) = x.

    `generator` lives on x's device and decides every spike; None is refused, because a hidden
    source of randomness cannot be repeated.
    """
    _check(x, steps)
    if generator is None:
        raise ValueError("encoder 'poisson' needs a torch.Generator; pass one with a known seed")
    rates = x.expand(steps, *x.shape)
    draws = torch.rand(rates.shape, generator=generator, device=x.device, dtype=x.dtype)
    spikes: Tensor = _StraightThrough.apply(rates, (draws < rates.detach()).to(x.dtype))
    return spikes


ENCODERS: dict[str, Encoder] = {"direct": direct, "poisson": poisson}


def source(name: str, shape: Shape) -> Input:
    """The chip input that carries what encoder `name` makes of images of `shape` (C, H, W)."""
    if name == "direct":
        return Input(shape=shape, kind="graded", payload_bits=8, scale=float(LEVELS))
    if name == "poisson":
        return Input(shape=shape, kind="spike")
    raise ValueError(f"encoder is {name!r}; allowed are {', '.join(sorted(ENCODERS))}")


def to_integers(encoded: Tensor, carrier: Input) -> NDArray[np.uint8]:
    """What the chip receives for `encoded` [T, B, *shape]: 0..255 (direct) or 0..1 (poisson).

    Raises ValueError when an entry is no whole number of the carrier's steps, or out of range.
    """
    scaled = encoded.detach().cpu().double().numpy() * carrier.scale
    whole = np.rint(scaled)
    if np.abs(scaled - whole).max(initial=0) > 1e-4:
        raise ValueError("to_integers: some entries lie between two chip integers; encode them")
    return carrier.check(whole).astype(np.uint8)
