"""The neurons we train: snnTorch's Leaky with the chip's reset, and the non-spiking readout.

Both take a whole window [T, B, ...] and start it from a zero state; nothing is carried over from
one call to the next. The equations stand in `spikeport.sim.lif`; windows run through
`spikeport.train.fused`, with the values and gradients of snnTorch's own loop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import snntorch
import torch
from torch import Tensor, nn

from spikeport.sim.surrogate import Surrogate
from spikeport.train.fused import Population
from spikeport.train.surrogate import spike_function
from spikeport.train.window import Fixed, Window

LEAST_V_TH = 1e-3
"""Membrane units. A learned threshold is held at or above it: the chip has none below zero."""


class Lif(snntorch.Leaky):  # type: ignore[misc]
    """LIF neurons with a hard reset to zero, whole windows at a time.

    keep_v: share of the potential kept per step, [0, 1]. v_th: membrane units, > 0, one for the
    layer. detach_reset: stop gradients in the reset spike, as snnTorch does. learn_v_th: make
    `threshold` a parameter. scale: synaptic integers per membrane unit that training has settled
    on, None while the exporter may choose.

    Training methods may change, before training, the attributes
    window       where spikes let gradients through
    v_init       buffer (), the potential that every window starts from, membrane units
    noise        standard deviation of what training adds to U at the threshold, membrane units
    detach_time  keep gradients from earlier steps
    What is left of them when training ends must be plain again (v_init apart), see `settled`.
    """

    v_init: Tensor

    def __init__(
        self,
        keep_v: float,
        *,
        v_th: float = 1.0,
        surrogate: Surrogate = Surrogate(),  # noqa: B008 (a frozen value)
        detach_reset: bool = True,
        learn_v_th: bool = False,
        scale: float | None = None,
        v_init: float = 0.0,
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
        self.window: Window = Fixed(surrogate)
        self.detach_reset = detach_reset
        self.noise = 0.0
        self.detach_time = False
        self.scale = scale
        # Saved by those who learn it only: elsewhere it is part of what the network is built from.
        self.register_buffer("v_init", torch.tensor(float(v_init)), persistent=False)
        self._lived: tuple[Population, Tensor] | None = None

    @property
    def surrogate(self) -> Surrogate:
        """The derivative of the spike in membrane units, for who must name one."""
        return self.window.surrogate(float(self.threshold.detach()))

    @property
    def keep_v(self) -> float:
        """Share of the potential kept per step, as the float32 that training computes with."""
        return float(self.beta.detach())

    @property
    def v_th(self) -> Tensor:
        """Threshold in membrane units, shape (); a parameter if it is being learned."""
        return self.threshold  # type: ignore[no-any-return]

    def forward(self, current: Tensor, steps: int | None = None) -> Tensor:
        """Spikes [T, B, ...] (0 or 1, float) of the input current [T, B, ...], or [1, B, ...] of
        one that is the same in all `steps`."""
        return self.meet(current, steps).spikes(current)

    def meet(self, current: Tensor, steps: int | None = None) -> Population:
        """What lives through `current`, as in `forward`: the neurons as they are now."""
        if self.threshold.requires_grad and self.threshold.is_leaf:
            with torch.no_grad():  # projected gradient descent
                if self.threshold < LEAST_V_TH:  # else untouched, as a graph may hold it
                    self.threshold.fill_(LEAST_V_TH)
        steps = len(current) if steps is None else steps
        noise = None
        if self.training and self.noise > 0:
            shape = (steps, *current.shape[1:])
            noise = torch.randn(shape, dtype=current.dtype, device=current.device) * self.noise
        # Copies: whatever the optimiser does to the originals, this window stays as it was.
        population = Population(
            keep_v=self.beta.clamp(0, 1), v_th=self.threshold.clone(), v_init=self.v_init.clone(),
            steps=steps, window=self.window, noise=noise,
            subtract=self.reset_mechanism == "subtract", detach_reset=self.detach_reset,
            detach_time=self.detach_time,
        )  # fmt: skip
        self._lived = population, current
        return population

    @property
    def only_spikes(self) -> bool:
        """Whether a call does nothing but `meet` a current and return its spikes."""
        return type(self).forward is Lif.forward and not hooked(self)

    @property
    def membrane(self) -> Tensor:
        """The potential before the reset, U [T, B, ...], of the last call, with its graph. Empty
        before the first call and in copies of the module."""
        return self.recall()()

    def recall(self) -> Callable[[], Tensor]:
        """What makes `membrane` of the last call, then or later; nobody pays who does not ask."""
        if self._lived is None:
            return partial(torch.zeros, 0)
        population, current = self._lived
        return partial(population.membrane, current)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lived": None}


def hooked(layer: nn.Module) -> bool:
    """Whether a call of `layer` does more than its forward."""
    forward = layer._forward_hooks or layer._forward_pre_hooks
    return bool(forward or layer._backward_hooks or layer._backward_pre_hooks)


class Integrator(nn.Module):
    """Non-spiking readout neurons without leak; `scale` as in `Lif`."""

    def __init__(self, *, scale: float | None = None) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, current: Tensor) -> Tensor:
        """Potential [B, n] after the last step of the current [T, B, n]: its sum over time."""
        return current.sum(0)
