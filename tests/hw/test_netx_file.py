"""NetX files, loaded and run by lava-dl itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.hw import netx_file
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
}  # fmt: skip


@pytest.fixture(scope="module")
def lava_dl() -> Iterator[Any]:
    """lava-dl's loader, imported without its noise."""
    from spikeport.hw.lava_import import quiet

    with quiet():
        netx = pytest.importorskip("lava.lib.dl.netx")
        yield netx


def output_of(lava_dl: Any, net: FixedNet, x: NDArray[np.int64], path: Path) -> NDArray[Any]:
    """Spikes [T, B, n] of the last population as lava-dl's network gives them."""
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    from spikeport.hw.lava_driver import Driver

    loading = netx_file.write(net, path)
    network = lava_dl.hdf5.Network(net_config=str(path), **loading)
    depth = len(net.populations)
    rows = x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
    if len(network.inp.shape) == 1:
        rows = rows.reshape(len(rows), -1)
    padding = [(0, depth)] + [(0, 0)] * (rows.ndim - 1)
    columns = np.pad(rows, padding).transpose().astype(np.int32)
    source, sink = Source(data=columns), Sink(shape=network.out.shape, buffer=columns.shape[-1])
    source.s_out.connect(network.inp)
    network.out.connect(sink.a_in)
    driver = Driver(source)
    driver.run(columns.shape[-1], lambda step: None)
    network.net_config.f.close()
    found = driver.models[sink].data[..., depth:]
    return found.reshape(-1, BATCH, STEPS).transpose(2, 1, 0)  # type: ignore[no-any-return]


@pytest.mark.lava
@pytest.mark.parametrize("name", NETS)
def test_lava_dl_computes_what_the_reference_does(name: str, lava_dl: Any, tmp_path: Path) -> None:
    net = NETS[name]()
    x = spiking_input(net)
    expected = reference.run(net, x)[net.readout.population].spikes
    assert expected.any()
    assert not expected.all()
    np.testing.assert_array_equal(output_of(lava_dl, net, x, tmp_path / "a.net"), expected)


@pytest.mark.lava
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # lava-dl's own
def test_weights_are_accepted_only_if_netx_and_lava_keep_them(lava_dl: Any) -> None:
    """What `weight_units` lets pass survives the rounding of NetX and of Lava."""
    from lava.lib.dl.netx.utils import optimize_weight_bits
    from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

    kept_or_refused = [0, 0]
    for low in (-256, -255, -200, -129, -128, -100, -65, -64, -3, -2, -1, 0, 1, 6):
        for high in (-1, 0, 1, 2, 5, 63, 64, 65, 100, 127, 128, 200, 254, 255):
            for factor in (1, 2):
                w = np.array([[low, high, low // 2 * 2]]) // factor * factor
                try:
                    kept = netx_file.weight_units(Dense(w=w), where="w")
                except ValueError:
                    kept_or_refused[1] += 1
                    continue
                with np.errstate(divide="ignore"):  # lava-dl takes ratios before it looks for zeros
                    scaled, bits, w_exp, _ = optimize_weight_bits(kept)
                mode = determine_sign_mode(scaled)
                held = truncate_weights(clip_weights(scaled, mode, num_bits=8), mode, bits)
                np.testing.assert_array_equal(held, kept << -w_exp, err_msg=f"{kept}")
                kept_or_refused[0] += 1
    assert min(kept_or_refused) > 40, kept_or_refused


def test_the_file_names_how_it_is_loaded(tmp_path: Path) -> None:
    net = NETS["graded"]()
    loading = netx_file.write(net, tmp_path / "a.net")
    assert loading == {"reset_interval": 10, "reset_offset": 1, "input_message_bits": 8}


SMALL = Dense(w=np.array([[2, -4, 6, -8]]))
FOUR = Input(shape=(4,))


def refused(net: FixedNet, tmp_path: Path) -> str:
    with pytest.raises(ValueError, match=r"^[a-z]") as found:
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


def test_other_wiring_than_a_chain_is_refused(tmp_path: Path) -> None:
    twice = tuple(Projection(source="input", target="l0", synapse=SMALL) for _ in range(2))
    net = chain((SMALL, {"v_th": 3}), source=FOUR, projections=twice)
    assert refused(net, tmp_path) == (
        "population 'l0' is fed by ['input', 'input'], but NetX holds chains, in which it is fed"
        " by 'input' alone; export to Lava directly"
    )
    late = (Projection(source="input", target="l0", synapse=SMALL, delay=3),)
    net = chain((SMALL, {"v_th": 3}), source=FOUR, projections=late)
    assert refused(net, tmp_path) == (
        "projection 'input' -> 'l0': delay is 3; NetX files written here hold delay 0 only, so"
        " export to Lava directly"
    )


def test_sums_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    net = chain((SMALL, {"v_th": 3}), source=Input(shape=(4,), kind="graded", payload_bits=20))
    assert "the sum may leave 32 bits" in refused(net, tmp_path)
