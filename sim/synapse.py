"""Synapses: integer ones as the chip holds them, and their float counterparts.

Both worlds share geometry (`ConvGeometry`), not values: an integer synapse cannot be made from
floats except through `spikeport.export.quantise`. Convolutions are cross-correlations as in torch;
shapes are (C, H, W); a dense synapse sees its source flattened in C order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim import checks
from spikeport.sim.arith import WEIGHT_LIMIT, weight_on_chip
from spikeport.sim.checks import Frozen

Shape = tuple[int, ...]
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ConvGeometry:
    """Stride, padding and dilation in (y, x); groups as in torch."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        for name, low in (("stride", 1), ("padding", 0), ("dilation", 1)):
            value = checks.pair(getattr(self, name), where=f"convolution {name}", low=low)
            object.__setattr__(self, name, value)
        groups = checks.whole(self.groups, where="convolution groups", low=1, high=1 << 20)
        object.__setattr__(self, "groups", groups)

    def output_size(self, size: Pair, kernel: Pair) -> Pair:
        """(H, W) behind the convolution of a map of (H, W) `size`."""
        parts = zip(size, kernel, self.stride, self.padding, self.dilation, strict=True)
        out = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in parts)
        if min(out) < 1:
            raise ValueError(f"kernel {kernel} does not fit a map of {size} with {self}")
        return out[0], out[1]


def conv_output_shape(w_shape: Shape, geometry: ConvGeometry, source: Shape) -> Shape:
    """(C, H, W) behind a convolution with weights [C_out, C_in/groups, kH, kW]."""
    channels = w_shape[1] * geometry.groups
    if len(source) != 3 or source[0] != channels or w_shape[0] % geometry.groups:
        raise ValueError(
            f"convolution weights {w_shape} with groups={geometry.groups} need a source of shape"
            f" ({channels}, H, W), got {source}"
        )
    return (w_shape[0], *geometry.output_size(source[1:], w_shape[2:]))  # type: ignore[arg-type]


def dense_output_shape(w_shape: Shape, source: Shape) -> Shape:
    """(n_out,) behind a dense synapse with weights [n_out, n_in]."""
    if w_shape[1] != int(np.prod(source)):
        raise ValueError(f"dense weights {w_shape} need {w_shape[1]} inputs, got {source}")
    return (w_shape[0],)


def _ranked(w: NDArray[Any], rank: int, *, where: str) -> None:
    if w.ndim != rank or not w.size:
        raise ValueError(f"{where} has shape {w.shape}; {rank} dimensions, none empty, are needed")


@dataclass(frozen=True, kw_only=True)
class Dense:
    """All-to-all integer synapse. w: int [n_out, n_in] in -256..255, as programmed; w_exp: -8..7,
    a shift of the accumulated sum (left, or floor right).

    What the core really multiplies with is `w_chip`: in a matrix of mixed signs the lowest bit is
    dropped by floor (source: lava-nc 0.10.0 weightutils).
    """

    w: Frozen[np.int16]
    w_exp: int = 0

    def __post_init__(self) -> None:
        w = checks.frozen_ints(
            self.w, where="dense weight", low=-WEIGHT_LIMIT, high=WEIGHT_LIMIT - 1, dtype=np.int16
        )
        _ranked(w, 2, where="dense weight")
        object.__setattr__(self, "w", w)
        w_exp = checks.whole(self.w_exp, where="dense w_exp", low=-8, high=7)
        object.__setattr__(self, "w_exp", w_exp)

    @property
    def held(self) -> NDArray[np.int16]:
        """int16 [n_out, n_in]: the weights as the core holds them."""
        return weight_on_chip(self.w)

    @property
    def w_chip(self) -> NDArray[np.int64]:
        """`held` as int64, in which sums cannot overflow."""
        return self.held.astype(np.int64)

    def output_shape(self, source: Shape) -> Shape:
        return dense_output_shape(self.w.shape, source)


@dataclass(frozen=True, kw_only=True)
class Conv2d:
    """Integer convolution. w: int [C_out, C_in/groups, kH, kW] in -256..255.

    There is no exponent, and nothing is dropped from the weights; the sum wraps at 24 bits
    (source: lava-nc 0.10.0 `PyConvModelFixed`). Which weights a *chip* can hold is checked by
    `spikeport.hw.rules`.
    """

    w: Frozen[np.int16]
    geometry: ConvGeometry = ConvGeometry()

    def __post_init__(self) -> None:
        w = checks.frozen_ints(
            self.w, where="conv weight", low=-WEIGHT_LIMIT, high=WEIGHT_LIMIT - 1, dtype=np.int16
        )
        _ranked(w, 4, where="conv weight")
        object.__setattr__(self, "w", w)

    def output_shape(self, source: Shape) -> Shape:
        return conv_output_shape(self.w.shape, self.geometry, source)


@dataclass(frozen=True, kw_only=True)
class SumPool2d:
    """Sum over windows, times one integer weight `w`; a depthwise convolution on the chip."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    w: int = 1

    def __post_init__(self) -> None:
        _freeze_pool(self)
        w = checks.whole(self.w, where="pool weight", low=-WEIGHT_LIMIT, high=WEIGHT_LIMIT - 1)
        object.__setattr__(self, "w", w)

    def as_conv(self, channels: int) -> Conv2d:
        """The depthwise convolution over `channels` maps that computes this pool."""
        return Conv2d(
            w=np.full((channels, 1, *self.kernel), self.w),
            geometry=ConvGeometry(stride=self.stride, padding=self.padding, groups=channels),
        )

    def output_shape(self, source: Shape) -> Shape:
        return self.as_conv(source[0]).output_shape(source)


@dataclass(frozen=True, kw_only=True)
class FloatDense:
    """All-to-all float synapse. w: float64 [n_out, n_in], finite."""

    w: Frozen[np.float64]

    def __post_init__(self) -> None:
        w = checks.frozen_floats(self.w, where="dense weight")
        _ranked(w, 2, where="dense weight")
        object.__setattr__(self, "w", w)

    def output_shape(self, source: Shape) -> Shape:
        return dense_output_shape(self.w.shape, source)


@dataclass(frozen=True, kw_only=True)
class FloatConv2d:
    """Float convolution. w: float64 [C_out, C_in/groups, kH, kW], finite."""

    w: Frozen[np.float64]
    geometry: ConvGeometry = ConvGeometry()

    def __post_init__(self) -> None:
        w = checks.frozen_floats(self.w, where="conv weight")
        _ranked(w, 4, where="conv weight")
        object.__setattr__(self, "w", w)

    def output_shape(self, source: Shape) -> Shape:
        return conv_output_shape(self.w.shape, self.geometry, source)


@dataclass(frozen=True, kw_only=True)
class FloatSumPool2d:
    """Sum over windows times one float weight `w` (1 / window size: average pooling)."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    w: float = 1.0

    def __post_init__(self) -> None:
        _freeze_pool(self)
        object.__setattr__(self, "w", float(checks.frozen_floats(self.w, where="pool weight")))

    def as_conv(self, channels: int) -> FloatConv2d:
        """The depthwise convolution over `channels` maps that computes this pool."""
        return FloatConv2d(
            w=np.full((channels, 1, *self.kernel), self.w),
            geometry=ConvGeometry(stride=self.stride, padding=self.padding, groups=channels),
        )

    def output_shape(self, source: Shape) -> Shape:
        return self.as_conv(source[0]).output_shape(source)


def _freeze_pool(pool: SumPool2d | FloatSumPool2d) -> None:
    for name, low in (("kernel", 1), ("stride", 1), ("padding", 0)):
        value = checks.pair(getattr(pool, name), where=f"pool {name}", low=low)
        object.__setattr__(pool, name, value)


Synapse = Dense | Conv2d | SumPool2d
FloatSynapse = FloatDense | FloatConv2d | FloatSumPool2d


def lowered(synapse: Synapse, source: Shape) -> Dense | Conv2d:
    """`synapse` with pools spelled as convolutions, so that engines know two kinds only."""
    return synapse.as_conv(source[0]) if isinstance(synapse, SumPool2d) else synapse


def largest_sum(part: Dense | Conv2d, *, largest: int) -> int:
    """Largest magnitude of any partial sum that `part` adds up of source values in 0..largest,
    in any order, before any shift or wrap."""
    w = part.held if isinstance(part, Dense) else part.w
    rows = w.reshape(len(w), -1)
    positive = np.maximum(rows, 0).sum(1, dtype=np.int64)
    negative = positive - rows.sum(1, dtype=np.int64)
    return int(max(positive.max(), negative.max())) * largest


def lowered_float(synapse: FloatSynapse, source: Shape) -> FloatDense | FloatConv2d:
    """Float counterpart of `lowered`."""
    return synapse.as_conv(source[0]) if isinstance(synapse, FloatSumPool2d) else synapse
