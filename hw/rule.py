"""What a broken rule is, and how its place is named."""

from __future__ import annotations

from dataclasses import dataclass

from spikeport.sim.net import Population, Projection


@dataclass(frozen=True, kw_only=True)
class Issue:
    """One broken rule. severity: "error" (the chip cannot run it) or "advice"."""

    rule: str
    where: str
    got: str
    limit: str
    advice: str
    severity: str = "error"

    def __str__(self) -> str:
        return f"{self.where}: {self.got}, but {self.limit}; {self.advice}"


def path(projection: Projection) -> str:
    """A projection in words."""
    return f"projection {projection.source!r} -> {projection.target!r}"


def place(population: Population) -> str:
    """A population in words."""
    return f"population {population.name!r}"
