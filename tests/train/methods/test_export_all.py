"""Every method trains both phases and leaves a network that the chip runs spike for spike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spikeport.exporting import run_to_net
from spikeport.train import loop
from spikeport.train.config import Config
from spikeport.train.methods import Methods

TABLES: dict[str, dict[str, Any]] = {
    "mpd_sgr": {"eta": 1.0, "warm_up": 0.0},
    "guard_tgo": {"lam": 0.2, "delta": 0.4, "noise": 0.2},
    "tet": {"lam": 0.01, "phi": 0.5},
    "ottt": {"a": 0.1},
    "adversarial": {"eps": 0.02, "alpha": 0.02, "steps": 1, "share": 0.5},
    "trades": {"beta": 2.0, "steps": 1},
    "sr": {"h": 0.02, "lam": 0.001},
    "msg": {"p": 0.4},
    "rat": {"r": 0.004},
}
"""Parameters to try instead of the defaults."""


def config(methods: dict[str, dict[str, Any]]) -> Config:
    """A tiny run on digits."""
    tree = {
        "data": {"name": "digits", "train_images": 300, "test_images": 100},
        "encode": {"steps": 3},
        "model": {"name": "conv", "channels": (4, 6)},
        "train": {"epochs": 1, "lr": 0.02, "seed": 3, "device": "cpu"},
        "methods": methods,
        "quantise": {"target": "loihi2", "epochs": 1},
    }
    return Config.model_validate(tree)


@pytest.mark.parametrize("name", sorted(Methods.model_fields))
def test_a_network_trained_with_it_exports_with_no_differing_spike(
    name: str, tmp_path: Path
) -> None:
    loop.fit(config({name: TABLES.get(name, {})}), tmp_path / "run", progress=False)
    exported = run_to_net(tmp_path / "run", target="loihi2")
    (exact,) = [rung for rung in exported.rungs if rung.exact]
    assert exact.spikes > 0
    assert (exact.differing, exact.differing_state, exact.predictions) == (0, 0, 0)
