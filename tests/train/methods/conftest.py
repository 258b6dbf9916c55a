"""What the tests of methods share: small networks and one mini-batch on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from spikeport.train.config import Config
from spikeport.train.encode import ENCODERS
from spikeport.train.floating import build
from spikeport.train.methods.base import Step
from spikeport.train.model import SpikingNet


@pytest.fixture(scope="session")
def conv_net() -> Callable[..., SpikingNet]:
    """`conv_net(**model)`: for images (1, 8, 8), 3 steps, 10 classes, always of one seed."""

    def make(**model: Any) -> SpikingNet:
        config = {
            "data": {"name": "digits"},
            "encode": {"steps": 3},
            "model": {"name": "conv", "channels": (4, 6), **model},
            "train": {"epochs": 1, "lr": 0.1, "seed": 5, "device": "cpu"},
            "quantise": {"target": "loihi2"},
        }
        net = build(Config.model_validate(config), (1, 8, 8), classes=10)
        draws = torch.Generator().manual_seed(0)
        with torch.no_grad():  # norms that know their statistics, so that it spikes in evaluation
            for _ in range(30):
                net(torch.rand((3, 16, 1, 8, 8), generator=draws))
        return net

    return make


@pytest.fixture(scope="session")
def batch_of() -> Callable[..., Step]:
    """`batch_of(model, images=8, ...)`: a step with random 8-bit images and labels, its record
    made unless `recorded` is False."""

    def make(
        model: Any, *, images: int = 8, phase: str = "float", progress: float = 0.5,
        encoder: str = "direct", seed: int = 1, recorded: bool = True,
    ) -> Step:  # fmt: skip
        draws = torch.Generator().manual_seed(seed)
        generator = torch.Generator().manual_seed(seed + 1)
        step = Step(
            model=model,
            x=torch.randint(0, 256, (images, 1, 8, 8), generator=draws) / 255,
            y=torch.randint(0, 10, (images,), generator=draws),
            progress=progress, phase=phase, generator=generator,
            encode=lambda x: ENCODERS[encoder](x, model.steps, generator),
        )  # fmt: skip
        return replace(step, made=step.forward(step.x)) if recorded else step

    return make
