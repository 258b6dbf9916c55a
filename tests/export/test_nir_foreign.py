"""Files that other frameworks wrote, read unedited, against the spikes that those frameworks fire.

`foreign/make_foreign.py` made files and spikes and names the versions. What NIR does not say is
given here per framework:

    norse     Euler; potentials start at v_leak; tau is dt times too small unless exported with dt=1
    sinabs    exact decay, tau in steps; threshold reached is a spike (>=), which no file ties with
    snntorch  Euler with dt = 1e-4 hard-coded; RSynaptic loses the input of the step behind a spike
    rockpool  exact decay, reset by subtraction; its input has gain 1, its file says otherwise
    nirtorch  whatever the mapping that its caller gives it says
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.export.nir_read import read
from spikeport.sim import floating
from spikeport.sim.net import FloatNet
from spikeport.sim.synapse import FloatDense
from spikeport.sim.trace import Trace

FOREIGN = Path(__file__).parent / "foreign"

SAID: dict[str, dict[str, Any]] = {
    "norse_lif": {"dt_s": 1e-3, "start": "leak"},
    "norse_iaf": {},
    "sinabs_zero": {"dt_s": 1.0, "rule": "exact"},
    "sinabs_subtract": {"dt_s": 1.0, "rule": "exact", "reset": "subtract"},
    "rockpool_lif": {"dt_s": 1e-3, "rule": "exact", "reset": "subtract"},
    "snntorch_rleaky": {"dt_s": 1e-4},
    "snntorch_rsynaptic": {"dt_s": 1e-4},
    "nirtorch_skip": {"dt_s": 1e-3},
}
SAME = [name for name in SAID if name not in ("rockpool_lif", "snntorch_rsynaptic")]


def case(name: str) -> tuple[FloatNet, NDArray[np.float64], list[NDArray[Any]]]:
    """The net, its input, and what the framework recorded of each layer, [T, n]."""
    net = read(FOREIGN / f"{name}.nir", steps=40, **SAID[name])
    with np.load(FOREIGN / f"{name}.npz") as arrays:
        x = arrays["x"].reshape(40, 1, *net.input.shape).astype(float)
        return net, x, [arrays[key] for key in sorted(arrays) if key != "x"]


def layers(net: FloatNet, trace: Trace) -> list[Any]:
    return [trace[p.name] for p in net.populations if not p.name.endswith(".bias")]


@pytest.mark.parametrize("name", SAME)
def test_the_net_fires_as_the_framework_does(name: str) -> None:
    net, x, expected = case(name)
    found = layers(net, floating.run(net, x))
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        if theirs.max() == 1 and theirs.min() == 0:
            assert np.array_equal(ours.spikes[:, 0], theirs)
        else:
            assert ours.v[:, 0] == pytest.approx(theirs, abs=1e-6)
    assert sum(part.sum() for part in expected) > 30


def test_rockpool_files_differ_by_one_gain() -> None:
    """Rockpool adds its input to the potential as it is; what it writes as r,
    tau/dt exp(-dt/tau), stands for the gain r (1 - exp(-dt/tau)) = 0.928 by its own exact rule."""
    net, x, (expected,) = case("rockpool_lif")
    (projection,) = net.projections
    assert isinstance(projection.synapse, FloatDense)
    gain = 20 * np.exp(-1 / 20) * (1 - np.exp(-1 / 20))
    assert gain == pytest.approx(0.928, abs=1e-3)
    theirs = replace(projection, synapse=FloatDense(w=projection.synapse.w / gain))
    same = replace(net, projections=(theirs,))
    name = net.readout.population
    assert np.array_equal(floating.run(same, x)[name].spikes[:, 0], expected)
    assert not np.array_equal(floating.run(net, x)[name].spikes[:, 0], expected)


def test_rsynaptic_agrees_up_to_its_first_reset() -> None:
    """snnTorch 1.0.0 drops the input of the step behind a spike, which NIR cannot say."""
    net, x, (hidden, _) = case("snntorch_rsynaptic")
    assert [p.name for p in net.populations][:2] == ["lif1.lif.bias", "lif1.lif"]
    assert ("lif1.lif", "lif1.lif", 1) in [(p.source, p.target, p.delay) for p in net.projections]
    ours = floating.run(net, x)["lif1.lif"].spikes[:, 0]
    first = int(hidden.any(1).argmax())
    assert hidden[first].any()
    assert np.array_equal(ours[: first + 1], hidden[: first + 1])
    assert not np.array_equal(ours, hidden)
