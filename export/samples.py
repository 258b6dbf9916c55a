"""What an example says about a network's input."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikeport.sim.net import Input

PIXEL_BITS = 8


def input_of(sample: Any, *, leading: int = 0) -> Input:
    """The input that `sample` is an example of: [C, H, W], [C, L] or [n] behind `leading`
    dimensions for time and batch.

    Floats are pixels in [0, 1] and will be sent as 8-bit graded spikes in every step; booleans are
    spikes. Anything else is ambiguous: ValueError asks for an explicit `Input`.
    """
    if sample is None:
        raise ValueError("a plain Sequential does not know its input; give a sample or an Input")
    if hasattr(sample, "detach"):
        sample = sample.detach().cpu()
        sample = (sample.double() if sample.is_floating_point() else sample).numpy()
    array = np.asarray(sample)
    shape = array.shape[leading:]
    if len(shape) == 2 and leading:
        shape = (shape[0], 1, shape[1])
    if len(shape) not in (1, 3):
        without = ", without time and batch" if not leading else ""
        raise ValueError(
            f"the sample has shape {array.shape}; needed is one example [C, H, W] or [n]{without}"
            if not leading
            else f"the sample has shape {array.shape}; behind its first {leading}, [C, H, W],"
            " [C, L] or [n] is needed"
        )
    if array.dtype == bool:
        return Input(shape=shape)
    if array.dtype.kind != "f":
        raise ValueError(
            f"the sample has type {array.dtype}; give floats in [0, 1] for pixels, booleans for"
            " spikes, or an Input"
        )
    if not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"the sample has values {array.min():g}..{array.max():g}; pixels must lie in 0..1,"
            " normalise inside the first layer instead"
        )
    scale = float((1 << PIXEL_BITS) - 1)
    return Input(shape=shape, kind="graded", payload_bits=PIXEL_BITS, scale=scale)
