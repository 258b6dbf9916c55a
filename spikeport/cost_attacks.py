"""Inputs that attacks find for the `cost` command. Needs torch, which the rest of it does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport.attack_settings import radius
from spikeport.attack_shares import Target
from spikeport.faulting import ATTACK, worst_images
from spikeport.hw.activity import work
from spikeport.hw.place import Placement
from spikeport.sim.attack import Apgd, Sponge
from spikeport.sim.bundle import Bundle
from spikeport.sim.twin import Twin

SPONGE = Apgd(steps=100)
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """What to look for: the worst images within `eps`, the costliest within `sponge`, radii as
    people write them or None. Raises ValueError for what is no radius."""

    eps: str | None
    sponge: str | None
    seed: int

    def __post_init__(self) -> None:
        for name in ("eps", "sponge"):
            if (text := getattr(self, name)) is not None:
                radius(text, where=name)

    def fooling(self, bundle: Bundle, samples: int) -> tuple[Ints, str]:
        """The worst images [T, B, *shape] near the first `samples` (0: all) test vectors, as the
        `faults` command finds them, and how they were found. Raises ValueError without labels."""
        target, eps = Target.of(bundle.folder, samples), radius(self.eps or "0")
        x = worst_images(target, Twin(bundle.net), eps=eps, seed=self.seed)
        return np.asarray(x, np.int64), f"PGD-{ATTACK.steps}, eps {self.eps}, seed {self.seed}"

    def costliest(self, bundle: Bundle, placement: Placement, x: Ints) -> tuple[Ints, str]:
        """The images near still inputs `x` [T, B, *shape] that cost the most synaptic operations on
        `placement`, and how they were found. Raises ValueError unless T are the network's steps."""
        steps = bundle.net.steps
        if len(x) != steps:
            raise ValueError(
                f"the inputs have {len(x)} steps; a sponge needs the {steps} of the network"
            )
        # The sponge's own classes, of which 0 stands until all that can be done is done.
        target = Target.showing(bundle, x, np.zeros(x.shape[1], np.int64))
        model, eps = Sponge(bundle.net, work(bundle.net, placement)), radius(self.sponge or "0")
        found = worst_images(target, model, eps=eps, seed=self.seed, spec=SPONGE)
        how = f"APGD-{SPONGE.steps} for synaptic operations, eps {self.sponge}, seed {self.seed}"
        return np.asarray(found, np.int64), how
