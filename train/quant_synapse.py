"""One linear layer on the chip's grid of weights, as training on integers sees it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeport.sim.twin import convolve, shifted
from spikeport.sim.twin_pooled import sum_pool
from spikeport.train.model import pair
from spikeport.train.stages import Path, area

SHIFT_MAX = 7  # w_exp = -1 - shift must not fall below -8


def straight_round(x: Tensor) -> Tensor:
    """Round half to even, identity backward."""
    return x + (x.round() - x).detach()


def summed(s: Tensor, pool: nn.AvgPool2d) -> Tensor:
    """Maps [N, C, H, W] summed over the windows of a pool without padding."""
    (height, width), stride = pair(pool.kernel_size), pair(pool.stride)
    if height == width and stride == (height, width):
        return sum_pool(s, height)
    return F.avg_pool2d(s, pool.kernel_size, pool.stride, divisor_override=1)


class QuantSynapse(nn.Module):
    """The projections of one `Path`, which share their weights; learned: weight, in membrane units
    per unit of a source that is summed over its pools.

    q_max: the largest integer weight. per_unit: integers per float unit of the sources. largest:
    what one source sends at most, float units. shift: bits by which a dense sum is shifted right,
    so that its weights keep their bits although the sum must stay in range; convolutions have no
    exponent.
    """

    def __init__(self, path: Path, *, q_max: int, per_unit: float, largest: float) -> None:
        super().__init__()
        self.sources, self.layer, self.geometry = path.sources, path.layer, path.geometry
        self.pools, self.pool_gain = path.pools, path.pool_gain
        self.q_max, self.per_unit, self.shift = q_max, per_unit, 0
        self.loudest = largest
        self.largest = largest * len(self.sources) * math.prod(area(pool) for pool in self.pools)
        self.weight = nn.Parameter((path.weight * path.pool_gain).float())

    @torch.no_grad()
    def grid_limit(self) -> float:
        """Largest scale S at which every weight is on the grid."""
        top = float(self.weight.abs().max()) or 1.0
        return float(self.q_max * self.per_unit / (top * 2**self.shift))

    def step(self, scale: float) -> float:
        """What one integer weighs at S = `scale`, in the unit of the weights."""
        return float(self.per_unit / (scale * 2**self.shift))

    def choose_shift(self, scale: float) -> None:
        """The finest grid that holds every weight at S = `scale`."""
        if self.geometry is None and (spare := self.grid_limit() / scale) > 1:
            self.shift = min(SHIFT_MAX, math.floor(math.log2(spare)))

    def reach(self, scale: float | None = None) -> Tensor:
        """[n_out]: largest magnitude of a sum, membrane units, with the weights as they are or as
        the grid holds them at S = `scale`."""
        weight = self.weight
        if scale is not None:
            per_unit = scale * 2**self.shift / self.per_unit
            weight = (weight * per_unit).round().clamp(-self.q_max, self.q_max) / per_unit
        return weight.flatten(1).abs().sum(1) * self.largest

    def integers(self, scale: Tensor) -> Tensor:
        """q: integers in -q_max .. q_max; a row of one sign could not hold -q_max - 1."""
        q = straight_round(self.weight * (scale * 2**self.shift / self.per_unit))
        return q.clamp(-self.q_max, self.q_max)

    def forward(self, sent: Sequence[Tensor], q: Tensor) -> Tensor:
        """Synaptic sums [T, B, *shape] of what each source has sent, integers [T, B, *shape], by
        integer weights `q`."""
        if not self.shift and len(sent) > 1:
            sent = [torch.stack(list(sent)).sum(0)]  # else each projection is shifted by itself
        sums = [self._sum(s, q) for s in sent]
        return sum(sums[1:], start=sums[0])

    def _sum(self, s: Tensor, q: Tensor) -> Tensor:
        steps = s.shape[:2]
        s = s.flatten(0, 1)
        for pool in self.pools:
            s = summed(s, pool)
        if self.geometry is None:
            total = shifted(s.flatten(1) @ q.T, -self.shift)
        else:
            total = convolve(s, q, self.geometry)
        return total.reshape(*steps, *total.shape[1:])

    @torch.no_grad()
    def plain(self, scale: Tensor, bias: Tensor | None) -> nn.Linear | nn.Conv2d:
        """The layer in float64 whose weights are the integers over the scale."""
        per_unit = scale.double() * 2**self.shift / self.per_unit * self.pool_gain
        weight = self.integers(scale).double().cpu() / per_unit.cpu()
        linear: nn.Linear | nn.Conv2d
        if self.geometry is None:
            linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
        else:
            g = self.geometry
            linear = nn.utils.skip_init(
                nn.Conv2d, weight.shape[1] * g.groups, weight.shape[0], tuple(weight.shape[2:]),
                stride=g.stride, padding=g.padding, dilation=g.dilation, groups=g.groups,
            )  # fmt: skip
        linear.weight = nn.Parameter(weight)
        linear.bias = None if bias is None else nn.Parameter(bias.double().cpu())
        return linear
