"""SpikeFool: as few flips as it takes to cross the nearest boundary between classes.

Buechel et al. 2022 (arXiv 2110.02929), which is SparseFool (Modas et al. 2019, arXiv 1811.02248) on
trains, after the authors' code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack.losses import Loss
from spikeport.sim.attack.norms import rows
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.spec import Attack


@dataclass(frozen=True, kw_only=True)
class SpikeFool(Attack):
    """Each of `steps` rounds takes the boundaries towards the likeliest `classes` for planes, picks
    the nearest, and flips, from the train where the last round ended, the cells that lead across,
    those of most gain first, until they have made up `reach` times the logits that are missing.

    Where the budget does not allow all flips, those of most gain are kept. The authors follow the
    boundary through values between 0 and 1 (up to 50 steps a round, all classes, 20 rounds, reach 2
    or 3); here a model is shown whole trains alone, so each round takes one step from such a train.
    """

    name = "spikefool"
    norms = ("flips",)
    steps: int = 40
    classes: int = 3
    reach: float = 2.0

    def __post_init__(self) -> None:
        checks.whole(self.steps, where="spikefool: steps", low=1, high=1 << 20)
        checks.whole(self.classes, where="spikefool: classes", low=1, high=1 << 20)
        checks.positive(self.reach, where="spikefool: reach")

    def run(self, oracle: Oracle) -> None:
        """Flip until fooled; round i is the same however many follow it."""
        oracle.restart()
        budget, x0, x = oracle.budget, oracle.x0, oracle.x0
        worth = torch.full_like(x0, -math.inf)  # gains of the flips made
        for _ in range(self.steps):
            if oracle.done:
                return
            slope, missing = self._nearest(oracle, x)
            goal = budget.aimed(slope, x0)
            gain = slope * (goal - x)
            taken = until(gain, self.reach * missing)
            x = torch.where(taken, goal, x)
            worth = torch.where(taken, torch.where(goal == x0, -math.inf, gain), worth)
            kept = budget.chosen(worth)
            x, worth = torch.where(kept, x, x0), torch.where(kept, worth, -math.inf)
            oracle.ask(x)

    def _nearest(self, oracle: Oracle, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient [B, T, ...] of the lead of the class whose plane is nearest to `x`, and by how
        much that class is behind [B]."""
        least = torch.full_like(oracle.margin, math.inf)
        slope, missing = torch.zeros_like(x), torch.zeros_like(least)
        likeliest = oracle.clean_logits.scatter(1, oracle.y[:, None], -math.inf)
        order = likeliest.argsort(dim=1, descending=True, stable=True)[:, :-1]
        for other in order[:, : self.classes].T:
            found = oracle.gradient(x, lead_of(other, oracle))
            behind = -oracle.path[-1]
            distance = behind / found.flatten(1).norm(dim=1)
            nearer = distance < least  # never for NaN, of samples that are lost
            least = torch.where(nearer, distance, least)
            missing = torch.where(nearer, behind, missing)
            slope = torch.where(rows(nearer, slope), found, slope)
        return slope, missing


def lead_of(other: Tensor, oracle: Oracle) -> Loss:
    """z_other - z_y, for classes int64 [B] of all samples."""

    def lead(logits: Tensor, y: Tensor) -> Tensor:
        theirs, own = (logits.gather(1, k[:, None]) for k in (other[oracle.alive], y))
        return (theirs - own).squeeze(1)

    return lead


def until(gain: Tensor, wanted: Tensor) -> Tensor:
    """bool, shape of `gain` [B, ...]: its largest entries, one at least, as many as it takes for
    their sum to reach `wanted` [B]; only those above 0, and the first among equals."""
    flat = gain.flatten(1).clamp_min(0)
    order = flat.argsort(dim=1, descending=True, stable=True)
    best = flat.gather(1, order)
    needed = (best > 0) & (best.cumsum(1) - best < wanted[:, None].clamp_min(1e-30))
    return torch.zeros_like(needed).scatter(1, order, needed).reshape(gain.shape)
