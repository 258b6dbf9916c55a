"""DS-ATGO: thresholds that follow the potentials, step by step, and windows that follow them.

Source: arXiv 2511.13050 (AAAI 2026) and its published code. Per layer and step, not differentiated,

    theta_n(t) = E[U(t)] + Std[U(t)]      of the batch, which is the threshold in training
    theta(t) <- 0.9 theta(t) + 0.1 theta_n(t)         the threshold in evaluation, v_th at first
    s = 1[U > theta],   ds/dU = 1/k where |U - theta| < k/2,   k = k0 (1 + tanh(theta - v_th))

The code has Std[U] instead of theta in k. A chip has one threshold a layer: when the float phase
ends it becomes the mean of theta(t), which costs accuracy that the quantised phase wins back. Until
then `threshold`, what penalties and figures see of a layer, is that mean too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from spikeport.sim.surrogate import Surrogate, spike
from spikeport.train.blocks import Recurrent
from spikeport.train.methods import learned
from spikeport.train.methods.base import Method
from spikeport.train.methods.ranks import summed
from spikeport.train.methods.wiring import populations, replaced
from spikeport.train.neuron import Lif
from spikeport.train.window import Fixed

if TYPE_CHECKING:
    from spikeport.train.model import SpikingNet

MOMENTUM = 0.1
LEAST = 0.1
"""Of v_th: below it silent neurons would fire."""
LEAST_WIDTH = 1e-3
"""Of k0, where tanh has reached -1."""


class Dsatgo(Method):
    """k0: width of the window at theta = v_th, membrane units. width: what k follows, "theta" as in
    the paper or "deviation" as in the code. keep_v: share of the potential that leaks start to be
    learned from, in place of model's."""

    claims: ClassVar[frozenset[str]] = frozenset({"surrogate window", "threshold", "leak"})

    k0: float = Field(default=1.0, gt=0, le=1e6)
    width: Literal["theta", "deviation"] = "theta"
    keep_v: float = Field(default=0.2, gt=0, lt=1)

    def prepare(self, net: SpikingNet) -> None:
        """Put adaptive neurons in the place of plain ones."""
        for p in populations(net):
            if isinstance(p.whole, Recurrent):
                raise ValueError(
                    f"methods.dsatgo: layer {p.name!r} is recurrent and runs one step at a time,"
                    " where no step can have a threshold of its own; leave the method out"
                )
            lif = AdaptiveLif(p.lif, steps=net.steps, k0=self.k0, width=self.width)
            learned.learn_leak(lif, self.keep_v, f"methods.dsatgo, layer {p.name!r}")
            replaced(net, p.name, lif)

    def settle(self, net: SpikingNet) -> None:
        """Collapse the thresholds of a layer into their mean."""
        for p in populations(net):
            if isinstance(p.lif, AdaptiveLif):
                replaced(net, p.name, p.lif.plain())


def window_width(by: float, v_th: float, *, k0: float) -> float:
    """k: `by` is the threshold of the step (paper) or the deviation of U (code)."""
    return k0 * max(1 + math.tanh(by - v_th), LEAST_WIDTH)


class AdaptiveLif(Lif):
    """`lif` with thresholds `running` [T] that follow its potentials, membrane units.

    Raises ValueError in forward for windows of another length than `steps`.
    """

    running: Tensor

    def __init__(self, lif: Lif, *, steps: int, k0: float, width: str) -> None:
        v_th = float(lif.threshold)
        super().__init__(
            lif.keep_v, v_th=v_th, detach_reset=lif.detach_reset, v_init=float(lif.v_init)
        )
        self.base, self.k0, self.width = v_th, k0, width
        self.register_buffer("running", torch.full((steps,), v_th))
        self._potentials = torch.zeros(0)

    def forward(self, current: Tensor, steps: int | None = None) -> Tensor:
        """Spikes [T, B, ...], 0 or 1, of a current as `Lif` takes it."""
        steps = len(current) if steps is None else steps
        if steps != len(self.running):
            raise ValueError(
                f"methods.dsatgo: a window of {steps} steps reached neurons with"
                f" {len(self.running)} thresholds; give windows as long as in training"
            )
        keep_v, v = self.beta, self.v_init.expand_as(current[0])
        potentials: list[Tensor] = []
        spikes: list[Tensor] = []
        thetas: list[Tensor] = []
        for t, i in enumerate(current.expand(steps, *current.shape[1:])):
            u = keep_v * (v.detach() if self.detach_time else v) + i
            theta, k = self._theta(u.detach(), t)
            noise = self.noise * torch.randn_like(u) if self.training and self.noise else 0
            s = spike(u + noise - theta, Surrogate("rectangle", k))
            v = u * (1 - (s.detach() if self.detach_reset else s))
            potentials.append(u)
            spikes.append(s)
            thetas.append(theta)
        self._potentials = torch.stack(potentials)
        if self.training:
            self._follow(torch.stack(thetas))
        return torch.stack(spikes)

    def recall(self) -> Callable[[], Tensor]:
        """See `Lif`."""
        potentials = self._potentials
        return lambda: potentials

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_potentials": torch.zeros(0)}

    def _theta(self, u: Tensor, t: int) -> tuple[Tensor, float]:
        """Threshold and window width of step t."""
        mean, deviation = u.mean(), u.std(correction=0)
        theta = self.running[t]
        if self.training:
            theta = (mean + deviation).clamp(min=LEAST * self.base)
        by = theta if self.width == "theta" else deviation
        return theta, window_width(float(by), self.base, k0=self.k0)

    def _follow(self, thetas: Tensor) -> None:
        total = summed(torch.cat([thetas, thetas.new_ones(1)]))
        self.running = torch.lerp(self.running, total[:-1] / total[-1], MOMENTUM)
        self.threshold = self.running.mean()

    def plain(self) -> Lif:
        """Neurons with one threshold, the mean, and the paper's window there."""
        v_th = float(self.threshold)
        lif = Lif(self.keep_v, v_th=v_th, detach_reset=self.detach_reset, v_init=float(self.v_init))
        width = window_width(v_th, self.base, k0=self.k0)
        lif.window = Fixed(Surrogate("rectangle", width))
        lif.to(self.running.device)
        return lif
