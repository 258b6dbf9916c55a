"""Traces of real chips, where a folder of such cases lies beside the checkout (skipped elsewhere).

`shared/cases/nir_lif`: one neuron on a Loihi 2 (NIR paper, experiment 1). `slayer_loihi_chip`: a
250-25-1 network on a Loihi 1 (slayerPytorch's test files). In the rows of spikes a chip shows its
refractory counter instead of the potential; they are left out of comparisons of v.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeport.export import nir_read, quantise
from spikeport.sim import engine, floating, reference
from spikeport.sim.chip import LOIHI_1, LOIHI_2
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"


@pytest.fixture
def loihi_2() -> Path:
    folder = CASES / "nir_lif"
    if not folder.is_dir():
        pytest.skip("no folder of cases beside this checkout")
    return folder


@pytest.fixture
def loihi_1() -> Path:
    file = CASES / "slayer_loihi_chip" / "case.npz"
    if not file.is_file():
        pytest.skip("no folder of cases beside this checkout")
    return file


def test_a_loihi_2_neuron_bit_for_bit(loihi_2: Path) -> None:
    rows = np.loadtxt(loihi_2 / "lif_lava_loihi_fixed.csv", delimiter=",")
    x = rows[:, 0].astype(int).reshape(-1, 1, 1)
    net = FixedNet(
        input=Input(shape=(1,)),
        populations=(Population(name="lif", shape=(1,), v_th=25, dv=163),),
        projections=(Projection(source="input", target="lif", synapse=Dense(w=[[10]])),),
        readout=Readout(population="lif"),
        steps=len(x),
    )
    found = reference.run(net, x)["lif"]
    assert found.v is not None
    # The file is in chip steps, where a projection takes one; ours is in the neuron's window.
    spikes, v = found.spikes[:-1, 0, 0], found.v[:-1, 0, 0]
    assert np.array_equal(np.flatnonzero(spikes) + 1, [461, 511, 711, 761])
    assert np.array_equal(spikes, rows[1:, 2])
    assert np.array_equal(v[spikes == 0], rows[1:, 1][spikes == 0])
    assert spikes.sum() == 4


def test_a_foreign_file_gets_integers_that_spike_when_the_chip_did(loihi_2: Path) -> None:
    float_net = nir_read.read(loihi_2 / "lif_norse.nir", dt_s=1e-4, steps=1000)
    net = quantise.to_fixed(float_net, LOIHI_2)
    x = np.loadtxt(loihi_2 / "lif_exact.csv", delimiter=",")[:, 0].astype(int).reshape(-1, 1, 1)
    name = net.readout.population
    ours = np.flatnonzero(engine.run(net, x)[name].spikes)
    assert np.array_equal(ours, np.flatnonzero(floating.run(float_net, x)[name].spikes))
    assert np.array_equal(ours, [460, 510, 710, 760])  # the chip: one step later, see above


def test_a_loihi_1_network_bit_for_bit(loihi_1: Path) -> None:
    case = np.load(loihi_1)
    neurons: dict[str, Any] = {
        "v_th": 80,
        "du": 1023,
        "dv": 128,
    }  # the authors' 1024 includes the hidden +1
    net = FixedNet(
        input=Input(shape=(250,)),
        populations=(
            Population(name="hidden", shape=(25,), **neurons),
            Population(name="out", shape=(1,), **neurons),
        ),
        projections=(
            Projection(source="input", target="hidden", synapse=Dense(w=case["w1"])),
            Projection(source="hidden", target="out", synapse=Dense(w=case["w2"])),
        ),
        readout=Readout(population="out"),
        steps=500,
        chip=LOIHI_1,
    )
    trace = reference.run(net, case["input"].T.reshape(500, 1, 250).astype(int))
    hidden, out = trace["hidden"], trace["out"]
    assert hidden.v is not None
    assert out.v is not None
    # The files list a spike one step after its crossing.
    assert np.array_equal(hidden.spikes[:-1, 0].T, case["hidden_spikes"][:, 1:])
    assert hidden.spikes.sum() > 600
    for neuron in (0, 23, 24):
        quiet = hidden.spikes[:499, 0, neuron] == 0
        v = hidden.v[:499, 0, neuron]
        assert np.array_equal(v[quiet], case[f"v_hidden{neuron}"][quiet])
    # The output's window begins one step later on the chip, hence another step in the files.
    assert np.array_equal(out.spikes[:-2, 0].T, case["output_spikes"][:, 2:])
    assert np.array_equal(np.flatnonzero(out.spikes), [55, 58])
    quiet = out.spikes[:498, 0, 0] == 0
    assert np.array_equal(out.v[:498, 0, 0][quiet], case["v_output"][1:][quiet])
