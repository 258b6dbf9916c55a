"""Calls of torch functions in a module's forward, as they are seen between its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from spikeport.export.expressions import ZERO, Expression, Value, described

INPUT = Value("input", None)
ADVICE = "keep to layers, sums, constant factors and flattening"
ENCODE = f"{ADVICE}, and prepare samples before forward"


@dataclass(frozen=True)
class Call:
    """A call of torch function `name`. known: the expression of a tensor, None for a constant.
    keep: gives a layer without a name of its own one, and returns it. axes: the dimensions of the
    input that steps were picked along so far."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    result: Any
    known: Callable[[Any], Expression | None]
    layers: Mapping[str, nn.Module]
    keep: Callable[[str, nn.Module], str]
    axes: set[int]

    def operand(self, value: Any) -> Expression:
        """The expression of an operand; a constant must be zero."""
        found = self.known(value)
        if found is not None:
            return found
        zero = silent(value) if isinstance(value, Tensor) else number(value) and value == 0
        if not zero:
            self.refuse("adds a constant; put it into the bias of a layer")
        return ZERO

    def main(self) -> Expression:
        """The expression of the first argument, which must be no constant."""
        found = self.known(self.args[0])
        if found is None:
            self.refuse()
        assert found is not None
        return found

    def argument(self, position: int, key: str, default: Any) -> Any:
        """An argument given by position or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(key, default)

    def refuse(self, why: str | None = None) -> None:
        """Raise ValueError naming the function and what it is applied to."""
        about = next((e for e in map(self.known, flattened(self.args)) if e is not None), ZERO)
        raise ValueError(
            f"forward applies {self.name!r} to {described(about)}, which"
            f" {why or f'no synapse can do; {ENCODE if about == INPUT else ADVICE}'}"
        )


def silent(constant: Tensor) -> bool:
    """Whether a constant is zero, and was not written into, which older torch does not report."""
    return constant._version == 0 and not bool(constant.any())


def flattened(values: Any) -> list[Any]:
    """All values in nested lists, tuples and dictionaries."""
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        return [leaf for value in values for leaf in flattened(value)]
    return [values]


def number(value: Any) -> bool:
    """Whether `value` is one number, as a tensor or not."""
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, (int, float))
