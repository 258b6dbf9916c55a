"""Refusals of graphs and modules that few users will ever build."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
import snntorch
from torch import nn

from spikeport.export.neurons import Unsupported
from spikeport.export.nir_read import read
from spikeport.export.nir_write import write
from spikeport.export.parts import ours
from spikeport.export.passes import Stage
from spikeport.sim.net import Input
from spikeport.sim.synapse import FloatDense

STEP: dict[str, Any] = {"steps": 3, "dt_s": 1e-3}


def saved(path: Path, shape: tuple[int, ...], **nodes: Any) -> Path:
    """A file with the nodes one after the other between an Input and an Output."""
    whole = {
        "input": nir.Input(input_type={"input": np.array(shape)}),
        **nodes,
        "output": nir.Output(output_type={"output": np.array([1])}),
    }
    nir.write(path, nir.NIRGraph(whole, list(pairwise(whole)), type_check=False))
    return path


def lif(n: int) -> Any:
    one = np.ones(n)
    return nir.LIF(tau=4e-3 * one, r=one, v_leak=0 * one, v_threshold=one)


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A dataset of a file that gets another value, and what the reader says then."""

    key: str
    value: Any
    message: str


@pytest.mark.parametrize(
    "damage",
    [
        Damage(
            key="node/nodes/fc/bias",
            value=np.zeros(3),
            message="node 'fc' (Affine): bias has shape (3,); needed is (2,)",
        ),
        Damage(
            key="node/edges",
            value=np.array([["input", "conv", "fc"]], h5py.string_dtype()),
            message="an edge has 3 ends instead of 2",
        ),
        Damage(
            key="node/nodes/conv/bias",
            value=np.zeros(3),
            message="node 'conv' (Conv2d): bias has 3 values; needed are 2, one a channel",
        ),
    ],
    ids=lambda damage: damage.key,
)
def test_damaged_values_are_named(tmp_path: Path, damage: Damage) -> None:
    conv = nir.Conv2d((4, 4), np.ones((2, 1, 3, 3)), 1, 0, 1, 1, np.zeros(2))
    nodes: Mapping[str, Any] = {
        "conv": conv,
        "flat": nir.Flatten({"input": np.array([2, 2, 2])}, start_dim=0, end_dim=-1),
        "fc": nir.Affine(weight=np.ones((2, 8)), bias=np.zeros(2)),
        "out": lif(2),
    }
    path = saved(tmp_path / "g.nir", (1, 4, 4), **nodes)
    assert read(path, **STEP).populations[0].size == 2
    with h5py.File(path, "a") as file:
        del file[damage.key]
        file[damage.key] = damage.value
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {damage.message}')}$"):
        read(path, **STEP)


def test_the_input_and_the_reset_must_be_those_of_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "g.nir", (2,), fc=nir.Linear(np.ones((2, 2))), a=lif(2))
    message = re.escape(f"{path}: the input has shape (2,), not (3,)")
    with pytest.raises(ValueError, match=f"^{message}$"):
        read(path, input=Input(shape=(3,)), **STEP)
    module = nn.Sequential(nn.Linear(3, 2), snntorch.Leaky(0.5, reset_mechanism="zero"))
    write(module, path, input=Input(shape=(3,)), **STEP)
    with pytest.raises(
        ValueError,
        match=r"node '1' \(LIF\): was written with reset 'zero', not 'subtract'; leave the argument"
        r" out$",
    ):
        read(path, reset="subtract")
    with h5py.File(path, "a") as file:
        about = file["node/nodes/input/metadata/spikeport"]
        text = about[()].decode().replace('"payload_bits": 1', '"payload_bits": 99')
        assert "99" in text
        about[...] = text
    with pytest.raises(ValueError, match=r"node 'input' \(Input\): .*payload_bits"):
        read(path)


def test_a_kernel_that_nir_cannot_hold(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, (2, 3)), snntorch.Leaky(0.5, reset_mechanism="zero"))
    with pytest.raises(
        Unsupported,
        match=r"^layer '0': nir cannot hold a kernel of 2x3; use one whose sides are equal, both"
        r" odd or both even$",
    ):
        write(module, tmp_path / "g.nir", input=Input(shape=(1, 5, 5)), **STEP)
    assert list(tmp_path.iterdir()) == []


def test_a_stage_has_one_bias_or_one_a_neuron() -> None:
    with pytest.raises(
        ValueError, match=r"^layer 'fc': bias has shape \(3,\); allowed are \(\) and \(2,\)$"
    ):
        Stage(name="fc", source=(4,), synapse=FloatDense(w=np.ones((2, 4))), bias=np.zeros(3))


def test_maps_of_four_axes_are_refused() -> None:
    assert ours((2, 7)) == (2, 1, 7)
    with pytest.raises(
        ValueError,
        match=r"^it has shape \(2, 2, 2, 4\) without time and batch; allowed are \(n,\), \(C, L\)"
        r" and \(C, H, W\)$",
    ):
        ours((2, 2, 2, 4))


def test_a_norm_that_no_layer_can_take_in(tmp_path: Path) -> None:
    neurons = snntorch.Leaky(0.5, reset_mechanism="zero")
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(3), nn.BatchNorm2d(2), neurons).eval()
    with pytest.raises(Unsupported, match=r"^layer '2' \(BatchNorm2d\): .*\bfold"):
        write(module, tmp_path / "g.nir", input=Input(shape=(1, 5, 5)), **STEP)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(3), neurons).eval()
    with pytest.raises(Unsupported, match=r"^layer '1' \(BatchNorm2d\): "):
        write(module, tmp_path / "g.nir", input=Input(shape=(1, 5, 5)), **STEP)
