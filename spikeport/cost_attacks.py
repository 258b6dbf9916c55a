"""Inputs that attacks find for the `cost` command. Needs torch, which the rest of it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spikeport.attack_settings import radius
from spikeport.attack_shares import Target
from spikeport.faulting import ATTACK, worst_images
from spikeport.hw.activity import work
from spikeport.hw.place import Placement
from spikeport.sim.attack import Apgd, Budget, Sponge
from spikeport.sim.bundle import Bundle
from spikeport.sim.twin import Twin

SPONGE = Apgd(steps=100)
Ints = NDArray[np.int64]


def check(**radii: str | None) -> None:
    """Raise ValueError for a radius as people write it that is none, or that no image has room
    for, before any attack runs."""
    for name, text in radii.items():
        if text is not None:
            Budget(eps=radius(text, where=name))


def fooling(bundle: Bundle, samples: int, *, eps: str, seed: int) -> tuple[Ints, str]:
    """The worst images [T, B, *shape] within `eps` of the first `samples` (0: all) test vectors, as
    the `faults` command finds them, and how they were found. Raises ValueError without labels."""
    target = Target.of(bundle.folder, samples)
    x = worst_images(target, Twin(bundle.net), eps=radius(eps), seed=seed)
    return np.asarray(x, np.int64), f"PGD-{ATTACK.steps}, eps {eps}, seed {seed}"


def costliest(
    bundle: Bundle, placement: Placement, x: Ints, *, where: Path, sponge: str, seed: int
) -> tuple[Ints, str]:
    """The images within `sponge` of still inputs `x` [T, B, *shape], from `where`, that cost the
    most synaptic operations on `placement`, and how they were found. Raises ValueError unless they
    are still and T are the network's steps."""
    steps = bundle.net.steps
    if len(x) != steps:
        raise ValueError(
            f"{where}: its inputs have {len(x)} steps; a sponge needs the {steps} of the network"
        )
    # The sponge's own classes, of which 0 stands until all that can be done is done.
    target = Target.showing(bundle, x, np.zeros(x.shape[1], np.int64))
    if target.of_events:
        raise ValueError(
            f"{where}: its input changes from step to step, and a sponge's radius is one of still"
            " images; leave the sponge out"
        )
    model = Sponge(bundle.net, work(bundle.net, placement))
    found = worst_images(target, model, eps=radius(sponge), seed=seed, spec=SPONGE)
    how = f"APGD-{SPONGE.steps} for synaptic operations, eps {sponge}, seed {seed}"
    return np.asarray(found, np.int64), how
