"""How one phase of a run trains: its settings, its learning rate, its random streams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikeport.train.config import TrainConfig
from spikeport.train.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class Phase:
    """How one phase trains; units as in `spikeport.train.config.TrainConfig`. `name` names its
    checkpoint, NAME.safetensors, and its lines in the metrics."""

    name: str
    epochs: int
    batch: int
    lr: float
    weight_decay: float
    seed: int
    device: str
    encoder: str
    optimiser: str = "adamw"
    warm_up: float = 0.0
    clip: float = 0.0
    devices: int = 1
    nodes: int = 1
    precision: str = "32"
    keep: str = "last"
    patience: int = 0
    loss: str = "cross_entropy"
    methods: tuple[Method, ...] = ()
    shift: float = 0.0
    rotate: float = 0.0
    flip: bool = False
    crop: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able; kept in the checkpoint, and a run resumes only if they are the same."""

    def rate(self, done: float, *, after: float) -> float:
        """The learning rate of a step that leads from the share `done` of the phase to the share
        `after`, both 0..1: it rises linearly up to the share `warm_up`, then a cosine falls to
        zero."""
        if done < self.warm_up:
            return self.lr * min(1.0, after / self.warm_up)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (done - self.warm_up) / (1 - self.warm_up)))

    def stream(self, epoch: int, part: str = "") -> int:
        """A seed for one epoch, 0-based, and a part of its draws; hashed, so that neighbouring
        runs, epochs, phases and parts share no stream."""
        entropy = (self.seed, epoch, *self.name.encode(), *part.encode())
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def common(train: TrainConfig) -> dict[str, Any]:
    """The settings that both phases of a run share, by their names in `Phase`."""
    apart = {"epochs", "lr", "weight_decay", "precision"}
    return {key: value for key, value in train.model_dump().items() if key not in apart}
