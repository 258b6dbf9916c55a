"""NetX files read back, the way lava-dl's own SLAYER writes them and the way others damage them."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.hw import netx_file, netx_read
from spikeport.hw.lava_guard import guarded
from spikeport.sim import reference
from spikeport.sim.chip import CHIPS
from spikeport.sim.net import FixedNet
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense
from spikeport.sim.trace import first_difference

FEW, MANY = 12, 200
CHILD = Path(__file__).with_name("netx_child.py")
CUBA = {"type": b"CUBA", "vThMant": 30, "iDecay": 1000, "vDecay": 200}


@pytest.fixture(scope="module")
def nets(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    """Networks for NetX files and lava-dl's run of them."""
    return load_file(Path(__file__).with_name("netx_nets.py"))


@pytest.fixture(scope="module")
def lava_dl() -> Iterator[Any]:
    """lava-dl's loader, imported without its noise."""
    from spikeport.hw.lava_import import quiet

    with quiet():
        netx = pytest.importorskip("lava.lib.dl.netx")
        yield netx


def file_of(path: Path, *layers: dict[str, Any]) -> Path:
    """A NetX file with `layers`, each as what its group holds."""
    with h5py.File(path, "w") as file:
        for i, layer in enumerate(layers):
            put(file.create_group(f"layer/{i}"), layer)
    return path


def put(group: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            put(group.create_group(name), value)
        else:
            group[name] = value


def dense(w: Any, **more: Any) -> dict[str, Any]:
    shape = np.array([len(w)])
    return {"type": [b"dense"], "shape": shape, "weight": np.array(w), "neuron": CUBA} | more


def conv(w: Any, shape: tuple[int, ...], **more: Any) -> dict[str, Any]:
    geometry = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    layer = {"type": [b"conv"], "shape": np.array(shape), "weight": w, "neuron": CUBA}
    return layer | geometry | more


W = [[2, -4, 6], [8, 10, -12]]
MAPS = {"type": b"input", "shape": np.array([1, 3, 4])}
KERNEL = np.arange(1, 5).reshape(1, 1, 2, 2)


@pytest.mark.parametrize("part", range(4))
def test_a_round_trip_changes_no_bit(part: int, nets: ModuleType, tmp_path: Path) -> None:
    """Spikes, u and v of every population; a second round trip changes not even the spelling."""
    for seed in range(part * MANY // 4, (part + 1) * MANY // 4):
        net, x = nets.draw(seed, tmp_path)
        netx_file.write(net, tmp_path / "a.net")
        found = netx_read.read(tmp_path / "a.net")
        assert found.provenance["notes"] == []
        difference = first_difference(reference.run(net, x), reference.run(found, x))
        assert difference is None, (seed, str(difference))
        netx_file.write(found, tmp_path / "b.net")
        assert netx_read.read(tmp_path / "b.net").digest() == found.digest(), seed


def test_a_net_spelled_as_netx_does_comes_back_with_its_digest(tmp_path: Path) -> None:
    path = file_of(tmp_path / "a.net", dense(W, bias=np.array([3, -4])))
    net = netx_read.read(path, steps=7, chip=CHIPS["loihi1"], readout="last_v", input_bits=0)
    netx_file.write(net, tmp_path / "b.net")
    again = netx_read.read(tmp_path / "b.net", chip=CHIPS["loihi1"])
    assert again.digest() == net.digest()
    assert again.readout.kind == "last_v"
    assert again.steps == 7


@pytest.mark.lava
def test_lava_dl_runs_the_files_of_random_nets_bit_for_bit(
    lava_dl: Any, nets: ModuleType, tmp_path: Path
) -> None:
    from spikeport.hw import lava_net
    from spikeport.hw.lava_import import quiet

    spikes = 0
    for seed in range(1000, 1000 + 4 * FEW):
        net, x = nets.draw(seed, tmp_path)
        loading = netx_file.write(net, tmp_path / "a.net")
        flat = isinstance(net.projections[0].synapse, Dense)
        taken = x.reshape(*x.shape[:2], -1) if flat else x
        with lava_net.forgetting(), quiet():
            found = nets.spikes_of_lava_dl(
                lava_dl, tmp_path / "a.net", taken, depth=len(net.populations), **loading
            )
        expected = reference.run(net, x)[net.readout.population].spikes
        np.testing.assert_array_equal(found, expected, err_msg=str(seed))
        spikes += int(found.sum())
    assert spikes > 500


@pytest.mark.lava
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense_rec", "delay", "conv"])
def test_lava_dl_on_lavas_own_runtime_does_the_same(
    kind: str, nets: ModuleType, tmp_path: Path
) -> None:
    net, x = next(drawn for drawn in drawings(nets, tmp_path) if is_of(drawn[0], kind))
    path, depth = tmp_path / "a.net", len(net.populations)
    loading = netx_file.write(net, path)
    first = x[:, 0] if kind == "conv" else x[:, 0].reshape(len(x), -1)
    padded = np.pad(first, [(0, depth), *[(0, 0)] * (first.ndim - 1)])
    with tempfile.TemporaryDirectory(prefix="spikeport-netx-") as name:
        folder = Path(name)
        np.save(folder / "columns.npy", padded.transpose().astype(np.int32))
        command = [sys.executable, str(CHILD), name, str(path), json.dumps(loading)]
        guarded(command, folder, timeout_s=100)
        spikes = np.load(folder / "spikes.npy")[..., depth:].T.reshape(len(x), -1)
    expected = reference.run(net, x[:, :1])[net.readout.population].spikes[:, 0]
    assert expected.any()
    np.testing.assert_array_equal(spikes, expected)


def drawings(nets: ModuleType, scratch: Path) -> Iterator[tuple[FixedNet, NDArray[np.int64]]]:
    for seed in range(3000, 4000):
        yield nets.draw(seed, scratch)


def is_of(net: FixedNet, kind: str) -> bool:
    loop = any(p.source == p.target for p in net.projections)
    late = any(p.delay for p in net.projections) and not loop
    if kind == "conv":
        return isinstance(net.projections[0].synapse, Conv2d)
    return {"dense_rec": loop, "delay": late}[kind] and isinstance(
        net.projections[0].synapse, Dense
    )


def test_entries_mean_what_lava_dl_takes_them_for(tmp_path: Path) -> None:
    """Files as SLAYER writes them: float arrays, types in arrays, a trailing axis of kernels."""
    kernel = np.array([[[[1, 2], [3, -4]]]], np.float32)[..., None]
    path = file_of(
        tmp_path / "a.net",
        MAPS,
        conv(
            kernel, (1, 4, 2), bias=np.array([7.0]), stride=np.array([1, 2]),
            padding=np.array([1, 0]),
            neuron=CUBA | {"type": b"LOIHI", "refDelay": 1, "gradedSpike": False, "theta": 3.5},
        ),
        {"type": [b"flatten"]},
        dense(np.ones((2, 8), np.float32), bias=np.array([8000, 2])),
    )  # fmt: skip
    net = netx_read.read(path, steps=5, input_bits=3)
    first, last = net.populations
    assert [p.name for p in net.populations] == ["layer1", "layer3"]
    assert (first.shape, int(first.v_th), int(first.du), int(first.dv)) == ((1, 4, 2), 30, 999, 200)
    assert first.bias_shifted.tolist() == [7 * 64] * 8
    assert (last.bias.tolist(), last.bias_exp) == ([4000, 1], 7)  # 8000 needs another exponent
    assert net.input.payload_bits == 3
    assert net.readout.kind == "count"
    synapse = net.projections[0].synapse
    assert isinstance(synapse, Conv2d)
    assert synapse.w.tolist() == [[[[1, 2], [3, -4]]]]
    assert synapse.geometry == ConvGeometry(stride=(1, 2), padding=(1, 0))


@pytest.mark.parametrize("threshold", [131071, 262143])
def test_a_layer_that_never_fires_is_read_by_its_potentials(threshold: int, tmp_path: Path) -> None:
    """lava-dl writes its Affine with a threshold of 18 bits, more than a chip has."""
    silent = CUBA | {"vThMant": threshold}
    path = file_of(tmp_path / "a.net", dense(np.eye(2)), dense(np.eye(2), neuron=silent))
    net = netx_read.read(path, steps=5)
    assert int(net.populations[-1].v_th) == 131071
    assert net.readout.kind == "last_v"
    assert netx_read.read(path, steps=5, readout="sum_v").readout.kind == "sum_v"


def test_one_bias_a_neuron_stands_in_the_order_of_lavas_maps(tmp_path: Path) -> None:
    bias = np.arange(6).reshape(1, 2, 3).transpose()  # (x, y, channel)
    net = netx_read.read(
        file_of(tmp_path / "a.net", MAPS, conv(KERNEL, (1, 2, 3), bias=bias)), steps=5
    )
    assert net.populations[0].bias.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (3, {3: W}),
        ([1, 0], {0: [[0, 0, 0], [8, 10, -12]], 1: [[2, -4, 6], [0, 0, 0]]}),  # outputs
        ([0.0, 5.0, 0.0], {0: [[2, 0, 6], [8, 0, -12]], 5: [[0, -4, 0], [0, 10, 0]]}),
        (
            [[0, 1, 2], [0, 1, 62]],
            {0: [[2, 0, 0], [8, 0, 0]], 1: [[0, -4, 0], [0, 10, 0]], 2: [[0, 0, 6], [0, 0, 0]],
             62: [[0, 0, 0], [0, 0, -12]]},
        ),
    ],
)  # fmt: skip
def test_delays_become_one_projection_each(
    delay: Any, expected: dict[int, Any], tmp_path: Path
) -> None:
    path = file_of(tmp_path / "a.net", dense(W, delay=delay))
    net = netx_read.read(path, steps=70)
    found = {}
    for p in net.projections:
        assert isinstance(p.synapse, Dense)
        found[p.delay] = (p.synapse.w_chip * 2.0**p.synapse.w_exp).tolist()
    assert found == expected


def test_a_vector_of_delays_is_of_the_outputs_where_both_are_as_many(tmp_path: Path) -> None:
    path = file_of(tmp_path / "a.net", dense([[2, -4], [6, 8]], delay=[0, 1]))
    net = netx_read.read(path, steps=5)
    late = net.projections[1]
    assert isinstance(late.synapse, Dense)
    assert late.delay == 1
    assert late.synapse.w[0].tolist() == [0, 0]
    assert late.synapse.w[1].all()


def test_the_lowest_weight_alone_behind_its_delay_is_kept(tmp_path: Path) -> None:
    """-256 needs both signs in a synapse; split off by its delay it is stored as a half."""
    path = file_of(tmp_path / "a.net", dense([[-128, 127, 3]], delay=[[1, 0, 0]]))
    net = netx_read.read(path, steps=5)
    late = net.projections[1].synapse
    assert isinstance(late, Dense)
    assert (late.w_chip * 2.0**late.w_exp).tolist() == [[-128, 0, 0]]


def test_recurrent_weights_share_the_exponent_and_come_one_step_later(tmp_path: Path) -> None:
    layer = dense(W, weight_rec=np.array([[100, 1], [-1, 0]])) | {"type": b"dense_rec"}
    net = netx_read.read(file_of(tmp_path / "a.net", layer), steps=5)
    forward, loop = net.projections
    assert isinstance(forward.synapse, Dense)
    assert isinstance(loop.synapse, Dense)
    assert (loop.source, loop.target, loop.delay) == ("layer0", "layer0", 1)
    assert forward.synapse.w_exp == loop.synapse.w_exp == -1
    assert loop.synapse.w.tolist() == [[200, 2], [-2, 0]]


def test_weights_that_netx_changes_are_told(tmp_path: Path) -> None:
    net = netx_read.read(file_of(tmp_path / "a.net", dense([[-64, -1]])), steps=5)
    assert net.provenance["notes"] == ["layer 0: lava-dl and Lava change 1 of 2 weights"]
    synapse = net.projections[0].synapse
    assert isinstance(synapse, Dense)
    assert (synapse.w_chip * 2.0**synapse.w_exp).tolist() == [[-63, -1]]


@pytest.mark.parametrize("maps", [True, False])
def test_an_input_layer_with_neurons_adds_the_input_to_their_bias(
    maps: bool, tmp_path: Path
) -> None:
    shape = [2, 1, 2] if maps else [4]
    top = {"type": b"input", "shape": np.array(shape), "neuron": CUBA | {"vDecay": 0}}
    top |= {"weight": np.array([36.0]), "bias": np.array([34.0])}
    between = [{"type": b"flatten"}] if maps else []
    path = file_of(tmp_path / "a.net", top, *between, dense(np.ones((1, 4), int)))
    net = netx_read.read(path, steps=4)
    assert net.provenance["transform"] == {"weight": 36, "bias": 34}
    assert net.input.payload_bits == 8
    x = np.broadcast_to(np.array([0, 10, 11, 40]).reshape(shape), (4, 1, *shape))
    trace = reference.run(net, x)["layer0"]
    assert trace.v is not None
    assert trace.v[:, 0, 1].tolist() == [640, 1280, 1920, 0]
    assert trace.spikes.sum(0).tolist() == [[0, 1, 1, 4]]


# What lava-dl 0.6 does wrong. A pin that fails tells that a later release has mended it.


def network(lava_dl: Any, path: Path, **loading: Any) -> Any:
    """lava-dl's network of a file, which is closed again."""
    found = lava_dl.hdf5.Network(net_config=str(path), **loading)
    found.net_config.f.close()
    return found


@pytest.mark.lava
def test_pinned_an_input_layer_with_neurons_ignores_the_input(
    lava_dl: Any, nets: ModuleType, tmp_path: Path
) -> None:
    """The input must be put into the neurons' bias instead, which is what `read` does."""
    neuron = CUBA | {"vThMant": 20, "vDecay": 0}
    top = {"type": b"input", "shape": np.array([3]), "neuron": neuron}
    path = file_of(tmp_path / "a.net", top, dense([[100, 2, 4]]))
    net = netx_read.read(path, steps=9)
    x = np.broadcast_to(np.array([25, 3, 7]), (9, 1, 3))
    expected = reference.run(net, x)["layer1"].spikes
    assert expected.any()
    loading = {"reset_interval": 9, "reset_offset": 0, "input_message_bits": 8}
    first, second = network(lava_dl, path, **loading).layers
    assert not first.inp.out_connections
    assert second.inp.out_connections
    found = nets.spikes_of_lava_dl(lava_dl, path, x, depth=1, bias=x[0, 0], **loading)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.lava
def test_pinned_resets_come_a_step_early_for_a_source_that_is_connected_directly(
    lava_dl: Any, nets: ModuleType, tmp_path: Path
) -> None:
    path = file_of(tmp_path / "a.net", dense(W, bias=np.array([9, 7])))
    x = np.random.default_rng(1).integers(0, 2, (24, 1, 3))  # four samples of six steps
    net = netx_read.read(path, steps=6)
    expected = reference.run(net, x.reshape(4, 6, 3).swapaxes(0, 1))["layer0"].spikes
    found = {
        offset: nets.spikes_of_lava_dl(
            lava_dl, path, x, depth=1, reset_interval=6, reset_offset=offset
        ).reshape(4, 6, 2).swapaxes(0, 1)
        for offset in (0, 1)
    }  # fmt: skip
    np.testing.assert_array_equal(found[1], expected)
    assert (found[0] != expected).any()


@pytest.mark.lava
def test_pinned_a_recurrent_layer_with_delays_loses_its_exponent(
    lava_dl: Any, tmp_path: Path
) -> None:
    layer = dense([[2, -4], [6, 8]], weight_rec=np.array([[2, -4], [6, 8]])) | {
        "type": b"dense_rec"
    }
    kept = network(lava_dl, file_of(tmp_path / "a.net", layer)).layers[0]
    lost = network(lava_dl, file_of(tmp_path / "b.net", layer | {"delay": 1})).layers[0]
    assert kept.synapse.proc_params["weight_exp"] == -4
    assert lost.synapse.proc_params.get("weight_exp", 0) == 0
    np.testing.assert_array_equal(lost.synapse.weights.init, kept.synapse.weights.init)


@pytest.mark.lava
def test_pinned_delays_of_a_convolution_are_not_read(lava_dl: Any, tmp_path: Path) -> None:
    path = file_of(tmp_path / "a.net", MAPS, conv(KERNEL, (1, 2, 3), delay=np.array([3])))
    layer = network(lava_dl, path).layers[0]
    assert type(layer.synapse).__name__ == "Conv"
    assert not hasattr(layer.synapse, "delays")


@pytest.mark.lava
@pytest.mark.parametrize("kind", ["pool", "convT", "unpool", "average", "concat"])
def test_pinned_layers_that_lava_dl_lacks(kind: str, lava_dl: Any, tmp_path: Path) -> None:
    path = file_of(tmp_path / "a.net", {"type": kind.encode(), "shape": np.array([2])})
    with pytest.raises(NotImplementedError, match=f"{kind} is not implemented"):
        network(lava_dl, path)
