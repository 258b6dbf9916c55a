"""The float meaning of a net: against torch for synapses, by hand for neurons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spikeport.sim import floating
from spikeport.sim.net import FloatNet, FloatPopulation, FloatProjection, Input, Readout
from spikeport.sim.synapse import ConvGeometry, FloatConv2d, FloatDense, FloatSumPool2d


def single(**neurons: Any) -> FloatNet:
    population = FloatPopulation(**{"name": "p", "shape": (2,), **neurons})
    w = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]])
    return FloatNet(
        input=Input(shape=(3,)),
        populations=(population,),
        projections=(FloatProjection(source="input", target="p", synapse=FloatDense(w=w)),),
        readout=Readout(population="p"),
        steps=3,
    )


X = np.array([[1.0, 1, 0], [0, 0, 1], [1, 0, 0]]).reshape(3, 1, 3)


def test_every_parameter_by_hand() -> None:
    net = single(
        v_th=[2.5, 3.0], keep_u=[0.5, 0.25], keep_v=[0.5, 0.75], bias=[0.25, -0.5], v_init=[1.0, 2]
    )
    trace = floating.run(net, X)["p"]
    assert trace.u is not None
    assert trace.v is not None
    assert trace.u[:, 0].tolist() == [[1.5, -1.0], [0.75, 1.75], [1.375, 0.4375]]
    assert trace.v[:, 0].tolist() == [[2.25, 0.0], [2.125, 1.25], [0.0, 0.875]]
    assert trace.spikes[:, 0].tolist() == [[0, 0], [0, 0], [1, 0]]
    assert trace.v_last.tolist() == [[0.0, 0.875]]


def test_the_threshold_itself_is_silent_and_subtraction_keeps_the_rest() -> None:
    net = single(v_th=[1.5, 1.0], reset="subtract", keep_v=1.0)
    trace = floating.run(net, X)["p"]
    assert trace.v is not None
    assert trace.spikes[:, 0].tolist() == [[0, 0], [0, 0], [1, 0]]
    assert trace.v[:, 0].tolist() == [[1.5, -1.0], [1.5, 1.0], [1.0, 1.0]]


def test_without_record_only_the_last_potential_is_kept() -> None:
    net = single(v_th=9.0, bias=0.5)
    short, full = floating.run(net, X, record=False)["p"], floating.run(net, X)["p"]
    assert short.u is None
    assert short.v is None
    assert np.array_equal(short.v_last, full.v_last)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_are_torchs(groups: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(groups)
    x, w = rng.normal(size=(3, 4, 9, 11)), rng.normal(size=(6, 4 // groups, 3, 2))
    geometry = {"stride": (2, 1), "padding": (1, 3), "dilation": (2, 3), "groups": groups}
    conv = FloatConv2d(w=w, geometry=ConvGeometry(**geometry))  # type: ignore[arg-type]
    wanted = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w), **geometry)
    assert floating.conv_sum(conv, x) == pytest.approx(wanted.numpy(), abs=1e-12)


def test_the_adjoint_is_the_transposed_map() -> None:
    rng = np.random.default_rng(5)
    geometry = ConvGeometry(stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)
    conv = FloatConv2d(w=rng.normal(size=(6, 2, 3, 2)), geometry=geometry)
    x = rng.normal(size=(1, 4, 6, 5))
    y = rng.normal(size=(1, *conv.output_shape((4, 6, 5))))
    back = floating.conv_adjoint(conv, y, (4, 6, 5))
    assert (floating.conv_sum(conv, x) * y).sum() == pytest.approx((x * back).sum())


def test_pools_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 7, 8))
    pool = FloatSumPool2d(kernel=(3, 2), stride=(2, 2), padding=(1, 1), w=1 / 6)
    wanted = torch.nn.functional.avg_pool2d(
        torch.from_numpy(x.reshape(6, 2, 7, 8)), (3, 2), (2, 2), (1, 1)
    )
    found = floating.synapse_sum(pool, x)
    assert found == pytest.approx(wanted.numpy().reshape(2, 3, -1), abs=1e-12)


def test_bad_input_is_refused() -> None:
    net = single(v_th=1.0)
    with pytest.raises(
        ValueError, match=r"^network input has shape \(3, 1, 4\); needed is \[T, B, "
    ):
        floating.run(net, np.zeros((3, 1, 4)))
    with pytest.raises(ValueError, match=r"^network input holds NaN or infinity; repair the data$"):
        floating.run(net, X * np.nan)
