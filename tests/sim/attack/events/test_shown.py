"""Trains with samples first, and what changed in them."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from spikeport.sim.attack import attack
from spikeport.sim.attack.events import FlipBudget, Flips, Shown, changes


def test_a_shown_twin_is_the_twin(twin: Any) -> None:
    x = twin.x[:5]
    logits = twin.model(x)
    assert torch.equal(logits, twin.model.model(x.transpose(0, 1).contiguous()))
    alone = torch.cat([twin.model(train[None]) for train in x])
    assert torch.equal(logits, alone)


class Summing(nn.Module):
    """Sums over time."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, n] of x [T, B, n]."""
        return x.sum(0)


class Remembering(nn.Module):
    """Notes what attacks tell a model whose gradients remember."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, 2] of x [T, B, n]."""
        logits: Tensor = 2 - x.sum(0)[:, :2]
        return logits

    def attend(self, rows: Tensor, *, samples: int, learn: bool = True) -> None:
        """Note which samples come next."""
        self.told.append((rows.tolist(), samples, learn))

    def forget(self) -> None:
        """Note that a climb begins."""
        self.told.append("forget")


def test_what_gradients_remember_is_passed_on() -> None:
    model = Shown(Remembering())
    model.forget()
    model.attend(torch.tensor([0, 2]), samples=3)
    model.attend(torch.tensor([1]), samples=3, learn=False)
    assert model.model.told == ["forget", ([0, 2], 3, True), ([1], 3, False)]
    model = Shown(nn.Flatten())
    model.forget()  # which needs none of it
    model.attend(torch.tensor([0]), samples=1)


def test_attacks_tell_a_shown_model_what_it_is_shown() -> None:
    model = Shown(Remembering())
    x = torch.zeros(2, 3, 4)
    x[1, :2, 1] = 1  # the other is a tie, and leaves at once
    attack(model, x, torch.tensor([0, 0]), Flips(steps=1), budget=FlipBudget(flips=1), seed=0)
    assert model.model.told == ["forget", "forget", ([1], 2, True)]


def test_events_are_shown_in_the_units_of_the_input() -> None:
    x = torch.tensor([[[3.0, 6.0], [0.0, 9.0]]])
    for unit, logits in ((1.0, [3.0, 15.0]), (3.0, [1.0, 5.0])):
        shown = Shown(Summing(), unit=unit)(x)
        assert shown.tolist() == [logits]


counts = st.lists(st.integers(0, 2), min_size=4, max_size=4)


@given(k0=counts, k=counts)
def test_changes_are_the_fewest_that_explain(k0: list[int], k: list[int]) -> None:
    """At one place, by trying all ways to pair lost events with new ones."""
    lost = [t for t in range(4) for _ in range(max(0, k0[t] - k[t]))]
    new = [t for t in range(4) for _ in range(max(0, k[t] - k0[t]))]
    ways = [
        (pairs, len(new) - pairs, len(lost) - pairs)
        for pairs in range(min(len(lost), len(new)) + 1)
    ]
    fewest = min(ways, key=sum)
    x0, x = (torch.tensor(a, dtype=torch.float32).reshape(1, 4, 1) for a in (k0, k))
    found = changes(x, x0)
    assert (int(found.moved), int(found.added), int(found.deleted)) == fewest
    assert int(found.spikes) == sum(k) - sum(k0)


def test_events_move_within_their_place_and_sample_alone() -> None:
    x0, x = torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)
    x0[0, 0, 0], x[0, 1, 0] = 1, 1  # moved
    x0[1, 0, 0], x[1, 0, 1] = 1, 1  # another place
    found = changes(x, x0)
    assert found.moved.tolist() == [1, 0]
    assert found.added.tolist() == found.deleted.tolist() == [0, 1]
    assert found.spikes.tolist() == [0, 0]


def test_maps_are_counted_place_by_place(maps: Any) -> None:
    budget = FlipBudget(flips=3)
    x_adv = maps.attack(Flips(steps=3), budget).x_adv
    found = changes(x_adv, maps.x)
    total = found.added + found.deleted + 2 * found.moved
    assert torch.equal(total.double(), budget.measure(x_adv, maps.x))
    sums = [a.flatten(1).sum(1).long() for a in (x_adv, maps.x)]
    assert torch.equal(found.spikes, sums[0] - sums[1])
    assert list(itertools.chain(found.moved.shape, found.spikes.shape)) == [24, 24]
