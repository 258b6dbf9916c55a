"""Products of spikes by torch's kernels, in a process that has torch loaded.

A product of bytes added up in int32 is exact, and on processors with instructions for it several
times faster than one of floats; and torch's convolution reads maps in place where numpy needs their
columns. Nothing here imports torch: a process that runs a net with numpy alone is not made to wait
seconds for another library, and one that lacks it loses nothing but time. Whether this torch on
this processor is exact is not assumed: `offered` tries it at first use.

oneDNN's convolutions and torch's own add integers up exactly; those of NNPACK, which torch takes
where oneDNN is off or missing, transform them (Winograd) and lose bits of sums that float32 could
hold, so `conv2d` does without.

The operators on bytes are those of torch's own quantised networks (source: torch 2.3.1,
aten/src/ATen/native/quantized/cpu/qlinear.cpp): bytes from 0 with scale 1, weights int8 with a
scale for every output, here a power of two, and sums returned as float32. Their convolution is left
alone: measured, torch 2.3.1 (oneDNN 3.3) reads outside its maps where padding exceeds the kernel,
and adds wrongly where an output has one column.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.reference import conv_sum
from spikeport.sim.synapse import Conv2d, ConvGeometry

SEED = 5  # of the weights and spikes of the trial; extremes stand in it besides
NNPACK = Lock()  # its switch is one for the whole process
INT8, CONV2D = "int8", "conv2d"
Parts = tuple[tuple[float, NDArray[np.int8]], ...]


def offered(way: str) -> bool:
    """Whether torch is loaded and exact here in its products of bytes, `INT8`, or its convolutions
    of floats, `CONV2D`."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and _exact(torch, way, torch.backends.mkldnn.enabled)


def conv2d(s: Any, w: Any, geometry: ConvGeometry) -> Any:
    """torch's cross-correlation of tensors s [N, C, H, W] and w [C_out, C / groups, kH, kW], by
    kernels that only multiply and add, in the type of both whatever autocast says."""
    torch: Any = sys.modules["torch"]
    g, kind = geometry, s.device.type
    with NNPACK, torch.backends.nnpack.flags(enabled=False), torch.autocast(kind, enabled=False):
        return torch.nn.functional.conv2d(s, w, None, g.stride, g.padding, g.dilation, g.groups)


@dataclass(frozen=True, kw_only=True, eq=False)
class Int8:
    """A dense synapse with its weights in bytes; call it with uint8 [N, n_in] of zeros and ones for
    its sums, float32 [N, n_out]. They must stay below 2**24."""

    parts: tuple[Callable[[Any], Any], ...]

    @classmethod
    def of(cls, w: NDArray[Any]) -> Int8:
        """Of weights [n_out, n_in] within -256..255."""
        torch: Any = sys.modules["torch"]
        nothing = torch.zeros(len(w), dtype=torch.int32, device="cpu")

        def part(scale: float, w: NDArray[np.int8]) -> Callable[[Any], Any]:
            scales = torch.full((len(w),), scale, dtype=torch.float32, device="cpu")
            packed = torch.ops.onednn.qlinear_prepack(torch.from_numpy(w), None)
            return lambda rows: torch.ops.onednn.qlinear_pointwise(
                rows, 1.0, 0, packed, scales, nothing, None, 1.0, 0, torch.float32, "none", [], ""
            )

        return cls(parts=tuple(part(scale, held) for scale, held in split(w)))

    def __call__(self, s: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = _tensor(s.reshape(len(s), -1))
        total = self.parts[0](rows)
        for part in self.parts[1:]:
            total = total + part(rows)
        found: NDArray[np.float32] = total.numpy()
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolved:
    """A convolution in float32; call it with uint8 [N, C, H, W] for its sums, float32 [N, n_out],
    rounded: what a kernel leaves below a half is gone, no more. They must stay below 2**24."""

    conv: Conv2d
    w: Any

    @classmethod
    def of(cls, conv: Conv2d) -> Convolved:
        torch: Any = sys.modules["torch"]
        return cls(conv=conv, w=torch.from_numpy(conv.w.astype(np.float32)))

    def __call__(self, s: NDArray[np.uint8]) -> NDArray[np.float32]:
        total = conv2d(_tensor(s).float(), self.w, self.conv.geometry)
        found: NDArray[np.float32] = total.round_().reshape(len(s), -1).numpy()
        return found


def _tensor(s: NDArray[Any]) -> Any:
    """`s` as torch sees it, which warns of arrays that it could write to and must not."""
    torch: Any = sys.modules["torch"]
    return torch.from_numpy(s if s.flags.writeable else s.copy())


def split(w: NDArray[Any]) -> Parts:
    """Weights within -256..255 as a sum of int8 ones, each with its factor."""
    w = np.asarray(w, np.int16)
    if not (w & 1).any():
        return ((2.0, (w >> 1).astype(np.int8)),)
    if -128 <= w.min() and w.max() <= 127:
        return ((1.0, w.astype(np.int8)),)
    return ((2.0, (w >> 1).astype(np.int8)), (1.0, (w & 1).astype(np.int8)))


@cache
def _exact(torch: Any, way: str, one_dnn: bool) -> bool:
    """Whether sums of the largest weights, and of any, are those of int64. one_dnn: whether torch
    may use oneDNN, as it does now: without it other kernels run, so each is tried by itself."""
    try:
        return _bytes_exact() if way == INT8 else all(_convolution_exact(c, s) for c, s in _maps())
    except (AttributeError, RuntimeError, TypeError):  # other versions name or pack them otherwise
        return False


def _trial() -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Weights [70, 300] and spikes [33, 300]."""
    rng = np.random.default_rng(SEED)
    spikes = (rng.random((33, 300)) < 0.5).astype(np.uint8)
    spikes[:2] = 1
    w = rng.integers(-256, 256, (70, 300))
    w[:4] = np.array([-256, 255, -128, 127])[:, None]
    return w, spikes


def _bytes_exact() -> bool:
    w, spikes = _trial()
    return np.array_equal(Int8.of(w)(spikes), spikes @ w.T)


def _maps() -> Iterator[tuple[Conv2d, NDArray[np.uint8]]]:
    """Convolutions and the maps that they are tried on."""
    w, spikes = _trial()
    geometry = ConvGeometry(stride=(1, 2), padding=(2, 1), groups=2)
    small = Conv2d(w=w[:12, :54].reshape(12, 6, 3, 3), geometry=geometry)
    yield small, spikes.reshape(33, 12, 5, 5)
    # Large weights of one sign, many channels and samples: transforms lose bits of such sums.
    rng = np.random.default_rng(SEED)
    many = (rng.random((16, 512, 8, 8)) < 0.5).astype(np.uint8)
    w = rng.integers(100, 256, (4, 512, 3, 3))
    yield Conv2d(w=w, geometry=ConvGeometry(padding=(1, 1))), many


def _convolution_exact(conv: Conv2d, maps: NDArray[np.uint8]) -> bool:
    wanted = conv_sum(conv, maps.astype(np.int64)).reshape(len(maps), -1)
    return np.array_equal(Convolved.of(conv)(maps), wanted)
