"""The program in docs/bundle.md, which knows nothing of spikeport, reads our bundles."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.sim import bundle, reference
from spikeport.sim.net import READOUTS, FixedNet
from spikeport.sim.synapse import Dense

PAGE = Path(__file__).resolve().parents[1] / "docs" / "bundle.md"

RandomNet = Callable[..., tuple[FixedNet, NDArray[np.int64]]]


def program() -> str:
    [found] = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return str(found)


@pytest.fixture
def page() -> Any:
    """The program's functions."""
    scope: dict[str, Any] = {"__name__": "validate"}
    exec(compile(program(), str(PAGE), "exec"), scope)
    return SimpleNamespace(**scope)


@pytest.fixture
def make(random_net: RandomNet, tmp_path: Path) -> Callable[..., tuple[Path, FixedNet]]:
    def made(
        seed: int, kind: str | None, *, flip: bool = False, readout: str = "count"
    ) -> tuple[Path, FixedNet]:
        net, x = random_net(seed, kind=kind, lava=False)
        net = replace(net, readout=replace(net.readout, kind=readout))
        x = np.concatenate([x] * net.steps)[: net.steps]
        trace = reference.run(net, x)
        spikes = {name: part.spikes.copy() for name, part in trace.populations.items()}
        if flip:
            spikes[net.readout.population][-1, 0, 0] ^= 1
        vectors = bundle.Vectors(inputs=x, spikes=spikes, logits=trace.logits(net.readout))
        bundle.write(tmp_path / "bundle", net, files={}, vectors=vectors)
        return tmp_path / "bundle", net

    return made


@pytest.mark.parametrize("kind", [None, "dense", "conv", "delay", "recurrent"])
def test_the_program_finds_no_difference(kind: str | None, make: Any, page: Any) -> None:
    """Wraps, clips, negative exponents, pools, resets by subtraction and loops are drawn."""
    for seed in range(400, 403):
        folder, net = make(seed, kind)
        assert page.differing(folder) == {p.name: 0 for p in net.populations} | {"logits": 0}


@pytest.mark.parametrize("readout", READOUTS)
def test_the_program_reads_out_what_we_do(readout: str, make: Any, page: Any) -> None:
    """All four readouts; a vector whose logits are another's is found out."""
    folder, net = make(401, None, readout=readout)
    assert page.differing(folder) == {p.name: 0 for p in net.populations} | {"logits": 0}
    with h5py.File(folder / "vectors.h5", "r+") as file:
        file["logits"][0, 0] += 1
    assert page.differing(folder)["logits"] == 1


def test_the_program_finds_one_difference(make: Any, page: Any) -> None:
    folder, net = make(400, None, flip=True)
    assert sum(page.differing(folder).values()) == 1  # the logits are those of the true spikes
    assert page.differing(folder)[net.readout.population] == 1


def test_the_program_needs_numpy_and_h5py_only() -> None:
    imported = {
        name.name.partition(".")[0]
        for node in ast.walk(ast.parse(program()))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    assert imported == {"json", "sys", "h5py", "numpy"}


@pytest.mark.parametrize("w", [[-256, -3], [-256, 3], [255, 3], [7, -255]])
def test_dense_weights_lose_what_a_core_cannot_hold(w: list[int], page: Any) -> None:
    class Group(dict[str, Any]):
        attrs: ClassVar[dict[str, Any]] = {"kind": "Dense", "w_exp": 0}

    synapse = Dense(w=np.array([w]))
    found = page.delivered(np.eye(2, dtype=np.int64), Group(w={(): synapse.w}), [2])
    assert found[:, 0].tolist() == synapse.w_chip[0].tolist()
