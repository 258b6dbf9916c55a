"""Square attack: its schedule, its squares, and what it finds without gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.attack import Budget, Pgd, Square, attack
from spikeport.sim.attack.square import share_at, window


@pytest.mark.parametrize("queries", [10_000, 5_000, 1_000])
def test_share_follows_the_published_schedule(queries: int) -> None:
    spec = Square(queries=queries)
    shares = [share_at(i, spec) for i in range(queries)]
    assert shares[0] == 0.8
    assert shares == sorted(shares, reverse=True)
    at = {10: 0.8, 20: 0.4, 50: 0.4, 60: 0.2, 200: 0.2, 300: 0.1, 500: 0.1, 600: 0.05}
    at |= {1000: 0.05, 2000: 0.025, 4000: 0.0125, 6000: 0.00625, 8000: 0.003125}
    at |= {8010: 0.0015625, 9990: 0.0015625}
    for progress, share in at.items():
        assert shares[progress * queries // 10_000] == pytest.approx(share), progress


def test_share_starts_where_the_spec_says() -> None:
    assert share_at(0, Square(queries=7, share=0.3)) == 0.3
    assert share_at(6, Square(queries=7, share=0.32)) == pytest.approx(0.32 / 2**9)


@pytest.mark.parametrize(
    ("share", "height", "width", "expected"),
    [
        (0.8, 32, 32, (29, 29)),
        (0.8, 5, 20, (5, 5)),
        (0.05, 28, 28, (6, 6)),
        (0.0015625, 8, 8, (1, 1)),
        (0.25, 1, 40, (1, 10)),
        (0.001, 1, 40, (1, 1)),
    ],
)
def test_window_sizes(share: float, height: int, width: int, expected: tuple[int, int]) -> None:
    assert window(share, height=height, width=width) == expected


class Watcher(nn.Module):
    """Keeps what it is shown; constant logits, so that nothing is ever fooled."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits of three classes, the first ahead."""
        self.seen.append(x.clone())
        return torch.tensor([[1.0, 0.0, 0.0]]).expand(len(x), 3)


@pytest.mark.parametrize("sideways", [True, False])
def test_stripes_first_then_squares(sideways: bool) -> None:
    model, radius = Watcher(), 10
    x = torch.full((3, 2, 6, 9), 100 / 255)
    x += torch.arange(3).reshape(3, 1, 1, 1) / 255
    spec = Square(queries=40, sideways=sideways)
    result = attack(model, x, torch.zeros(3).long(), spec, budget=Budget(eps=10 / 255), seed=0)
    assert (result.queries == 41).all()
    _, stripes, *trials = [((shown - x) * 255).round() for shown in model.seen]
    assert (stripes.abs() == radius).all()
    assert (stripes == stripes[:, :, :1]).all()
    assert len({tuple(row.flatten().tolist()) for row in stripes[:, 0, 0]}) == 3
    previous = stripes
    for query, trial in enumerate(trials, start=1):
        rows, columns = window(share_at(query, spec), height=6, width=9)
        assert (trial.abs() == radius).all()
        changed = (trial != previous).any(1)
        for i in range(3):
            place = changed[i].nonzero()
            if len(place):
                extent = place.amax(0) - place.amin(0) + 1
                assert extent[0] <= rows
                assert extent[1] <= columns
                inside = trial[i][:, place[:, 0], place[:, 1]]
                assert (inside == inside[:, :1]).all()
        # Equal margins: the search moves on only if it may go sideways.
        previous = trial if sideways else stripes


def test_every_place_can_be_reached() -> None:
    model = Watcher()
    x = torch.full((1, 1, 4, 6), 0.4)
    x = (x * 255).round() / 255
    spec = Square(queries=400, sideways=False)
    attack(model, x, torch.zeros(1).long(), spec, budget=Budget(eps=9 / 255), seed=1)
    flipped = sum((a != model.seen[1]).float() for a in model.seen[2:])
    assert isinstance(flipped, Tensor)
    assert (flipped > 0).all()


class Hard(nn.Module):
    """Rounds its input: the gradient is exactly zero, the decision is not."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the inner model on coarse pixels."""
        logits: Tensor = self.inner((x * 16).round() / 16)
        return logits


def test_finds_what_gradients_cannot(conv: Any) -> None:
    model, budget = Hard(conv.model), Budget(eps=60 / 255)
    y = model.eval()(conv.x).argmax(1)
    square = attack(model, conv.x, y, Square(queries=150), budget=budget, seed=0)
    starved = attack(model, conv.x, y, Pgd(steps=10), budget=budget, seed=0)
    assert square.robust_accuracy <= 0.5
    assert starved.robust_accuracy >= square.robust_accuracy + 0.2


def test_sideways_steps_cross_the_plateaus_of_spike_counts(twin: Any) -> None:
    lost = {
        sideways: [
            attack(
                twin.model,
                twin.x,
                twin.y,
                Square(queries=100, sideways=sideways),
                budget=Budget(eps=20 / 255),
                seed=seed,
            ).fooled.sum()
            for seed in range(3)
        ]
        for sideways in (True, False)
    }
    assert sum(lost[True]) > sum(lost[False])
