"""NIR files of the NIR paper, read without edits, where a folder of cases lies beside the checkout.

`shared/cases/nir_braille`: two recurrent networks, each as a flat graph and as a graph in a graph,
with the spikes that platforms published. `shared/cases/nir_lif`: one neuron.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.export.nir_read import read
from spikeport.sim import floating
from spikeport.sim.net import FloatNet
from spikeport.sim.trace import Trace

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"
ZERO, SUBTRACT = "noDelay_bias_zero", "noDelay_noBias_subtract"


@pytest.fixture
def braille() -> Path:
    folder = CASES / "nir_braille"
    if not folder.is_dir():
        pytest.skip("no folder of cases beside this checkout")
    return folder


@pytest.fixture
def one_lif() -> Path:
    folder = CASES / "nir_lif"
    if not folder.is_dir():
        pytest.skip("no folder of cases beside this checkout")
    return folder


def ran(folder: Path, name: str, **said: Any) -> tuple[FloatNet, Trace]:
    net = read(folder / f"braille_{name}.nir", dt_s=1e-4, steps=256, **said)
    with np.load(folder / "input_sample0.npz") as sample:
        return net, floating.run(net, sample["x"][:, None].astype(float))


def hidden(net: FloatNet, trace: Trace) -> NDArray[np.uint8]:
    """Spikes of the recurrent layer, [T, n]."""
    (name,) = (p.name for p in net.populations if p.size in (38, 40))
    return trace[name].spikes[:, 0]


@pytest.mark.parametrize("spelling", ["", "_subgraph"])
def test_the_graph_that_resets_to_zero(braille: Path, spelling: str) -> None:
    net, trace = ran(braille, ZERO + spelling)
    published = np.load(braille / f"snntorch_activity_{ZERO}.npy")
    ours = hidden(net, trace)
    assert np.array_equal(ours, published.reshape(256, 38))
    assert ours.sum() == 119
    counts = trace.logits(net.readout)[0]
    assert counts.tolist() == [10, 160, 112, 113, 103, 68, 121]


@pytest.mark.parametrize("spelling", ["", "_subgraph"])
def test_the_graph_that_subtracts(braille: Path, spelling: str) -> None:
    net, trace = ran(braille, SUBTRACT + spelling, reset="subtract")
    published = np.load(braille / f"spyx_activity_{SUBTRACT}.npy").reshape(256, 40)
    ours = hidden(net, trace)
    assert np.array_equal(ours[:-1], published[1:])  # the file is one step later
    assert ours.sum() == 120
    assert trace.logits(net.readout)[0].tolist() == [0, 64, 23, 19, 4, 24, 22]


@pytest.mark.parametrize("name", [ZERO, SUBTRACT])
def test_both_spellings_are_the_same_net(braille: Path, name: str) -> None:
    flat, nested = (ran(braille, name + spelling)[0] for spelling in ("", "_subgraph"))
    assert [p.name for p in flat.populations] == [
        p.name.replace("lif1.lif1", "lif1.lif") for p in nested.populations
    ]
    for a, b in zip(flat.populations, nested.populations, strict=True):
        for key in ("v_th", "keep_u", "keep_v", "bias", "v_init"):
            assert np.array_equal(getattr(a, key), getattr(b, key))
    for p, q in zip(flat.projections, nested.projections, strict=True):
        assert p.delay == q.delay
        assert np.array_equal(p.synapse.w, q.synapse.w)


@pytest.mark.parametrize("rule", ["euler", "exact"])
def test_one_neuron_by_either_rule(one_lif: Path, rule: str) -> None:
    net = read(one_lif / "lif_norse.nir", dt_s=1e-4, steps=1000, rule=rule)
    x = np.loadtxt(one_lif / "lif_exact.csv", delimiter=",")[:, 0].reshape(-1, 1, 1)
    spikes = floating.run(net, x)[net.readout.population].spikes
    assert np.flatnonzero(spikes).tolist() == [460, 510, 710, 760]


def test_one_neuron_with_an_input_of_gain_1(one_lif: Path) -> None:
    """Sinabs and Rockpool decay exponentially but add the whole of their share dt/tau of a spike:
    rows 450, 500, 710, 760."""
    net = read(one_lif / "lif_norse.nir", dt_s=1e-4, steps=1000, rule="exact")
    x = np.loadtxt(one_lif / "lif_exact.csv", delimiter=",")[:, 0].reshape(-1, 1, 1)
    x = x * 0.04 / (1 - np.exp(-0.04))
    spikes = floating.run(net, x)[net.readout.population].spikes
    assert np.flatnonzero(spikes).tolist() == [450, 500, 710, 760]
