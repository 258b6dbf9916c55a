"""Ways in which an input is often presented differently: other steps, values or axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations
from math import isqrt

import numpy as np

from spikeport.sim.divergence.forced import Ints, shifted

# text, bits, last steps that cannot be told, change of the values [T, B, *shape]
Encoding = tuple[str, float, int, Callable[[Ints], Ints]]


def encodings(x: Ints) -> Iterator[Encoding]:
    """Every presentation of `x` that differs from it."""
    for text, bits, unknown, change in (*_times(), *_values(int(x.max())), *_axes(x.shape)):
        if not np.array_equal(change(x), x):
            yield text, bits, unknown, change


def _times() -> Iterator[Encoding]:
    for steps, bits in ((1, 1.5), (-1, 1.5), (2, 3.0), (-2, 3.0)):
        direction = "late" if steps > 0 else "early"
        text = f"the input is presented {abs(steps)} step{'s' * (abs(steps) > 1)} {direction}"
        yield text, bits, max(0, -steps), partial(shifted, steps=steps)
    yield "the input's steps run backwards", 4.0, 0, partial(np.flip, axis=0)


def _values(top: int) -> Iterator[Encoding]:
    for text, bits, change in (
        ("binarised (1 where not 0)", 2.0, partial(_above, low=0, value=1)),
        (f"binarised ({top} where not 0)", 3.0, partial(_above, low=0, value=top)),
        (f"binarised (1 above {top // 2})", 3.0, partial(_above, low=top // 2, value=1)),
        (f"inverted ({top} - x)", 4.0, partial(np.subtract, top)),
        ("scaled by 256 / 255", 4.0, partial(_scaled, by=256 / 255)),
        ("scaled by 255 / 256", 4.0, partial(_scaled, by=255 / 256)),
        (f"multiplied by {top}", 4.0, partial(np.multiply, top)),
        ("multiplied by 255", 4.0, partial(np.multiply, 255)),
    ):
        yield f"the input is {text}", bits, 0, change
    for k, bits in ((2, 2.5), (4, 3.5), (8, 5.0), (16, 5.0)):
        yield f"the input is multiplied by {k}", bits, 0, partial(np.multiply, k)
        whole = f"the input is divided by {k}, rounded"
        yield f"{whole} down", bits, 0, partial(_floored, by=k)
        yield f"{whole} to the nearest", bits + 1, 0, partial(_scaled, by=1 / k)


def _above(x: Ints, *, low: int, value: int) -> Ints:
    return np.asarray((x > low) * value)


def _scaled(x: Ints, *, by: float) -> Ints:
    return np.asarray(np.rint(x * by), np.int64)


def _floored(x: Ints, *, by: int) -> Ints:
    return np.asarray(x // by)


def _axes(shape: tuple[int, ...]) -> Iterator[Encoding]:
    inner = shape[2:]
    flat = (int(np.prod(inner)),)
    backwards = partial(_reread, shape=flat, axes=None, flip=1)
    yield "the input's entries run backwards", 3.0, 0, backwards
    if len(inner) == 1 and isqrt(inner[0]) ** 2 == inner[0] > 1:
        square = (isqrt(inner[0]),) * 2
        text = f"the input is transposed as a square of {square[0]} by {square[0]}"
        yield text, 3.0, 0, partial(_reread, shape=square, axes=(1, 0), flip=None)
    if len(inner) != 3:
        return
    for order in list(permutations((0, 1, 2)))[1:]:
        names = "".join("CHW"[i] for i in order)
        text = f"the input's entries are laid out as {names} where CHW is expected"
        yield text, 2.0, 0, partial(_reread, shape=inner, axes=order, flip=None)
        read, back = tuple(inner[i] for i in order), tuple(int(i) for i in np.argsort(order))
        text = f"the input's entries are laid out as CHW and read as {names}"
        yield text, 3.0, 0, partial(_reread, shape=read, axes=back, flip=None)
    for axis, name in enumerate(("channels", "rows", "columns")):
        text = f"the input's {name} run backwards"
        yield text, 3.0, 0, partial(_reread, shape=inner, axes=None, flip=axis + 1)


def _reread(
    x: Ints, *, shape: tuple[int, ...], axes: tuple[int, ...] | None, flip: int | None
) -> Ints:
    """The entries of `x` [T, B, ...] read as maps of `shape`, with `axes` in another order or one
    axis flipped, and laid out in the shape of `x` again."""
    maps = x.reshape(-1, *shape)
    if axes is not None:
        maps = maps.transpose(0, *(i + 1 for i in axes))
    if flip is not None:
        maps = np.flip(maps, flip)
    return maps.reshape(x.shape)
