"""TET against its formula by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from spikeport.train.methods import Methods
from spikeport.train.methods.tet import Tet
from spikeport.train.model import Record


def test_two_steps_by_hand(conv_net: Any, batch_of: Any) -> None:
    step = batch_of(conv_net(), images=2)
    z = torch.tensor([[[1.0, 0.0], [2.0, 2.0]], [[0.0, 3.0], [1.0, -1.0]]])  # [T, B, K]
    record = Record(logits=z.mean(0), outputs=z, spikes={}, membranes={})
    step = replace(step, y=torch.tensor([0, 1]), made=record)
    # Cross entropies: step 0: log(1 + e^-1), log 2; step 1: log(1 + e^3), log(1 + e^2).
    ce = math.log1p(math.exp(-1)) + math.log(2) + math.log1p(math.exp(3)) + math.log1p(math.exp(2))
    squares = sum((v - 0.5) ** 2 for v in (1, 0, 2, 2, 0, 3, 1, -1)) / 8
    expected = 0.75 * ce / 4 + 0.25 * squares
    assert float(Tet(lam=0.25, phi=0.5).task_loss(step)) == pytest.approx(expected, rel=1e-6)


def test_every_step_is_supervised_unlike_by_the_mean(conv_net: Any, batch_of: Any) -> None:
    step = batch_of(conv_net())
    z = step.record.outputs
    (gradient,) = torch.autograd.grad(Tet().task_loss(step), z, retain_graph=True)
    assert not torch.allclose(gradient[0], gradient[2])
    ours, plain = Tet(lam=0).task_loss(step), torch.nn.functional.cross_entropy(z.mean(0), step.y)
    assert float(ours.detach()) > float(plain.detach())  # Jensen: cross entropy is convex


def test_only_one_method_sets_the_task_loss() -> None:
    with pytest.raises(
        ValueError, match=r"methods\.tet and methods\.ottt both set the task loss; keep one"
    ):
        Methods.model_validate({"tet": {}, "ottt": {}})
    with pytest.raises(ValueError, match=r"less than or equal to 1"):
        Tet(lam=1.5)
