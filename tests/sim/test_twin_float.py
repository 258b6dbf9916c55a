"""The float twin against the definition of a FloatNet, and its gradient against a plain loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeport.sim import floating
from spikeport.sim.net import FloatNet, FloatPopulation, FloatProjection, Input, Readout
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import (
    ConvGeometry,
    FloatConv2d,
    FloatDense,
    FloatSumPool2d,
    FloatSynapse,
)
from spikeport.sim.twin_float import FloatTwin

PIXELS = Input(shape=(2, 6, 6), kind="graded", payload_bits=8, scale=255.0)


def population(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], *, reset: str
) -> FloatPopulation:
    each = int(np.prod(shape))
    return FloatPopulation(
        name=name, shape=shape, v_th=rng.uniform(0.2, 0.8, each), keep_u=rng.uniform(0, 0.6, each),
        keep_v=rng.uniform(0, 1), bias=rng.normal(0, 0.1, each), v_init=rng.normal(0, 0.3, each),
        reset=reset,
    )  # fmt: skip


def random_float_net(seed: int, *, readout: str) -> FloatNet:
    """Convolution, pool, dense with a skip path; both resets occur."""
    rng = np.random.default_rng(seed)
    geometry = ConvGeometry(stride=(1, 2), padding=(1, 1), dilation=(1, 1), groups=2)
    resets = rng.permutation(["zero", "subtract", "zero"])
    conv = FloatConv2d(w=rng.normal(0, 0.5, (4, 1, 3, 2)), geometry=geometry)
    parts: list[tuple[str, str, FloatSynapse, int]] = [
        ("input", "a", conv, 0),
        ("a", "b", FloatSumPool2d(kernel=(2, 2), stride=(2, 2), w=0.4), 0),
        ("b", "c", FloatDense(w=rng.normal(0, 0.6, (5, 24))), 0),
        ("input", "c", FloatDense(w=rng.normal(0, 0.1, (5, 72))), 2),
    ]
    return FloatNet(
        input=PIXELS,
        populations=tuple(
            population(rng, name, shape, reset=str(reset))
            for name, shape, reset in zip("abc", [(4, 6, 4), (4, 3, 2), (5,)], resets, strict=True)
        ),
        projections=tuple(
            FloatProjection(source=s, target=t, synapse=w, delay=d) for s, t, w, d in parts
        ),
        readout=Readout(population="c", kind=readout),
        steps=7,
    )


def images(seed: int, count: int = 6) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 1]).integers(0, 256, (count, *PIXELS.shape))


@pytest.mark.parametrize("readout", ["count", "last_v"])
@pytest.mark.parametrize("seed", range(12))
def test_logits_are_those_of_the_definition(seed: int, readout: str) -> None:
    net, x = random_float_net(seed, readout=readout), images(seed)
    trace = floating.run(net, np.broadcast_to(x / 255, (7, *x.shape)))
    assert all(0.01 < trace[p.name].spikes.mean() < 0.99 for p in net.populations)
    wanted = trace.logits(net.readout) / (1 if readout == "count" else 7)
    twin = FloatTwin(net, dtype=torch.float64)
    # Whatever the type of the images, arithmetic is float64.
    for dtype in (torch.float32, torch.float64):
        found = twin(torch.from_numpy(x / 255).to(dtype))
        assert found.dtype == torch.float64
        assert found.numpy() == pytest.approx(wanted, abs=1e-12)
    single = FloatTwin(net)(torch.from_numpy(x / 255))
    assert single.dtype == torch.float32
    if readout == "last_v":
        assert np.median(abs(single.numpy() - wanted)) < 1e-6


def test_trains_may_change_from_step_to_step() -> None:
    net = random_float_net(3, readout="last_v")
    x = np.random.default_rng(8).integers(0, 256, (5, 4, *PIXELS.shape))
    wanted = floating.run(net, x / 255)["c"].v_last / 5
    found = FloatTwin(net, dtype=torch.float64)(torch.from_numpy(x / 255))
    assert found.numpy() == pytest.approx(wanted, abs=1e-12)


def dense_net(*, reset: str = "zero", v_th: float = 0.75, readout: str = "count") -> FloatNet:
    rng = np.random.default_rng(4)
    return FloatNet(
        input=Input(shape=(3,), kind="graded", payload_bits=8, scale=255.0),
        populations=(
            FloatPopulation(name="p", shape=(4,), v_th=v_th, keep_u=0.25, keep_v=0.5, reset=reset),
        ),
        projections=(
            FloatProjection(
                source="input", target="p", synapse=FloatDense(w=rng.uniform(0, 0.7, (4, 3)))
            ),
        ),
        readout=Readout(population="p", kind=readout),
        steps=5,
    )


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("readout", ["count", "last_v"])
def test_the_gradient_is_that_of_a_plain_loop(readout: str, reset: str, detach: bool) -> None:
    net, surrogate = dense_net(reset=reset, readout=readout), Surrogate("atan", 2.0)
    w = torch.from_numpy(np.array(net.projections[0].synapse.w))

    def plain(x: Tensor) -> Tensor:
        u, v, count = torch.zeros(2, 4).double(), torch.zeros(2, 4).double(), torch.zeros(2, 4)
        for _ in range(net.steps):
            u = u / 4 + x @ w.T
            v = v / 2 + u
            d = (v - 0.75) / 0.75
            s = d * surrogate(d).detach()
            s = s + ((d > 0).double() - s).detach()
            r = s.detach() if detach else s
            v = v * (1 - r) if reset == "zero" else v - 0.75 * r
            count = count + s
        return count if readout == "count" else v / net.steps

    pixels = torch.tensor([[10, 200, 90], [120, 30, 255]]).double() / 255
    weights = torch.arange(1.0, 9.0).reshape(2, 4).double()
    grads = []
    for run in (plain, FloatTwin(net, surrogate=surrogate, detach_reset=detach, dtype=w.dtype)):
        x = pixels.clone().requires_grad_()
        (run(x) * weights).sum().backward()
        assert x.grad is not None
        grads.append(x.grad)
    assert grads[0].abs().min() > 0
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("readout", ["count", "last_v", "sum_v"])
@pytest.mark.parametrize("seed", range(4))
def test_cuts_change_nothing(seed: int, readout: str) -> None:
    """Segments of one, some and more than all steps, an image and a train."""
    net, x = random_float_net(seed, readout=readout), torch.from_numpy(images(seed) / 255)
    for shown in (x, x.flip(1).expand(7, *x.shape)):
        found = []
        for every in (None, 1, 3, 8):
            twin = FloatTwin(net, dtype=torch.float64, checkpoint=every)
            assert twin.checkpoint == every
            seen = shown.clone().requires_grad_()
            logits = twin(seen)
            (
                logits * torch.arange(1.0, 1.0 + logits.numel()).reshape(logits.shape)
            ).sum().backward()
            assert seen.grad is not None
            found.append((logits.detach(), seen.grad))
        for logits, grad in found[1:]:
            torch.testing.assert_close(logits, found[0][0], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(grad, found[0][1], rtol=1e-9, atol=1e-12)
        assert found[0][1].abs().max() > 0


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_a_threshold_that_is_never_reached_harms_nothing(reset: str, detach: bool) -> None:
    """Integrating readouts have the largest float64 as threshold, which float32 cannot hold."""
    net = dense_net(v_th=floating.NEVER, readout="last_v", reset=reset)
    twin = FloatTwin(net, surrogate=Surrogate("atan", 2.0), detach_reset=detach)
    x = torch.tensor([[0.2, 0.4, 1.0]], requires_grad=True)
    logits = twin(x)
    wanted = floating.run(net, np.full((5, 1, 3), [51, 102, 255]) / 255)["p"].v_last / 5
    assert logits.detach().numpy() == pytest.approx(wanted, rel=1e-5)
    logits.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert x.grad.min() > 0


def test_refuses_first_spikes() -> None:
    net = replace(dense_net(), readout=Readout(population="p", kind="first_spike"))
    with pytest.raises(
        ValueError,
        match=r"^the twin cannot differentiate a first_spike readout; use count, last_v or sum_v$",
    ):
        FloatTwin(net)
