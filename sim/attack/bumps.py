"""What the square attack tries in L2: bumps, small windows in which the change is concentrated.

Andriushchenko et al. 2020 (arXiv 1912.00049), Algorithm 3 and equation 2, with the numbers of the
paper's code. Here a window may touch the last row and column too, and maps of one row have windows
of one row. Changes are [B, C, H, W].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeport.sim.attack.streams import Streams, sign_of

TINY = 1e-10
TILES = 5
"""Bumps along each side of the first image; in all 25 of a map with one row."""

DRAWS = 5
"""Random numbers of one try, besides one for each channel."""


def first(streams: Streams, maps: torch.Size) -> Tensor:
    """Changes of length 1, shape `maps`: bumps side by side, each with random signs."""
    channels, height, width = maps[1:]
    side = max(1, min(height, width) // TILES)
    rows, columns = (1, max(1, width // TILES**2)) if height == 1 else (side, side)
    high, wide = height // rows, width // columns
    u = streams.uniform(1 + channels, high, wide)
    bumps = bump(rows, columns).to(u)[(u[:, 0] < 0.5).long()]
    found = sign_of(u[:, 1:])[..., None, None] * bumps[:, None]
    found = found.transpose(3, 4).reshape(-1, channels, high * rows, wide * columns)
    below, beside = height - high * rows, width - wide * columns
    found = F.pad(found, (beside // 2, beside - beside // 2, below // 2, below - below // 2))
    return found / _length(found, (1, 2, 3))


def moved(change: Tensor, u: Tensor, *, size: tuple[int, int], eps: float) -> Tensor:
    """`change`, of length eps, with one window emptied into another: there, a bump is added to what
    the other channels' share and the length that is left allow. u: draws [B, DRAWS + C] in [0, 1);
    size: of the windows, (rows, columns)."""
    bumps, turned = bump(*size).to(u), (u[:, 4] < 0.5).long()
    new, emptied = (_placed(bumps, turned, at, change.shape) for at in (u[:, :2], u[:, 2:4]))
    inside, both = new != 0, (new != 0) | (emptied != 0)
    old = change * inside
    new = sign_of(u[:, DRAWS:])[:, :, None, None] * new + old / _length(old, (2, 3))
    left = (eps**2 - change.square().sum((1, 2, 3), keepdim=True)).clamp_min(0)
    allowed = (change * both).square().sum((2, 3), keepdim=True) + left / change.shape[1]
    found = torch.where(both, new / _length(new, (2, 3)) * allowed.sqrt(), change)
    return eps * found / _length(found, (1, 2, 3))


def odd(size: tuple[int, int], *, height: int, width: int) -> tuple[int, int]:
    """`size` of a window (rows, columns) made odd and at least 3, where the map has room."""
    room = width if height == 1 else min(height, width)
    rows, columns = (max(n, 3) | 1 for n in size)
    return min(rows, height, room), min(columns, room)


def bump(rows: int, columns: int) -> Tensor:
    """float32 [2, rows, columns], of length 1: a peak above its opposite, and the same turned if it
    is square. Of one row the two stand side by side; of one value there is one peak alone."""
    if rows == 1 < columns:
        return bump(columns, 1).transpose(1, 2)
    lower = -peak(rows - rows // 2, columns)
    found = torch.cat([peak(rows // 2, columns), lower]) if rows > 1 else lower
    found = found / found.norm()
    return torch.stack([found, found.T if rows == columns else found])


def peak(rows: int, columns: int) -> Tensor:
    """float32 [rows, columns], of length 1: at Chebyshev distance d from the middle the sum of
    1 / j**2 for j = d + 1 .. as many as there are rings."""
    rings = max(rows, columns) // 2 + 1
    sums = torch.arange(rings, 0, -1).float().pow(-2).cumsum(0).flip(0)
    up = (torch.arange(rows) - rows // 2).abs()
    aside = (torch.arange(columns) - columns // 2).abs()
    found: Tensor = sums[torch.maximum(up[:, None], aside)]
    return found.div(found.norm())


def start(u: Tensor, length: int, size: int) -> Tensor:
    """Where a stretch of `length` of `size` places begins, drawn by u in [0, 1); whole floats."""
    return (u * (size - length + 1)).floor().clamp(max=size - length)


def _placed(bumps: Tensor, turned: Tensor, at: Tensor, shape: torch.Size) -> Tensor:
    """[B, 1, H, W]: one of two `bumps` [2, rows, columns] at a place drawn by `at` [B, 2]."""
    index, inside = [], []
    for side in (0, 1):
        length, size = bumps.shape[1 + side], shape[2 + side]
        place = torch.arange(size, device=at.device) - start(at[:, side], length, size)[:, None]
        inside.append((place >= 0) & (place < length))
        index.append(place.clamp(0, length - 1).long())
    found = bumps[turned[:, None, None], index[0][:, :, None], index[1][:, None, :]]
    return (found * inside[0][:, :, None] * inside[1][:, None, :])[:, None]


def _length(change: Tensor, axes: tuple[int, ...]) -> Tensor:
    return change.square().sum(axes, keepdim=True).sqrt().clamp_min(TINY)
