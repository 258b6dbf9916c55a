"""What an attack is: settings with a `run`. Subclass `Attack` to add your own.

    @dataclass(frozen=True, kw_only=True)
    class Fog(Attack):
        name = "fog"
        blind = True
        grey: float = 0.5

        def run(self, oracle: Oracle) -> None:
            oracle.ask(oracle.x0 + oracle.budget.radius * (self.grey - oracle.x0).sign())

`attack(model, x, y, Fog(), budget=..., seed=0)` does the rest: the oracle makes every image legal,
judges it and keeps each sample's worst.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from spikeport.sim.attack.norms import NORMS
from spikeport.sim.attack.oracle import Legality, Oracle


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Base of all attacks. name: one word, which also seeds the attack's random draws. blind:
    takes no gradient, so that one view of a network is as good as another, and so is a chip.
    norms: of the budgets that it can search."""

    name: ClassVar[str]
    blind: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = NORMS

    def run(self, oracle: Oracle) -> None:
        """Search with `oracle.ask` and `oracle.gradient`, until `oracle.done` at the latest."""
        raise NotImplementedError(f"attack {self.name!r} has no run; write one, see Attack")

    def check(self, budget: Legality) -> None:
        """Raise ValueError where the attack cannot search within `budget`."""
        if budget.norm not in self.norms:
            raise ValueError(
                f"{self.name}: the budget is one of {budget.norm}; this attack searches"
                f" {', '.join(self.norms)}; choose another attack"
            )

    def resolved(self, budget: Any) -> dict[str, Any]:
        """Numbers that follow from the settings and `budget`, such as a step size left open."""
        return {}

    def settings(self, budget: Any) -> dict[str, Any]:
        """Every number that the attack runs with under `budget`, defaults resolved; plain JSON."""
        return {"attack": self.name, **asdict(self), **self.resolved(budget)}
