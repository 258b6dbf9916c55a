"""Lava's order of axes: a map is (x, y, channel), the transpose of our (C, H, W).

Imports nothing of Lava. Stands on its own: deployment folders carry this file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def lava_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(C, H, W) -> (x, y, channel); (n,) stays. The other way round, too."""
    return shape[::-1]


def to_lava(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Values [n] in C order of our `shape` -> [*shape in Lava's order]."""
    return values.reshape(shape).transpose()


def to_rows(maps: NDArray[Any]) -> NDArray[Any]:
    """[rows, *shape in Lava's order] -> [rows, n in C order of (C, H, W)]."""
    if maps.ndim == 4:
        maps = maps.transpose(0, 3, 2, 1)
    return maps.reshape(len(maps), -1)


def columns(x: NDArray[Any], *, port: tuple[int, ...], steps: int) -> NDArray[np.int32]:
    """What a source of shape `port` plays of `x` [T, B, *our shape]: [*port, steps], sample after
    sample, silence last. A port with one axis takes maps in C order."""
    rows = x.swapaxes(0, 1).reshape(-1, *lava_shape(port)).astype(np.int32)
    silence = np.zeros((steps - len(rows), *rows.shape[1:]), np.int32)
    # Reversing all axes turns maps over and puts time last at once.
    return np.concatenate([rows, silence]).transpose()


def conv_weight(w: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """[C_out, C_in, kH, kW] of a cross-correlation -> [C_out, kx, ky, C_in] of Lava's
    convolution, which flips its kernel."""
    return w[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).astype(np.int32)


def flattened(port: Any) -> Any:
    """Lava's `port` as dense synapses see it: maps in C order of (C, H, W)."""
    return port if len(port.shape) == 1 else port.transpose([2, 1, 0]).flatten()


def mapped(port: Any, shape: tuple[int, ...]) -> Any:
    """The output port of a synapse as the maps of its target, of our `shape`, if it has maps."""
    return port if len(port.shape) == len(shape) else port.reshape(shape).transpose([2, 1, 0])
