"""A FloatNet as a torch module: what was trained, before rounding, differentiable. Needs torch.

The counterpart of `spikeport.sim.twin.Twin` one step earlier on the way to the chip; attacks run on
both show how much of a network's robustness, or of an attack, is lost in conversion.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikeport.sim.net import FloatNet
from spikeport.sim.surrogate import Surrogate, spike
from spikeport.sim.synapse import FloatDense, FloatSynapse, lowered_float
from spikeport.sim.twin import to_grid
from spikeport.sim.twin_base import State, Stretch, TwinBase, read, shown


class FloatTwin(TwinBase):
    """FloatNet as `model(x) -> logits`, x float [B, *shape] shown in every step (or [T, B, *shape]
    as a train), logits [B, K]: spike counts, or last or summed potentials over the number of steps.

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
        super().__init__(net, surrogate=surrogate, detach_reset=detach_reset)
        self.net, self.dtype = net, dtype
        for i, projection in enumerate(net.projections):
            part = lowered_float(projection.synapse, net.shape_of(projection.source))
            w = torch.tensor(np.array(part.w), dtype=dtype)
            self.register_buffer(f"w{i}", w, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K]; see the class."""
        s, steps = shown(x, self.net)
        pixels = to_grid(s.to(self.dtype), self.net.input) / self.net.input.scale
        readout = self.net.readout
        raw = read(self._live(pixels, steps=steps)[readout.population], readout.kind)
        return raw if readout.kind == "count" else raw / steps

    def _sum(self, i: int, s: Tensor) -> Tensor:
        return synapse_sum(self.net.projections[i].synapse, self.get_buffer(f"w{i}"), s)

    def _integrator(
        self, name: str, device: torch.device
    ) -> Callable[[Tensor, State | None], Stretch]:
        p, top = self.net.population(name), torch.finfo(self.dtype).max
        keep_u, keep_v, bias, v_th, v_init = (
            # What float32 cannot hold (a threshold that is never reached) must not become infinite.
            torch.tensor(np.array(value), device=device).clamp(-top, top).to(self.dtype)
            for value in (p.keep_u, p.keep_v, p.bias, p.v_th, p.v_init)
        )
        unit = torch.where(v_th > 0, v_th, torch.ones_like(v_th))

        def integrate(sums: Tensor, state: State | None) -> Stretch:
            u, v = state or (torch.zeros_like(sums[0]), v_init.expand_as(sums[0]))
            v_sum, spikes, fired = torch.zeros_like(u), [], []
            for a in sums.unbind():
                u = keep_u * u + a
                v = keep_v * v + u + bias
                fired.append(v)
                s = spike((v - v_th) / unit, self.surrogate)
                spikes.append(s)
                reset = s.detach() if self.detach_reset else s
                v = v * (1 - reset) if p.reset == "zero" else v - reset * v_th
                v_sum = v_sum + v
            return Stretch(
                spikes=torch.stack(spikes), fired=torch.stack(fired), u=u, v=v, v_sum=v_sum
            )

        return integrate


def synapse_sum(synapse: FloatSynapse, w: Tensor, s: Tensor) -> Tensor:
    """Synaptic sums [T, B, n_out] for source values [T, B, *shape]."""
    steps, batch, *shape = s.shape
    part = lowered_float(synapse, tuple(shape))
    if isinstance(part, FloatDense):
        return s.reshape(steps, batch, -1) @ w.T
    g = part.geometry
    out = F.conv2d(s.flatten(0, 1), w, None, g.stride, g.padding, g.dilation, g.groups)
    return out.reshape(steps, batch, -1)
