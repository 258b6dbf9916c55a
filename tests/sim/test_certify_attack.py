"""Certificates against attacks on the twin of the same network: the two must never contradict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from spikeport.sim import reference
from spikeport.sim.attack import Budget, Square, attack
from spikeport.sim.certify import certify
from spikeport.sim.twin import Twin


@pytest.mark.parametrize("kind", ["count", "last_v", "sum_v"])
def test_no_attack_fools_what_is_certified(
    load_file: Callable[[Path], ModuleType], kind: str
) -> None:
    net = load_file(Path(__file__).with_name("test_certify.py")).conv_net(kind)
    net = replace(net, input=replace(net.input, scale=255.0))
    x = np.random.default_rng(2).integers(0, 256, (24, 1, 6, 6))
    z = reference.run(net, np.broadcast_to(x, (net.steps, *x.shape))).logits(net.readout)
    y = z.argmax(1)
    twin = Twin(net)
    certified, robust = [], []
    for radius in (0, 1, 3, 40):
        made = certify(net, x, y, radius)
        result = attack(
            twin, torch.from_numpy(x / 255).float(), torch.from_numpy(y), Square(queries=40),
            budget=Budget(eps=radius / 255), seed=radius,
        )  # fmt: skip
        reached = (result.margin.double() * twin.logit_unit).round().numpy()
        assert (made.margin <= reached).all()
        assert not (made.certified & result.fooled.numpy()).any()
        certified.append(made.accuracy)
        robust.append(result.robust_accuracy)
    assert all(low <= high for low, high in zip(certified, robust, strict=True))
    # Neither side is idle: nothing is certified where much is fooled, and the other way round.
    assert certified[0] == robust[0] > 0.5
    assert certified[1] > 0
    assert robust[-1] < certified[0]
