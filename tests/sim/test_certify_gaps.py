"""Differences of readout neurons: sound, tighter than two scores, and left alone where unsound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.sim import reference
from spikeport.sim.certify import certify
from spikeport.sim.certify_bounds import bounds
from spikeport.sim.certify_gaps import gaps
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, Dense

NEVER = 131071
Array = NDArray[Any]


def spike_net(
    w: Any, *, steps: int = 3, w_exp: int = 0, kind: str = "last_v", delay: int = 0, **neuron: Any
) -> FixedNet:
    """Spikes straight into a readout of potentials; within radius 1 they are all free."""
    w = np.asarray(w)
    return FixedNet(
        input=Input(shape=(w.shape[1],)),
        populations=(Population(name="out", shape=(len(w),), **({"v_th": NEVER} | neuron)),),
        projections=(
            Projection(
                source="input", target="out", synapse=Dense(w=w, w_exp=w_exp), delay=delay
            ),
        ),
        readout=Readout(population="out", kind=kind),
        steps=steps,
    )  # fmt: skip


def found_gaps(net: FixedNet, x: Array, y: int, *, radius: int = 1) -> tuple[Array, Array]:
    """(gaps, gaps by the two scores alone), int64 [n] each, of x [T, 1, n]."""
    low, high = np.maximum(x - radius, 0), np.minimum(x + radius, net.input.largest)
    found = bounds(net, low, high, steps=net.steps, cells=1)
    plain = found.logits[0][0, y] - found.logits[1][0]
    return gaps(net, found, np.array([y]))[0], np.asarray(plain)


def test_hand_calculation() -> None:
    # Every spike gives 10, 8 or 20 (times 64): the first leads the second by 2 a spike or more and
    # trails the third by 10. Three steps without decay, each spike free: 0..3 spikes.
    net = spike_net([[10], [8], [20]])
    tight, plain = found_gaps(net, np.ones((3, 1, 1), np.int64), 0)
    assert tight.tolist() == [0, 0, -64 * 30]
    assert plain.tolist() == [-64 * 30, -64 * 24, -64 * 60]
    # With a bias of 5 in one of them the lead is sure: 5 a step, whatever the spikes do.
    net = spike_net([[10], [8]], bias=[5, 0])
    assert found_gaps(net, np.ones((3, 1, 1), np.int64), 0)[0].tolist() == [0, 15]
    assert certify(net, np.ones((3, 1, 1)), [0], 1).margin.tolist() == [15]
    # Summed potentials: 5 + 10 + 15. With half of v kept, truncated: 5; 7; 8, or one less a step.
    assert found_gaps(
        spike_net([[10], [8]], bias=[5, 0], kind="sum_v"), np.ones((3, 1, 1), int), 0
    )[0].tolist() == [0, 30]
    net = spike_net([[10], [8]], bias=[5, 0], dv=2048)
    # d: 5, floor(2.5) - 1 + 5 = 6, floor(3) - 1 + 5 = 7.
    assert found_gaps(net, np.ones((3, 1, 1), np.int64), 0)[0].tolist()[1] == 7


def check_differences(
    kind: str, *, seed: int, w_exp: int, du: int, dv: int, exact: bool
) -> None:  # fmt: skip
    """Gaps of three neurons behind two inputs against all trains of five steps."""
    rng = np.random.default_rng(seed)
    net = spike_net(
        rng.integers(-30, 30, (3, 2)), steps=5, w_exp=w_exp, kind=kind, delay=seed % 3, du=du,
        dv=dv, bias=rng.integers(-50, 50, 3), v_init=rng.integers(-90, 90, 3),
    )  # fmt: skip
    trains = np.array(np.unravel_index(np.arange(1 << 10), [2] * 10)).T.reshape(-1, 5, 2)
    z = reference.run(net, np.moveaxis(trains, 0, 1)).logits(net.readout)
    for y in range(3):
        tight, plain = found_gaps(net, np.moveaxis(trains[:1], 0, 1), y)
        least = (z[:, [y]] - z).min(0)
        assert (tight <= least).all()
        assert (np.delete(tight, y) >= np.delete(plain, y)).all()
        if exact:
            np.testing.assert_array_equal(tight, least)


@pytest.mark.parametrize("kind", ["last_v", "sum_v"])
@pytest.mark.parametrize("seed", range(12))
def test_differences_hold_for_every_spike_train(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    du, dv = int(rng.choice([0, 1000, 4095])), int(rng.choice([0, 1, 2048, 4095]))
    check_differences(kind, seed=seed, w_exp=int(rng.integers(-5, 3)), du=du, dv=dv, exact=False)


@pytest.mark.parametrize("kind", ["last_v", "sum_v"])
@pytest.mark.parametrize("seed", range(3))
def test_differences_are_exact_where_nothing_is_rounded(kind: str, seed: int) -> None:
    check_differences(kind, seed=seed, w_exp=seed, du=4095, dv=0, exact=True)


@pytest.mark.parametrize(
    "change",
    [
        {"v_th": 0},  # fires
        {"v_th": 12},  # may fire
        {"v_init": [(1 << 23) - 1, 0]},  # clips
        {"du": [0, 4095]},
        {"dv": [0, 100]},
        {"kind": "count"},
        {"kind": "first_spike"},
    ],
)
def test_neurons_that_are_not_alike_and_linear_are_left_alone(change: dict[str, Any]) -> None:
    w = [[10], [8]]
    x = np.ones((3, 1, 1), np.int64)
    tight, plain = found_gaps(spike_net(w, bias=[5, 0], **change), x, 0)
    assert tight[1] == plain[1]
    usual, plain = found_gaps(spike_net(w, bias=[5, 0]), x, 0)
    assert usual[1] > plain[1]


def test_wraps_are_left_alone() -> None:
    # 128 * 1025 * 64 is 8396800, above 2**23: u is 2**24 less. Nothing arrives in later steps.
    net = FixedNet(
        input=Input(shape=(1,), kind="graded", payload_bits=24),
        populations=(Population(name="out", shape=(2,), v_th=NEVER),),
        projections=(Projection(source="input", target="out", synapse=Dense(w=[[128], [0]])),),
        readout=Readout(population="out", kind="last_v"),
        steps=3,
    )
    x = np.array([1025, 0, 0]).reshape(3, 1, 1)
    assert found_gaps(net, x, 0, radius=0)[0].tolist() == [0, 8396800 - (1 << 24)]


def test_sums_beyond_32_bits_are_left_alone() -> None:
    # 128 (2**18 + 1) << 7 is 2**32 + 2**14, which 32 bits hold as 2**14: u and v are 2**20.
    net = FixedNet(
        input=Input(shape=(1,), kind="graded", payload_bits=24),
        populations=(Population(name="out", shape=(2,), v_th=NEVER),),
        projections=(
            Projection(source="input", target="out", synapse=Dense(w=[[128], [0]], w_exp=7)),
        ),
        readout=Readout(population="out", kind="last_v"),
        steps=1,
    )
    x = np.full((1, 1, 1), (1 << 18) + 1)
    assert found_gaps(net, x, 0, radius=0)[0].tolist() == [0, 1 << 20]


def test_convolutions_are_left_alone() -> None:
    conv = Conv2d(w=np.array([10, 8]).reshape(2, 1, 1, 1))
    net = FixedNet(
        input=Input(shape=(1, 1, 1)),
        populations=(Population(name="out", shape=(2, 1, 1), v_th=NEVER, bias=[5, 0]),),
        projections=(Projection(source="input", target="out", synapse=conv),),
        readout=Readout(population="out", kind="last_v"),
        steps=3,
    )
    tight, plain = found_gaps(net, np.ones((3, 1, 1, 1, 1), np.int64), 0)
    assert tight[1] == plain[1]


def test_samples_of_several_labels_keep_their_rows() -> None:
    rng = np.random.default_rng(3)
    net = spike_net(rng.integers(-30, 30, (4, 6)), steps=3, dv=100, bias=rng.integers(-50, 50, 4))
    x = rng.integers(0, 2, (3, 7, 6))
    y = rng.integers(0, 4, 7)
    together = certify(net, x, y, 1).margin
    alone = [certify(net, x[:, i : i + 1], y[i : i + 1], 1).margin[0] for i in range(7)]
    assert together.tolist() == alone
