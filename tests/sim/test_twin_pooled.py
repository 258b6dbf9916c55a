"""Convolutions taken apart: the same integers, and gradients, for fewer products."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spikeport.sim.synapse import ConvGeometry
from spikeport.sim.twin_pooled import sum_pool, taken_apart


def convolved(x: Tensor, w: Tensor, g: ConvGeometry) -> Tensor:
    return F.conv2d(x, w, None, g.stride, g.padding, g.dilation, g.groups)


@pytest.mark.parametrize("pool", [2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 1), (2, 1)])
def test_parts_make_the_same_sums(pool: int, groups: int, kernel: int, padding: int) -> None:
    draw = np.random.default_rng(0)
    small = draw.integers(-9, 9, (4, 2 // groups, kernel, kernel))
    w = small.repeat(pool, 2).repeat(pool, 3)
    g = ConvGeometry(stride=(pool, pool), padding=(pool * padding, pool * padding), groups=groups)
    parts = taken_apart(w, g, (2, 4 * pool, 3 * pool))
    assert parts.pool == pool
    assert (parts.w == small).all()
    x = torch.from_numpy(draw.integers(0, 5, (3, 2, 4 * pool, 3 * pool))).double()
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = convolved(sum_pool(mine, pool), torch.from_numpy(parts.w).double(), parts.geometry)
    wanted = convolved(theirs, torch.from_numpy(w).double(), g)
    assert torch.equal(found, wanted)
    assert wanted.unique().numel() > 10
    (found**2).sum().backward()
    (wanted**2).sum().backward()
    assert torch.equal(mine.grad, theirs.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("geometry", "source"),
    [
        (ConvGeometry(stride=(1, 1)), (1, 8, 8)),
        (ConvGeometry(stride=(2, 4)), (1, 8, 8)),
        (ConvGeometry(stride=(2, 2), padding=(1, 2)), (1, 8, 8)),
        (ConvGeometry(stride=(2, 2), dilation=(2, 2)), (1, 8, 8)),
        (ConvGeometry(stride=(2, 2)), (1, 8, 9)),
        (ConvGeometry(stride=(3, 3)), (1, 9, 9)),
    ],
)
def test_what_stays_whole(geometry: ConvGeometry, source: tuple[int, int, int]) -> None:
    w = np.ones((1, 1, 4, 4))
    parts = taken_apart(w, geometry, source)
    assert (parts.pool, parts.w is w, parts.geometry) == (1, True, geometry)


def test_kernels_that_are_not_constant_on_squares_stay_whole() -> None:
    w = np.ones((1, 1, 4, 4))
    w[0, 0, 3, 2] = 2
    assert taken_apart(w, ConvGeometry(stride=(2, 2)), (1, 8, 8)).pool == 1


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_sums_over_squares(pool: int) -> None:
    x = torch.arange(2 * 3 * 72 * 144.0).reshape(2, 3, 72, 144) % 1000  # more than a block
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, wanted = sum_pool(a, pool), F.avg_pool2d(b, pool, divisor_override=1)
    assert torch.equal(found, wanted)
    (found**2).sum().backward()
    (wanted**2).sum().backward()
    assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]
    odd = x[:, :, :-1, :-1]
    assert torch.equal(sum_pool(odd, pool), F.avg_pool2d(odd, pool, divisor_override=1))
