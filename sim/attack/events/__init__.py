"""Attacks on trains of events, within what a sensor or a spike input lets an adversary change.

    budget = FlipBudget(flips=20, per_step=5)
    result = attack(Shown(twin), x, y, Flips(), budget=budget, seed=0)
    changes(result.x_adv, x).spikes

x [B, T, n] or [B, T, C, H, W]: samples first, as for all attacks.
"""

from spikeport.sim.attack.events.budget import RETIMINGS, FlipBudget, RetimingBudget
from spikeport.sim.attack.events.flips import Flips, RandomFlips
from spikeport.sim.attack.events.patterns import Corner, Dash, Frame
from spikeport.sim.attack.events.retiming import RandomRetiming, Retiming
from spikeport.sim.attack.events.sda import Sda
from spikeport.sim.attack.events.shown import Changes, Shown, changes
from spikeport.sim.attack.events.spikefool import SpikeFool
from spikeport.sim.attack.spec import Attack

EVENT_ATTACKS: dict[str, type[Attack]] = {
    kind.name: kind
    for kind in (
        RandomFlips, Flips, Sda, SpikeFool, Frame, Corner, Dash, RandomRetiming, Retiming,
    )
}  # fmt: skip

__all__ = [
    "EVENT_ATTACKS",
    "RETIMINGS",
    "Changes",
    "Corner",
    "Dash",
    "FlipBudget",
    "Flips",
    "Frame",
    "RandomFlips",
    "RandomRetiming",
    "Retiming",
    "RetimingBudget",
    "Sda",
    "Shown",
    "SpikeFool",
    "changes",
]
