"""Event data the whole way: train, export, and the test vectors are the recordings themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeport import attack_shares, attacking, exporting
from spikeport.attack_settings import Settings
from spikeport.sim import bundle as bundles
from spikeport.sim.twin import Twin
from spikeport.train import loop
from spikeport.train.config import loads
from spikeport.train.data import load_for

CONFIG = """
[data]
name = "braille"
folder = '{folder}'
test_images = 54
[encode]
name = "{encoder}"
steps = 6
{more}
[model]
name = "dense"
hidden = 20
[train]
epochs = 1
lr = 0.02
seed = 2
device = "cpu"
crop = 1
[quantise]
target = "loihi2"
epochs = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """27 letters x 50 repetitions that wander from their letter's own readings."""
    rng = np.random.default_rng(7)
    label = np.repeat(np.arange(27), 50)
    own = rng.integers(0, 230, (27, 12, 12))
    np.savez(
        tmp_path / "braille.npz",
        taxel=(own[label] + rng.integers(0, 20, (1350, 12, 12))).astype(np.uint8),
        label=label,
        repetition=np.tile(np.arange(50), 27),
    )
    return tmp_path


@pytest.mark.parametrize(
    ("encoder", "more", "largest"), [("counts", "payload_bits = 6", 63), ("bits", "", 1)]
)
def test_a_run_on_events_reaches_the_chip_unchanged(
    folder: Path, encoder: str, more: str, largest: int
) -> None:
    config = loads(CONFIG.format(folder=folder, encoder=encoder, more=more), "here")
    loop.fit(config, folder / "run", progress=False)
    found: dict[str, Any] = exporting.export(
        folder / "run", folder / "bundle", target="loihi2", vectors=10
    )
    exact = [rung for rung in found["fidelity"]["rungs"] if rung["exact"]]
    assert [(r["differing"], r["samples"], r["steps"]) for r in exact] == [(0, 54, 6)]
    loaded = bundles.read(folder / "bundle")
    assert loaded.net.input.largest == largest
    frames = load_for(config).x_test[:10].swapaxes(0, 1)
    assert (loaded.vectors.inputs == np.minimum(frames, largest)).all()
    with pytest.raises(ValueError, match=r"^\S+bundle: its input changes from step to step, as "):
        attacking.attack(folder / "bundle", Settings(eps=(0.1,)))
    flips = Settings(norm="flips", eps=(9,), attacks=("flips",), steps=5, replay="none")
    (radius,) = attacking.attack(folder / "bundle", flips)["radii"]
    assert radius["evaluation"]["budget"]["largest"] == largest
    target, twin = attack_shares.Target.of(folder / "bundle", 0), Twin(loaded.net)
    assert np.array_equal(target.shown(target.x), loaded.vectors.inputs)
    for view in flips.views(twin).values():
        found_by_attacks = (view(target.x) * twin.logit_unit).round().detach().numpy()
        assert np.array_equal(found_by_attacks, loaded.vectors.logits)
