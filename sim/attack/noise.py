"""Random noise: the baseline that every attack must beat, and a check for masked gradients."""

from __future__ import annotations

from dataclasses import dataclass

from spikeport.sim import checks
from spikeport.sim.attack.oracle import Oracle
from spikeport.sim.attack.spec import Attack


@dataclass(frozen=True, kw_only=True)
class Noise(Attack):
    """`draws` images of noise around the original, by turns uniform in the ball and on its
    corners (every pixel moved by plus or minus the radius)."""

    name = "noise"
    blind = True
    draws: int = 100

    def __post_init__(self) -> None:
        checks.whole(self.draws, where="noise: draws", low=1, high=1 << 20)

    def run(self, oracle: Oracle) -> None:
        """Try the draws one after the other; draw i is the same however many follow it."""
        streams, shape = oracle.streams, oracle.x0.shape[1:]
        for i in range(self.draws):
            if oracle.done:
                return
            noise = streams.signs(*shape) if i % 2 else 2 * streams.uniform(*shape) - 1
            oracle.ask(oracle.x0 + oracle.budget.radius * noise)
