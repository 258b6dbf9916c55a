"""Damaged and unusual parameters of NIR's linear nodes, as other writers leave them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from spikeport.export.nir_read import read
from spikeport.sim.net import FloatNet


def port(kind: str, *shape: int) -> Any:
    key = kind.lower()
    return getattr(nir, kind)(**{f"{key}_type": {key: np.array(shape)}})


def read_row(path: Path, shape: tuple[int, ...], changed: dict[str, Any], **nodes: Any) -> FloatNet:
    """Nodes one after the other and an IF, read after entries of the file were replaced."""
    one = np.ones(1)
    whole = {"input": port("Input", *shape), **nodes, "a": nir.IF(r=one, v_threshold=one)}
    whole["output"] = port("Output", 1)
    nir.write(path, nir.NIRGraph(whole, list(pairwise(whole)), type_check=False))
    with h5py.File(path, "a") as file:
        for key, value in changed.items():
            del file[f"node/nodes/{key}"]
            file[f"node/nodes/{key}"] = value
    return read(path, steps=3, dt_s=1e-3)


def refusal(path: Path, shape: tuple[int, ...], changed: dict[str, Any], **nodes: Any) -> str:
    with pytest.raises(ValueError, match=r"\S") as error:
        read_row(path, shape, changed, **nodes)
    return str(error.value).removeprefix(f"{path}: ")


def average(kernel: int, stride: int = 1, padding: int = 0) -> Any:
    pair = np.ones(2, int)
    return nir.AvgPool2d(kernel * pair, stride * pair, padding * pair)


def flatten(shape: tuple[int, ...], start: int, end: int) -> Any:
    return nir.Flatten({"input": np.array(shape)}, start, end)


@pytest.mark.parametrize(
    ("changed", "nodes", "sentence"),
    [
        ({}, {"p": average(0)}, "pool kernel is (0, 0); allowed are one or two whole numbers from"),
        ({}, {"p": average(10**6, padding=10**6)}, "its kernel would have shape (2, 1000000, 1000"),
        ({}, {"p": average(2, padding=10**4)}, "its output would have shape (2, 20004, 20004), mo"),
        ({"p/stride": 0.5}, {"p": average(2)}, "stride is 0.5; needed is one or two whole numbers"),
        ({"f/start_dim": 0.5}, {"f": flatten((2, 5, 5), 0, -1)}, "start_dim is 0.5; needed is one"),
        ({"f/end_dim": [1, 2]}, {"f": flatten((2, 5, 5), 0, -1)}, "end_dim is [1, 2]; need"),
        ({"c/groups": 1.5},
         {"c": nir.Conv2d((5, 5), np.ones((1, 2, 3, 3)), 1, 0, 1, 1, np.ones(1))},
         "groups is 1.5; needed is one whole number"),
        ({}, {"d": nir.Delay(np.full(50, 1e30))}, "a delay of 1e+30 s is 1e+33 steps of 0.001 s;"
         " 1048576 are the most, see whether dt_s is right"),
    ],
)  # fmt: skip
def test_a_parameter_is_refused_in_one_sentence(
    tmp_path: Path, changed: dict[str, Any], nodes: dict[str, Any], sentence: str
) -> None:
    (name, node), *_ = nodes.items()
    found = refusal(tmp_path / "g.nir", (2, 5, 5), changed, **nodes)
    assert found.startswith(f"node {name!r} ({type(node).__name__}): {sentence}")


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ([10**18], "shape is 1000000000000000000; allowed are 1..100000000"),
        ([10**8, 10**8, 10], "has shape (100000000, 100000000, 10), more values than chips hold;"),
        ([6.5], "shape must hold integers, but some entries are fractions or NaN"),
        ([0], "shape is 0; allowed are 1..100000000"),
    ],
)
def test_an_input_is_refused_in_one_sentence(tmp_path: Path, shape: Any, sentence: str) -> None:
    found = refusal(tmp_path / "g.nir", (6,), {"input/shape": shape})
    assert found.startswith("node 'input' (Input): ")
    assert sentence in found


@pytest.mark.parametrize(("start", "end"), [(1, 3), (1, -1), (0, -1), (-3, 3), (-4, -1)])
def test_a_flatten_may_count_the_batch(tmp_path: Path, start: int, end: int) -> None:
    w = np.arange(18.0).reshape(1, 18)
    nodes = {"f": flatten((4, 2, 3, 3), start, end), "w": nir.Linear(w)}
    net = read_row(tmp_path / "g.nir", (2, 3, 3), {}, **nodes)
    assert net.projections[0].synapse.w.tolist() == w.tolist()  # type: ignore[union-attr]


def test_a_flatten_without_batch_counts_from_channels(tmp_path: Path) -> None:
    found = refusal(tmp_path / "g.nir", (2, 3, 3), {}, f=flatten((2, 3, 3), 1, 3))
    assert "start_dim=1, end_dim=3 do not fit a source of shape (2, 3, 3)" in found
