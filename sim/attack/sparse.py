"""Sparse-RS: random search for the few pixels that matter, no gradients.

Croce et al. 2022 (arXiv 2006.12834), L0, untargeted. Like the square attack it also runs on a chip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack.norms import largest, rows
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.spec import Attack

DIVISORS = (
    (0, 2), (50, 4), (200, 5), (500, 6), (1000, 8), (2000, 10), (4000, 12), (6000, 15), (8000, 20),
)  # fmt: skip
"""(queries of 10 000, what the first share is divided by after them); from the paper."""


@dataclass(frozen=True, kw_only=True)
class SparseRs(Attack):
    """`queries` images a sample, the original not counted. share: of the changed pixels that the
    first moves exchange for others, in (0, 1]. sideways: also keep moves that leave the margin as
    it is, as in Square; False is the published rule. A sample leaves as soon as it is fooled.
    """

    name = "sparse-rs"
    blind = True
    norms = ("l0",)
    queries: int = 1000
    share: float = 0.3
    sideways: bool = True

    def __post_init__(self) -> None:
        checks.whole(self.queries, where="sparse-rs: queries", low=1, high=1 << 20)
        if not 0 < self.share <= 1:
            raise ValueError(f"sparse-rs: share is {self.share}; allowed are 0..1, above 0")

    def run(self, oracle: Oracle) -> None:
        """Start from random pixels with random corner colours (every value 0 or 1), then give some
        of them back for others, as long as that does not raise the margin.

        Vectors [B, n] are searched as n pixels of one value.
        """
        shape = oracle.x0.shape
        x0 = oracle.x0.flatten(2) if len(shape) == 4 else oracle.x0[:, None]
        channels, pixels = x0.shape[1:]
        count = min(int(oracle.budget.eps), pixels)
        draws = oracle.streams.uniform(1 + channels, pixels)
        chosen = smallest(draws[:, 0], count)
        x = torch.where(chosen[:, None], corner(draws[:, 1:]), x0)
        best = oracle.ask(x.reshape(shape))
        for query in range(1, self.queries):
            if oracle.done:
                return
            draws = oracle.streams.uniform(1 + channels, pixels)
            moved = min(max(int(share_at(query, self) * count), 1), pixels - count or count)
            leaving = smallest(draws[:, 0].where(chosen, 2.0), moved)
            # With every pixel chosen none is left to come in: some change colour instead.
            free = ~chosen if count < pixels else leaving
            entering = smallest(draws[:, 0].where(free, 2.0), moved) & free
            given_back = leaving if count < pixels else torch.zeros_like(leaving)
            trial = torch.where(given_back[:, None], x0, x)
            trial = torch.where(entering[:, None], corner(draws[:, 1:]), trial)
            margin = oracle.ask(trial.reshape(shape))
            better = margin <= best if self.sideways else margin < best
            best = torch.where(better, margin, best)
            x = torch.where(rows(better, x), trial, x)
            chosen = torch.where(better[:, None], chosen & ~given_back | entering, chosen)


def share_at(query: int, spec: SparseRs) -> float:
    """Share of the changed pixels that query 0 .. queries - 1 exchanges."""
    progress = 10_000 * query // spec.queries
    return spec.share / max([1, *(divisor for after, divisor in DIVISORS if progress > after)])


def smallest(u: Tensor, count: int) -> Tensor:
    """bool [B, n]: the `count` smallest of u [B, n], each subset alike where u is random."""
    return largest(-u, count)


def corner(u: Tensor) -> Tensor:
    """Draws in [0, 1) turned into 0 or 1 with equal chance."""
    return (u < 0.5).to(u)
