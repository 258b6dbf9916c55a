"""An attack of one's own, in ten lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from spikeport.sim.attack import Attack, Budget, Noise, Oracle, attack, evaluate
from spikeport.sim.attack.losses import cross_entropy

BUDGET = Budget(eps=30 / 255)


@dataclass(frozen=True, kw_only=True)
class Walk(Attack):
    """Steps of a random length up the gradient."""

    name = "walk"
    steps: int = 10

    def run(self, oracle: Oracle) -> None:
        """Walk from the original."""
        x = oracle.x0
        for _ in range(self.steps):
            length = oracle.budget.radius * oracle.streams.uniform(1)
            x = x + length * oracle.gradient(x, cross_entropy).sign()
        oracle.ask(x)


def test_it_is_judged_like_ours(linear: Any) -> None:
    found = attack(linear.model, linear.x, linear.y, Walk(), budget=BUDGET, seed=0)
    again = attack(linear.model, linear.x, linear.y, Walk(), budget=BUDGET, seed=0)
    noise = attack(linear.model, linear.x, linear.y, Noise(), budget=BUDGET, seed=0)
    assert torch.equal(found.x_adv, again.x_adv)
    assert BUDGET.measure(found.x_adv, linear.x).max() <= BUDGET.radius
    assert found.robust_accuracy < noise.robust_accuracy
    specs = {"walk-10": Walk()}
    table = evaluate({"m": linear.model}, linear.x, linear.y, specs=specs, budget=BUDGET, seed=0)
    assert table.models["m"].attacks["walk-10"].settings == {"attack": "walk", "steps": 10}


def test_it_must_search(linear: Any) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Idle(Attack):
        name = "idle"

    with pytest.raises(NotImplementedError, match=r"^attack 'idle' has no run; write one, see Att"):
        attack(linear.model, linear.x, linear.y, Idle(), budget=BUDGET, seed=0)
