"""Random motion of training samples; every draw comes from the caller's generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def moved(
    x: Tensor,
    *,
    generator: torch.Generator,
    shift: float = 0.0,
    rotate: float = 0.0,
    flip: bool = False,
    crop: int = 0,
) -> Tensor:
    """Each sample of x moved on its own: images [B, C, H, W] in [0, 1], or event frames
    [B, T, C, H, W], all time bins of a recording alike. Zeros move in.

    shift: largest shift along each axis, pixels, and rotate: largest angle about the centre,
    degrees; both uniform and bilinear, for images only. flip: mirror left and right with
    probability 1/2. crop: zeros added on every side before the old size is cut out anywhere,
    pixels; the same as a shift by up to so many whole pixels. An axis of one pixel is not moved.
    `generator` lives on x's device. Raises ValueError for bilinear motion of event frames.
    """
    if shift or rotate:
        if x.ndim == 5:
            raise ValueError(
                "augmentation: shift and rotate would blur the whole counts of event frames; "
                "use crop, a shift by whole pixels"
            )
        x = _turned(x, shift=shift, rotate=rotate, generator=generator)
    if flip:
        is_flipped = torch.rand(len(x), generator=generator, device=x.device) < 0.5
        x = torch.where(is_flipped.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
    return _cropped(x, crop, generator=generator) if crop else x


def _turned(x: Tensor, *, shift: float, rotate: float, generator: torch.Generator) -> Tensor:
    draws = torch.rand(3, len(x), generator=generator, device=x.device, dtype=x.dtype) * 2 - 1
    angle = draws[0] * math.radians(rotate)
    # An affine grid measures in half image sides.
    across, down = draws[1] * 2 * shift / x.shape[3], draws[2] * 2 * shift / x.shape[2]
    cosine, sine = angle.cos(), angle.sin()
    rows = (torch.stack((cosine, -sine, across), 1), torch.stack((sine, cosine, down), 1))
    grid = functional.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False).clamp(0, 1)


def _cropped(x: Tensor, crop: int, *, generator: torch.Generator) -> Tensor:
    batch, (height, width) = len(x), x.shape[-2:]
    pads = [crop if side > 1 else 0 for side in (height, width)]
    wide = functional.pad(x.flatten(1, -3), (pads[1], pads[1], pads[0], pads[0]))
    places = []
    for pad, side in zip(pads, (height, width), strict=True):
        first = torch.randint(2 * pad + 1, (batch, 1), generator=generator, device=x.device)
        places.append(first + torch.arange(side, device=x.device))
    samples = torch.arange(batch, device=x.device).view(-1, 1, 1, 1)
    planes = torch.arange(wide.shape[1], device=x.device).view(1, -1, 1, 1)
    rows, columns = places[0][:, None, :, None], places[1][:, None, None, :]
    return wide[samples, planes, rows, columns].view(x.shape)
