"""What stands against a network on a chip: rules, and overflows that Lava does not show.

Exporting proves that nothing overflows on its target, unless overflows are allowed, and another
chip may add up in fewer bits. Lava and all engines here overflow alike, so only what a chip has
fewer bits for than Lava must be proven before it is trusted there.
"""

from __future__ import annotations

from dataclasses import replace

from spikeport.export import bounds
from spikeport.hw import rules
from spikeport.hw.rule import Issue, place
from spikeport.sim.chip import LAVA, Chip
from spikeport.sim.net import FixedNet


def issues(net: FixedNet, chip: Chip) -> list[Issue]:
    """All issues of `net` on `chip`: broken rules, and where some legal input may need more bits
    than `chip` has, if those are fewer than Lava has."""
    return rules.check(net, chip) + _overflows(net, chip)


def enforce(net: FixedNet, chip: Chip) -> None:
    """Raise ValueError with all errors of `issues` (not the advice) in one sentence."""
    rules.refuse(issues(net, chip), chip)


# What a chip may have fewer bits for than Lava has, in words.
NARROW = {"sum": "what arrives in one step", "drive": "its current with the bias"}


def _overflows(net: FixedNet, chip: Chip) -> list[Issue]:
    if chip.sum_bits >= LAVA.sum_bits and chip.drive_bits >= LAVA.drive_bits:
        return []
    return [
        Issue(
            rule="overflow",
            where=f"{place(net.population(risk.population))}, neuron {risk.neuron}"
            f" ({risk.neurons} in all)",
            got=f"{NARROW[risk.quantity]} may reach {risk.bound}",
            limit=f"{chip.name} wraps what is beyond +-{risk.limit}, which Lava does not show",
            advice="export for that chip, which chooses scales that fit, or lower its scale by"
            f" {risk.factor:.3g}",
        )
        for risk in bounds.prove(replace(net, chip=chip))
        if risk.quantity in NARROW
    ]
