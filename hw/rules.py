"""Whether a chip can hold the numbers of a network: a list of small rules, each named.

`FixedNet` admits what the arithmetic defines; a chip admits less.
"""

from __future__ import annotations

from collections.abc import Iterable

from spikeport.hw import rules_neurons, rules_synapses
from spikeport.hw.rule import Issue
from spikeport.sim.chip import Chip
from spikeport.sim.net import FixedNet

__all__ = ["RULES", "Issue", "check", "enforce", "refuse"]

RULES = (
    rules_synapses.dense_weights,
    rules_synapses.conv_weights,
    rules_synapses.exponents,
    rules_synapses.delays,
    rules_synapses.conv_delays,
    rules_neurons.decays,
    rules_neurons.thresholds,
    rules_neurons.biases,
    rules_neurons.shared_parameters,
    rules_neurons.resets,
    rules_neurons.start_potentials,
    rules_neurons.early_spikes,
    rules_synapses.graded_input,
    rules_neurons.reset_interval,
    rules_synapses.fan_in,
    rules_neurons.neurons,
)


def check(net: FixedNet, chip: Chip) -> list[Issue]:
    """All issues of `net` on `chip`, in the order of RULES; empty when it fits."""
    return [issue for rule in RULES for issue in rule(net, chip)]


def enforce(net: FixedNet, chip: Chip) -> None:
    """Raise ValueError with all errors (not the advice) in one sentence."""
    refuse(check(net, chip), chip)


def refuse(issues: Iterable[Issue], chip: Chip) -> None:
    """Raise ValueError with those of `issues` on `chip` that are errors, in one sentence."""
    if errors := [str(issue) for issue in issues if issue.severity == "error"]:
        raise ValueError(f"the network does not fit {chip.name}: " + "; also ".join(errors))
