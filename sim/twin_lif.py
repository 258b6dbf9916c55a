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
    a: Tensor, v_th: Tensor, bias: Tensor, neurons: Neurons
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a population over a [T, B, n], synaptic sums (floats carrying integers).

    v_th, bias: () or (n,), floats carrying integers; gradients reach all three. Returns spikes
    [T, B, n], v after the last step [B, n] and v before each reset [T, B, n], all of a's type.
    """
    result: tuple[Tensor, Tensor, Tensor] = _Integrate.apply(a, v_th, bias, neurons)
    return result


class _Integrate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, v_th: Tensor, bias: Tensor, neurons: Neurons
    ) -> tuple[Tensor, Tensor, Tensor]:
        p = LifParameters(
            du=neurons.du, dv=neurons.dv, v_th=v_th.long(), bias=bias.long(), reset=neurons.reset
        )
        sums = a.long()
        u = torch.zeros_like(sums[0])
        v = neurons.v_init.expand_as(u)
        spikes, fired = torch.empty_like(a), torch.empty_like(a)
        for t in range(len(a)):
            new = tick(u, v, sums[t], p)
            u, v = new.u, new.v
            spikes[t], fired[t] = new.s, new.v_fired
        v_last = v.to(a.dtype)
        ctx.save_for_backward(spikes, fired, v_th)
        ctx.neurons, ctx.bias_shape = neurons, bias.shape
        return spikes, v_last, fired

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        g_spikes, g_v_last, g_seen = grads
        spikes, fired, v_th = ctx.saved_tensors
        n: Neurons = ctx.neurons
        keep_u = (DECAY_ONE - DU_OFFSET - n.du).to(fired.dtype) / DECAY_ONE
        keep_v = (DECAY_ONE - n.dv).to(fired.dtype) / DECAY_ONE
        threshold = v_th.to(fired.dtype) * (1 << STATE_SHIFT)
        unit = n.unit.to(fired.dtype)
        slope = n.surrogate((fired - threshold) / unit) / unit
        g_u, g_v = torch.zeros_like(g_v_last), g_v_last
        g_a, g_fired, g_step, g_th = (torch.zeros_like(fired) for _ in range(4))
        for t in reversed(range(len(fired))):
            g_s = g_spikes[t]
            jump = fired[t] if n.reset == "zero" else threshold
            if not n.detach_reset:
                g_s = g_s - g_v * jump
                if n.reset == "subtract":
                    g_th[t] = -g_v * spikes[t]
            g_pass = g_v * (1 - spikes[t]) if n.reset == "zero" else g_v
            g_step[t] = g_s * slope[t]
            g_fired[t] = g_step[t] + g_pass + g_seen[t]
            g_u = g_fired[t] + keep_u * g_u
            g_a[t] = g_u * (1 << STATE_SHIFT)
            g_v = keep_v * g_fired[t]
        # d = v / threshold - 1 where the unit is the threshold, (v - threshold) / unit elsewhere.
        moved = torch.where(unit == threshold, fired / unit, torch.ones_like(fired))
        g_v_th = _reduced(g_th - g_step * moved, v_th.shape) * (1 << STATE_SHIFT)
        return g_a, g_v_th, _reduced(g_fired, ctx.bias_shape), None


def _reduced(grad: Tensor, shape: torch.Size) -> Tensor:
    """Sum [T, B, n] over what was broadcast from `shape`, () or (n,)."""
    return grad.sum_to_size(shape)
