"""Three ways to measure a perturbation [B, ...], and what follows from each.

linf: the largest change of a value. l2: the root of the summed squares of all changes. l0: the
number of pixels that change at all, whatever by; a pixel of [B, C, H, W] is its C values together.
"""

from __future__ import annotations

import torch
from torch import Tensor

NORMS = ("linf", "l2", "l0")


def size(norm: str, delta: Tensor) -> Tensor:
    """How large `delta` [B, ...] is, float64 [B]."""
    flat = delta.double().flatten(1)
    if norm == "linf":
        return flat.abs().amax(1)
    if norm == "l2":
        return flat.square().sum(1).sqrt()
    return (by_pixel(delta) > 0).sum(1).double()


def within(norm: str, delta: Tensor, inside: Tensor, eps: float) -> Tensor:
    """The perturbation nearest to `delta` whose size is at most `eps` and whose values are those of
    `inside`, which is `delta` cut to the range of pixels, or 0; in l2 that cut is made first."""
    if norm == "linf":
        return inside.clamp(-eps, eps)
    if norm == "l2":
        length = rows(inside.flatten(1).norm(dim=1), delta)
        shrunk: Tensor = inside * (eps / length.clamp_min(1e-30)).clamp_max(1)
        return shrunk
    # Where a pixel is kept, `inside` is as near as it gets: Croce and Hein 2019 (arXiv 1909.05040).
    gain = delta.square() - (delta - inside).square()
    by = gain.sum(1) if gain.ndim == 4 else gain
    kept = largest(by.flatten(1), int(eps))
    return inside * (kept.reshape(len(by), 1, *by.shape[1:]) if gain.ndim == 4 else kept)


def ascent(norm: str, gradient: Tensor) -> Tensor:
    """The step of size 1 that raises a linear function most; for l0, where any step is as good as
    a long one, the gradient in units of its largest entry. Zero where the gradient is."""
    return gradient.sign() if norm == "linf" else unit(norm, gradient)


def unit(norm: str, direction: Tensor) -> Tensor:
    """`direction` scaled to size 1; for l0, until its largest entry is 1 or -1."""
    flat = direction.flatten(1)
    length = flat.norm(dim=1) if norm == "l2" else flat.abs().amax(1)
    return direction / rows(length.clamp_min(1e-12), direction)


def by_pixel(delta: Tensor) -> Tensor:
    """[B, pixels]: the largest change of each pixel's values."""
    return (delta.abs().amax(1) if delta.ndim == 4 else delta.abs()).flatten(1)


def rows(values: Tensor, like: Tensor) -> Tensor:
    """[B] -> [B, 1, ...], to broadcast against `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def largest(values: Tensor, count: int) -> Tensor:
    """bool [B, n]: the `count` largest of each row of values [B, n], the first among equals."""
    order = values.argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(values, dtype=torch.bool).scatter(1, order[:, :count], True)
