"""Threshold-dependent batch norm (tdBN; Zheng et al. 2021, arXiv 2011.05280) and its folding.

Statistics run over time, batch and space: the norm is torch's own over the merged T * B axis,
with its weight starting at alpha * v_th, so that currents start with a spread of one threshold.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def _start(norm: _BatchNorm, *, v_th: float, alpha: float) -> None:
    if not (v_th > 0 and alpha > 0):
        raise ValueError(f"tdBN: v_th is {v_th} and alpha {alpha}; both must be positive")
    nn.init.constant_(norm.weight, alpha * v_th)


class TdBatchNorm2d(nn.BatchNorm2d):
    """tdBN of maps [T, B, C, H, W] or [T * B, C, H, W].

    v_th: threshold of the neurons that follow. alpha: 1, or 1 / sqrt(n) where n branches add up.
    """

    def __init__(self, channels: int, *, v_th: float = 1.0, alpha: float = 1.0) -> None:
        super().__init__(channels)
        _start(self, v_th=v_th, alpha=alpha)

    def forward(self, current: Tensor) -> Tensor:
        """Normalised current, same shape."""
        return super().forward(current.flatten(0, -4)).view_as(current)


class TdBatchNorm1d(nn.BatchNorm1d):
    """tdBN of vectors [T, B, n] or [T * B, n]; arguments as `TdBatchNorm2d`."""

    def __init__(self, features: int, *, v_th: float = 1.0, alpha: float = 1.0) -> None:
        super().__init__(features)
        _start(self, v_th=v_th, alpha=alpha)

    def forward(self, current: Tensor) -> Tensor:
        """Normalised current, same shape."""
        return super().forward(current.flatten(0, -2)).view_as(current)


def fold(layer: nn.Linear | nn.Conv2d, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of one layer that equals `norm(layer(x))` in evaluation mode.

    The bias is a current per step, not per sample. `norm` is tdBN or torch's BatchNorm; raises
    ValueError when it has no running statistics or another number of channels.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("fold: the batch norm keeps no running statistics; train it with them")
    channels = layer.weight.shape[0]
    if norm.num_features != channels:
        raise ValueError(
            f"fold: the batch norm has {norm.num_features} channels, the layer before it {channels}"
        )
    mean, variance = norm.running_mean.detach().double(), norm.running_var.detach().double()
    zero, one = torch.zeros_like(mean), torch.ones_like(mean)
    gain = (one if norm.weight is None else norm.weight.detach().double()) / torch.sqrt(
        variance + norm.eps
    )
    shift = zero if norm.bias is None else norm.bias.detach().double()
    bias = zero if layer.bias is None else layer.bias.detach().double()
    weight = layer.weight.detach().double()
    return weight * gain.view(-1, *[1] * (weight.ndim - 1)), shift + gain * (bias - mean)
