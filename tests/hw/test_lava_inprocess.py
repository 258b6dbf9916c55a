"""Lava's own process models in one process, against the definition of a network."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.hw import lava_inprocess
from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, Synapse
from spikeport.sim.trace import Trace, first_difference

RandomNet = Callable[..., tuple[FixedNet, NDArray[np.int64]]]


def one_layer(synapse: Synapse, source: Input, *, delay: int = 0, **settings: Any) -> FixedNet:
    """A single population "out" behind `synapse`."""
    shape = synapse.output_shape(source.shape)
    return FixedNet(
        input=source,
        populations=(Population(name="out", shape=shape, **settings),),
        projections=(Projection(source="input", target="out", synapse=synapse, delay=delay),),
        readout=Readout(population="out"),
        steps=4,
    )


def assert_equal(left: Trace, right: Trace) -> None:
    assert first_difference(left, right) is None
    for name, part in left.populations.items():
        np.testing.assert_array_equal(part.v_last, right[name].v_last)


@pytest.mark.lava
@pytest.mark.parametrize(
    ("kind", "count"), [(None, 60), ("dense", 20), ("conv", 20), ("delay", 40), ("recurrent", 40)]
)
def test_random_networks_give_the_bits_of_the_reference(
    kind: str | None, count: int, random_net: RandomNet
) -> None:
    """Half of them with what only our neurons can be: v_init, reset by subtraction."""
    from spikeport.hw import lava_net

    totals: Counter[str] = Counter()
    for seed in range(count):
        net, x = random_net(seed, kind=kind, lava=seed % 2 == 0)
        expected = reference.run(net, x)
        difference = first_difference(expected, lava_inprocess.run(net, x))
        assert difference is None, f"seed {seed}: {difference}"
        ours = lava_net.ours(net)
        totals.update(
            spikes=expected.spike_total(),
            wraps=sum(expected.wraps.values()),
            clips=sum(expected.clips.values()),
            ours=len(ours),
            stock=len(net.populations) - len(ours),
        )
    # The nets are only worth something if they reach the edges of the arithmetic.
    assert totals["spikes"] > 50 * count
    assert min(totals["wraps"], totals["clips"], totals["ours"], totals["stock"]) > count / 4


@pytest.mark.lava
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_without_recording_spikes_and_last_potentials_stay(
    kind: str, random_net: RandomNet
) -> None:
    for seed in range(5):
        net, x = random_net(seed, kind=kind)
        found = lava_inprocess.run(net, x, record=False)
        assert_equal(reference.run(net, x), found)
        summed = net.readout.population if net.readout.kind == "sum_v" else None
        kept = [name for name, part in found.populations.items() if part.v is not None]
        assert kept == ([summed] if summed else [])
        np.testing.assert_array_equal(
            found.logits(net.readout), reference.run(net, x).logits(net.readout)
        )


@pytest.mark.lava
def test_weights_are_programmed_raw_and_rounded_by_lava() -> None:
    """Mixed odd weights lose their lowest bit by floor, one-signed ones do not."""
    x = np.ones((1, 1, 1), np.int64)
    for w, kept in (([[3], [-3], [255], [-256]], [2, -4, 254, -256]), ([[3], [255]], [3, 255])):
        net = one_layer(Dense(w=np.array(w)), Input(shape=(1,)), v_th=131071)
        trace = lava_inprocess.run(net, x)
        assert trace["out"].u is not None
        assert (trace["out"].u[0, 0] >> 6).tolist() == kept


@pytest.mark.lava
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("delay", [0, 1, 62])
def test_windows_shorter_than_the_depth(steps: int, delay: int) -> None:
    """Delays and depths beyond T: several samples are under way in the net at once."""
    rng: Any = np.random.default_rng(delay)
    net = one_layer(
        Dense(w=rng.integers(-90, 90, (7, 5)), w_exp=-2), Input(shape=(5,)), delay=delay,
        v_th=20, du=1000, dv=300, bias=rng.integers(-900, 1900, 7), bias_exp=1,
    )  # fmt: skip
    x = rng.integers(0, 2, (steps, 6, 5))
    expected = reference.run(net, x)
    assert expected["out"].spikes.any()
    assert_equal(expected, lava_inprocess.run(net, x))


@pytest.mark.lava
def test_dense_layers_onto_maps_and_off_maps() -> None:
    """Neurons of a map filled by a dense layer keep their places, also their own parameters."""
    rng: Any = np.random.default_rng(3)
    size = 2 * 3 * 4
    net = FixedNet(
        input=Input(shape=(2, 5, 3), kind="graded", payload_bits=8),
        populations=(
            Population(name="map", shape=(2, 3, 4), v_th=rng.integers(0, 900, size)),
            Population(
                name="conv", shape=(3, 2, 4), v_th=np.array(90), bias=rng.integers(-99, 99, 24)
            ),
            Population(name="out", shape=(5,), v_th=np.array(100)),
        ),
        projections=(
            Projection(
                source="input", target="map", synapse=Dense(w=rng.integers(-9, 9, (size, 30)))
            ),
            Projection(
                source="map", target="conv", synapse=Conv2d(w=rng.integers(-60, 90, (3, 2, 2, 1)))
            ),
            Projection(
                source="conv", target="out", synapse=Dense(w=rng.integers(-60, 90, (5, 24)))
            ),
        ),
        readout=Readout(population="out"),
        steps=6,
    )
    x = rng.integers(0, 256, (6, 3, 2, 5, 3))
    expected = reference.run(net, x)
    assert all(part.spikes.any() for part in expected.populations.values())
    assert_equal(expected, lava_inprocess.run(net, x))


# Mutants: each wrong way to build the processes must be seen.


def differs(net: FixedNet, x: NDArray[np.int64]) -> bool:
    return first_difference(reference.run(net, x), lava_inprocess.run(net, x)) is not None


@pytest.mark.lava
@pytest.mark.parametrize(
    "offset", [lambda depth, steps: depth + 2, lambda depth, steps: depth, lambda d, s: 0]
)
def test_mutant_reset_offset(
    offset: Callable[[int, int], int], random_net: RandomNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spikeport.hw import lava_net

    right = vars(lava_net)["LIFReset"]

    def wrong(**settings: Any) -> Any:
        steps = settings["reset_interval"]
        depth = (settings["reset_offset"] - 1) % steps
        return right(**settings | {"reset_offset": offset(depth, steps) % steps})

    monkeypatch.setattr(lava_net, "LIFReset", wrong)
    drawn = [random_net(seed, kind="dense") for seed in range(12)]
    assert any(differs(net, x) for net, x in drawn if len(x) > 4 and x.shape[1] > 1)


@pytest.mark.lava
def test_mutant_convolution_not_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    from spikeport.hw import lava_synapses

    net = one_layer(
        Conv2d(w=np.arange(1, 7).reshape(1, 1, 2, 3), geometry=ConvGeometry(padding=(1, 0))),
        Input(shape=(1, 4, 5)), v_th=5,
    )  # fmt: skip
    x = np.zeros((4, 1, 1, 4, 5), np.int64)
    x[0, 0, 0, 1, 2] = 1
    assert not differs(net, x)
    monkeypatch.setattr(
        lava_synapses, "conv_weight", lambda w: w.transpose(0, 3, 2, 1).astype(np.int32)
    )
    assert differs(net, x)


@pytest.mark.lava
def test_mutant_wrong_flatten_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from spikeport.hw import lava_synapses

    net = one_layer(Dense(w=np.arange(1, 25).reshape(1, 24)), Input(shape=(2, 3, 4)), v_th=500)
    x = np.zeros((4, 1, 2, 3, 4), np.int64)
    x[0, 0, 1, 0, 2] = 1
    assert not differs(net, x)
    monkeypatch.setattr(
        lava_synapses, "flattened", lambda port: port.flatten() if port.shape[1:] else port
    )
    assert differs(net, x)


# What is refused, in one sentence and before Lava starts.


@pytest.mark.lava
def test_convolutions_that_lava_cannot_hold_are_refused() -> None:
    wide = Conv2d(w=np.ones((128, 1, 1, 1), np.int16), geometry=ConvGeometry(groups=128))
    net = one_layer(wide, Input(shape=(128, 1, 1)), v_th=2)
    message = (
        r"^projection 'input' -> 'out': kernel, stride, padding, dilation or groups reach 128, but"
        r" Lava keeps them in 8 bits, at most 127; split the layer$"
    )
    with pytest.raises(ValueError, match=message):
        lava_inprocess.run(net, np.ones((2, 1, 128, 1, 1), np.int64))


@pytest.mark.lava
def test_wrong_input_is_refused() -> None:
    net = one_layer(Dense(w=np.array([[3]])), Input(shape=(1,)), v_th=2)
    with pytest.raises(ValueError, match=r"^network input is 2; allowed are 0..1$"):
        lava_inprocess.run(net, np.full((2, 1, 1), 2))


@pytest.mark.lava
def test_lava_forgets_what_it_ran() -> None:
    """Lava would keep every net and its input for ever."""
    from lava.magma.core.process.process import ProcessServer
    from lava.magma.core.process.variable import VarServer

    net = one_layer(Dense(w=np.array([[3]])), Input(shape=(1,)), v_th=2)
    before = len(ProcessServer().processes), len(VarServer().vars)
    lava_inprocess.run(net, np.ones((2, 1, 1), np.int64))
    assert (len(ProcessServer().processes), len(VarServer().vars)) == before


@pytest.mark.lava
def test_importing_lava_leaves_multiprocessing_alone() -> None:
    """Lava sets the start method when imported, and fails if the user has set one."""
    program = (
        "import multiprocessing as mp; mp.set_start_method('spawn')\n"
        "from spikeport.hw import lava_net\n"
        "print(mp.get_start_method())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("spawn\n", "")
