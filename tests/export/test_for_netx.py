"""Post-training quantisation for NetX: what the search finds can be written, and read back."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeport.export.bounds import prove
from spikeport.export.quantise import to_fixed
from spikeport.export.report import report
from spikeport.hw import netx_file, netx_read
from spikeport.sim import floating, reference
from spikeport.sim.chip import LAVA, LOIHI_2, Chip
from spikeport.sim.floating import NEVER
from spikeport.sim.net import FloatNet, FloatPopulation, FloatProjection, Input, Readout
from spikeport.sim.synapse import ConvGeometry, FloatConv2d, FloatDense, FloatSumPool2d
from spikeport.sim.trace import first_difference


def chain(seed: int, *, potentials: bool = False) -> FloatNet:
    """Convolution, pool, a dense layer, a recurrent one and a readout, with biases."""
    rng = np.random.default_rng(seed)

    def wired(source: str, target: str, n: tuple[int, int], delay: int = 0) -> FloatProjection:
        w = rng.normal(size=n) * rng.lognormal(size=n) * 0.4
        return FloatProjection(source=source, target=target, synapse=FloatDense(w=w), delay=delay)

    def lif(name: str, *shape: int, v_th: float = 1.0, bias: Any = 0.0) -> FloatPopulation:
        return FloatPopulation(
            name=name, shape=shape, v_th=v_th, keep_u=0.3, keep_v=0.8, bias=bias
        )  # fmt: skip

    return FloatNet(
        input=Input(shape=(2, 6, 6), kind="graded", payload_bits=8, scale=255.0),
        populations=(
            lif("c", 4, 6, 6, bias=np.repeat(rng.normal(size=4) * 0.1, 36)),
            lif("p", 4, 3, 3, v_th=0.4),
            lif("d", 20, bias=rng.normal(size=20) * 0.1),
            lif("r", 12),
            lif("o", 5, v_th=NEVER if potentials else 1.0),
        ),
        projections=(
            FloatProjection(
                source="input", target="c",
                synapse=FloatConv2d(
                    w=rng.normal(size=(4, 2, 3, 3)) * 0.4, geometry=ConvGeometry(padding=(1, 1))
                ),
            ),
            FloatProjection(
                source="c", target="p",
                synapse=FloatSumPool2d(kernel=(2, 2), stride=(2, 2), w=0.25),
            ),
            wired("p", "d", (20, 36)), wired("d", "r", (12, 20)), wired("r", "r", (12, 12), 1),
            wired("r", "o", (5, 12)),
        ),
        readout=Readout(population="o", kind="last_v" if potentials else "count"),
        steps=12,
    )  # fmt: skip


def pixels(seed: int, *, samples: int = 6) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (12, samples, 2, 6, 6))


@pytest.mark.parametrize("potentials", [False, True])
@pytest.mark.parametrize("chip", [LOIHI_2, LAVA])
@pytest.mark.parametrize("bits", [8, 5, 3, 1])
def test_what_is_quantised_for_netx_comes_back_bit_for_bit(
    chip: Chip, bits: int, potentials: bool, tmp_path: Path
) -> None:
    fixed = to_fixed(chain(bits, potentials=potentials), chip, weight_bits=bits, for_netx=True)
    assert prove(fixed) == []
    netx_file.write(fixed, tmp_path / "net.net")
    again = netx_read.read(tmp_path / "net.net", chip=chip)
    x = pixels(bits)
    left, right = reference.run(fixed, x, strict=True), reference.run(again, x, strict=True)
    assert first_difference(left, right) is None
    assert all(left[name].spikes.any() for name in "cpdr")


def test_the_default_search_uses_what_netx_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NetX"):
        netx_file.write(to_fixed(chain(0), LOIHI_2), tmp_path / "net.net")


def test_samples_are_searched_within_what_netx_holds(tmp_path: Path) -> None:
    net = chain(2)
    plain = to_fixed(net, LOIHI_2, weight_bits=5, for_netx=True)
    better = to_fixed(
        net, LOIHI_2, weight_bits=5, for_netx=True, objective="spikes", calibration=pixels(1)
    )
    assert better.provenance["search"]["d"]["objective"] == "spikes"
    netx_file.write(better, tmp_path / "net.net")
    x = pixels(9, samples=20)
    exact = floating.run(net, x / 255)
    differing = [
        sum((exact[n].spikes != run[n].spikes).sum() for n in "cpdr")
        for run in (reference.run(fixed, x) for fixed in (plain, better))
    ]
    assert differing[1] < 0.9 * differing[0]


def test_thresholds_are_made_equal_on_chips_that_allow_others(tmp_path: Path) -> None:
    net = chain(2)
    assert np.unique(to_fixed(net, LAVA).population("d").v_th).size > 1
    fixed = to_fixed(net, LAVA, for_netx=True)
    assert fixed.provenance["for_netx"]
    assert np.unique(fixed.population("d").v_th).size == 1
    assert report(net, fixed).proven


def test_several_exponents_are_refused() -> None:
    message = (
        "exponents is 2, but NetX holds weights without exponents; give 1 or leave out for_netx"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        to_fixed(chain(0), LOIHI_2, exponents=2, for_netx=True)


def test_a_start_at_a_potential_is_refused() -> None:
    net = chain(0)
    start = replace(net.population("d"), v_init=0.5)
    net = replace(net, populations=tuple(start if p.name == "d" else p for p in net.populations))
    message = (
        "population 'd' starts at v_init, which NetX cannot hold; train it without v_init or leave"
        " out for_netx"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        to_fixed(net, LOIHI_2, for_netx=True)
