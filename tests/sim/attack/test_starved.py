"""Networks that starve an attacker: the checks say so, and the worst case does not believe it.

Small networks for scikit-learn's digits, each trained here in half a second: an undefended one, and
one whose MPD-SGR penalty is so strong that hardly a neuron is left in the narrow window it was
trained with. The penalty does this with windows narrower than its own gamma only: with a window of
one threshold (and gamma 1, eta 100) every check passes and PGD leaves 5 % at eps 32/255.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spikeport.export import compile
from spikeport.sim.attack import (
    Budget,
    Check,
    Effort,
    Evaluation,
    Noise,
    Pgd,
    Square,
    attack,
    evaluate,
    masking,
    run_checks,
)
from spikeport.sim.attack.standard import standard, standard_views
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.twin import Twin
from spikeport.sim.twin_base import TwinBase
from spikeport.train.config import ModelConfig
from spikeport.train.data import load
from spikeport.train.encode import source
from spikeport.train.epochs import run_epochs
from spikeport.train.methods.mpd_sgr import MpdSgr
from spikeport.train.networks import MODELS
from spikeport.train.phase import Phase

EPS, SEED, CLASSES, STEPS = 32 / 255, 0, 10, 4
BUDGET = Budget(eps=EPS)
PGD, SQUARE = Pgd(steps=20, restarts=1), Square(queries=300)
EFFORT = Effort(
    pgd=PGD, square=SQUARE, noise=Noise(draws=20), epsilons=(0.0, 8 / 255, EPS, 0.5),
    ladder=(1, 20, 40, 60),
)  # fmt: skip
WIDE, NARROW, EMPTY = (Surrogate("triangle", width) for width in (1.0, 0.25, 1e-6))
STRONG = MpdSgr(eta=100.0, gamma=0.5)


@dataclass(frozen=True)
class Trained:
    """Twins of the integers, by what they were trained with, and images x [B, 1, 8, 8], y [B]."""

    undefended: Twin
    unpenalised: Twin
    starved: Twin
    x: Tensor
    y: Tensor

    @property
    def saturated(self) -> Twin:
        """The undefended integers through a window narrower than any distance to a threshold."""
        return self.undefended.through(EMPTY, detach_reset=True)

    def checks(self, twin: TwinBase, **more: Any) -> dict[str, Check]:
        """By the first word of their names (C1, C2 ...)."""
        found = run_checks(
            twin, self.x, self.y, budget=BUDGET, seed=SEED, effort=EFFORT, **more
        )  # fmt: skip
        return {check.name.split()[0]: check for check in found}

    def under(self, twin: Twin, spec: Any, *, eps: float = EPS) -> float:
        return attack(twin, self.x, self.y, spec, budget=Budget(eps=eps), seed=SEED).robust_accuracy

    def transferred(self, twin: Twin) -> float:
        """Accuracy of `twin` on images that PGD made on the undefended network."""
        made = attack(self.undefended, self.x, self.y, PGD, budget=BUDGET, seed=SEED).x_adv
        return float((twin(made).argmax(1) == self.y).double().mean())

    def evaluated(self, views: Any, specs: Any) -> Evaluation:
        """A network, as its `views`, beside the undefended one."""
        return evaluate(
            {"masked": views, "undefended": standard_views(self.undefended)}, self.x, self.y,
            specs=specs, budget=BUDGET, seed=SEED, cascade=True,
        )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    data = load("digits", seed=SEED)

    def made(window: Surrogate, *methods: Any) -> Twin:
        torch.manual_seed(1)
        config = ModelConfig(
            name="dense", hidden=32, surrogate="triangle", surrogate_width=window.width
        )
        net = MODELS["dense"](config, source("direct", (1, 8, 8)), steps=STEPS, classes=CLASSES)
        phase = Phase(
            name="float", epochs=10, batch=64, lr=0.02, weight_decay=0.0, seed=1, device="cpu",
            encoder="direct", methods=methods,
        )  # fmt: skip
        folder: Path = tmp_path_factory.mktemp("run")
        run_epochs(net, data, phase, folder=folder, progress=False)
        return Twin(compile(net.eval(), target="loihi2").net, surrogate=window)

    return Trained(
        undefended=made(WIDE), unpenalised=made(NARROW), starved=made(NARROW, STRONG),
        x=torch.tensor(data.x_test[:64]).float() / 255, y=torch.tensor(data.y_test[:64]).long(),
    )  # fmt: skip


def failed(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if not check.passed}


def test_an_undefended_network_passes_every_check_and_breaks(trained: Trained) -> None:
    twin = trained.undefended
    found = trained.checks(twin, undefended=twin)
    assert failed(found) <= {"C8"}
    # C8 calls 5 % broken, which images of 8 x 8 pixels take more than 32/255 for.
    assert found["C8"].figures["undefended"] == found["C1"].figures["pgd"] < 0.15
    assert found["C10"].figures["clean_accuracy"] > 0.95
    assert trained.under(twin, PGD, eps=0.5) <= 0.02


def test_a_strong_penalty_starves_the_window_it_was_trained_with(trained: Trained) -> None:
    found = trained.checks(trained.starved)
    assert {"C2", "C3", "C6"} <= failed(found)  # beaten by Square, not broken at 1/2, no gradients
    assert all(found[name].cause == masking.CAUSES[name] for name in failed(found))
    assert found["C10"].figures["clean_accuracy"] > 0.9
    # It is the penalty, not the narrow window alone, that leaves nothing to climb.
    without = trained.checks(trained.unpenalised)
    zero, few = (checks["C6"].figures["zero_share"] for checks in (found, without))
    assert zero > 0.1 > few
    assert found["C1"].figures["pgd"] > without["C1"].figures["pgd"] + 0.15
    # The same integers through a window of their own width pass: the defence was the window.
    seen = trained.checks(standard_views(trained.starved)["atan-2"])
    assert failed(seen) == set()
    assert seen["C1"].figures["pgd"] < 0.15 < found["C1"].figures["pgd"] - 0.2


def test_a_saturated_window_is_flagged(trained: Trained) -> None:
    found = trained.checks(trained.saturated)
    assert {"C2", "C3", "C5", "C6", "C7"} <= failed(found)
    assert found["C6"].figures == {"zero_share": 1.0, "median_l1": 0.0}
    # Without gradients only PGD's random start is left of it.
    assert found["C1"].figures["pgd"] > found["C2"].figures["square"] + 0.3


@pytest.mark.parametrize("masked", ["starved", "saturated"])
def test_the_worst_case_is_at_most_what_square_or_transfer_leave(
    trained: Trained, masked: str
) -> None:
    twin = getattr(trained, masked)
    square, transfer = trained.under(twin, SQUARE), trained.transferred(twin)
    climbed = trained.under(twin, PGD)
    assert min(square, transfer) < climbed - 0.1  # the masked gradient overstates

    blinded = trained.evaluated(twin, {"pgd": PGD, "square": SQUARE})
    shown = {(t.source, t.target): t.robust_accuracy for t in blinded.transfers}
    worst = blinded.models["masked"].worst_accuracy
    assert worst <= min(square, shown["undefended", "masked"])

    full = standard(CLASSES, steps=20, queries=SQUARE.queries)
    found = trained.evaluated(standard_views(twin), full).models["masked"]
    assert found.worst_accuracy <= found.own_accuracy <= min(square, transfer)
    assert found.own_accuracy < 0.1
    assert found.clean_accuracy > 0.9
