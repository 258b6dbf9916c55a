"""SpikeFool: the nearest plane, the fewest flips across it, and what it finds."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spikeport.sim.attack import attack
from spikeport.sim.attack.events import FlipBudget, Flips, RandomFlips, SpikeFool
from spikeport.sim.attack.events.spikefool import until


@given(gain=st.lists(st.integers(-4, 9), min_size=1, max_size=7), wanted=st.integers(-3, 30))
def test_as_few_as_it_takes(gain: list[int], wanted: int) -> None:
    """By trying all sets."""
    found = until(torch.tensor([gain]).float(), torch.tensor([float(wanted)]))[0]
    sets = [c for k in range(len(gain) + 1) for c in itertools.combinations(range(len(gain)), k)]
    enough = [c for c in sets if c and sum(gain[i] for i in c) >= wanted]
    useful = sum(g > 0 for g in gain)
    total = sum(gain[i] for i in found.nonzero())
    assert all(gain[i] > 0 for i in found.nonzero())
    if not enough or not useful:
        assert int(found.sum()) == useful
    else:
        assert int(found.sum()) == max(1, min(map(len, enough)))
        assert total >= wanted


def plane(case: Any, i: int) -> tuple[Tensor, float]:
    """Of sample i of a linear model: gradient of the lead of the class whose plane is nearest, and
    how far that class is behind."""
    w, y = case.model.w.detach(), int(case.y[i])
    logits = case.x[i].flatten() @ w.T
    found = []
    for k in range(len(w)):
        if k != y:
            behind = float(logits[y] - logits[k])
            found.append((behind / float((w[k] - w[y]).norm()), w[k] - w[y], behind))
    _, slope, behind = min(found, key=lambda row: row[0])
    return slope, behind


@pytest.mark.parametrize("reach", [1.0, 1.5])
@pytest.mark.parametrize("largest", [1, 3])
def test_a_linear_model_is_crossed_by_the_fewest_flips(
    reach: float, largest: int, linear: Any, counting: Any
) -> None:
    case = linear if largest == 1 else counting
    spec = SpikeFool(steps=1, reach=reach)
    result = case.attack(spec, FlipBudget(flips=99, largest=largest))
    assert result.fooled.all()
    for i in range(len(case.x)):
        slope, behind = plane(case, i)
        x = case.x[i].flatten()
        gains = sorted(
            max(float(w) * (largest - c), float(-w) * c) for w, c in zip(slope, x, strict=True)
        )
        flips, made = 0, 0.0
        while made < reach * behind:
            flips, made = flips + 1, made + gains.pop()
        changed = result.x_adv[i].flatten() != x
        assert int(changed.sum()) == flips
        assert float(slope @ (result.x_adv[i].flatten() - x)) == pytest.approx(made)
    assert (result.queries == 3 + 2).all()  # clean, three planes, one train


def test_what_the_budget_cuts_are_the_smallest_gains(linear: Any) -> None:
    few, many = (
        linear.attack(SpikeFool(steps=1, reach=30.0), FlipBudget(flips=n)).x_adv for n in (4, 99)
    )
    for i in range(len(linear.x)):
        slope, _ = plane(linear, i)
        gain = (slope * (1 - 2 * linear.x[i].flatten())).reshape(linear.x[i].shape)
        best = gain.flatten().topk(4).values
        kept = gain[few[i] != linear.x[i]]
        if int((many[i] != linear.x[i]).sum()) >= 4:
            assert torch.equal(kept.sort(descending=True).values, best)


def test_the_nearest_plane_is_not_that_of_the_likeliest_class() -> None:
    """Class 1 is half a logit behind, but three cells must be filled for it; class 2 is five
    behind, which one cell makes good."""
    w = torch.tensor([[10.0, 0, 0, 0], [9.5, 0.2, 0.2, 0.2], [5, 20, 0, 0]])
    x, y = torch.tensor([[[1.0, 0], [0, 0]]]), torch.tensor([0])

    def cells(classes: int) -> list[float]:
        spec = SpikeFool(classes=classes, reach=1.0)
        budget = FlipBudget(flips=4, delete=False)
        found = attack(lambda x: x.flatten(1) @ w.T, x, y, spec, budget=budget, seed=0)
        return found.x_adv.flatten().tolist()

    assert cells(1) == [1, 1, 1, 1]
    assert cells(2) == [1, 1, 0, 0]


def test_rounds_go_on_from_the_train_they_reached(twin: Any) -> None:
    budget = FlipBudget(flips=24)
    one, many = (twin.attack(SpikeFool(steps=n), budget) for n in (1, 30))
    assert many.robust_accuracy < one.robust_accuracy


def test_spikefool_beats_random_flips_and_is_sparser_than_greed(twin: Any) -> None:
    budget = FlipBudget(flips=10)
    noise = twin.attack(RandomFlips(draws=100), budget)
    fool, greedy = twin.attack(SpikeFool(), budget), twin.attack(Flips(steps=40), budget)
    assert fool.robust_accuracy <= noise.robust_accuracy - 0.1
    lost = fool.fooled & greedy.fooled
    sizes = [budget.measure(r.x_adv, twin.x)[lost].mean() for r in (fool, greedy)]
    assert sizes[0] < sizes[1]


def test_only_what_the_budget_allows_is_flipped(twin: Any) -> None:
    for change, sign in (({"add": False}, -1), ({"delete": False}, 1)):
        budget = replace(FlipBudget(flips=6), **change)
        delta = twin.attack(SpikeFool(), budget).x_adv - twin.x
        assert (delta * sign >= 0).all()
        assert (delta != 0).any()
