"""Surrogate derivatives h(d) of the spike, d = distance of the potential to the threshold.

`d` and the width are in the same unit, whichever the caller uses (membrane units in training,
thresholds in the twin). Formulas: Neftci et al. 2019 and the papers named beside each. Needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def triangle(d: Tensor, width: float) -> Tensor:
    """max(0, width - |d|) / width**2; area 1, support |d| < width (Bellec et al. 2018)."""
    h: Tensor = (width - d.abs()).clamp_min(0) / width**2
    return h


def rectangle(d: Tensor, width: float) -> Tensor:
    """1 / width where |d| < width / 2; area 1 (Wu et al. 2018)."""
    return (d.abs() < width / 2).to(d.dtype) / width


def atan(d: Tensor, width: float) -> Tensor:
    """(a / 2) / (1 + (pi a d / 2)**2) with a = width; area 1 (Fang et al. 2021)."""
    h: Tensor = (width / 2) / (1 + (torch.pi * width * d / 2) ** 2)
    return h


def sigmoid(d: Tensor, width: float) -> Tensor:
    """a s (1 - s), s = logistic(a d), a = width; area 1, finite for every d."""
    s = torch.sigmoid(width * d)
    h: Tensor = width * s * (1 - s)
    return h


def superspike(d: Tensor, width: float) -> Tensor:
    """1 / (1 + b |d|)**2 with b = width; area 2 / b (Zenke and Ganguli 2018)."""
    h: Tensor = 1 / (1 + width * d.abs()) ** 2
    return h


def gauss(d: Tensor, width: float) -> Tensor:
    """Normal density with standard deviation 1 / a, a = width; area 1."""
    h: Tensor = width / (2 * torch.pi) ** 0.5 * torch.exp(-((width * d) ** 2) / 2)
    return h


SURROGATES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "triangle": triangle,
    "rectangle": rectangle,
    "atan": atan,
    "sigmoid": sigmoid,
    "superspike": superspike,
    "gauss": gauss,
}


@dataclass(frozen=True)
class Surrogate:
    """A named derivative with its width or slope (> 0); see the functions above for its meaning."""

    name: str = "triangle"
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in SURROGATES:
            raise ValueError(
                f"surrogate is {self.name!r}; allowed are {', '.join(sorted(SURROGATES))}"
            )
        if not self.width > 0:
            raise ValueError(f"surrogate {self.name!r}: width is {self.width}; it must be positive")

    def in_units_of(self, unit: float) -> Surrogate:
        """The same window for distances measured in `unit` (a threshold, say). Its area stays, but
        for superspike, whose height does: in other units its gradients are `unit` times weaker."""
        window = self.name in ("triangle", "rectangle")
        return Surrogate(self.name, self.width / unit if window else self.width * unit)

    def __call__(self, d: Tensor) -> Tensor:
        """h(d), elementwise, same shape and type as `d`."""
        return SURROGATES[self.name](d, self.width)


def spike(d: Tensor, surrogate: Surrogate) -> Tensor:
    """1 where d > 0, else 0, of d's type; backward multiplies by h(d)."""
    result: Tensor = _Spike.apply(d, surrogate)
    return result


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, d: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(d)
        ctx.surrogate = surrogate
        return (d > 0).to(d.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (d,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate(d), None
