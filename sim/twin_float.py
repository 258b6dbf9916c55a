"""A FloatNet as a torch module: what was trained, before rounding, differentiable. Needs torch.

The counterpart of `spikeport.sim.twin.Twin` one step earlier on the way to the chip; attacks run on
both show how much of a network's robustness, or of an attack, is lost in conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikeport.sim.net import FloatNet
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import FloatDense, lowered_float
from spikeport.sim.twin import to_grid
from spikeport.sim.twin_adjoint import Adjoint, Outputs, look_back_from, row, runs_compiled
from spikeport.sim.twin_base import TwinBase
from spikeport.sim.twin_kernel import live_floats
from spikeport.sim.twin_rules import Rule
from spikeport.sim.twin_stretch import State, Stretch, refuse_other_steps


class FloatTwin(TwinBase):
    """FloatNet as `model(x) -> logits`, x float [B, *shape] shown in every step (or [T, B, *shape]
    as a train), logits [B, K]: spike counts, or last or summed potentials over the number of steps.

    Inputs are rounded to the integer grid of `net.input` (identity backward), because that is what
    the chip is shown. Arithmetic is float32 by default, like the training; pass
    `dtype=torch.float64` for the arithmetic of `spikeport.sim.floating`. checkpoint: as in `Twin`.
    """

    net: FloatNet

    def __init__(
        self,
        net: FloatNet,
        *,
        surrogate: Surrogate | Rule | None = None,
        detach_reset: bool = True,
        checkpoint: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(
            net, surrogate=surrogate, detach_reset=detach_reset, checkpoint=checkpoint
        )  # fmt: skip
        self.dtype = dtype
        for i, projection in enumerate(net.projections):
            part = lowered_float(projection.synapse, net.shape_of(projection.source))
            w = torch.tensor(self._taken(i, part, np.array(part.w)), dtype=dtype)
            self.register_buffer(f"w{i}", w, persistent=False)

    def _logits(self, s: Tensor, *, steps: int) -> Tensor:
        pixels = to_grid(s.to(self.dtype), self.net.input) / self.net.input.scale
        raw = self._read(pixels, steps=steps)
        return raw if self.net.readout.kind == "count" else raw / steps

    def _sum(self, i: int, s: Tensor) -> Tensor:
        part = lowered_float(self.net.projections[i].synapse, tuple(s.shape[2:]))
        steps, batch = s.shape[:2]
        w, s = self.get_buffer(f"w{i}"), s.flatten(0, 1)
        total = s.flatten(1) @ w.T if isinstance(part, FloatDense) else self._convolved(i, s, w)
        return total.reshape(steps, batch, -1)

    def _integrator(
        self, name: str, device: torch.device, *, steps: int
    ) -> Callable[[Tensor, State | None], Stretch]:
        p, top = self.net.population(name), torch.finfo(self.dtype).max
        keep_u, keep_v, bias, v_th, v_init = (
            # What float32 cannot hold (a threshold that is never reached) must not become infinite.
            torch.tensor(np.array(value), device=device).clamp(-top, top).to(self.dtype)
            for value in (p.keep_u, p.keep_v, p.bias, p.v_th, p.v_init)
        )
        adjoint = Adjoint(
            keep_u=keep_u,
            keep_v=keep_v,
            threshold=v_th,
            unit=torch.where(v_th > 0, v_th, torch.ones_like(v_th)),
            gain=1,
            reset=p.reset,
            v_init=v_init,
            surrogate=self._passing(name),
            detach_reset=self.detach_reset,
        )

        def live(a: Tensor, state: State | None) -> Stretch:
            neurons = FloatNeurons(bias=bias, adjoint=replace(adjoint, slot=self._slot(name)))
            return integrate(a, neurons, state=state, steps=steps)

        return live


@dataclass(frozen=True, kw_only=True)
class FloatNeurons:
    """Parameters of a population as tensors () or (n,) of one float type; all but the bias are in
    the `adjoint`."""

    bias: Tensor
    adjoint: Adjoint


def integrate(a: Tensor, neurons: FloatNeurons, *, state: State | None, steps: int) -> Stretch:
    """Run a population over sums a [T, B, n], or [1, B, n] for each of `steps`, from `state` (None:
    the initial one). Gradients reach both."""
    refuse_other_steps(a, steps)
    spikes, fired, u, v, v_sum = _Integrate.apply(a, *(state or (None, None)), neurons, steps)
    return Stretch(spikes=spikes, fired=fired, u=u, v=v, v_sum=v_sum)


class _Integrate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, u: Tensor | None, v: Tensor | None, neurons: FloatNeurons, steps: int
    ) -> tuple[Tensor, ...]:
        state = None if u is None or v is None else (u, v)
        live = compiled if runs_compiled(a) else stepped
        results = live(a, neurons, state=state, steps=steps)
        ctx.save_for_backward(results[1])
        ctx.adjoint, ctx.static = neurons.adjoint, len(a) < steps
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (fired,) = ctx.saved_tensors
        outputs = Outputs(spikes=grads[0], fired=grads[1], u=grads[2], v=grads[3], v_sum=grads[4])
        g = look_back_from(fired, outputs, ctx.adjoint, static=ctx.static, wanted=(False, False))
        state = (g.u if ctx.needs_input_grad[1] else None, g.v if ctx.needs_input_grad[2] else None)
        return g.a, *state, None, None


def compiled(
    a: Tensor, neurons: FloatNeurons, *, state: State | None, steps: int
) -> tuple[Tensor, ...]:
    """Spikes, fired, u, v and v_sum of `integrate`, in one pass over time."""
    sums, p = np.ascontiguousarray(a.detach().numpy()), neurons.adjoint
    batch, n = sums.shape[1:]
    spikes, fired = (np.empty((steps, batch, n), sums.dtype) for _ in range(2))
    u, v, v_sum = (np.empty((batch, n), sums.dtype) for _ in range(3))
    if state is not None:
        u[:], v[:] = (x.detach().numpy() for x in state)
    keep_u, keep_v, threshold, bias, v_init = (
        row(x, n, sums.dtype) for x in (p.keep_u, p.keep_v, p.threshold, neurons.bias, p.v_init)
    )
    live_floats(
        sums, keep_u, keep_v, threshold, bias, v_init, p.reset == "subtract", state is not None,
        spikes, fired, u, v, v_sum,
    )  # fmt: skip
    return tuple(torch.from_numpy(x) for x in (spikes, fired, u, v, v_sum))


def stepped(
    a: Tensor, neurons: FloatNeurons, *, state: State | None, steps: int
) -> tuple[Tensor, ...]:
    """What `compiled` gives, by torch step by step, on any device."""
    p = neurons.adjoint
    u, v = state or (torch.zeros_like(a[0]), p.v_init.expand_as(a[0]))
    v_sum = torch.zeros_like(u)
    spikes, fired = (a.new_empty((steps, *u.shape)) for _ in range(2))
    for t, arriving in enumerate(a.expand(steps, *u.shape)):
        u = p.keep_u * u + arriving
        fired[t] = v = p.keep_v * v + u + neurons.bias
        spikes[t] = s = (v > p.threshold).to(v)
        v = v - s * p.threshold if p.reset == "subtract" else v * (1 - s)
        v_sum = v_sum + v
    return spikes, fired, u, v, v_sum
