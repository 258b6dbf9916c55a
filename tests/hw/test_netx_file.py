"""NetX files, loaded and run by lava-dl itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.hw import netx_file
from spikeport.hw.lava_limits import LavaLimitError
from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d, Synapse

STEPS, BATCH = 10, 4


def chain(*layers: tuple[Synapse, dict[str, Any]], source: Input, **changes: Any) -> FixedNet:
    """A chain of populations `l0`, `l1`, ... with the given settings behind the given synapses."""
    populations, projections, shape, before = [], [], source.shape, "input"
    for i, (synapse, settings) in enumerate(layers):
        shape = synapse.output_shape(shape)
        populations.append(Population(name=f"l{i}", shape=shape, **settings))
        projections.append(Projection(source=before, target=f"l{i}", synapse=synapse))
        before = f"l{i}"
    parts: dict[str, Any] = {
        "input": source,
        "populations": tuple(populations),
        "projections": tuple(projections),
        "readout": Readout(population=before),
        "steps": STEPS,
    }
    return FixedNet(**parts | changes)


def spiking_input(net: FixedNet) -> NDArray[np.int64]:
    rng = np.random.default_rng(4)
    values = rng.integers(1, net.input.largest + 1, (STEPS, BATCH, *net.input.shape))
    return values * (rng.random(values.shape) < 0.4)


def dense_net(weights: Any, *, w_exp: int = 0) -> FixedNet:
    """Two dense layers with biases; the second one takes the weights of interest."""
    rng: Any = np.random.default_rng(5)
    first = Dense(w=rng.integers(-128, 128, (weights.shape[1], 20)) // 2 * 2)
    bias = rng.integers(-20, 60, weights.shape[1])
    pull = rng.integers(100, 900, len(weights))
    return chain(
        (first, {"v_th": 300, "dv": 100, "bias": bias, "bias_exp": 6}),
        (
            Dense(w=weights, w_exp=w_exp),
            {"v_th": 250, "du": 1999, "dv": 50, "bias": pull, "bias_exp": 6},
        ),
        source=Input(shape=(20,)),
    )


def drawn(low: int, high: int, *, factor: int = 1) -> NDArray[np.int64]:
    w = np.random.default_rng(6).integers(low, high + 1, (6, 24)) * factor
    w[0, 0], w[0, 1] = low * factor, high * factor
    return w


def conv_net() -> FixedNet:
    """Grouped convolution, pool, convolution with one bias a neuron, flatten, dense."""
    rng: Any = np.random.default_rng(7)
    first = ConvGeometry(stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2)
    layers: list[tuple[Synapse, dict[str, Any]]] = [
        (
            Conv2d(w=rng.integers(-60, 91, (4, 1, 3, 2)), geometry=first),
            {"v_th": 60, "dv": 200, "bias": np.repeat([5, -3, 20, 0], 9 * 5), "bias_exp": 6},
        ),
        (SumPool2d(kernel=(2, 2), stride=(2, 1), w=3), {"v_th": 2, "dv": 4095}),
        (
            Conv2d(w=rng.integers(-60, 91, (3, 4, 2, 1))),
            {"v_th": 90, "dv": 300, "bias": rng.integers(-9, 9, 36), "bias_exp": 7},
        ),
        (Dense(w=rng.integers(-60, 70, (5, 36))), {"v_th": 100, "dv": 100, "du": 3000}),
    ]
    return chain(*layers, source=Input(shape=(2, 9, 8)))


def delayed_net() -> FixedNet:
    """A layer with one delay for all, then one with three among its synapses."""
    net = dense_net(drawn(-100, 100))
    first, second = net.projections
    w = np.array(second.synapse.w, int)
    parts = [np.where(np.arange(w.size).reshape(w.shape) % 3 == i, 2 * w, 0) for i in range(3)]
    return replace(
        net,
        populations=tuple(replace(p, bias=0) for p in net.populations),
        projections=(
            replace(first, delay=3),
            *(
                replace(second, synapse=Dense(w=part, w_exp=-1), delay=delay)
                for part, delay in zip(parts, (0, 2, 7), strict=True)
            ),
        ),
    )


def recurrent_net() -> FixedNet:
    net = dense_net(drawn(-100, 100, factor=2))
    again = Dense(w=drawn(-60, 60, factor=2)[:, :6], w_exp=1)
    loop = Projection(source="l1", target="l1", synapse=again, delay=1)
    calm = tuple(replace(p, bias=0, bias_exp=0) for p in net.populations)
    return replace(net, populations=calm, projections=(*net.projections, loop))


NETS = {
    "even": lambda: dense_net(drawn(-128, 127, factor=2)),
    "odd within 8 bits, stored doubled": lambda: dense_net(
        drawn(-128, 127, factor=2), w_exp=-1
    ),
    "small and shifted": lambda: dense_net(drawn(-15, 15, factor=2), w_exp=3),
    "excitatory": lambda: dense_net(drawn(0, 255)),
    "inhibitory": lambda: dense_net(drawn(-255, -1)),
    "graded": lambda: chain(
        (Dense(w=drawn(-60, 60)[:, :12] // 2 * 2), {"v_th": 9000, "dv": 100}),
        source=Input(shape=(12,), kind="graded", payload_bits=8),
    ),
    "dense on maps": lambda: chain(
        (Dense(w=drawn(-50, 60) // 2 * 2), {"v_th": 200}), source=Input(shape=(2, 3, 4))
    ),
    "convolutions": conv_net,
    "delays": lambda: delayed_net(),
    "recurrent": lambda: recurrent_net(),
}  # fmt: skip


@pytest.fixture(scope="module")
def nets(load_file: Any) -> ModuleType:
    """Networks for NetX files and lava-dl's run of them."""
    return load_file(Path(__file__).with_name("netx_nets.py"))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def lava_dl() -> Iterator[Any]:
    """lava-dl's loader, imported without its noise."""
    from spikeport.hw.lava_import import quiet

    with quiet():
        netx = pytest.importorskip("lava.lib.dl.netx")
        yield netx


@pytest.mark.lava
@pytest.mark.parametrize("name", NETS)
def test_lava_dl_computes_what_the_reference_does(
    name: str, lava_dl: Any, nets: ModuleType, tmp_path: Path
) -> None:
    """Samples from a fresh start and, without delays and loops, one after the other."""
    net = NETS[name]()
    x = spiking_input(net)
    expected = reference.run(net, x)[net.readout.population].spikes
    assert expected.any()
    assert not expected.all()
    path, depth = tmp_path / "a.net", len(net.populations)
    loading = netx_file.write(net, path)
    taken = x if isinstance(net.projections[0].synapse, Conv2d) else x.reshape(*x.shape[:2], -1)
    found = nets.spikes_of_lava_dl(lava_dl, path, taken, depth=depth, **loading)
    np.testing.assert_array_equal(found, expected)
    if any(p.delay for p in net.projections):
        return
    row = taken.swapaxes(0, 1).reshape(-1, 1, *taken.shape[2:])
    found = nets.spikes_of_lava_dl(lava_dl, path, row, depth=depth, **loading)
    np.testing.assert_array_equal(found.reshape(BATCH, STEPS, -1), expected.swapaxes(0, 1))


def test_the_file_names_how_it_is_loaded(tmp_path: Path) -> None:
    net = NETS["graded"]()
    loading = netx_file.write(net, tmp_path / "a.net")
    assert loading == {"reset_interval": 10, "reset_offset": 1, "input_message_bits": 8}


SMALL = Dense(w=np.array([[2, -4, 6, -8]]))
FOUR = Input(shape=(4,))


def refused(net: FixedNet, tmp_path: Path) -> str:
    with pytest.raises(LavaLimitError, match=r"^[a-z]") as found:
        netx_file.write(net, tmp_path / "a.net")
    assert not list(tmp_path.iterdir())
    return str(found.value)


@pytest.mark.parametrize(
    ("weights", "w_exp", "message"),
    [
        ([[0, 0, 0, 0]], 0, "all weights are 0, which NetX cannot load; drop the layer"),
        (
            [[1, 2, 3, 200]], 1,
            "weights times 2**w_exp span 2..400; NetX keeps -128..127, even ones in -256..254,"
            " 0..255, and without positive ones -127..0 and -255..-1 unless the lowest is a power"
            " of two, so quantise to one of these",
        ),
        (
            [[-200, -1, 0, -3]], 0,
            "weights times 2**w_exp span -200..0; NetX keeps -128..127, even ones in -256..254,"
            " 0..255, and without positive ones -127..0 and -255..-1 unless the lowest is a power"
            " of two, so quantise to one of these",
        ),
        (
            [[2, -4, 6, 7]], -2,
            "w_exp is -2, but NetX has no exponent and some weights are no multiple of 4;"
            " quantise with w_exp >= 0 or export to Lava directly",
        ),
    ],
)  # fmt: skip
def test_weights_that_netx_ruins_are_refused(
    weights: list[list[int]], w_exp: int, message: str, tmp_path: Path
) -> None:
    net = chain((Dense(w=np.array(weights), w_exp=w_exp), {"v_th": 3}), source=FOUR)
    assert refused(net, tmp_path) == f"projection 'input' -> 'l0': {message}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"v_th": 3, "dv": np.array([7, 8])},
            "dv differs between neurons, but NetX holds one value a layer; share it in training or"
            " export to Lava directly",
        ),
        (
            {"v_th": 3, "bias": np.array([64, 65])},
            "some biases are no multiple of 64, the unit of NetX; round them in the export or"
            " export to Lava directly",
        ),
    ],
)
def test_parameters_that_netx_lacks_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    net = chain((Dense(w=np.array([[2, 4], [6, -8]])), settings), source=Input(shape=(2,)))
    assert refused(net, tmp_path) == f"population 'l0': {message}"


def wired(*extra: Projection, **changes: Any) -> FixedNet:
    """Two dense layers `l0`, `l1` with more projections."""
    two = Dense(w=np.array([[2], [-4]]))
    net = chain((SMALL, {"v_th": 3}), (two, {"v_th": 3}), source=FOUR)
    return replace(net, projections=(*net.projections, *extra), **changes)


def late(source: str, target: str, delay: int, w: list[list[int]]) -> Projection:
    return Projection(source=source, target=target, synapse=Dense(w=np.array(w)), delay=delay)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            late("l0", "l1", 0, [[6], [8]]),
            "projection 'l0' -> 'l1': two synapses connect the same neurons, but NetX holds one;"
            " add their weights, or export to Lava directly",
        ),
        (
            late("input", "l1", 0, [[6, 2, 2, 2], [8, 2, 2, 2]]),
            "population 'l1' is fed by ['l0', 'input'], but NetX holds chains, in which it is fed"
            " by 'l0' and perhaps by itself; export to Lava directly",
        ),
        (
            late("l1", "l0", 2, [[6, -2]]),
            "population 'l0' is fed by ['input', 'l1'], but NetX holds chains, in which it is fed"
            " by 'input' and perhaps by itself; export to Lava directly",
        ),
        (
            late("l1", "l1", 2, [[6, -2], [2, 2]]),
            "projection 'l1' -> 'l1': NetX has loops of delay 1, in layers without other delays;"
            " export to Lava directly",
        ),
    ],
)
def test_other_wiring_than_a_chain_is_refused(
    extra: Projection, message: str, tmp_path: Path
) -> None:
    assert refused(wired(extra), tmp_path) == message


def test_a_loop_in_a_layer_with_delays_is_refused(tmp_path: Path) -> None:
    net = wired(late("l1", "l1", 1, [[6, -2], [2, 2]]))
    slow = tuple(replace(p, delay=1) if p.source == "l0" else p for p in net.projections)
    assert "NetX has loops of delay 1, in layers without" in refused(
        replace(net, projections=slow), tmp_path
    )


def test_delays_that_netx_clamps_are_refused(tmp_path: Path) -> None:
    slow = (Projection(source="input", target="l0", synapse=SMALL, delay=63),)
    net = chain((SMALL, {"v_th": 3}), source=FOUR, projections=slow)
    assert refused(net, tmp_path) == (
        "projection 'input' -> 'l0': a delay is 63, but NetX clamps delays at 62; shorten it"
    )


def test_a_late_or_recurrent_convolution_is_refused(tmp_path: Path) -> None:
    conv = Conv2d(w=np.ones((1, 1, 1, 1), int))
    net = chain((conv, {"v_th": 3}), source=Input(shape=(1, 2, 2)))
    loop = Projection(source="l0", target="l0", synapse=conv, delay=1)
    assert refused(replace(net, projections=(*net.projections, loop)), tmp_path) == (
        "projection 'input' -> 'l0': NetX has convolutions without delay, alone before their"
        " neurons; export to Lava directly"
    )


def test_a_convolution_beside_a_dense_synapse_is_refused(tmp_path: Path) -> None:
    net = chain((SMALL, {"v_th": 3}), source=Input(shape=(4, 1, 1)))
    beside = Conv2d(w=np.ones((1, 4, 1, 1), int))
    maps = replace(net.populations[0], shape=(1, 1, 1))
    both = (*net.projections, Projection(source="input", target="l0", synapse=beside))
    assert refused(replace(net, populations=(maps,), projections=both), tmp_path) == (
        "projection 'input' -> 'l0': a convolution beside dense synapses has no place in NetX's"
        " layers; export to Lava directly"
    )


def test_a_readout_before_the_last_layer_is_refused(tmp_path: Path) -> None:
    net = wired(readout=Readout(population="l0"))
    assert refused(net, tmp_path) == (
        "the readout is 'l0', but a NetX network ends with its last layer, 'l1'; drop what follows"
        " the readout"
    )


@pytest.mark.parametrize(("bias", "early"), [(2, False), (3, True)])
def test_biases_that_fire_before_the_first_input_of_a_loop_are_refused(
    bias: int, early: bool, tmp_path: Path
) -> None:
    """`l1` begins two chip steps after the first: twice the bias must not exceed its threshold."""
    net = wired(late("l1", "l1", 1, [[6, -2], [2, 2]]))
    eager = replace(net.populations[1], v_th=5, bias=bias, bias_exp=6)
    net = replace(net, populations=(net.populations[0], eager))
    if early:
        assert refused(net, tmp_path) == (
            "population 'l1': its bias makes it fire before the input reaches it, which NetX's"
            " delays and loops keep for later; lower the bias or export to Lava directly"
        )
    else:
        netx_file.write(net, tmp_path / "a.net")


def test_sums_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    net = chain((SMALL, {"v_th": 3}), source=Input(shape=(4,), kind="graded", payload_bits=24))
    assert "the sum may leave 32 bits" in refused(net, tmp_path)


def test_a_map_behind_a_flat_layer_is_refused(tmp_path: Path) -> None:
    synapses = Dense(w=2 * np.ones((9, 4), int)), Conv2d(w=2 * np.ones((1, 1, 2, 2), int))
    net = FixedNet(
        input=Input(shape=(4,)),
        populations=(
            Population(name="a", shape=(1, 3, 3), v_th=3),
            Population(name="b", shape=(1, 2, 2), v_th=3),
        ),
        projections=(
            Projection(source="input", target="a", synapse=synapses[0]),
            Projection(source="a", target="b", synapse=synapses[1]),
        ),
        readout=Readout(population="b"),
        steps=STEPS,
    )
    assert refused(net, tmp_path).endswith(
        "NetX loses the map that a dense layer fills, so no convolution can follow one; export to"
        " Lava directly"
    )
