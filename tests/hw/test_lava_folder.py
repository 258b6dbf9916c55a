"""The network of a deployment folder, built from its JSON and arrays, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.hw import deploy, deploy_network
from spikeport.hw.early import HELD, intruders
from spikeport.hw.lava_limits import refuse
from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense

pytestmark = pytest.mark.lava

RandomNet = Callable[..., tuple[FixedNet, NDArray[np.int64]]]


def written(net: FixedNet, folder: Path) -> dict[str, Any]:
    """network.json of `net`, without a NetX file; the arrays are in `folder`."""
    connections, arrays = deploy_network.connections(net)
    np.savez(folder / "network.npz", **arrays)
    header = deploy_network.header(net, netx=None) | {"connections": connections}
    return dict(json.loads(json.dumps(header)))


def spikes(net: FixedNet, x: NDArray[np.int64], folder: Path) -> dict[str, NDArray[Any]]:
    """What the folder's graph does with `x`: [T, B, n] by population."""
    from spikeport.hw.lava_axes import columns
    from spikeport.hw.lava_driver import Driver
    from spikeport.hw.lava_folder import compare, graph
    from spikeport.hw.lava_folder.processes.adapters import InputAdapter
    from spikeport.hw.lava_import import quiet
    from spikeport.hw.lava_net import forgetting

    header = written(net, folder)
    size = 1 if header["one_by_one"] else x.shape[1]
    for execution in range(x.shape[1] // size):
        part = x[:, execution * size : (execution + 1) * size]
        steps, shape = graph.chip_steps(header, size), tuple(header["input"]["port"])
        with quiet(), forgetting(), np.errstate(over="ignore"):
            from lava.proc.io.source import RingBuffer

            source = RingBuffer(data=columns(part, port=shape, steps=steps))
            adapter = InputAdapter(shape=shape, message_bits=header["input"]["message_bits"])
            source.s_out.connect(adapter.inp)
            neurons = graph.connect(folder, header, adapter.out)
            driver = Driver(source)
            taps = {name: driver.tap(lif) for name, lif in neurons.items()}
            driver.restart({})
            rows: list[list[Any]] = []
            driver.run(steps, partial(_tap, rows, list(taps.values())))
        for i, sent in enumerate(zip(*rows, strict=True)):
            np.save(folder / f"{execution}.{i}.npy", np.array(sent, np.uint8))
    return {
        p.name: compare.window(folder, str(i), header, depth=net.depths[p.name], samples=x.shape[1])
        for i, p in enumerate(net.populations)
    }


def _tap(rows: list[list[Any]], taps: list[Callable[[], Any]], _: int) -> None:
    rows.append([tap() for tap in taps])


def stock(net: FixedNet) -> bool:
    """Whether Lava's own processes can run `net`, as they must in a folder."""
    try:
        refuse(net)
    except ValueError:
        return False
    return not intruders(net, start=HELD)


@pytest.mark.parametrize("kind", [None, "dense", "conv", "delay", "recurrent"])
def test_the_folders_graph_gives_the_bits_of_the_reference(
    kind: str | None, random_net: RandomNet, tmp_path: Path
) -> None:
    drawn = (random_net(seed, kind=kind) for seed in range(100, 200))
    pairs = list(islice((pair for pair in drawn if stock(pair[0])), 6))
    assert len(pairs) == 6
    for net, x in pairs:
        expected, found = reference.run(net, x), spikes(net, x, tmp_path)
        for name, part in expected.populations.items():
            np.testing.assert_array_equal(found[name], part.spikes)


def test_neurons_that_are_reset_once_get_a_power_of_two(tmp_path: Path) -> None:
    from spikeport.hw.lava_folder import graph

    net = replace(alone_net(), projections=(replace(alone_net().projections[0], delay=2),))
    for steps in (7, 8, 9):
        header = written(replace(net, steps=steps), tmp_path)
        with np.load(tmp_path / "network.npz") as arrays:
            lif = graph._neurons(header, 1, arrays)
        interval, offset = (lif.proc_params[f"reset_{name}"] for name in ("interval", "offset"))
        depth = header["populations"][1]["depth"]
        assert interval == (8 if steps + depth <= 8 else 16)
        assert [t for t in range(1, steps + depth + 1) if t % interval == offset] == [depth + 1]


def alone_net() -> FixedNet:
    """A population that nothing feeds, which fires by its bias, beside the readout."""
    parts: dict[str, Any] = {"shape": (2,), "v_th": np.array(3)}
    return FixedNet(
        input=Input(shape=(3,)),
        populations=(Population(name="free", bias=100, **parts), Population(name="out", **parts)),
        projections=(
            Projection(source="input", target="out", synapse=Dense(w=np.full((2, 3), 2))),
        ),
        readout=Readout(population="out"),
        steps=8,
    )


def test_a_population_that_hangs_together_with_nothing_runs_too(tmp_path: Path) -> None:
    net, x = alone_net(), np.ones((8, 2, 3), np.int64)
    expected, found = reference.run(net, x), spikes(net, x, tmp_path)
    assert 0 < expected["free"].spikes.sum() < expected["free"].spikes.size
    for name in ("free", "out"):
        np.testing.assert_array_equal(found[name], expected[name].spikes)


def test_a_board_is_asked_for_a_population_that_fires() -> None:
    from spikeport.hw.lava_folder.compare import telling

    silent, one = np.zeros((2, 1, 3), np.uint8), np.ones((2, 1, 3), np.uint8)
    for fires, expected in (("abc", "c"), ("ab", "b"), ("a", "a"), ("", "c"), ("bc", "c")):
        spikes = {f"spikes.{name}": one if name in fires else silent for name in "abc"}
        assert telling(["a", "b", "c"], "c", spikes) == expected
    assert telling(["c", "a"], "c", {"spikes.c": one, "spikes.a": one}) == "c"


def test_arrays_and_words_of_a_network(tmp_path: Path) -> None:
    header = written(alone_net(), tmp_path)
    assert header["readout"] == {"population": "out", "kind": "count"}
    assert header["input"] == {"shape": [3], "port": [3], "message_bits": 0}
    assert [p["depth"] for p in header["populations"]] == [0, 1]
    assert (header["start"], header["one_by_one"], header["netx"]) == (0, False, None)
    first = {"source": "input", "target": "out", "kind": "dense", "message_bits": 0}
    assert header["connections"] == [
        {**first, "w_exp": 0, "delay": 0},
        {**first, "target": "free", "w_exp": 0, "delay": 0},
    ]
    with np.load(tmp_path / "network.npz") as arrays:
        assert arrays["connections.0.weights"].tolist() == [[2, 2, 2], [2, 2, 2]]
        assert arrays["populations.0.bias"].tolist() == 100
    late = replace(alone_net().projections[0], delay=2)
    header = written(replace(alone_net(), projections=(late,)), tmp_path)
    assert (header["start"], header["one_by_one"]) == (HELD, True)


def test_the_code_of_a_folder_knows_nothing_of_spikeport() -> None:
    for name, text in deploy.code().items():
        compile(text, name, "exec")
        assert "import spikeport" not in text
        assert "from spikeport" not in text
        assert "spikeport.hw" not in text
