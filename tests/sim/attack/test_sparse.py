"""Attacks on a few pixels: Sparse-RS, its schedule and its moves, and PGD in l0."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise, product
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.attack import Bim, Budget, Noise, Pgd, SparseRs, attack
from spikeport.sim.attack.losses import margin
from spikeport.sim.attack.sparse import corner, share_at, smallest


@pytest.mark.parametrize("queries", [10_000, 5_000, 1_000])
def test_share_follows_the_published_schedule(queries: int) -> None:
    spec = SparseRs(queries=queries, share=0.6)
    divisors = [round(0.6 / share_at(i, spec), 6) for i in range(queries)]
    assert divisors[0] == 1
    assert divisors == sorted(divisors)
    at = {50: 2, 60: 4, 200: 4, 210: 5, 500: 5, 510: 6, 1000: 6, 1010: 8, 2000: 8, 2010: 10}
    at |= {4000: 10, 4010: 12, 6000: 12, 6010: 15, 8000: 15, 8010: 20, 9990: 20}
    for progress, divisor in at.items():
        assert divisors[progress * queries // 10_000] == divisor, progress


def test_the_smallest_are_as_many_as_wanted_and_any_of_them() -> None:
    u = torch.rand(2000, 5, generator=torch.Generator().manual_seed(0))
    found = smallest(u, 2)
    assert (found.sum(1) == 2).all()
    assert all(u[i][found[i]].max() < u[i][~found[i]].min() for i in range(20))
    pairs = {tuple(row.nonzero().flatten().tolist()) for row in found}
    assert len(pairs) == 10
    assert ((found.float().mean(0) - 0.4).abs() < 0.05).all()
    assert corner(torch.tensor([0.0, 0.49, 0.5, 0.99])).tolist() == [1, 1, 0, 0]


class Watcher(nn.Module):
    """Keeps what it is shown; constant logits, so that nothing is ever fooled."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits of three classes, the first ahead."""
        self.seen.append(x.clone())
        return torch.tensor([[1.0, 0.0, 0.0]]).expand(len(x), 3)


def many_pixels(model: nn.Sequential, shape: tuple[int, ...]) -> Any:
    """40 random images on the grid with the model's own labels, for models of many pixels."""
    g = torch.Generator().manual_seed(6)
    for p in model.parameters():
        p.data = (torch.randn(p.shape, generator=g) * 16).round() / 64
    x = torch.randint(0, 256, (40, *shape), generator=g) / 255
    with torch.no_grad():
        model[-1].bias -= model(x).mean(0)
        return model, x, model(x).argmax(1)


@pytest.fixture
def flat() -> Any:
    return many_pixels(nn.Sequential(nn.Linear(196, 4)), (196,))


@pytest.fixture
def deep() -> Any:
    layers = (nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 196, 5))
    return many_pixels(nn.Sequential(*layers), (2, 14, 14))


def pixels(shape: tuple[int, ...], count: int) -> Tensor:
    """Grey images, no value at a corner."""
    x = torch.arange(count).reshape(-1, *[1] * len(shape)) + torch.full((count, *shape), 100.0)
    return x / 255


def changed(shown: Tensor, x: Tensor) -> Tensor:
    """bool [B, pixels]."""
    differs = shown != x
    return differs.any(1).flatten(1) if x.ndim == 4 else differs


def watched(
    run: Callable[..., Any], kind: Any, shape: tuple[int, ...], eps: int, sideways: bool
) -> tuple[Tensor, list[Tensor], Any]:
    model, x = Watcher(), pixels(shape, 3)
    spec = kind(queries=60, share=0.8, sideways=sideways)
    budget = Budget(eps=eps, norm="l0")
    result = run(model, x, torch.zeros(3).long(), spec, budget=budget, seed=0)
    assert (result.queries == 61).all()
    return x, model.seen[1:], spec


def is_the_search(
    run: Callable[..., Any], kind: Any, shape: tuple[int, ...], eps: int, sideways: bool
) -> bool:
    """Whether every move exchanges the right number of pixels for new ones at the corners."""
    x, (first, *trials), spec = watched(run, kind, shape, eps, sideways)
    size = changed(first, x).shape[1]
    count = min(eps, size)
    right = bool((changed(first, x).sum(1) == count).all())
    previous = first
    for query, trial in enumerate(trials, start=1):
        moved = min(max(int(share_at(query, spec) * count), 1), size - count or count)
        now, before = changed(trial, x), changed(previous, x)
        right &= set(trial[trial != x].tolist()) <= {0.0, 1.0}
        right &= bool((now.sum(1) == count).all())
        if count < size:
            right &= bool(((now & ~before).sum(1) == moved).all())
            right &= bool(((before & ~now).sum(1) == moved).all())
        stays = (changed(trial, previous).sum(1) <= 2 * moved).all()
        right &= bool(stays)
        # Equal margins: the search moves on only if it may go sideways.
        previous = trial if sideways else first
    return right


@pytest.mark.parametrize("sideways", [True, False])
@pytest.mark.parametrize(
    ("shape", "eps"), [((2, 6, 9), 10), ((30,), 7), ((1, 3, 3), 8), ((4,), 100), ((12,), 1)]
)
def test_every_move_exchanges_some_pixels(shape: tuple[int, ...], eps: int, sideways: bool) -> None:
    assert is_the_search(attack, SparseRs, shape, eps, sideways)


def test_every_pixel_and_colour_is_tried() -> None:
    x, seen, _ = watched(attack, SparseRs, (2, 3, 3), 3, True)
    shown = torch.stack(seen)
    assert (shown == 0).any(0).any(0).all()
    assert (shown == 1).any(0).any(0).all()
    starts = torch.stack([changed(s, x) for s in seen])
    assert len({tuple(row.tolist()) for row in starts[0]}) == 3, "one start for all samples"


MODULES = ("sim.attack.sparse", "sim.attack.run")
MUTANTS = {
    "schedule stands still": (
        "max(int(share_at(query, self) * count), 1)",
        "max(int(self.share * count), 1)",
    ),
    "nothing given back": (
        "trial = torch.where(given_back[:, None], x0, x)",
        "trial = torch.where(given_back[:, None], x, x)",
    ),
    "the old set is kept": ("chosen & ~given_back | entering, chosen)", "chosen, chosen)"),
    "grey colours": ("return (u < 0.5).to(u)", "return u"),
    "more come than leave": (
        "draws[:, 0].where(free, 2.0), moved)",
        "draws[:, 0].where(free, 2.0), moved + 1)",
    ),
    "never moves on": ("x = torch.where(rows(better, x), trial, x)", "x = 1 * x"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_caught(planted: Callable[..., ModuleType], mutant: str) -> None:
    wrong = planted(MODULES, MUTANTS[mutant])
    kind = wrong.ATTACKS["sparse-rs"]
    assert not is_the_search(wrong.attack, kind, (2, 6, 9), 10, True)


def least_margin(model: nn.Module, x: Tensor, y: Tensor, count: int) -> Tensor:
    """By trying every set of `count` pixels and every corner; [B]."""
    found = []
    for image, label in zip(x, y, strict=True):
        tries = []
        for places in combinations(range(x.shape[1]), count):
            for colours in product((0.0, 1.0), repeat=count):
                trial = image.clone()
                trial[list(places)] = torch.tensor(colours)
                tries.append(trial)
        logits = model(torch.stack(tries)).detach()
        found.append(margin(logits, label.expand(len(tries))).min())
    return torch.stack(found)


def test_it_finds_the_worst_of_all_sets_of_pixels(linear: Any) -> None:
    # A class with a lead, so that two pixels do not decide everything.
    model, x, y = nn.Linear(12, 4), linear.x, linear.y
    model.load_state_dict(linear.model.state_dict())
    model.bias.data += 3.0 * nn.functional.one_hot(y[0], 4)
    rows = y == y[0]
    x, y = x[rows], y[rows]
    least = least_margin(model, x, y, 2)
    budget = Budget(eps=2, norm="l0")
    found = attack(model, x, y, SparseRs(queries=1500), budget=budget, seed=0)
    assert torch.equal(found.fooled, least <= 0)
    assert (found.margin >= least - 1e-5).all()
    standing = ~found.fooled
    assert standing.sum() >= 2
    assert torch.allclose(found.margin[standing], least[standing], atol=1e-5)


@pytest.mark.parametrize("model", ["flat", "deep"])
def test_they_beat_noise(model: str, request: pytest.FixtureRequest) -> None:
    (net, x, y), budget = request.getfixturevalue(model), Budget(eps=3, norm="l0")
    noise, pgd, bim, sparse = (
        attack(net, x, y, spec, budget=budget, seed=0).robust_accuracy
        for spec in (
            Noise(draws=100),
            Pgd(steps=30, restarts=2),
            Bim(steps=20),
            SparseRs(queries=200),
        )
    )
    assert noise >= 0.15
    assert max(bim, sparse) <= noise - 0.07
    # A random start holds on to its pixels, so PGD gains less in l0.
    assert pgd <= noise - 0.05


def test_more_queries_find_more(deep: Any) -> None:
    net, x, y = deep
    budget = Budget(eps=2, norm="l0")
    runs = [
        attack(net, x, y, SparseRs(queries=n), budget=budget, seed=0).margin for n in (1, 30, 300)
    ]
    for few, many in pairwise(runs):
        assert many.clamp(min=0).sum() < few.clamp(min=0).sum()


def test_sideways_steps_cross_the_plateaus_of_spike_counts(twin: Any) -> None:
    lost = {
        sideways: sum(
            int(attack(
                twin.model, twin.x, twin.y, SparseRs(queries=40, sideways=sideways),
                budget=Budget(eps=2, norm="l0"), seed=seed,
            ).fooled.sum())
            for seed in range(3)
        )
        for sideways in (True, False)
    }  # fmt: skip
    assert lost[True] > lost[False]


def test_bad_settings_and_budgets_are_refused(linear: Any) -> None:
    with pytest.raises(ValueError, match=r"^sparse-rs: queries is 0"):
        SparseRs(queries=0)
    for share in (0.0, 1.1, float("nan")):
        with pytest.raises(
            ValueError, match=rf"^sparse-rs: share is {share}; allowed are 0..1, ab"
        ):
            SparseRs(share=share)
    with pytest.raises(ValueError, match=r"^sparse-rs: the budget is one of linf; this attack sea"):
        attack(linear.model, linear.x, linear.y, SparseRs(), budget=Budget(eps=0.1), seed=0)
