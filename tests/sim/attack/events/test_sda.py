"""SDA, held to its rules on single samples, and its reduction to every prefix."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.attack import attack
from spikeport.sim.attack.events import FlipBudget, Sda
from spikeport.sim.attack.events.sda import reduce
from spikeport.sim.attack.losses import margin
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.streams import Streams

SHAPE = (5, 8)
CELLS = 40
UNBOUND = FlipBudget(flips=CELLS)


class Bent(nn.Module):
    """A smooth net whose gradients mislead: no cell has gradient 0, nor do two have the same."""

    def __init__(self, bend: float, lead: float) -> None:
        super().__init__()
        self.lead = lead
        g = torch.Generator().manual_seed(4)
        self.w = nn.Parameter(torch.randn(CELLS, 12, generator=g, dtype=torch.float64) * bend)
        self.v = nn.Parameter(torch.randn(12, 3, generator=g, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, 3] of x [B, 5, 8]."""
        logits: Tensor = torch.sin(x.double().flatten(1) @ self.w) @ self.v
        return logits.add(torch.tensor([self.lead, 0, 0]))


def samples(model: nn.Module, count: int) -> tuple[Tensor, Tensor]:
    """Those of many random trains of which the net is surest, so that one round is too few."""
    g = torch.Generator().manual_seed(5)
    x = torch.randint(0, 2, (40 * count, *SHAPE), generator=g).double()
    logits = model(x).detach()
    y = logits.argmax(1)
    surest = margin(logits, y).argsort(descending=True)[:count]
    return x[surest], y[surest]


def loss(model: Any, x: Tensor, label: int) -> Tensor:
    """J of one train [cells]: the margin, at least 0."""
    logits = model(x.reshape(1, *SHAPE))[0]
    others = torch.cat([logits[:label], logits[label + 1 :]])
    found: Tensor = (logits[label] - others.max()).clamp_min(0)
    return found


def rerun(model: Any, x0: Tensor, label: int, *, steps: int, first: int) -> Tensor:
    """methods.md 5.6 for one sample [cells] without zero gradients, one flip at a time; a single
    flip that fools ends the search."""
    change: dict[int, float] = {}

    def flipped(cells: Any) -> Tensor:
        x = x0.clone()
        for cell in cells:
            x[cell] = 1 - x[cell]
        return x

    def fooled(cells: Any) -> bool:
        return float(loss(model, flipped(cells), label).detach()) == 0

    def search() -> dict[int, float] | None:
        nonlocal change
        for n in range(steps):
            x = flipped(change).requires_grad_()
            j = loss(model, x, label)
            (g,) = torch.autograd.grad(j, x)
            x, j = x.detach(), j.detach()
            useful = [
                i for i in range(CELLS)
                if i not in change and 0 <= float(x[i] - g[i].sign()) <= 1
            ]  # fmt: skip
            assert len(useful) >= first * (n + 1), "random ranks would be needed"
            useful.sort(key=lambda i: -abs(float(g[i])))
            new = dict(change)
            for i in useful[: first * (n + 1)]:
                new[i] = float(loss(model, flipped([*change, i]), label).detach() - j)
                if fooled([*change, i]):
                    return {**change, i: new[i]}
            change = {i: fd for i, fd in new.items() if fd <= 0}
            if fooled(change):
                return change
        return None

    found = search()
    if found is None:
        return x0
    order = sorted(found, key=lambda i: (abs(found[i]), i))
    best, low, high = order, 0, len(order) - 1
    while low <= high:
        middle = (low + high) // 2
        if fooled(order[middle + 1 :]):
            best, low = order[middle + 1 :], middle + 1
        else:
            high = middle - 1
    return flipped(best)


def agree(kind: Any, *, bend: float, lead: float, steps: int, first: int) -> bool:
    """Whether an Sda does the same to a batch as the rules do to each of its samples."""
    model = Bent(bend, lead)
    x, y = samples(model, 16)
    result = attack(model, x, y, kind(steps=steps, first=first), budget=UNBOUND, seed=0)
    for new, old, label, lost in zip(result.x_adv, x, y.tolist(), result.fooled, strict=True):
        wanted = rerun(model, old.flatten(), label, steps=steps, first=first)
        if bool(lost) != bool((wanted != old.flatten()).any()):
            return False
        if lost and not torch.equal(new.flatten(), wanted):
            return False
    return True


RUNS: tuple[dict[str, Any], ...] = (
    {"bend": 0.25, "lead": 2, "steps": 3, "first": 3},
    {"bend": 0.5, "lead": 2, "steps": 3, "first": 3},
    {"bend": 0.5, "lead": 5, "steps": 4, "first": 2},
)


@pytest.mark.parametrize("settings", RUNS)
def test_a_batch_is_attacked_as_its_samples_are(settings: dict[str, Any]) -> None:
    assert agree(Sda, **settings)


def test_flips_that_raise_the_margin_are_not_kept() -> None:
    assert leaves_harmful_flips_out(Sda)


def test_a_full_budget_makes_room_for_better_flips() -> None:
    assert makes_room(Sda)


def makes_room(kind: Any) -> bool:
    """The first cell promises 9 and gives 1, the last promises 5 and gives 5."""

    def model(x: Tensor) -> Tensor:
        gain = 10 + 8 * x[:, 0, 0] ** 2 - 9 * x[:, 0, 0] - 5 * x[:, 0, -1]
        return torch.stack([gain, 0 * gain], 1)

    x, y = torch.zeros(1, 1, 3), torch.tensor([0])
    result = attack(
        model, x, y, kind(steps=2, first=1), budget=FlipBudget(flips=1), seed=0
    )  # fmt: skip
    return result.x_adv.tolist() == [[[0, 0, 1]]]


def leaves_harmful_flips_out(kind: Any) -> bool:
    """The first cell promises 20 and costs 5; three of the others, at 3 each,
    fool: four are flipped, of which one is taken back."""

    def model(x: Tensor) -> Tensor:
        first, rest = x[:, 0, 0], x[:, 0, 1:].sum(1)
        gain = 8 - 3 * rest + 25 * first**2 - 20 * first
        return torch.stack([gain, 0 * gain], 1)

    x, y = torch.zeros(1, 1, 6), torch.tensor([0])
    result = attack(model, x, y, kind(steps=2, first=2), budget=UNBOUND, seed=0)
    return result.x_adv.tolist() == [[[0, 0, 1, 1, 1, 0]]]


FAULTS = {
    "harmful flips stay": ("torch.where(tried > 0, math.inf, tried)", "tried"),
    "every round tries as many": ("self.first * (n + 1)", "self.first"),
    "cells of the wrong sign": ("- x0) * gradient < 0", "- x0) * gradient > 0"),
    "the least gradients first": (
        "argsort(dim=1, descending=True, stable=True)[", "argsort(dim=1, stable=True)[",
    ),
    "flips are tried together": ("trial = old.scatter", "old = trial = old.scatter"),
    "tries give way to older flips": ("where(free, -math.inf, known)", "where(free, -1e-9, known)"),
    "no reduction": ("        reduce(oracle, change)", "        pass"),
    "strong flips are taken back": (
        "math.inf)\n    rank = weak.argsort(dim=1, stable=True)",
        "-math.inf)\n    rank = weak.argsort(dim=1, stable=True, descending=True)",
    ),
    "the last flip is forgotten": ("last = torch.where(fooled, old.scatter", (
        "last = torch.where(fooled & False, old.scatter"
    )),
    "one flip too few is taken back": ("back = rank <= rows(", "back = rank < rows("),
}  # fmt: skip


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_planted_faults_are_found(fault: str | None, planted: Callable[..., ModuleType]) -> None:
    kind = planted(("sim.attack.events.sda",), *[FAULTS[f] for f in [fault] if f]).Sda
    same = all(agree(kind, **settings) for settings in RUNS)
    assert (same and leaves_harmful_flips_out(kind) and makes_room(kind)) == (fault is None)


def test_reduction_takes_back_the_longest_prefix_that_can_be_spared() -> None:
    """On a linear model, where every prefix says the same: all of them are tried."""
    g = torch.Generator().manual_seed(0)
    w = torch.randint(1, 30, (CELLS,), generator=g).float()

    def model(x: Tensor) -> Tensor:
        gain = 200 - x.flatten(1) @ w
        return torch.stack([gain, torch.zeros_like(gain)], 1)

    x, y = torch.zeros(6, *SHAPE), torch.zeros(6, dtype=torch.int64)
    streams = Streams(x, y, seed=0, name="sda")
    oracle = Oracle(model, x, y, budget=UNBOUND, streams=streams)
    made = torch.rand(6, CELLS, generator=g) < torch.tensor(
        [[0.2], [0.6], [0.7], [0.8], [0.9], [1]]
    )
    oracle.ask(made.float().reshape(x.shape))
    before = oracle.queries.clone()
    change = torch.where(made, -w.expand(6, CELLS), math.inf)
    reduce(oracle, change.reshape(x.shape))
    assert (oracle.margin > 0).tolist() == [True] + 5 * [False]
    assert oracle.queries[0] == before[0]
    assert (oracle.queries - before)[1:].max() <= math.ceil(math.log2(CELLS + 1))
    for row in range(1, 6):
        cells = sorted(made[row].nonzero().flatten().tolist(), key=lambda i: (float(w[i]), i))
        spared = [k for k in range(len(cells)) if 200 - sum(w[i] for i in cells[k:]) <= 0]
        wanted = torch.zeros(CELLS)
        wanted[cells[max(spared) :]] = 1
        assert torch.equal(oracle.x_adv[row].flatten(), wanted)


def flat(x: Tensor) -> Tensor:
    """No gradient anywhere, and nothing fools it."""
    gain = 5 + 0 * x.flatten(1).sum(1)
    return torch.stack([gain, 0 * gain], 1)


def test_without_gradients_cells_are_drawn_at_random() -> None:
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return flat(x)

    x, y = torch.zeros(1, *SHAPE), torch.tensor([0])
    for seed in (0, 0, 1):
        result = attack(model, x, y, Sda(steps=2, first=3), budget=FlipBudget(flips=99), seed=seed)
        assert int(result.queries) == 1 + (1 + 3 + 1) + (1 + 6 + 1)
    runs = [torch.cat(seen[i * 14 : (i + 1) * 14]) for i in range(3)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    tried = runs[0].flatten(1).sum(1).tolist()
    assert tried == [0, 0, 1, 1, 1, 3, 3, 4, 4, 4, 4, 4, 4, 9]


def test_tries_end_when_all_cells_are_flipped() -> None:
    x, y = torch.zeros(1, 2, 2), torch.tensor([0])
    result = attack(flat, x, y, Sda(steps=3, first=3), budget=FlipBudget(flips=99), seed=0)
    assert int(result.queries) == 1 + (1 + 3 + 1) + 2 * (1 + 4 + 1)
