"""Attacks that move events in time and neither add nor delete any."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack.events.budget import RETIMINGS, RetimingBudget
from spikeport.sim.attack.events.placement import Packets
from spikeport.sim.attack.losses import LOSSES
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.spec import Attack

EXCESS = {"shift": 0.0, "total_shift": 10.0, "moves": 5.0}
LIMIT = 10.0
"""From the paper's code, as are the defaults of `Retiming` but for `steps` and `sampled`."""


@dataclass(frozen=True, kw_only=True)
class Retiming(Attack):
    """Spike retiming with projection in the loop (arXiv 2602.03284, ICLR 2026).

    Every packet has a preference for each step it may move to; their softmax at `temperature` is a
    soft placement, which `Packets.placed` makes strict. The model sees the strict one, and its
    gradient is taken for that of the soft one. Each of `steps` rounds (in the paper 20 for budgets
    of shift, else 40) moves the preferences by `length` up the sign of the gradient of loss -
    crowding * (soft cells above 1 packet) - excess * (soft changes above the budget).

    sampled: every round draws each packet's step from the soft placement (the likeliest wishes
    first), so that packets may stay and the search does not circle on the plateaus of integer
    networks. False is the published rule, by which every packet moves where room and budget allow.
    """

    name = "retiming"
    norms = RETIMINGS
    steps: int = 100
    length: float = 1.0
    temperature: float = 1.0
    crowding: float = 20.0
    sampled: bool = True
    loss: str = "margin"

    def __post_init__(self) -> None:
        checks.whole(self.steps, where="retiming: steps", low=1, high=1 << 20)
        checks.positive(self.length, where="retiming: length")
        checks.positive(self.temperature, where="retiming: temperature")
        if not 0 <= self.crowding < math.inf:
            raise ValueError(f"retiming: crowding is {self.crowding}; allowed are numbers from 0")
        checks.choice(self.loss, tuple(LOSSES), where="retiming: loss")

    def resolved(self, budget: RetimingBudget) -> dict[str, Any]:
        """The weight of what is over the budget."""
        return {"excess": EXCESS[budget.norm]}

    def run(self, oracle: Oracle) -> None:
        """Climb from equal preferences; round i is the same however many follow it."""
        oracle.restart()
        budget: RetimingBudget = oracle.budget
        packets = Packets.of(oracle.x0)
        barred = (packets.distance > budget.eps) & (budget.norm == "shift")
        liking = torch.zeros_like(packets.distance, dtype=oracle.x0.dtype)
        for _ in range(self.steps):
            if oracle.done:
                return
            x = self._strict(oracle, self._share(liking, barred), packets)
            pull = packets.at(oracle.gradient(x, LOSSES[self.loss])) * packets.value[:, None]
            with torch.enable_grad():
                liking.requires_grad_()
                share = self._share(liking, barred)
                goal = (share * pull).sum() - self._penalty(share, packets, budget)
                (slope,) = torch.autograd.grad(goal, liking)
            liking = (liking.detach() + self.length * slope.sign()).clamp(-LIMIT, LIMIT)
        oracle.ask(self._strict(oracle, self._share(liking, barred), packets))

    def _share(self, liking: Tensor, barred: Tensor) -> Tensor:
        """[P, T]: how much of each packet the soft placement puts into each step."""
        return (liking / self.temperature).masked_fill(barred, -math.inf).softmax(1)

    def _strict(self, oracle: Oracle, share: Tensor, packets: Packets) -> Tensor:
        """The strict placement of a soft one."""
        wish = share.log()
        if self.sampled:  # the largest of log share + Gumbel is a draw from share
            steps, *shape = oracle.x0.shape[1:]
            luck = oracle.streams.uniform(steps, steps, *shape).flatten(3)
            luck = luck[packets.sample, :, packets.home, packets.place]
            wish = wish - (-luck.clamp(1e-30, 1 - 1e-7).log()).log()
            wish = torch.where(wish == wish.amax(1, keepdim=True), wish, -math.inf)
        return packets.placed(wish, norm=oracle.budget.norm, eps=oracle.budget.eps)

    def _penalty(self, share: Tensor, packets: Packets, budget: RetimingBudget) -> Tensor:
        """What the soft placement pays, summed over samples so that none concerns another."""
        crowd = (packets.summed(share) - 1).clamp_min(0).square()
        paid = self.crowding * crowd.flatten(1).mean(1).sum()
        if budget.norm == "shift":
            return paid
        if budget.norm == "total_shift":
            spent = (share * packets.distance).sum(1)
        else:
            spent = 1 - share.gather(1, packets.home[:, None]).squeeze(1)
        total = share.new_zeros(len(packets.x0)).index_add(0, packets.sample, spent)
        over = (total - budget.eps).clamp_min(0) / budget.eps
        return paid + EXCESS[budget.norm] * over.sum()


@dataclass(frozen=True, kw_only=True)
class RandomRetiming(Attack):
    """`draws` trains in which packets, in random order, move each to a random step for as long as
    the budget lasts: the baseline of `Retiming`."""

    name = "random-retiming"
    blind = True
    norms = RETIMINGS
    draws: int = 100

    def __post_init__(self) -> None:
        checks.whole(self.draws, where="random-retiming: draws", low=1, high=1 << 20)

    def run(self, oracle: Oracle) -> None:
        """Try the draws one after the other; draw i is the same however many follow it."""
        budget: RetimingBudget = oracle.budget
        packets = Packets.of(oracle.x0)
        steps, shape = oracle.x0.shape[1], oracle.x0.shape[1:]
        reach = min(budget.eps, steps - 1) if budget.norm != "moves" else steps - 1
        for _ in range(self.draws):
            if oracle.done:
                return
            first, to = oracle.streams.uniform(*shape), oracle.streams.uniform(*shape)
            far = (to * (2 * reach + 1)).floor().clamp(max=2 * reach) - reach
            far = packets.at(far).gather(1, packets.home[:, None])
            wish = packets.at(first).gather(1, packets.home[:, None])
            there = torch.arange(steps, device=far.device) == packets.home[:, None] + far
            wish = torch.where(there, wish, -math.inf)
            oracle.ask(packets.placed(wish, norm=budget.norm, eps=budget.eps))
