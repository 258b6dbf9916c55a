"""The reference by hand-made nets small enough to follow on paper, and against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d


def chain(source: Input, *synapses: Any, **settings: Any) -> FixedNet:
    populations, projections, name, shape = [], [], "input", source.shape
    for i, synapse in enumerate(synapses):
        shape = synapse.output_shape(shape)
        populations.append(Population(name=f"p{i}", shape=shape, **{"v_th": 9} | settings))
        projections.append(Projection(source=name, target=f"p{i}", synapse=synapse))
        name = f"p{i}"
    return FixedNet(
        input=source,
        populations=tuple(populations),
        projections=tuple(projections),
        readout=Readout(population=name),
        steps=3,
    )


def looped_conv(s: NDArray[Any], w: NDArray[Any], g: ConvGeometry) -> NDArray[np.int64]:
    """Cross-correlation of one map [C, H, W], entry by entry."""
    height, width = g.output_size(s.shape[1:], w.shape[2:])  # type: ignore[arg-type]
    out = np.zeros((len(w), height, width), np.int64)
    for o, i, j, c, y, x in np.ndindex(*out.shape, *w.shape[1:]):
        row = i * g.stride[0] + y * g.dilation[0] - g.padding[0]
        column = j * g.stride[1] + x * g.dilation[1] - g.padding[1]
        if 0 <= row < s.shape[1] and 0 <= column < s.shape[2]:
            channel = o // (len(w) // g.groups) * w.shape[1] + c
            out[o, i, j] += int(w[o, c, y, x]) * int(s[channel, row, column])
    return out


@pytest.mark.parametrize(
    "geometry",
    [
        ConvGeometry(stride=(2, 1), padding=(0, 2), dilation=(1, 2), groups=1),
        ConvGeometry(stride=(1, 3), padding=(2, 1), dilation=(2, 1), groups=2),
        ConvGeometry(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=4),
    ],
)
def test_convolution_equals_plain_loops(geometry: ConvGeometry) -> None:
    rng = np.random.default_rng(3)
    w = rng.integers(-256, 256, (8, 4 // geometry.groups, 3, 2))
    s = rng.integers(0, 200, (2, 4, 7, 6))
    found = reference.conv_sum(Conv2d(w=w, geometry=geometry), s)
    assert np.array_equal(found, [looped_conv(one, w, geometry) for one in s])


def test_pool_sums_windows() -> None:
    s = np.arange(16).reshape(1, 1, 1, 4, 4)
    pool = SumPool2d(kernel=(2, 2), stride=(2, 2), w=3)
    assert reference.synapse_sum(pool, s).tolist() == [[[30, 54, 126, 150]]]
    both = np.concatenate([s, 10 * s], axis=2)
    assert reference.synapse_sum(pool, both)[0, 0, 4:].tolist() == [300, 540, 1260, 1500]


def test_dense_sees_maps_in_channel_row_column_order() -> None:
    s = np.zeros((1, 1, 2, 3, 4), np.int64)
    s[0, 0, 1, 2, 3] = s[0, 0, 0, 1, 0] = 1
    w = np.arange(24)[None]
    assert reference.synapse_sum(Dense(w=w), s).item() == 23 + 4


def test_a_spike_arrives_in_the_same_step_of_the_next_window() -> None:
    net = chain(Input(shape=(1,)), Dense(w=[[10]]), Dense(w=[[10]]))
    x = np.array([0, 1, 0, 1]).reshape(4, 1, 1)
    trace = reference.run(net, x)
    assert trace["p0"].spikes.ravel().tolist() == [0, 1, 0, 1]
    assert trace["p1"].spikes.ravel().tolist() == [0, 1, 0, 1]


def test_projections_into_one_population_add_up() -> None:
    net = FixedNet(
        input=Input(shape=(2,), kind="graded", payload_bits=4),
        populations=(
            Population(name="a", shape=(2,), v_th=20),
            Population(name="b", shape=(1,), v_th=1000, dv=4095, v_init=640, bias=-2, bias_exp=3),
        ),
        projections=(
            Projection(source="input", target="a", synapse=Dense(w=[[3, 1], [1, 5]])),
            Projection(source="a", target="b", synapse=Dense(w=[[7, 90]], w_exp=1)),
            Projection(source="input", target="b", synapse=Dense(w=[[1, 2]], w_exp=-1)),
        ),
        readout=Readout(population="b"),
        steps=2,
    )
    trace = reference.run(net, np.array([[[5, 4]], [[3, 9]]]))
    assert trace["a"].spikes[:, 0].tolist() == [[0, 1], [1, 1]]
    # 90 << 1 and (5 + 8) >> 1; 97 << 1 and (3 + 18) >> 1. v_init and v leave 1/4096 of themselves.
    assert trace["b"].u is not None
    assert trace["b"].u.ravel().tolist() == [(180 + 6) << 6, (194 + 10) << 6]
    assert trace["b"].v_last.item() == (204 << 6) - 16 + (11904 - 16) // 4096


def test_steps_and_samples_are_free() -> None:
    net = chain(Input(shape=(2,)), Dense(w=[[10, 3]]), dv=100)
    trace = reference.run(net, np.ones((5, 4, 2), bool))
    assert trace["p0"].spikes.shape == (5, 4, 1)
    assert (net.steps, trace.wraps, trace.clips) == (3, {"p0": 0}, {"p0": 0})
