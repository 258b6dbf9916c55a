"""Range checks shared by the frozen types: one sentence that says where, what, got, allowed."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Element = TypeVar("Element", bound=np.generic)

# Type of a field that is given as a number, a list or any array and read as a read-only array of
# Element: a type checker sees the array where it is read, and Any lets the others in.
Frozen = NDArray[Element] | Any


def frozen_ints(
    value: Any, *, where: str, low: int, high: int, dtype: DTypeLike = np.int32
) -> NDArray[Any]:
    """Copy `value` into a read-only integer array whose entries lie in low..high.

    Floats are accepted only when they are whole numbers. Raises ValueError naming `where`.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{where} has type {array.dtype}; it must hold integers")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array % 1 == 0).all()):
        raise ValueError(f"{where} must hold integers, but some entries are fractions or NaN")
    if array.size and (array.min() < low or array.max() > high):
        worst = array.max() if array.max() > high else array.min()
        raise ValueError(f"{where} is {worst:.0f}; allowed are {low}..{high}")
    return _freeze(array.astype(dtype))


def frozen_floats(value: Any, *, where: str) -> NDArray[np.float64]:
    """Copy `value` into a read-only float64 array without NaN or infinity."""
    array = np.array(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{where} holds NaN or infinity; retrain or repair it before export")
    return _freeze(array)


def _freeze(array: NDArray[Any]) -> NDArray[Any]:
    array = np.ascontiguousarray(array).reshape(array.shape)
    if array.base is not None or not array.flags.owndata:
        array = array.copy()
    array.flags.writeable = False
    return array


def whole(value: Any, *, where: str, low: int, high: int) -> int:
    """A Python int in low..high, or ValueError naming `where`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{where} is {value!r}; it must be a whole number")
    if not low <= value <= high:
        raise ValueError(f"{where} is {value}; allowed are {low}..{high}")
    return int(value)


def positive(value: Any, *, where: str) -> float:
    """A Python float above 0 and finite, or ValueError naming `where`."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not 0 < number < float("inf"):
        raise ValueError(f"{where} is {value}; it must be a positive number")
    return number


def choice(value: str, allowed: tuple[str, ...], *, where: str) -> str:
    """`value` if it is one of `allowed`, or ValueError naming `where` and the choices."""
    if value not in allowed:
        raise ValueError(f"{where} is {value!r}; allowed are {', '.join(map(repr, allowed))}")
    return value


def shape_of(value: Any, *, where: str) -> tuple[int, ...]:
    """A population shape: (n,) or (C, H, W), all positive."""
    shape = tuple(int(n) for n in value)
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise ValueError(f"{where} has shape {shape}; allowed are (n,) and (C, H, W), all positive")
    return shape


def pair(value: int | tuple[int, int] | Any, *, where: str, low: int) -> tuple[int, int]:
    """(y, x) from one number or two."""
    items = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(items) != 2 or any(int(i) < low for i in items):
        raise ValueError(f"{where} is {value!r}; allowed are one or two whole numbers from {low}")
    return int(items[0]), int(items[1])
