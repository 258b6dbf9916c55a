"""A FloatNet as a torch module: what was trained, before rounding, differentiable. Needs torch.

The counterpart of `spikeport.sim.twin.Twin` one step earlier on the way to the chip; attacks run on
both show how much of a network's robustness, or of an attack, is lost in conversion.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeport.sim.net import FloatNet, FloatPopulation
from spikeport.sim.surrogate import Surrogate, spike
from spikeport.sim.synapse import FloatDense, FloatSynapse, lowered_float
from spikeport.sim.twin import shown, to_grid


class FloatTwin(nn.Module):
    """FloatNet as `model(x) -> logits`, x float [B, *shape] shown in every step (or [T, B, *shape]
    as a train), logits [B, K]: spike counts, or the last potential over the number of steps.

    Inputs are rounded to the integer grid of `net.input` (identity backward), because that is what
    the chip is shown. Arithmetic is float32 by default, like the training; pass
    `dtype=torch.float64` for the arithmetic of `spikeport.sim.floating`.
    """

    def __init__(
        self,
        net: FloatNet,
        *,
        surrogate: Surrogate | None = None,
        detach_reset: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if net.readout.kind == "first_spike":
            raise ValueError(
                "the twin cannot differentiate a first_spike readout; use count or last_v"
            )
        self.net, self.dtype, self.detach_reset = net, dtype, detach_reset
        self.surrogate = surrogate or Surrogate("triangle", 1.0)
        for i, projection in enumerate(net.projections):
            part = lowered_float(projection.synapse, net.shape_of(projection.source))
            w = torch.tensor(np.array(part.w), dtype=dtype)
            self.register_buffer(f"w{i}", w, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K]; see the class."""
        s, steps = shown(x, self.net)
        values = {"input": to_grid(s.to(self.dtype), self.net.input) / self.net.input.scale}
        last: dict[str, Tensor] = {}
        for population in self.net.populations:
            parts = [
                _sum(p.synapse, self.get_buffer(f"w{i}"), values[p.source])
                for i, p in enumerate(self.net.projections)
                if p.target == population.name
            ]
            a = sum(parts[1:], start=parts[0])
            spikes, last[population.name] = self._integrate(population, a, steps)
            values[population.name] = spikes.reshape(*spikes.shape[:2], *population.shape)
        name = self.net.readout.population
        if self.net.readout.kind == "count":
            return values[name].flatten(2).sum(0)
        return last[name] / steps

    def _integrate(self, p: FloatPopulation, a: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        top = torch.finfo(a.dtype).max
        keep_u, keep_v, bias, v_th, v_init = (
            # What float32 cannot hold (a threshold that is never reached) must not become infinite.
            torch.tensor(np.array(value), device=a.device).clamp(-top, top).to(a.dtype)
            for value in (p.keep_u, p.keep_v, p.bias, p.v_th, p.v_init)
        )
        unit = torch.where(v_th > 0, v_th, torch.ones_like(v_th))
        u, v = torch.zeros_like(a[0]), v_init.expand_as(a[0])
        spikes = []
        for t in range(steps):
            u = keep_u * u + a[min(t, len(a) - 1)]
            v = keep_v * v + u + bias
            s = spike((v - v_th) / unit, self.surrogate)
            reset = s.detach() if self.detach_reset else s
            v = v * (1 - reset) if p.reset == "zero" else v - reset * v_th
            spikes.append(s)
        return torch.stack(spikes), v


def _sum(synapse: FloatSynapse, w: Tensor, s: Tensor) -> Tensor:
    """Synaptic sums [T, B, n_out] for source values [T, B, *shape]."""
    steps, batch, *shape = s.shape
    part = lowered_float(synapse, tuple(shape))
    if isinstance(part, FloatDense):
        return s.reshape(steps, batch, -1) @ w.T
    g = part.geometry
    out = F.conv2d(s.flatten(0, 1), w, None, g.stride, g.padding, g.dilation, g.groups)
    return out.reshape(steps, batch, -1)
