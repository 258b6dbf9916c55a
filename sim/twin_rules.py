"""Ways to send a gradient back through spiking neurons, for attackers. Needs torch.

A `Surrogate` with its fixed window is one of them and what networks are trained with; a defence
that empties this window starves attacks that use it. The rules here look at what the neurons did
before they choose the slopes ds/dv. Give any of them to a twin in place of a surrogate. The forward
pass never changes.

Distances d and drives are measured in thresholds. All rules look at one sample at a time, so that
a sample's gradient never depends on its neighbours. Populations whose potentials are read out pass
their gradient on as they are, with a fixed window: they hardly ever fire.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from spikeport.sim.surrogate import Surrogate

PLAIN = Surrogate("atan", 2.0)
"""Window of neurons whose potentials are read out."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a population did. fired [T, B, n]: v before the reset. threshold, unit (v per unit of
    d), keep_v, v_init: () or (n,). reset: of v. shape: the population's. past: what `Rule.learn`
    found before, of these samples; else `Rule.begin`, [T, B, n] each."""

    fired: Tensor
    threshold: Tensor
    unit: Tensor
    keep_v: Tensor
    v_init: Tensor
    reset: str
    shape: tuple[int, ...]
    past: tuple[Tensor, ...] = ()

    @cached_property
    def d(self) -> Tensor:
        """Distance to the threshold before the reset, in thresholds, [T, B, n]."""
        return (self.fired - self.threshold) / self.unit

    @cached_property
    def spikes(self) -> Tensor:
        """[T, B, n], 0 or 1, of the type of `fired`."""
        return (self.fired > self.threshold).to(self.fired.dtype)

    @cached_property
    def drive(self) -> Tensor:
        """What every step added to v, in thresholds, [T, B, n]."""
        after = self.fired * (1 - self.spikes)
        if self.reset == "subtract":
            after = self.fired - self.spikes * self.threshold
        start = self.v_init.to(after).expand_as(after[:1])
        return (self.fired - self.keep_v * torch.cat([start, after[:-1]])) / self.unit


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Base. through_time: v carries gradient from step to step. averaged: every step is given the
    mean over the steps of the gradient at a population's sums. whole: needs a population's whole
    life at once, so it cannot serve networks with loops. begin: values of what it remembers of a
    neuron, one for each tensor that `learn` gives."""

    name: ClassVar[str]
    through_time: ClassVar[bool] = True
    averaged: ClassVar[bool] = False
    whole: ClassVar[bool] = True
    begin: ClassVar[tuple[float, ...]] = ()

    def slopes(self, seen: Seen) -> Tensor:
        """ds/dd, [T, B, n] or [1, B, n] for every step."""
        raise NotImplementedError(f"rule {self.name!r} has no slopes; write them, see Rule")

    def learn(self, seen: Seen) -> tuple[Tensor, ...]:
        """Tensors [T, B, n] to see as `past`: first for the slopes of this very pass, then when
        the same samples are next differentiated, until the twin is told to forget."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Bptr(Rule):
    """Backward pass through the rate: a neuron that fired at all passes its gradient on unchanged,
    step by step (SNN-RAT, NeurIPS 2022)."""

    name = "bptr"
    through_time = False

    def slopes(self, seen: Seen) -> Tensor:
        """1 where the neuron fired in any step."""
        return (seen.spikes.sum(0, keepdim=True) > 0).to(seen.d)


@dataclass(frozen=True, kw_only=True)
class Rga(Rule):
    """Rate gradient approximation: the slope of the rate over the mean drive (RGA, CVPR 2023).
    `low` below what the leak takes; from there to one and `extra` thresholds what leads to a rate
    of 1; nothing outside."""

    name = "rga"
    through_time = False
    low: float = 0.2
    extra: float = 1.0

    def slopes(self, seen: Seen) -> Tensor:
        """Of the rate, [1, B, n]."""
        x, keep = seen.drive.mean(0, keepdim=True), seen.keep_v
        rising = (1 - self.low + self.low * keep) / (keep + self.extra)
        inside = (x >= 1 - keep) & (x <= 1 + self.extra)
        below = (x >= 0) & (x < 1 - keep)
        slope: Tensor = inside * rising + below * self.low
        return slope


@dataclass(frozen=True, kw_only=True)
class Hart(Rule):
    """Rate and time together: triangular windows of half-width `width`, no gradient from step to
    step, and every step is given the mean of all (HART, ICLR 2024, mode "avg"). The best
    width differs from network to network: try several."""

    name = "hart"
    through_time = False
    averaged = True
    width: float = 1.0

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"hart: width is {self.width}; it must be positive, in thresholds")

    def slopes(self, seen: Seen) -> Tensor:
        """Of the triangle."""
        return Surrogate("triangle", self.width)(seen.d)


@dataclass(frozen=True, kw_only=True)
class Pdsg(Rule):
    """A bell as wide as the potentials spread, its top half that width above the threshold (PDSG,
    CVPR 2025, arXiv 2503.03272). The spread is taken over the steps so far and, where neurons
    form maps, over a channel's map. The paper pools the samples of a batch as well."""

    name = "pdsg"

    def slopes(self, seen: Seen) -> Tensor:
        """Of the bell; where nothing spreads, one of width 1."""
        steps, batch, n = seen.d.shape
        channels = seen.shape[0] if len(seen.shape) == 3 else 1
        maps = seen.d.reshape(steps, batch, channels, n // channels)
        so_far = torch.arange(1, steps + 1, device=maps.device).reshape(-1, 1, 1, 1).to(maps)
        count = so_far * maps.shape[3]
        mean = maps.sum(3, keepdim=True).cumsum(0) / count
        square = maps.square().sum(3, keepdim=True).cumsum(0) / count
        spread = (square - mean.square()).clamp_min(0).sqrt()
        # Cancellation leaves some 1e-4 of the size of d where all are equal.
        spread = torch.where(spread > 1e-3 * square.sqrt(), spread, torch.ones_like(spread))
        z = maps / spread - 0.5
        return ((-z.square() / 2).exp() / (spread * math.sqrt(2 * math.pi))).reshape(seen.d.shape)


@dataclass(frozen=True, kw_only=True)
class Assg(Rule):
    """Adaptively sharpened surrogate gradient: every neuron's arctangent is as steep, step by step
    and sample by sample, as its own distances to the threshold allow (arXiv 2512.22522).

    The area that an arctangent has between 0 and d, on average over what a neuron does, is to be
    `area`, in (0, 1/2): the larger, the sharper. Running means of |d| and of its deviation say how
    far a neuron goes; memory, rho: share that they keep each time, weight of the deviation.
    """

    name = "assg"
    whole = False
    begin = (1.0, 0.0)
    area: float = 0.425
    memory: float = 0.9
    rho: float = 1.5

    def __post_init__(self) -> None:
        if not 0 < self.area < 0.5:
            raise ValueError(f"assg: area is {self.area}; allowed are 0..0.5, both excluded")
        if not 0 <= self.memory < 1:
            raise ValueError(f"assg: memory is {self.memory}; allowed are 0..1, below 1")

    @property
    def omega(self) -> float:
        """Slope of the arctangent times the distance at which the area is reached."""
        return 2 * math.tan(math.pi * self.area) / math.pi

    def learn(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Running means of |d| and of its deviation from that mean."""
        far, (mean, spread) = seen.d.abs(), seen.past
        mean = self.memory * mean + (1 - self.memory) * far
        return mean, self.memory * spread + (1 - self.memory) * (far - mean).abs()

    def slopes(self, seen: Seen) -> Tensor:
        """Of the arctangents."""
        mean, spread = seen.past
        slope = self.omega / (mean + self.rho * spread + 1e-4)
        h: Tensor = (slope / 2) / (1 + (math.pi / 2 * slope * seen.d).square())
        return h


RULES: dict[str, type[Rule]] = {kind.name: kind for kind in (Bptr, Rga, Hart, Pdsg, Assg)}
