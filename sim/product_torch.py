"""Products of spikes with int8 weights by torch's oneDNN, in a process that has torch loaded.

A product of bytes added up in int32 is exact, and on processors with instructions for it several
times faster than one of floats. Nothing here imports torch: a process that runs a net with numpy
alone is not made to wait seconds for another library, and one that lacks it loses nothing but time.
Whether this torch on this processor is exact is not assumed: `offered` tries it at first use.

The operators are those of torch's own quantised networks (source: torch 2.3.1,
aten/src/ATen/native/quantized/cpu/qlinear.cpp and qconv.cpp): bytes from 0 with scale 1, weights
int8 with a scale for every output, here a power of two, and sums returned as float32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.reference import conv_sum
from spikeport.sim.synapse import Conv2d, ConvGeometry, Shape

SEED = 5  # of the weights and spikes of the trial; extremes stand in it besides
Parts = tuple[tuple[float, NDArray[np.int8]], ...]


def offered() -> bool:
    """Whether torch is loaded and its products of bytes are exact here."""
    torch = sys.modules.get("torch")
    return torch is not None and _exact(torch)


@dataclass(frozen=True, kw_only=True, eq=False)
class Int8:
    """A synapse with its weights as torch wants them; call it with uint8 [N, ...] of zeros and
    ones for its sums, float32 [N, n_out]. They must stay below 2**24."""

    n_out: int
    parts: tuple[Callable[[Any], Any], ...]

    @classmethod
    def dense(cls, w: NDArray[Any]) -> Int8:
        """Of weights [n_out, n_in] within -256..255."""
        torch: Any = sys.modules["torch"]
        nothing = torch.zeros(len(w), dtype=torch.int32)

        def part(scale: float, w: NDArray[np.int8]) -> Callable[[Any], Any]:
            scales = torch.full((len(w),), scale)
            packed = torch.ops.onednn.qlinear_prepack(torch.from_numpy(w), None)
            return lambda rows: torch.ops.onednn.qlinear_pointwise(
                rows.reshape(len(rows), -1), 1.0, 0, packed, scales, nothing, None, 1.0, 0,
                torch.float32, "none", [], "",
            )  # fmt: skip

        return cls(n_out=len(w), parts=tuple(part(scale, bytes_) for scale, bytes_ in split(w)))

    @classmethod
    def conv(cls, conv: Conv2d, source: Shape) -> Int8:
        """Of a convolution behind a map of shape `source`."""
        torch: Any = sys.modules["torch"]
        g = conv.geometry
        nothing = torch.zeros(len(conv.w), dtype=torch.int32)
        windows = (list(g.stride), list(g.padding), list(g.dilation), g.groups)

        def part(scale: float, w: NDArray[np.int8]) -> Callable[[Any], Any]:
            scales = torch.full((len(w),), scale)
            packed = torch.ops.onednn.qconv_prepack(
                torch.from_numpy(w), scales, 1.0, 0, *windows, [1, *source]
            )
            return lambda rows: torch.ops.onednn.qconv2d_pointwise(
                rows, 1.0, 0, packed, scales, nothing, None, *windows, 1.0, 0, torch.float32,
                "none", [], "",
            )  # fmt: skip

        n_out = int(np.prod(conv.output_shape(source)))
        return cls(n_out=n_out, parts=tuple(part(scale, bytes_) for scale, bytes_ in split(conv.w)))

    def __call__(self, s: NDArray[np.uint8]) -> NDArray[np.float32]:
        torch: Any = sys.modules["torch"]
        # torch warns of arrays that it could write to and must not.
        rows = torch.from_numpy(s if s.flags.writeable else s.copy())
        total = self.parts[0](rows)
        for part in self.parts[1:]:
            total = total + part(rows)
        found: NDArray[np.float32] = total.reshape(len(s), self.n_out).numpy()
        return found


def split(w: NDArray[Any]) -> Parts:
    """Weights within -256..255 as a sum of int8 ones, each with its factor."""
    w = np.asarray(w, np.int16)
    if not (w & 1).any():
        return ((2.0, (w >> 1).astype(np.int8)),)
    if -128 <= w.min() and w.max() <= 127:
        return ((1.0, w.astype(np.int8)),)
    return ((2.0, (w >> 1).astype(np.int8)), (1.0, (w & 1).astype(np.int8)))


@cache
def _exact(torch: Any) -> bool:
    """Whether sums of the largest weights, and of any, are those of int64."""
    rng = np.random.default_rng(SEED)
    spikes = (rng.random((33, 300)) < 0.5).astype(np.uint8)
    spikes[:2] = 1
    w = rng.integers(-256, 256, (70, 300))
    w[:4] = np.array([-256, 255, -128, 127])[:, None]
    geometry = ConvGeometry(stride=(1, 2), padding=(2, 1), groups=2)
    conv = Conv2d(w=w[:12, :54].reshape(12, 6, 3, 3), geometry=geometry)
    source = (12, 5, 5)
    images = spikes.reshape(33, *source)
    wanted = conv_sum(conv, images.astype(np.int64)).reshape(len(images), -1)
    try:
        dense = Int8.dense(w)(spikes)
        mapped = Int8.conv(conv, source)(images)
    except (AttributeError, RuntimeError, TypeError):  # other versions name or pack them otherwise
        return False
    return np.array_equal(dense, spikes @ w.T) and np.array_equal(mapped, wanted)
