"""The program in docs/bundle.md, which knows nothing of spikeport, reads our bundles."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


class Group(dict[str, Any]):
    """What h5py shows of a group: things by name, numbers as arrays, and attributes."""

    def __init__(self, things: dict[str, Any], **attrs: Any) -> None:
        super().__init__({k: v if isinstance(v, Group) else np.array(v) for k, v in things.items()})
        self.attrs = attrs


def dense(w: Any, w_exp: int = 0, **ends: Any) -> Group:
    return Group({"w": w}, kind="Dense", w_exp=w_exp, **ends)


def conv(w: Any) -> Group:
    geometry = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    return Group({"w": w}, kind="Conv2d", **geometry)


def pool(w: int, *, side: int, padding: int) -> Group:
    pairs = {"kernel": side, "stride": side, "padding": padding}
    return Group({"w": w}, kind="SumPool2d", **{name: (n, n) for name, n in pairs.items()})


@pytest.mark.parametrize("w", [[-256, -3], [-256, 3], [255, 3], [7, -255]])
def test_dense_weights_lose_what_a_core_cannot_hold(w: list[int], page: Any) -> None:
    synapse = Dense(w=np.array([w]))
    found = page.delivered(np.eye(2, dtype=np.int64), dense([w]), [2])
    assert found[:, 0].tolist() == synapse.w_chip[0].tolist()


SUMS: dict[str, tuple[int, list[int], Group, list[int]]] = {
    # 254 2^24 = 2^32 - 33 554 432
    "32 bits": (1 << 24, [1], dense([[254]]), [-33_554_432]),
    "before the shift": (1 << 24, [1], dense([[254]], -1), [-16_777_216]),
    "downwards": (1, [1], dense([[-3]], -1), [-2]),
    # 127 2^17 = 2^24 - 131 072
    "24 bits of a map": (1 << 17, [1, 1, 1], conv([[[[127]]]]), [-131_072]),
    "24 bits of a pool": (1 << 17, [1, 1, 1], pool(127, side=1, padding=0), [-131_072]),
    # Each of its four windows holds one value and three zeros of the rim.
    "rim": (1, [1, 2, 2], pool(3, side=2, padding=1), [3, 3, 3, 3]),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_by_hand(name: str, page: Any) -> None:
    x, shape, projection, expected = SUMS[name]
    values = np.full((1, int(np.prod(shape))), x)
    assert page.delivered(values, projection, shape).tolist() == [expected]


@pytest.mark.parametrize(
    ("arrives", "bias", "expected"),
    [
        (1 << 17, -1 << 23, 0),  # u is 2^23, its largest value
        ((1 << 17) + 1, 0, 64 - (1 << 23)),  # one more wraps
        (-1 << 17, -1 << 23, 0),  # -2^23 becomes 2^23
        (-(1 << 17) - 1, -1 << 23, -64),
        (3 * (1 << 17) + 1, -1 << 23, 64),  # wraps once, to 2^23 + 64, and no further
        (1 << 32, 64, 64),  # the shifted sum is added in 32 bits
        (0, -1 << 24, 1 - (1 << 23)),  # v is clipped
        (0, 1 << 24, 63),  # at 2^23 - 1 it fires, and loses 64 (2^17 - 1)
        (0, 64 * 131071, 64 * 131071),  # it meets its threshold, which is no spike
    ],
)
def test_states_by_hand(arrives: int, bias: int, expected: int, page: Any) -> None:
    """v after the first step of a neuron with the highest threshold."""
    numbers = {"du": 0, "dv": 0, "v_th": 131071, "bias": bias, "v_init": 0}
    neuron = Group(numbers, name="p", shape=[1], bias_exp=0, reset="subtract")
    w_exp = 0 if arrives % 4 else 2
    synapse = dense([[1 if arrives > 0 else -1]], w_exp, source="input", target="p", delay=0)
    net = Group(
        {"populations": Group({"0000": neuron}), "projections": Group({"0000": synapse})},
        input='{"shape": [1]}', readout='{"population": "p", "kind": "last_v"}',
    )  # fmt: skip
    _, logits = page.run(net, np.full((1, 1, 1), abs(arrives) >> w_exp))
    assert logits.tolist() == [[expected]]
