"""Convolutions that are smaller ones of sums over squares, for a fraction of the products.

An average pool and the convolution behind it reach the chip as one convolution, whose kernel is
constant on squares as large as its stride. Here it is taken apart again; the sums are the same
integers. Needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikeport.sim.squares_kernel import gather_all, spread_all
from spikeport.sim.synapse import ConvGeometry, Shape
from spikeport.sim.twin_adjoint import runs_compiled


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A convolution of maps summed over squares of side `pool`; 1: of the maps themselves."""

    w: NDArray[Any]
    geometry: ConvGeometry
    pool: int = 1


def taken_apart(w: NDArray[Any], geometry: ConvGeometry, source: Shape) -> Parts:
    """The parts of a convolution with weights [C_out, C_in / groups, kH, kW] of maps `source`."""
    pool, (height, width) = geometry.stride[0], w.shape[2:]
    sides = (height, width, *geometry.padding, *source[1:])
    whole = Parts(w=w, geometry=geometry)
    if pool == 1 or geometry.stride != (pool, pool) or any(side % pool for side in sides):
        return whole
    squares = w.reshape(*w.shape[:2], height // pool, pool, width // pool, pool)
    small = squares[:, :, :, :1, :, :1]
    if geometry.dilation != (1, 1) or (squares != small).any():
        return whole
    pad_y, pad_x = geometry.padding
    smaller = replace(geometry, stride=(1, 1), padding=(pad_y // pool, pad_x // pool))
    return Parts(w=np.ascontiguousarray(small[:, :, :, 0, :, 0]), geometry=smaller, pool=pool)


def sum_pool(x: Tensor, pool: int) -> Tensor:
    """Sums over squares of maps [N, C, H, W]; what is left over at their far ends is left out."""
    if pool == 1:
        return x
    if runs_compiled(x) and not any(side % pool for side in x.shape[2:]):
        found: Tensor = _SumPool.apply(x, pool)
        return found
    return F.avg_pool2d(x, pool, divisor_override=1)


class _SumPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pool: int) -> Tensor:
        ctx.shape, ctx.pool = x.shape, pool
        maps = np.ascontiguousarray(x.detach().numpy())
        sums = np.empty((*x.shape[:2], *(side // pool for side in x.shape[2:])), maps.dtype)
        gather_all(maps.ravel(), pool, x.shape[3], sums.ravel())
        return torch.from_numpy(sums)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        g = np.ascontiguousarray(grads[0].numpy())
        found = np.empty(ctx.shape, g.dtype)
        spread_all(g.ravel(), ctx.pool, ctx.shape[3], found.ravel())
        return torch.from_numpy(found), None
