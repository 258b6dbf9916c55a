"""The integer LIF tick with a surrogate gradient: exact forward, useful backward. Needs torch.

Forward is `spikeport.sim.lif.tick` on torch integers, so it is the chip's arithmetic bit for bit.
Backward treats every rounding, wrap and clip as the identity and the spike as a step with
derivative h(d), where d = v / (v_th << 6) - 1 is the distance to the threshold in thresholds. This
makes the gradient independent of the integer scale of a layer (the relative window of TrSG,
arXiv 2511.08708): ds/dv = h(d) / (v_th << 6), ds/dv_th = -h(d) v / (v_th (v_th << 6)).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from spikeport.sim.arith import DECAY_ONE, DU_OFFSET, STATE_SHIFT
from spikeport.sim.lif import LifParameters, tick
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.twin_base import State, Stretch


@dataclass(frozen=True, kw_only=True)
class Neurons:
    """Integer parameters of a population as int64 tensors of shape () or (n,), and how to
    differentiate them.

    `bias` is the shifted bias. `unit`: integers of v per unit of d, float (the threshold << 6, or
    what stands for it where the threshold is 0). detach_reset: leave the reset out of the gradient,
    both what a spike and what the threshold does through it.
    """

    du: Tensor
    dv: Tensor
    v_init: Tensor
    unit: Tensor
    reset: str = "zero"
    surrogate: Surrogate = field(default_factory=Surrogate)
    detach_reset: bool = True


def integrate(
    a: Tensor, v_th: Tensor, bias: Tensor, neurons: Neurons, *, state: State | None = None
) -> Stretch:
    """Run a population over a [T, B, n], synaptic sums (floats carrying integers).

    v_th, bias: () or (n,), floats carrying integers. state: (u, v) [B, n] that an earlier stretch
    has left behind, or None to begin with u = 0 and v = v_init. Gradients reach all of them. The
    result's spikes, fired and v are of a's type; u, which may leave 24 bits, and v_sum are float64.
    """
    if state is None:
        u = torch.zeros(a.shape[1:], dtype=torch.float64, device=a.device)
        state = u, neurons.v_init.to(a).expand_as(u)
    spikes, fired, u, v, v_sum, wraps, clips = _Integrate.apply(a, *state, v_th, bias, neurons)
    return Stretch(spikes=spikes, fired=fired, u=u, v=v, v_sum=v_sum, wraps=wraps, clips=clips)


class _Integrate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, u: Tensor, v: Tensor, v_th: Tensor, bias: Tensor, neurons: Neurons
    ) -> tuple[Tensor, ...]:
        p = LifParameters(
            du=neurons.du, dv=neurons.dv, v_th=v_th.long(), bias=bias.long(), reset=neurons.reset
        )
        sums, u, v = a.long(), u.long(), v.long()
        v_sum, wraps, clips = torch.zeros_like(v), torch.zeros_like(v), torch.zeros_like(v)
        spikes, fired = torch.empty_like(a), torch.empty_like(a)
        for t in range(len(a)):
            new = tick(u, v, sums[t], p)
            u, v = new.u, new.v
            spikes[t], fired[t] = new.s, new.v_fired
            v_sum += v
            wraps += new.wrapped
            clips += new.clipped
        ctx.save_for_backward(spikes, fired, v_th)
        ctx.neurons, ctx.bias_shape = neurons, bias.shape
        counts = wraps.sum(), clips.sum()
        ctx.mark_non_differentiable(*counts)
        return spikes, fired, u.double(), v.to(a.dtype), v_sum.double(), *counts

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        spikes, fired, v_th = ctx.saved_tensors
        g_spikes, g_seen, g_u, g_v, g_v_sum = (g.to(fired.dtype) for g in grads[:5])
        n: Neurons = ctx.neurons
        keep_u = (DECAY_ONE - DU_OFFSET - n.du).to(fired.dtype) / DECAY_ONE
        keep_v = (DECAY_ONE - n.dv).to(fired.dtype) / DECAY_ONE
        threshold = v_th.to(fired.dtype) * (1 << STATE_SHIFT)
        unit = n.unit.to(fired.dtype)
        slope = n.surrogate((fired - threshold) / unit) / unit
        g_a, g_fired, g_step, g_th = (torch.zeros_like(fired) for _ in range(4))
        for t in reversed(range(len(fired))):  # g_u, g_v: of the state that step t leaves behind
            g_v = g_v + g_v_sum
            g_s = g_spikes[t]
            jump = fired[t] if n.reset == "zero" else threshold
            if not n.detach_reset:
                g_s = g_s - g_v * jump
                if n.reset == "subtract":
                    g_th[t] = -g_v * spikes[t]
            g_pass = g_v * (1 - spikes[t]) if n.reset == "zero" else g_v
            g_step[t] = g_s * slope[t]
            g_fired[t] = g_step[t] + g_pass + g_seen[t]
            g_u = g_fired[t] + g_u
            g_a[t] = g_u * (1 << STATE_SHIFT)
            g_u, g_v = keep_u * g_u, keep_v * g_fired[t]
        # d = v / threshold - 1 where the unit is the threshold, (v - threshold) / unit elsewhere.
        moved = torch.where(unit == threshold, fired / unit, torch.ones_like(fired))
        g_v_th = _reduced(g_th - g_step * moved, v_th.shape) * (1 << STATE_SHIFT)
        return g_a, g_u, g_v, g_v_th, _reduced(g_fired, ctx.bias_shape), None


def _reduced(grad: Tensor, shape: torch.Size) -> Tensor:
    """Sum [T, B, n] over what was broadcast from `shape`, () or (n,)."""
    return grad.sum_to_size(shape)
