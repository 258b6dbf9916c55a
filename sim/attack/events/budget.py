"""What an adversary may change in trains of events: which cells, or when their events come.

Trains are [B, T, n] or [B, T, C, H, W], samples first. A cell is one place in one time step; it
holds 0 or 1, or a whole count of events where a sensor counts them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack.events.placement import Packets
from spikeport.sim.attack.norms import largest, rows

RETIMINGS = ("shift", "total_shift", "moves")
"""How a retiming is measured: the largest |t - s| of an event moved from step s to t, their sum, or
the number of moved events (Spike-Retiming Attacks, arXiv 2602.03284: B_inf, B_1 and B_0)."""

MOST = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class FlipBudget:
    """Changed cells: at most `flips` in a sample, at most `per_step` in any one of its time steps
    (None: no limit). add, delete: whether cells may gain or lose events. largest: of the counts, 1
    for spikes. A cell counts once, whatever its change.
    """

    flips: int
    per_step: int | None = None
    add: bool = True
    delete: bool = True
    largest: int = 1

    def __post_init__(self) -> None:
        checks.whole(self.flips, where="flip budget: flips", low=0, high=MOST)
        if self.per_step is not None:
            checks.whole(self.per_step, where="flip budget: per_step", low=1, high=MOST)
        checks.whole(self.largest, where="flip budget: largest", low=1, high=1 << 16)
        if not (self.add or self.delete):
            raise ValueError(
                "flip budget: add and delete are both False; allow one, or use flips=0"
            )

    @property
    def norm(self) -> str:
        """How changes are measured."""
        return "flips"

    @property
    def radius(self) -> float:
        """0 where nothing may change, else 1."""
        return float(self.flips > 0)

    def aimed(self, direction: Tensor, x0: Tensor) -> Tensor:
        """The allowed counts that lie farthest from `x0` in `direction` (only its sign counts);
        x0's own where the direction is 0 or barred. Same shape."""
        low, high = self._range(x0)
        return torch.where(direction > 0, high, torch.where(direction < 0, low, x0))

    def toggled(self, x0: Tensor) -> Tensor:
        """Every cell as far from `x0` as it may go: empty cells filled, others emptied or, where
        only adding is allowed, filled."""
        emptied = self.aimed(-x0, x0)
        return torch.where(emptied == x0, self.aimed(torch.ones_like(x0), x0), emptied)

    def chosen(self, gain: Tensor) -> Tensor:
        """bool, shape of `gain` [B, T, ...]: of the largest sets of cells that keep within the
        limits the one whose gains sum to the most. Cells of gain -inf are never chosen; of equal
        ones the first.

        Taking the best of each step, then the best of what is left, is exact: a limit on the whole
        and one on each of its disjoint parts make a matroid, on which greed finds the optimum.
        """
        if self.per_step is not None:
            by_step = gain.flatten(0, 1).flatten(1)
            by_step = torch.where(_top(by_step, self.per_step), by_step, -math.inf)
            gain = by_step.reshape(gain.shape)
        return _top(gain.flatten(1), self.flips).reshape(gain.shape)

    def legal(self, x: Tensor, x0: Tensor) -> Tensor:
        """The legal train nearest to `x` in squared distance: where the limits bind, the cells that
        bring it nearest are changed, the first among equals. NaN wishes for no change."""
        x = torch.where(x.isnan(), x0, x)
        low, high = self._range(x0)
        wanted = x.round().clamp(low, high)
        gain = (wanted - x0) * (2 * x - wanted - x0)  # (x - x0)**2 - (x - wanted)**2
        gain = torch.where(wanted == x0, -math.inf, gain)
        return torch.where(self.chosen(gain), wanted, x0)

    def measure(self, x: Tensor, x0: Tensor) -> Tensor:
        """Changed cells of each sample, float64 [B]."""
        return (x != x0).flatten(1).sum(1).double()

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless `x` holds whole counts 0..largest."""
        _check_counts(x)
        if x.max() > self.largest:
            raise ValueError(
                f"attack: a cell of x holds {float(x.max()):.4g} events; allowed are"
                f" 0..{self.largest}; set the budget's largest"
            )

    def _range(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Fewest and most events that each cell may hold."""
        low = torch.zeros_like(x0) if self.delete else x0
        return low, torch.full_like(x0, self.largest) if self.add else x0


@dataclass(frozen=True, kw_only=True)
class RetimingBudget:
    """Events that come earlier or later, none added or lost: a cell's events move together, within
    their place, into a step where it is empty or becomes so. norm: see RETIMINGS. eps: a whole
    number of steps, or of moved cells for "moves".
    """

    eps: int
    norm: str

    def __post_init__(self) -> None:
        checks.choice(self.norm, RETIMINGS, where="retiming budget: norm")
        checks.whole(self.eps, where="retiming budget: eps", low=0, high=MOST)

    @property
    def radius(self) -> float:
        """0 where nothing may change, else 1."""
        return float(self.eps > 0)

    def legal(self, x: Tensor, x0: Tensor) -> Tensor:
        """`x` where it is a legal retiming of `x0`; else one near it: moves from cells that should
        lose to cells that should gain are made greedily, largest wish first."""
        fits = self.measure(x, x0) <= self.eps
        if fits.all():
            return x
        packets = Packets.of(x0)
        wish = packets.at(x) - packets.at(x).gather(1, packets.home[:, None])
        wish = torch.where(wish > 0, wish * packets.value[:, None], -math.inf)
        near = packets.placed(wish, norm=self.norm, eps=self.eps)
        return torch.where(rows(fits, x), x, near)

    def measure(self, x: Tensor, x0: Tensor) -> Tensor:
        """Size of each sample's smallest retiming that leads from `x0` to `x`, float64 [B];
        infinite where none does.

        Events of one place and one count cannot be told apart: matched in order, their largest and
        their summed shift are smallest; matched where they stay, their moves are.
        """
        homes = (-x0).argsort(dim=1, stable=True)  # by count, then by time
        bins = (-x).argsort(dim=1, stable=True)
        counts = x0.gather(1, homes)
        shifts = ((bins - homes).abs() * (counts > 0)).flatten(1)
        if self.norm == "shift":
            size = shifts.amax(1)
        elif self.norm == "total_shift":
            size = shifts.sum(1)
        else:
            size = ((x != x0) & (x0 > 0)).flatten(1).sum(1)
        matched = (x.gather(1, bins) == counts).flatten(1).all(1)
        return torch.where(matched, size.double(), math.inf)

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless `x` holds whole counts from 0."""
        _check_counts(x)


def flips_of(budget: Any, name: str) -> FlipBudget:
    """`budget`, if its cells can be flipped; attacks that do call it in their `check`."""
    if isinstance(budget, FlipBudget):
        return budget
    raise ValueError(
        f"{name}: the budget is a {type(budget).__name__}; this attack flips cells; use FlipBudget"
    )


def _check_counts(x: Tensor) -> None:
    if not torch.isfinite(x).all():
        raise ValueError("attack: x holds NaN or infinity; repair the trains first")
    wrong = x[(x < 0) | (x != x.round())]
    if len(wrong):
        raise ValueError(
            f"attack: a cell of x holds {float(wrong[0]):.4g} events; allowed are whole counts"
            f" from 0; bin or round the trains first"
        )


def _top(values: Tensor, count: int) -> Tensor:
    """bool [N, M]: the `count` largest entries of each row, the first among equals, never -inf."""
    return largest(values, count) & (values > -math.inf)
