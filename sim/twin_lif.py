"""The integer LIF tick with a surrogate gradient: exact forward, useful backward. Needs torch.

Forward is `spikeport.sim.lif.tick`, compiled (`sim.twin_kernel`) or on torch integers, so it is the
chip's arithmetic bit for bit. Backward (`sim.twin_adjoint`) treats every rounding, wrap and clip as
the identity and the spike as a step with derivative h(d), where d = v / (v_th << 6) - 1 is the
distance to the threshold in thresholds. This makes the gradient independent of the integer scale of
a layer (the relative window of TrSG, arXiv 2511.08708): ds/dv = h(d) / (v_th << 6),
ds/dv_th = -h(d) v / (v_th (v_th << 6)).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikeport.sim.arith import DECAY_ONE, DU_OFFSET, STATE_SHIFT
from spikeport.sim.lif import LifParameters, tick
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.twin_adjoint import Adjoint, Outputs, look_back_from, row, runs_compiled
from spikeport.sim.twin_kernel import live_integers
from spikeport.sim.twin_memory import Slot
from spikeport.sim.twin_rules import Rule
from spikeport.sim.twin_stretch import State, Stretch, refuse_other_steps


@dataclass(frozen=True, kw_only=True)
class Neurons:
    """Integer parameters of a population as int64 tensors of shape () or (n,), and how to
    differentiate them.

    `bias` is the shifted bias. `unit`: integers of v per unit of d, float (the threshold << 6, or
    what stands for it where the threshold is 0). detach_reset: leave the reset out of the gradient,
    both what a spike and what the threshold does through it. slot: of the memory of a rule.
    """

    du: Tensor
    dv: Tensor
    v_init: Tensor
    unit: Tensor
    reset: str = "zero"
    surrogate: Surrogate | Rule = field(default_factory=Surrogate)
    detach_reset: bool = True
    slot: Slot | None = None


def integrate(
    a: Tensor, v_th: Tensor, bias: Tensor, neurons: Neurons, *, state: State | None = None,
    steps: int | None = None,
) -> Stretch:  # fmt: skip
    """Run a population over a [T, B, n], synaptic sums (floats carrying integers), or over a
    [1, B, n] for each of `steps`.

    v_th, bias: () or (n,), floats carrying integers. state: (u, v) [B, n] that an earlier stretch
    has left behind, or None to begin with u = 0 and v = v_init. Gradients reach all of them. The
    result's spikes, fired and v are of a's type; u, which may leave 24 bits, and v_sum are float64.
    """
    steps = len(a) if steps is None else steps
    refuse_other_steps(a, steps)
    found = _Integrate.apply(a, *(state or (None, None)), v_th, bias, neurons, steps)
    spikes, fired, u, v, v_sum, wraps, clips = found
    return Stretch(spikes=spikes, fired=fired, u=u, v=v, v_sum=v_sum, wraps=wraps, clips=clips)


class _Integrate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, u: Tensor | None, v: Tensor | None, v_th: Tensor, bias: Tensor,
        neurons: Neurons, steps: int,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        state = None if u is None or v is None else (u, v)
        live = compiled if runs_compiled(a) else stepped
        results = live(a, v_th, bias, neurons, state=state, steps=steps)
        ctx.save_for_backward(results[1], v_th)
        ctx.neurons, ctx.bias_shape, ctx.static = neurons, bias.shape, len(a) < steps
        ctx.mark_non_differentiable(*results[5:])
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        fired, v_th = ctx.saved_tensors
        n: Neurons = ctx.neurons
        p = Adjoint(
            keep_u=(DECAY_ONE - DU_OFFSET - n.du).to(fired.dtype) / DECAY_ONE,
            keep_v=(DECAY_ONE - n.dv).to(fired.dtype) / DECAY_ONE,
            threshold=v_th.to(fired.dtype) * (1 << STATE_SHIFT),
            unit=n.unit.to(fired.dtype),
            gain=1 << STATE_SHIFT,
            reset=n.reset,
            v_init=n.v_init.to(fired.dtype),
            slot=n.slot,
            surrogate=n.surrogate,
            detach_reset=n.detach_reset,
        )
        outputs = Outputs(spikes=grads[0], fired=grads[1], u=grads[2], v=grads[3], v_sum=grads[4])
        wanted = ctx.needs_input_grad[3:5]
        g = look_back_from(fired, outputs, p, static=ctx.static, wanted=wanted)
        g_v_th = None if g.threshold is None else g.threshold * (1 << STATE_SHIFT)
        shared = (_shared(g_v_th, v_th.shape), _shared(g.bias, ctx.bias_shape))
        state = (g.u if ctx.needs_input_grad[1] else None, g.v if ctx.needs_input_grad[2] else None)
        return g.a, *state, *shared, None, None


def compiled(
    a: Tensor, v_th: Tensor, bias: Tensor, neurons: Neurons, *, state: State | None, steps: int
) -> tuple[Tensor, ...]:
    """Spikes, fired, u, v, v_sum, wraps and clips of `integrate`, in one pass over time."""
    batch, n = a.shape[1:]
    sums = np.ascontiguousarray(a.detach().numpy())
    # From numpy, which asks for huge pages: fresh memory of torch costs more than the pass itself.
    spikes, fired = (np.empty((steps, batch, n), sums.dtype) for _ in range(2))
    u, v_sum = np.empty((batch, n)), np.empty((batch, n))
    v = np.empty((batch, n), sums.dtype)
    if state is not None:
        u[:], v[:] = (x.detach().numpy() for x in state)
    counts = np.zeros(2, np.int64)
    keep_u, keep_v, threshold, shift, v_init = (
        row(x.long(), n, np.int32)
        for x in (
            DECAY_ONE - DU_OFFSET - neurons.du, DECAY_ONE - neurons.dv, v_th.long() << STATE_SHIFT,
            bias, neurons.v_init,
        )
    )  # fmt: skip
    live_integers(
        sums, keep_u, keep_v, threshold, shift, v_init, neurons.reset == "subtract",
        state is not None, spikes, fired, u, v, v_sum, counts,
    )  # fmt: skip
    results = (spikes, fired, u, v, v_sum)
    return *(torch.from_numpy(x) for x in results), *torch.from_numpy(counts).unbind()


def stepped(
    a: Tensor, v_th: Tensor, bias: Tensor, neurons: Neurons, *, state: State | None, steps: int
) -> tuple[Tensor, ...]:
    """What `compiled` gives, by torch integers step by step, on any device."""
    p = LifParameters(
        du=neurons.du, dv=neurons.dv, v_th=v_th.long(), bias=bias.long(), reset=neurons.reset
    )
    sums = a.long().expand(steps, *a.shape[1:])
    u, v = state or (torch.zeros_like(sums[0]), neurons.v_init.expand_as(sums[0]))
    u, v = u.long(), v.long()
    v_sum, wraps, clips = torch.zeros_like(v), torch.zeros_like(v), torch.zeros_like(v)
    spikes, fired = (a.new_empty(sums.shape) for _ in range(2))
    for t, arriving in enumerate(sums):
        new = tick(u, v, arriving, p)
        u, v = new.u, new.v
        spikes[t], fired[t] = new.s, new.v_fired
        v_sum += v
        wraps += new.wrapped
        clips += new.clipped
    return spikes, fired, u.double(), v.to(a), v_sum.double(), wraps.sum(), clips.sum()


def _shared(grad: Tensor | None, shape: torch.Size) -> Tensor | None:
    """Gradient (n,) of a parameter that came as `shape`, () or (n,)."""
    return None if grad is None else grad.sum_to_size(shape)
