"""LIF neurons over a whole window as one differentiable function, backward by hand.

    U(t) = keep_v V(t-1) + I(t),   s(t) = 1[U(t) > v_th],   V(t) = U(t) (1 - s(t))  ("zero")
                                                            V(t) = U(t) - v_th s(t) ("subtract")

The values and gradients are those of a loop over snnTorch's Leaky; the window is run by one
compiled pass per direction on the CPU and by vectorised steps elsewhere. Multiplying layers need
no steps at all, so a network costs one product per layer and one pass per population.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeport.train.fused_kernel import run_backward, run_forward
from spikeport.train.window import Window


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a population resets and what its gradient sees. detach_reset: not the spike in the reset.
    detach_time: no earlier step (the gradient of online learning)."""

    window: Window
    subtract: bool = False
    detach_reset: bool = True
    detach_time: bool = False


def integrate(
    current: Tensor, keep_v: Tensor, v_th: Tensor, v_init: Tensor, *, rules: Rules,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Spikes (0 or 1) and potentials before the reset, both of the shape of `current` [T, B, ...].

    keep_v, v_th, v_init: shape (). noise: of the current's shape, added where U meets v_th.
    Gradients reach all four tensors. Half precision is computed, and returned, in float32.
    """
    current = current.float() if current.dtype in (torch.float16, torch.bfloat16) else current
    scalars = (each.to(current) for each in (keep_v, v_th, v_init))
    spikes, membrane = _Integrate.apply(current, *scalars, noise, rules)
    return spikes, membrane


class _Integrate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, keep_v: Tensor, v_th: Tensor, v_init: Tensor,
        noise: Tensor | None, rules: Rules,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        current = current.contiguous()
        run = _compiled_forward if current.device.type == "cpu" else stepped_forward
        spikes, membrane = run(current, keep_v, v_th, v_init, noise, rules)
        ctx.save_for_backward(membrane, spikes, keep_v, v_th, v_init)
        ctx.rules, ctx.noise = rules, noise
        ctx.set_materialize_grads(False)
        return spikes, membrane

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        membrane, spikes, keep_v, v_th, v_init = ctx.saved_tensors
        seen = membrane if ctx.noise is None else membrane + ctx.noise
        adjoint = Adjoint(
            g_spikes=_or_zeros(grads[0], membrane),
            g_membrane=_or_zeros(grads[1], membrane),
            membrane=membrane,
            seen=seen,
            spikes=spikes,
            slope=ctx.rules.window.slope(seen, v_th).contiguous(),
            scalars=(keep_v, v_th, v_init),
            wanted=tuple(ctx.needs_input_grad[1:4]),
            rules=ctx.rules,
        )
        run = _compiled_backward if membrane.device.type == "cpu" else stepped_backward
        return *run(adjoint), None, None


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient.contiguous()


@dataclass(frozen=True, kw_only=True)
class Adjoint:
    """What a backward pass needs; arrays [T, B, ...]. wanted: whether anybody asks for the
    gradients of keep_v, v_th and v_init, the `scalars`."""

    g_spikes: Tensor
    g_membrane: Tensor
    membrane: Tensor
    seen: Tensor
    spikes: Tensor
    slope: Tensor
    scalars: tuple[Tensor, Tensor, Tensor]
    wanted: tuple[bool, ...]
    rules: Rules


def _compiled_forward(
    current: Tensor, keep_v: Tensor, v_th: Tensor, v_init: Tensor, noise: Tensor | None,
    rules: Rules,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    membrane, spikes = torch.empty_like(current), torch.empty_like(current)
    run_forward(
        _rows(current), *(_number(x) for x in (keep_v, v_th, v_init)), rules.subtract,
        _rows(current.new_empty((len(current), 0)) if noise is None else noise.contiguous()),
        _rows(membrane), _rows(spikes),
    )  # fmt: skip
    return spikes, membrane


def _compiled_backward(a: Adjoint) -> tuple[Tensor | None, ...]:
    g_current = torch.empty_like(a.membrane)
    n = a.membrane[0].numel()
    sums = [a.membrane.new_zeros(n if wanted else 0) for wanted in a.wanted]
    rules = a.rules
    run_backward(
        *(_rows(x) for x in (a.g_spikes, a.g_membrane, a.membrane, a.seen, a.spikes, a.slope)),
        *(_number(x) for x in a.scalars), rules.subtract, rules.detach_reset, rules.detach_time,
        rules.window.relative, _rows(g_current), *(x.numpy() for x in sums),
    )  # fmt: skip
    totals = (
        x.double().sum().to(x) if wanted else None for x, wanted in zip(sums, a.wanted, strict=True)
    )
    return g_current, *totals


def _rows(x: Tensor) -> Any:
    return x.detach().reshape(len(x), -1).numpy()


def _number(x: Tensor) -> Any:
    return x.detach().numpy()[()]  # a numpy scalar of the tensor's own type


def stepped_forward(
    current: Tensor, keep_v: Tensor, v_th: Tensor, v_init: Tensor, noise: Tensor | None,
    rules: Rules,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The equations step by step, for any device: spikes and potentials before the reset."""
    membrane, spikes = torch.empty_like(current), torch.empty_like(current)
    v = v_init.expand_as(current[0])
    for t, i in enumerate(current):
        u = torch.add(keep_v * v, i, out=membrane[t])
        s = spikes[t]
        s.copy_((u if noise is None else u + noise[t]) > v_th)
        v = u - v_th * s if rules.subtract else u * (1 - s)
    return spikes, membrane


def stepped_backward(a: Adjoint) -> tuple[Tensor | None, ...]:
    """The adjoint of `stepped_forward`: gradients of the current, keep_v, v_th and v_init."""
    (keep_v, v_th, v_init), rules = a.scalars, a.rules
    g_current = torch.empty_like(a.membrane)
    g_v = torch.zeros_like(a.membrane[0])
    g_keep, g_th = (torch.zeros_like(g_v, dtype=torch.float64) for _ in range(2))
    for t in range(len(g_current) - 1, -1, -1):
        u, s = a.membrane[t], a.spikes[t]
        total = a.g_spikes[t]
        if not rules.detach_reset:
            total = total - g_v * (v_th if rules.subtract else u)
        through = total * a.slope[t]
        if a.wanted[1]:
            g_th -= through * a.seen[t] / v_th if rules.window.relative else through
            g_th -= g_v * s if rules.subtract else 0
        g_u = g_current[t] = a.g_membrane[t] + through + (g_v if rules.subtract else g_v * (1 - s))
        if a.wanted[0]:
            x, fired = (a.membrane[t - 1], a.spikes[t - 1]) if t else (v_init, 0 * v_init)
            g_keep += g_u * (x - fired * v_th if rules.subtract else x * (1 - fired))
        g_v = torch.zeros_like(g_u) if rules.detach_time else keep_v * g_u
    sums = (g_keep, g_th, g_v)
    totals = (
        x.sum().to(keep_v) if wanted else None for x, wanted in zip(sums, a.wanted, strict=True)
    )
    return g_current, *totals
