"""Post-training quantisation of the NIR paper's recurrent Braille readers (experiment 3), where a
folder of such cases lies beside the checkout (skipped elsewhere).

Others' plain scaling to 8 bits changes 133 of 9,728 spikes of the first layer of one graph and 51
of 10,240 of the other, on test sample 0. That sample takes no part in any search here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeport.export import nir_read
from spikeport.export.bounds import prove
from spikeport.export.quantise import to_fixed
from spikeport.sim import engine, floating
from spikeport.sim.chip import CHIPS
from spikeport.sim.net import FixedNet, FloatNet

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "nir_braille"

ZERO, SUBTRACT = "braille_noDelay_bias_zero.nir", "braille_noDelay_noBias_subtract.nir"


def graph(name: str) -> FloatNet:
    if not CASES.is_dir():
        pytest.skip("no folder of cases beside this checkout")
    net = nir_read.read(CASES / name, dt_s=1e-4, steps=256)
    if name == ZERO:
        return net
    # NIR cannot say how a neuron resets.
    return replace(net, populations=tuple(replace(p, reset="subtract") for p in net.populations))


def sample() -> Any:
    return np.load(CASES / "input_sample0.npz")["x"].reshape(256, 1, 12).astype(np.int64)


def trains(seed: int, *, samples: int) -> Any:
    """Random spike trains with about the rates of the sample."""
    rates = np.maximum(sample().mean((0, 1)), 0.02)
    return (np.random.default_rng(seed).random((256, samples, 12)) < rates).astype(np.int64)


def differing(net: FloatNet, fixed: FixedNet, x: Any) -> int:
    """Spikes of the recurrent layer that differ."""
    exact, rounded = floating.run(net, x, record=False), engine.run(fixed, x, strict=True)
    return int((exact["lif1.lif"].spikes != rounded["lif1.lif"].spikes).sum())


@pytest.mark.parametrize(
    ("name", "chip", "exponents", "most"),
    [
        (ZERO, "loihi2", 1, 120),
        (ZERO, "loihi2", 2, 100),
        (ZERO, "lava", 2, 80),
        (SUBTRACT, "lava", 1, 50),
        (SUBTRACT, "lava", 2, 30),
    ],
)
def test_the_default_changes_fewer_spikes_than_plain_scaling(
    name: str, chip: str, exponents: int, most: int
) -> None:
    net = graph(name)
    fixed = to_fixed(net, CHIPS[chip], exponents=exponents)
    assert prove(fixed) == []
    assert differing(net, fixed, sample()) <= most
    counts = engine.run(fixed, sample()).logits(fixed.readout)[0]
    assert counts.argmax() == floating.run(net, sample()).logits(net.readout)[0].argmax() == 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "chip"), [(ZERO, "loihi2"), (SUBTRACT, "lava")])
def test_calibration_on_other_trains_changes_fewer_still(name: str, chip: str) -> None:
    net = graph(name)
    nearest = to_fixed(net, CHIPS[chip], exponents=2)
    better = to_fixed(
        net, CHIPS[chip], exponents=2, objective="spikes", calibration=trains(7, samples=16)
    )
    assert prove(better) == []
    fresh = trains(1, samples=32)
    assert differing(net, better, fresh) < 0.75 * differing(net, nearest, fresh)
    assert differing(net, better, sample()) <= differing(net, nearest, sample())
