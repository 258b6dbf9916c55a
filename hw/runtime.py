"""A lower bound of a step's time: the busiest core or link, whichever is slowest.

    seconds >= max(updates * neuron, operations * synapse, words * word,
                   messages * message_bits / link_bits, barrier)

with the most of each on any core, or link, of the chip (source: equation 1 of arXiv 2601.10035, as
implemented by others). Links from cores to their routers and back count, traffic within a core does
not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.activity import Activity
from spikeport.hw.constants import RUNTIMES, RuntimeConstants, as_proxy
from spikeport.hw.runtime_file import read_constants

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """label: what the numbers stand for, in words. terms: seconds [S, B] by what they are spent on.
    missing: terms whose constants are not known."""

    constants: RuntimeConstants
    label: str
    terms: Mapping[str, Floats]
    missing: tuple[str, ...]

    @property
    def steps(self) -> Floats:
        """Seconds [S, B] of every step, at least."""
        return np.asarray(np.max(list(self.terms.values()), axis=0))

    @property
    def seconds(self) -> float:
        """Mean seconds of a sample, at least."""
        return float(self.steps.sum(0).mean())

    @property
    def bound_by(self) -> dict[str, float]:
        """The share of all steps that each term decides; the first of equals."""
        which = np.argmax(list(self.terms.values()), axis=0)
        return {name: float((which == i).mean()) for i, name in enumerate(self.terms)}


def constants(name: str) -> RuntimeConstants:
    """The constants of that name, or in the file that it names if it ends in .toml; there is no
    default. Raises ValueError in one sentence for anything else, and for a file with a mistake."""
    if name.endswith(".toml"):
        return read_constants(Path(name))
    if name not in RUNTIMES:
        raise ValueError(
            f"runtime constants are {name!r}; allowed are {', '.join(map(repr, RUNTIMES))} and the"
            " name of a .toml file"
        )
    return RUNTIMES[name]


def runtime(activity: Activity, constants: RuntimeConstants) -> Runtime:
    """The bound for every step of `activity`. Raises ValueError where `constants` know nothing."""
    a, c = activity, constants
    nothing = np.zeros(a.spikes.shape[:2])
    links = np.max(list(a.links.values()), axis=0) if a.links else nothing
    link = None if c.link_bits is None or c.message_bits is None else c.message_bits / c.link_bits
    counts = {
        "neurons": (nothing + a.neurons.max(), c.neuron),
        "synapses": (a.synapses.max(-1), c.synapse),
        "words": (a.words.max(-1), c.word),
        "links": (links, link),
        "barrier": (nothing + 1, c.barrier),
    }
    terms = {name: count * each for name, (count, each) in counts.items() if each is not None}
    if not terms:
        raise ValueError(f"runtime constants {c.name!r} hold no number; give one at least")
    proxy = as_proxy(c.chip, a.placement.target.chip.name)
    return Runtime(
        constants=c,
        label=f"{c.name}: {c.chip}{proxy}, {c.status}",
        terms=terms,
        missing=tuple(name for name in counts if name not in terms),
    )
