"""Random shifts and rotations of training images; every draw comes from the caller's generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def moved(x: Tensor, *, shift: float, rotate: float, generator: torch.Generator) -> Tensor:
    """Each image of x [B, C, H, W] in [0, 1] shifted and turned about its centre, zeros moving in.

    shift: largest shift along each axis, pixels. rotate: largest angle, degrees. Both uniform;
    bilinear, so the result stays in [0, 1]. `generator` lives on x's device.
    """
    if shift == 0 and rotate == 0:
        return x
    draws = torch.rand(3, len(x), generator=generator, device=x.device, dtype=x.dtype) * 2 - 1
    angle = draws[0] * math.radians(rotate)
    # An affine grid measures in half image sides.
    across, down = draws[1] * 2 * shift / x.shape[3], draws[2] * 2 * shift / x.shape[2]
    cosine, sine = angle.cos(), angle.sin()
    rows = (torch.stack((cosine, -sine, across), 1), torch.stack((sine, cosine, down), 1))
    grid = functional.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False).clamp(0, 1)
