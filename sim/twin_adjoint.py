"""Gradients of the twins' neurons, integer and float ones, by hand: time backward. Needs torch.

Backward treats every rounding, wrap and clip as the identity and the spike as a step with
derivative h(d) / unit, where d = (v - threshold) / unit. On the CPU a compiled pass does this, on
other devices torch step by step; `runs_compiled` says which.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeport.sim.surrogate import Surrogate
from spikeport.sim.surrogate_kernel import KINDS
from spikeport.sim.twin_kernel import look_back
from spikeport.sim.twin_memory import Slot
from spikeport.sim.twin_rules import Assg, Rule, Seen
from spikeport.sim.twin_rules_kernel import sharpen


@dataclass(frozen=True, kw_only=True)
class Adjoint:
    """How to differentiate a population. keep_u, keep_v (kept fractions), threshold, unit (v per
    unit of d), v_init: () or (n,), of the type of v; gain: v per unit of a synaptic sum. slot: of
    the memory of a rule. slopes: ds/dv [T or 1, B, n] where they are known."""

    keep_u: Tensor
    keep_v: Tensor
    threshold: Tensor
    unit: Tensor
    gain: int
    reset: str
    v_init: Tensor
    surrogate: Surrogate | Rule
    detach_reset: bool
    slot: Slot | None = None
    slopes: Tensor | None = None

    def slope(self, fired: Tensor) -> Tensor:
        """ds/dv where v is `fired` before the reset, [T, B, n]."""
        if self.slopes is not None:
            return self.slopes.expand_as(fired)
        assert isinstance(self.surrogate, Surrogate)
        return self.surrogate((fired - self.threshold) / self.unit) / self.unit


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Gradients of what neurons give, None where nobody asked: spikes and fired [T, B, n]; u, v and
    v_sum [B, n]."""

    spikes: Tensor | None
    fired: Tensor | None
    u: Tensor | None
    v: Tensor | None
    v_sum: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Gradients of what neurons take: a [T, B, n] (or [1, B, n], summed over the steps), u and v
    [B, n]; threshold and bias (n,), or None if not `wanted`."""

    a: Tensor
    u: Tensor
    v: Tensor
    threshold: Tensor | None
    bias: Tensor | None


def runs_compiled(a: Tensor) -> bool:
    """Whether compiled passes run neurons with sums `a`: the one place that decides."""
    return a.device.type == "cpu" and a.dtype in (torch.float32, torch.float64)


def look_back_from(
    fired: Tensor, grads: Outputs, p: Adjoint, *, static: bool, wanted: tuple[bool, bool]
) -> Inputs:
    """Gradients at the inputs, from `fired` [T, B, n], v before the reset.

    static: the sums were one step's for all. wanted: threshold, bias.
    """
    run = compiled if runs_compiled(fired) else stepped
    if isinstance(p.surrogate, Surrogate):
        return run(fired, grads, p, static=static, wanted=wanted)
    rule = p.surrogate
    found = run(fired, grads, chosen(fired, p), static=static, wanted=wanted)
    if rule.averaged and not static:
        return replace(found, a=found.a.mean(0, keepdim=True).expand_as(found.a))
    return found


def chosen(fired: Tensor, p: Adjoint) -> Adjoint:
    """`p` with the slopes that its rule chooses."""
    rule, slot = p.surrogate, p.slot
    assert isinstance(rule, Rule)
    assert slot is not None
    if isinstance(rule, Assg) and runs_compiled(fired):
        return replace(p, slopes=sharpened(fired, p, rule, slot))
    past = tuple(x.transpose(0, 1) for x in slot.recall(fired, rule.begin))
    seen = Seen(
        fired=fired, threshold=p.threshold, unit=p.unit, keep_v=p.keep_v, v_init=p.v_init,
        reset=p.reset, shape=slot.shape, past=past,
    )  # fmt: skip
    found = rule.learn(seen) if slot.learns else seen.past
    slot.keep(tuple(x.transpose(0, 1) for x in found))
    slopes = rule.slopes(replace(seen, past=found)) / p.unit
    if rule.through_time:
        return replace(p, slopes=slopes)
    return replace(p, slopes=slopes, keep_v=torch.zeros_like(p.keep_v))


def sharpened(fired: Tensor, p: Adjoint, rule: Assg, slot: Slot) -> Tensor:
    """Slopes ds/dv [T, B, n] by `rule`, compiled."""
    kind = fired.numpy().dtype
    past = tuple(x.contiguous() for x in slot.recall(fired, rule.begin))
    threshold, unit = (row(x, fired.shape[2], kind) for x in (p.threshold, p.unit))
    slopes = np.empty(fired.shape, kind)
    memory = rule.memory if slot.learns else 1.0
    mean, spread = (x.numpy() for x in past)
    sharpen(
        _array(fired, kind), threshold, unit, mean, spread, kind.type(memory), kind.type(rule.rho),
        kind.type(rule.omega), slopes,
    )  # fmt: skip
    slot.keep(past)
    return torch.from_numpy(slopes)


def compiled(
    fired: Tensor, grads: Outputs, p: Adjoint, *, static: bool, wanted: tuple[bool, bool]
) -> Inputs:
    """`look_back_from` in one pass over time per neuron."""
    steps, batch, n = fired.shape
    kind = fired.numpy().dtype
    relative = p.unit == p.threshold
    rate = torch.where(relative, 1 / p.unit, torch.zeros_like(p.unit))
    sums = [np.zeros(n if want else 0) for want in wanted]
    g_spikes = np.zeros(fired.shape, kind) if grads.spikes is None else _array(grads.spikes, kind)
    g_fired, g_v_sum = (
        np.empty((0,) * x.ndim, kind) if g is None else _array(g, kind)
        for g, x in ((grads.fired, fired), (grads.v_sum, fired[0]))
    )
    g_u, g_v = (
        np.zeros((batch, n), kind) if g is None else np.array(_array(g, kind))
        for g in (grads.u, grads.v)
    )
    g_a = np.empty((1 if static else steps, batch, n), kind)
    keep_u, keep_v, threshold, unit, rates, offsets = (
        row(x, n, kind) for x in (p.keep_u, p.keep_v, p.threshold, p.unit, rate, ~relative)
    )
    if p.slopes is None:
        assert isinstance(p.surrogate, Surrogate)
        window, width = KINDS.index(p.surrogate.name), p.surrogate.width
        slopes = np.empty((0, 0, 0), kind)
    else:
        window, width, slopes = -1, 0.0, _array(p.slopes, kind)
    look_back(
        fired.numpy(), window, kind.type(width), slopes, g_spikes, g_fired, g_v_sum, keep_u, keep_v,
        threshold, unit, rates, offsets, kind.type(p.gain), p.reset == "subtract", p.detach_reset,
        g_a, g_u, g_v, *sums,
    )  # fmt: skip
    found = (torch.from_numpy(x) if want else None for x, want in zip(sums, wanted, strict=True))
    a, u, v = (torch.from_numpy(x) for x in (g_a, g_u, g_v))
    return Inputs(a=a, u=u, v=v, threshold=next(found), bias=next(found))


def stepped(
    fired: Tensor, grads: Outputs, p: Adjoint, *, static: bool, wanted: tuple[bool, bool]
) -> Inputs:
    """`look_back_from` by torch, step by step, on any device."""
    nothing = torch.zeros_like(fired[0])
    g_u, g_v, g_sum = (
        nothing if g is None else g.to(fired.dtype) for g in (grads.u, grads.v, grads.v_sum)
    )
    spikes, slope = (fired > p.threshold).to(fired.dtype), p.slope(fired)
    relative = p.unit == p.threshold
    g_a = torch.empty_like(fired)
    g_th, g_bias = (nothing.double() for _ in range(2))
    for t in reversed(range(len(fired))):
        g_v = g_v + g_sum
        g_s = nothing if grads.spikes is None else grads.spikes[t]
        if not p.detach_reset:
            g_s = g_s - g_v * (fired[t] if p.reset == "zero" else p.threshold)
            if p.reset == "subtract":
                g_th = g_th - g_v * spikes[t]
        through = g_s * slope[t]
        g_fired = through + (g_v * (1 - spikes[t]) if p.reset == "zero" else g_v)
        g_fired = g_fired if grads.fired is None else g_fired + grads.fired[t]
        g_u = g_fired + g_u
        g_a[t] = g_u * p.gain
        g_th = g_th - through * torch.where(relative, fired[t] / p.unit, torch.ones_like(fired[t]))
        g_bias = g_bias + g_fired
        g_u, g_v = p.keep_u * g_u, p.keep_v * g_fired
    return Inputs(
        a=g_a.sum(0, keepdim=True) if static else g_a, u=g_u, v=g_v,
        threshold=g_th.sum(0) if wanted[0] else None, bias=g_bias.sum(0) if wanted[1] else None,
    )  # fmt: skip


def row(x: Tensor, n: int, kind: Any) -> NDArray[Any]:
    """A parameter () or (n,) as an array [n] of type `kind`."""
    each = x.detach().cpu().numpy().astype(kind)
    return np.ascontiguousarray(np.broadcast_to(each, (n,)))


def _array(x: Tensor, kind: Any) -> NDArray[Any]:
    return np.ascontiguousarray(x.detach().numpy(), kind)
