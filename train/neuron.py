"""The neurons we train: snnTorch's Leaky with the chip's reset, and the non-spiking readout.

Both take a whole window [T, B, ...] and start it from a zero state; nothing is carried over from
one call to the next. The equations stand in `spikeport.sim.lif`.
"""

from __future__ import annotations

from typing import Any

import snntorch
import torch
from torch import Tensor, nn

from spikeport.sim.surrogate import Surrogate
from spikeport.train.surrogate import spike_function

LEAST_V_TH = 1e-3
"""Membrane units. A learned threshold is held at or above it: the chip has none below zero."""


class Lif(snntorch.Leaky):  # type: ignore[misc]
    """LIF neurons with a hard reset to zero, whole windows at a time.

    keep_v: share of the potential kept per step, [0, 1]. v_th: membrane units, > 0, one for the
    layer. detach_reset: stop gradients in the reset spike, as snnTorch does. learn_v_th: make
    `threshold` a parameter. scale: synaptic integers per membrane unit that training has settled
    on, None while the exporter may choose.

    `membrane` is the potential before the reset, U [T, B, ...], of the last call, with its graph:
    regularisers differentiate it. It is empty before the first call and in copies of the module.
    """

    membrane: Tensor

    def __init__(
        self,
        keep_v: float,
        *,
        v_th: float = 1.0,
        surrogate: Surrogate = Surrogate(),  # noqa: B008 (a frozen value)
        detach_reset: bool = True,
        learn_v_th: bool = False,
        scale: float | None = None,
    ) -> None:
        if not 0 <= keep_v <= 1:
            raise ValueError(f"Lif: keep_v is {keep_v}; it is the share kept per step, 0..1")
        if not v_th >= LEAST_V_TH:
            raise ValueError(f"Lif: v_th is {v_th}; it must be at least {LEAST_V_TH}")
        super().__init__(
            beta=keep_v,
            threshold=v_th,
            spike_grad=spike_function(surrogate),
            reset_mechanism="zero",
            learn_threshold=learn_v_th,
        )
        # snnTorch lists every neuron ever made, for a global reset that ours do not need; the list
        # would keep them, and the graph of their last call, for ever.
        snntorch.SpikingNeuron.instances.remove(self)
        self.surrogate = surrogate
        self.detach_reset = detach_reset
        self.scale = scale
        self.membrane = torch.zeros(0)

    @property
    def keep_v(self) -> float:
        """Share of the potential kept per step, as the float32 that training computes with."""
        return float(self.beta)

    @property
    def v_th(self) -> Tensor:
        """Threshold in membrane units, shape (); a parameter if it is being learned."""
        return self.threshold  # type: ignore[no-any-return]

    def forward(self, current: Tensor) -> Tensor:
        """Spikes [T, B, ...] (0 or 1, float) of the input current [T, B, ...]."""
        if self.threshold.requires_grad:
            with torch.no_grad():  # projected gradient descent
                self.threshold.clamp_(min=LEAST_V_TH)
        v = torch.zeros_like(current[0])
        spikes, potentials = [], []
        for a in current:
            s, v = super().forward(a, v)
            spikes.append(s)
            potentials.append(v)
        self.mem = self.reset = torch.zeros(0, device=current.device)
        self.membrane = torch.stack(potentials)
        return torch.stack(spikes)

    def mem_reset(self, mem: Tensor) -> Tensor:
        """snnTorch's hook: the spike that resets `mem`, with a gradient unless detached."""
        if self.detach_reset:
            return super().mem_reset(mem)  # type: ignore[no-any-return]
        return self.spike_grad(mem - self.threshold)  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "membrane": torch.zeros(0)}


class Integrator(nn.Module):
    """Non-spiking readout neurons without leak; `scale` as in `Lif`."""

    def __init__(self, *, scale: float | None = None) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, current: Tensor) -> Tensor:
        """Potential [B, n] after the last step of the current [T, B, n]: its sum over time."""
        return current.sum(0)
