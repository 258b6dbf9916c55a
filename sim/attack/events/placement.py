"""Events as packets that move in time: who is where, and a strict greedy placement.

A packet is what one non-empty cell holds; it moves as a whole, within its place, one to a cell
(Spike-Retiming Attacks, arXiv 2602.03284).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeport.sim.kernel import compiled

SHIFT, TOTAL_SHIFT, MOVES = range(3)
KINDS = {"shift": SHIFT, "total_shift": TOTAL_SHIFT, "moves": MOVES}


@dataclass(frozen=True, kw_only=True)
class Packets:
    """The packets of trains `x0` [B, T, ...]. sample, home, place: int64 [P], which sample, step
    and place (of the flattened rest) each is in, in that order. value: [P], events it holds."""

    x0: Tensor
    sample: Tensor
    home: Tensor
    place: Tensor
    value: Tensor

    @staticmethod
    def of(x0: Tensor) -> Packets:
        """The packets of `x0`."""
        flat = x0.flatten(2)
        sample, home, place = flat.nonzero(as_tuple=True)
        value = flat[sample, home, place]
        return Packets(x0=x0, sample=sample, home=home, place=place, value=value)

    @property
    def distance(self) -> Tensor:
        """|t - s| of every packet and step, int64 [P, T]."""
        steps = torch.arange(self.x0.shape[1], device=self.x0.device)
        return (steps - self.home[:, None]).abs()

    def at(self, x: Tensor) -> Tensor:
        """What `x` [B, T, ...] holds in every step at the place of each packet, [P, T]."""
        return x.flatten(2)[self.sample, :, self.place]

    def summed(self, values: Tensor) -> Tensor:
        """Trains [B, T, ...] to which each packet adds values [P, T] at its place."""
        grid = torch.zeros_like(self.x0.flatten(2)).transpose(1, 2)
        grid = grid.index_put((self.sample, self.place), values, accumulate=True)
        return grid.transpose(1, 2).reshape(self.x0.shape)

    def placed(self, wish: Tensor, *, norm: str, eps: int) -> Tensor:
        """Trains [B, T, ...] after the moves that `wish` [P, T] asks for, as far as the budget of
        `eps` in `norm` reaches; -inf bars a move.

        All moves (packet, t) with t != home are taken by falling wish, shorter first among equals,
        then in the order of packets and steps. A move is made if its cell is neither occupied nor
        the home of a packet that has not moved yet, if its packet has not moved and if the budget
        allows; who does not move stays.
        """
        wishes, far = (a.detach().cpu().numpy() for a in (wish, self.distance))
        steps, place = self.x0.shape[1], self.place.cpu().numpy()
        bins = self.home.cpu().numpy().copy()
        edges = np.searchsorted(self.sample.cpu().numpy(), np.arange(len(self.x0) + 1))
        for low, high in pairwise(edges):
            moves = np.flatnonzero((wishes[low:high] > -np.inf) & (far[low:high] > 0))
            reach = far[low:high].ravel()[moves]
            order = moves[np.lexsort((reach, -wishes[low:high].ravel()[moves]))]
            taken = np.zeros((steps, int(self.x0[0, 0].numel())), dtype=np.bool_)
            taken[bins[low:high], place[low:high]] = True
            _move(order, bins[low:high], place[low:high], taken, KINDS[norm], eps)
        to = torch.from_numpy(bins).to(self.home)
        flat = torch.zeros_like(self.x0).flatten(2)
        flat[self.sample, to, self.place] = self.value
        return flat.reshape(self.x0.shape)


@compiled
def _move(order: Any, bins: Any, place: Any, taken: Any, kind: Any, eps: Any) -> None:
    """Make the moves `order` (packet * T + t) of one sample: `bins` int64 [P] and `taken` bool
    [T, N] hold the homes, and afterwards where the packets are."""
    steps = len(taken)
    moved = np.zeros(len(bins), dtype=np.bool_)
    used = 0
    for move in order:
        packet, t = move // steps, move % steps
        if moved[packet] or taken[t, place[packet]]:
            continue
        cost = 1 if kind == MOVES else abs(t - bins[packet])
        if (cost if kind == SHIFT else used + cost) > eps:
            continue
        used += cost
        moved[packet] = True
        taken[bins[packet], place[packet]] = False
        taken[t, place[packet]] = True
        bins[packet] = t
