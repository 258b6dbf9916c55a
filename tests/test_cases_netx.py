"""NetX networks, synapses and neurons of lava-dl and Lava with known results.

They lie in a folder of cases beside the checkout (skipped elsewhere): lava-dl's test files and
expected numbers of Lava's own tests, see the README of each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.hw import netx_read
from spikeport.sim import engine, reference
from spikeport.sim.arith import shift_sum, weight_on_chip
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"


def case(*parts: str) -> Path:
    path = CASES.joinpath(*parts)
    if not path.exists():
        pytest.skip("no folder of cases beside this checkout")
    return path


@pytest.fixture
def dense_case() -> Any:
    return np.load(case("lava_dl_dense", "case.npz"))


@pytest.fixture
def oxford(dense_case: Any) -> tuple[FixedNet, NDArray[np.int64]]:
    """The network as it is in its file, and the input [2000, 1, 200] of the dense case."""
    net = netx_read.read(case("lava_dl_dense", "oxford_network.net"), steps=2000)
    return net, dense_case["input"].T[:, None].astype(np.int64)


def test_one_dense_layer_of_lava_dl(oxford: Any, dense_case: Any) -> None:
    net, x = oxford
    synapse = net.projections[0].synapse
    current = reference.synapse_sum(synapse, x)[:, 0].T
    assert np.array_equal(synapse.w_chip >> -synapse.w_exp, dense_case["weight"])
    # In Lava's steps a synapse takes one.
    assert np.array_equal(current[:, :-1], dense_case["current"][:, 1:])
    spikes = engine.run(net, x)["layer0"].spikes[:, 0].T
    assert np.array_equal(spikes[:, :-1], dense_case["output"][:, 1:])
    assert spikes.sum() == 1826


@pytest.mark.lava
@pytest.mark.slow
def test_the_oxford_network_equals_lava_dls_own_run(
    oxford: Any, load_file: Callable[[Path], ModuleType]
) -> None:
    from spikeport.hw.lava_import import quiet

    net, x = oxford
    nets = load_file(Path(__file__).parent / "hw" / "netx_nets.py")
    path = case("lava_dl_dense", "oxford_network.net")
    with quiet():
        lava_dl = pytest.importorskip("lava.lib.dl.netx")
        found = nets.spikes_of_lava_dl(lava_dl, path, x, depth=2)
    spikes = engine.run(net, x)["layer1"].spikes
    assert np.array_equal(spikes, found)
    assert spikes.sum() == 9565


def test_the_three_layers_of_tinynet() -> None:
    net = netx_read.read(case("lava_dl_tinynet", "tiny.net"), steps=17)
    known = np.load(case("lava_dl_tinynet", "traces.npz"))
    bias = known["input_bias"].transpose().astype(np.int64)
    trace = reference.run(net, np.broadcast_to(bias, (17, 1, *bias.shape)))
    names = {"layer0": "input", "layer1": "layer1", "layer2": "output"}
    for name, key in names.items():
        spikes, expected = trace[name].spikes[:, 0], known[key].reshape(-1, 16).T
        # The stored first step lies before the input.
        assert np.array_equal(spikes[:15], expected[1:])
        assert spikes.any()
    assert net.provenance["transform"] == {"weight": 36, "bias": 34}


@pytest.mark.parametrize("number", [3, 4, 5])
def test_the_geometry_of_convolutions(number: int) -> None:
    known = np.load(case("lava_conv", f"gt_conv_paris_{number}.npz"))
    scale = 1 << 16  # our values are integers: 16 bits after the point
    x = np.rint(known["input"] * scale).astype(np.int64).transpose()  # (W, H, C) -> (C, H, W)
    w = known["weights"].transpose(0, 3, 2, 1)[:, :, ::-1, ::-1]
    pairs = {
        name: tuple(int(n) for n in known[name][::-1]) for name in ("stride", "padding", "dilation")
    }
    geometry = ConvGeometry(**pairs, groups=int(known["groups"]))  # type: ignore[arg-type]
    found = reference.conv_sum(Conv2d(w=w, geometry=geometry), x[None])[0].transpose() / scale
    assert found.shape == known["out_gt"].shape
    assert abs(found - known["out_gt"]).max() < 2e-2  # rounding of the input, float32 of the output
    assert abs(known["out_gt"]).max() > 500


def bitacc() -> Any:
    return json.loads(case("lava_lif_dense_bitacc", "cases.json").read_text())


@pytest.mark.parametrize("name", ["no_decay", "impulse_du", "impulse_dv", "bias_scaling"])
def test_lavas_neurons(name: str) -> None:
    known = next(item for item in bitacc()["lif"] if item["name"] == name)
    net = FixedNet(
        input=Input(shape=(1,), kind="graded", payload_bits=8),
        populations=(
            Population(
                name="lif",
                shape=(1,),
                v_th=min(known["vth"], 131071),  # the file's 131072 is beyond a chip
                du=known["du"],
                dv=known["dv"],
                bias=known["bias_mant"],
                bias_exp=known["bias_exp"],
            ),
        ),
        projections=(Projection(source="input", target="lif", synapse=Dense(w=[[1]])),),
        readout=Readout(population="lif"),
        steps=known["steps"],
    )
    found = reference.run(net, np.reshape(known["a_in"], (-1, 1, 1)))["lif"]
    assert found.u is not None
    assert found.v is not None
    compared = 0
    for key, values in (("expect_u", found.u), ("expect_v", found.v)):
        if key in known:
            assert values[:, 0, 0].tolist() == known[key]
            compared += 1
    if "expect_spikes_at" in known:
        assert np.flatnonzero(found.spikes).tolist() == known["expect_spikes_at"]
        compared += 1
    assert compared == 1


@pytest.mark.parametrize("name", ["excitatory_8bit", "mixed_8bit", "mixed_exp1", "fan_in_mixed"])
def test_lavas_dense_weights(name: str) -> None:
    known = next(item for item in bitacc()["dense"] if item["name"] == name)
    held = weight_on_chip(np.trunc(known["weights"])).astype(np.int64)
    if "expect_sum" in known:
        assert shift_sum(held.sum(), known["weight_exp"]) == known["expect_sum"]
    else:
        assert shift_sum(held, known["weight_exp"]).tolist() == known["expect"]


def test_seven_bits_are_two_weights_apart() -> None:
    """Ours has eight bits always; fewer are a choice of the quantiser, here the case's floor."""
    known = next(item for item in bitacc()["dense"] if item["name"] == "mixed_7bit")
    held = weight_on_chip(np.trunc(known["weights"]))
    assert (held >> 2 << 2).tolist() == known["expect"]
    assert weight_on_chip(np.array(known["expect"])).tolist() == known["expect"]
