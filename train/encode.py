"""From stored samples to what the first layer sees in each of T steps, and to chip integers.

    stored uint8 -> `stored` -> x -> encoder -> [T, B, C, H, W] -> `to_integers` -> what a chip gets

Images [B, C, H, W] are x in [0, 1] and coded by `direct` or `poisson`. Event frames [B, T, C, H, W]
are x in events per bin and pass as they are, by `counts` (graded spikes) or `bits` (plain ones).
All encoders pass gradients straight through to x, so that attacks can use them. Randomised
smoothing coding (RSC, arXiv 2407.20099) is left out: its formula could not be checked.
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


def _check_images(x: Tensor, steps: int) -> None:
    if steps < 1:
        raise ValueError(f"encoder: steps is {steps}; it must be at least 1")
    if x.ndim == 5:
        raise ValueError(
            f"encoder: event frames {tuple(x.shape)} are no images; encode them by counts or bits"
        )
    if x.numel() == 0:
        return
    low, high = (float(end) for end in x.detach().aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"encoder: pixels span {low:g}..{high:g}; they must lie in [0, 1]")


def _check_frames(x: Tensor, steps: int) -> None:
    if x.ndim != 5 or x.shape[1] != steps:
        raise ValueError(
            f"encoder: event frames of {steps} steps are [B, {steps}, C, H, W], but x is "
            f"{tuple(x.shape)}"
        )
    if x.numel() == 0:
        return
    low, high = (float(end) for end in x.detach().aminmax())
    if not (low >= 0 and high <= LEVELS):
        raise ValueError(f"encoder: event counts span {low:g}..{high:g}; allowed are 0..{LEVELS}")


def direct(x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """The image itself in every step: x [B, C, H, W] in [0, 1] -> [T, B, C, H, W].

    Values are rounded to k / 255, the grid of the chip's 8-bit payload. Uses no randomness;
    `generator` is there because every encoder takes it.
    """
    _check_images(x, steps)
    grid: Tensor = _StraightThrough.apply(x, torch.round(x.detach() * LEVELS) / LEVELS)
    return grid.expand(steps, *x.shape)


def poisson(x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
    """Rate coding: x [B, C, H, W] in [0, 1] -> spikes 0 or 1 [T, B, C, H, W], P(spike) = x.

    `generator` lives on x's device and decides every spike; None is refused, because a hidden
    source of randomness cannot be repeated.
    """
    _check_images(x, steps)
    if generator is None:
        raise ValueError("encoder 'poisson' needs a torch.Generator; pass one with a known seed")
    rates = x.expand(steps, *x.shape)
    draws = torch.rand(rates.shape, generator=generator, device=x.device, dtype=x.dtype)
    spikes: Tensor = _StraightThrough.apply(rates, (draws < rates.detach()).to(x.dtype))
    return spikes


def counts(x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Event frames as graded spikes: x [B, T, C, H, W], 0..255 events -> whole counts
    [T, B, C, H, W]. `steps` must be T; uses no randomness."""
    _check_frames(x, steps)
    whole: Tensor = _StraightThrough.apply(x, torch.round(x.detach()))
    return whole.transpose(0, 1)


def bits(x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Event frames as plain spikes: x [B, T, C, H, W], 0..255 events -> [T, B, C, H, W], 1 where
    there is an event or more (half of one, should x be no whole number), else 0. `steps` must be
    T; uses no randomness."""
    _check_frames(x, steps)
    spikes: Tensor = _StraightThrough.apply(x, (x.detach() >= 0.5).to(x.dtype))
    return spikes.transpose(0, 1)


IMAGE_ENCODERS: dict[str, Encoder] = {"direct": direct, "poisson": poisson}
EVENT_ENCODERS: dict[str, Encoder] = {"counts": counts, "bits": bits}
ENCODERS: dict[str, Encoder] = {**IMAGE_ENCODERS, **EVENT_ENCODERS}


def stored(samples: NDArray[np.uint8], name: str, *, device: str = "cpu") -> Tensor:
    """x of encoder `name` for stored samples, uint8: images [n, C, H, W] in [0, 1], event frames
    [n, T, C, H, W] in events per bin."""
    x = torch.tensor(samples, device=device).float()
    return x if name in EVENT_ENCODERS else x / LEVELS


def source(name: str, shape: Shape, *, payload_bits: int = 8) -> Input:
    """The chip input that carries what encoder `name` makes of images or frames (C, H, W).
    payload_bits: of counts, 1..8, as they were clipped when they were read; others have theirs."""
    if name == "direct":
        return Input(shape=shape, kind="graded", payload_bits=8, scale=float(LEVELS))
    if name == "counts":
        return Input(shape=shape, kind="graded", payload_bits=payload_bits, scale=1.0)
    if name in ("poisson", "bits"):
        return Input(shape=shape, kind="spike")
    raise ValueError(f"encoder is {name!r}; allowed are {', '.join(sorted(ENCODERS))}")


def to_integers(encoded: Tensor, carrier: Input) -> NDArray[np.uint8]:
    """What the chip receives for `encoded` [T, B, *shape]: 0..255 (direct, counts) or 0..1
    (poisson, bits). Read-only, and one array seen T times if all steps are one in memory.

    Raises ValueError when an entry is no whole number of the carrier's steps, or out of range.
    """
    is_still = encoded.stride(0) == 0 and len(encoded) > 0
    scaled = (encoded[:1] if is_still else encoded).detach().cpu().numpy() * carrier.scale
    whole = np.rint(scaled)
    if np.abs(scaled - whole).max(initial=0) > 1e-4:
        raise ValueError("to_integers: some entries lie between two chip integers; encode them")
    integers = carrier.check(whole, dtype=np.uint8)
    return np.broadcast_to(integers, encoded.shape)
