"""Gradients through loops and delays against networks unrolled by hand, and the float twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport.sim import floating
from spikeport.sim.net import (
    FixedNet,
    FloatNet,
    FloatPopulation,
    FloatProjection,
    Input,
    Population,
    Projection,
    Readout,
)
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import Dense, FloatConv2d, FloatDense
from spikeport.sim.twin import Twin
from spikeport.sim.twin_float import FloatTwin

# source, target, neurons of both, delay: a skip path, two loops, one of them through both.
PATHS = (
    ("input", "a", 4, 0), ("a", "b", 3, 0), ("b", "a", 4, 2), ("a", "a", 4, 1), ("b", "b", 3, 4),
    ("input", "b", 3, 3), ("b", "c", 2, 1), ("clock", "c", 2, 0), ("input", "c", 2, 20),
)  # fmt: skip
SIZES = {"input": 5, "a": 4, "b": 3, "clock": 1, "c": 2}
STEPS = 11


def straight(x: Tensor, value: Tensor) -> Tensor:
    """`value` forward, `x` backward."""
    return x + (value - x).detach()


def fixed(kind: str) -> FixedNet:
    rng = np.random.default_rng(6)
    neurons: dict[str, dict[str, Any]] = {
        "a": {"v_th": 70, "du": 2500, "dv": [300, 900, 0, 2000], "v_init": [900, 0, -5, 700]},
        "b": {"v_th": [50, 40, 60], "du": 3000, "dv": 500, "reset": "subtract", "bias": 99},
        "clock": {"v_th": 9, "bias": 150},
        "c": {"v_th": 60, "dv": 800, "scale": 7.0},
    }
    return FixedNet(
        input=Input(shape=(5,), kind="graded", payload_bits=3),
        populations=tuple(
            Population(name=name, shape=(SIZES[name],), **options)
            for name, options in neurons.items()
        ),
        projections=tuple(
            Projection(
                source=source, target=target, delay=delay,
                synapse=Dense(w=rng.integers(-45, 70, (n, SIZES[source])), w_exp=-(i % 3)),
            )
            for i, (source, target, n, delay) in enumerate(PATHS)
        ),
        readout=Readout(population="c", kind=kind),
        steps=STEPS,
    )  # fmt: skip


def unrolled(net: FixedNet, x: Tensor, weights: list[Tensor], *, detach: bool) -> Tensor:
    """The readout of x [T, B, n] with weights of float64, every equation written out."""
    surrogate = Surrogate("atan", 2.0)
    values: dict[str, list[Tensor]] = {"input": list(x), **{p.name: [] for p in net.populations}}
    batch = x.shape[1]
    u = {p.name: torch.zeros(batch, p.size).double() for p in net.populations}
    v = {p.name: u[p.name] + torch.as_tensor(p.v_init.astype(float)) for p in net.populations}
    potentials = []
    for t in range(len(x)):
        for p in net.populations:
            a = torch.zeros(batch, p.size).double()
            for w, path in zip(weights, net.projections, strict=True):
                assert isinstance(path.synapse, Dense)
                if path.target == p.name and t >= path.delay:
                    total = values[path.source][t - path.delay] @ w.T * 2.0**path.synapse.w_exp
                    a = a + straight(total, total.floor())
            keep_u = torch.as_tensor((4095 - p.du) / 4096)
            keep_v = torch.as_tensor((4096 - p.dv) / 4096)
            kept_u, kept_v = u[p.name] * keep_u, v[p.name] * keep_v
            u[p.name] = straight(kept_u, kept_u.trunc()) + 64 * a
            fired = straight(kept_v, kept_v.trunc()) + u[p.name] + torch.as_tensor(p.bias_shifted)
            threshold = torch.as_tensor(p.v_th * 64.0)
            d = fired / threshold - 1
            s = straight(d * surrogate(d).detach(), (fired > threshold).double())
            values[p.name].append(s)
            r = s.detach() if detach else s
            v[p.name] = fired * (1 - r) if p.reset == "zero" else fired - r * threshold
        potentials.append(v["c"])
    if net.readout.kind == "count":
        return torch.stack(values["c"]).sum(0)
    return potentials[-1] if net.readout.kind == "last_v" else torch.stack(potentials).sum(0)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("kind", ["count", "last_v", "sum_v"])
def test_the_gradient_flows_back_through_loops_and_time(
    kind: str, detach: bool, static: bool
) -> None:
    """With respect to the input and to every weight, recurrent ones included."""
    net = fixed(kind)
    twin = Twin(net, surrogate=Surrogate("atan", 2.0), detach_reset=detach)
    count = len(net.projections)
    generator = torch.Generator().manual_seed(5)
    shape = (6, 5) if static else (STEPS, 6, 5)
    x = torch.randint(0, 8, shape, generator=generator).double().requires_grad_()
    for i in range(count):
        setattr(twin, f"w{i}", twin.get_buffer(f"w{i}").double().requires_grad_())
    weights = [twin.get_buffer(f"w{i}") for i in range(count)]
    shown = x.expand(STEPS, 6, 5) if static else x
    wanted = unrolled(net, shown, weights, detach=detach) / twin.logit_unit
    found = twin(x)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    mix = torch.rand(wanted.shape, generator=generator).double()
    reached = [x, *weights[:-1]]  # what comes after 20 steps is never heard
    left = torch.autograd.grad((found * mix).sum(), [*reached, weights[-1]], allow_unused=True)
    right = torch.autograd.grad((wanted * mix).sum(), reached)
    last = left[-1]
    assert last is None or last.abs().max() == 0
    for mine, theirs in zip(left, right, strict=False):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_recording_changes_neither_spikes_nor_sums() -> None:
    """A record is kept by stepping every population, also those outside loops."""
    net = fixed("sum_v")
    x = np.random.default_rng(1).integers(0, 8, (STEPS, 3, 5))
    plain, full = Twin(net).run(x), Twin(net).run(x, record=True)
    for name, part in full.populations.items():
        assert plain[name].u is None
        assert plain[name].v is None
        total = plain[name].v_sum
        assert part.v is not None
        assert total is not None
        assert np.array_equal(part.spikes, plain[name].spikes)
        assert np.array_equal(part.v[-1], plain[name].v_last)
        assert np.array_equal(part.v.sum(0, dtype=np.int64), total)
    assert (plain.wraps, plain.clips) == (full.wraps, full.clips)


# The float twin


def floats(kind: str, *, seed: int = 6) -> FloatNet:
    rng = np.random.default_rng(seed)
    resets = rng.permutation(["zero", "subtract", "zero", "subtract"])

    def each(low: float, high: float, n: int) -> Any:
        return rng.uniform(low, high, n)

    return FloatNet(
        input=Input(shape=(5,), kind="graded", payload_bits=8, scale=255.0),
        populations=tuple(
            FloatPopulation(
                name=name, shape=(1, 1, n) if name == "b" else (n,), v_th=each(0.3, 0.8, n),
                keep_u=each(0, 0.5, n), keep_v=each(0.3, 1, n), v_init=each(-0.3, 0.3, n),
                bias=0.9 if name == "clock" else each(-0.1, 0.2, n), reset=str(reset),
            )
            for (name, n), reset in zip(list(SIZES.items())[1:], resets, strict=True)
        ),
        projections=(
            *(
                FloatProjection(
                    source=source, target=target, delay=delay,
                    synapse=FloatDense(w=rng.normal(0.05, 0.4, (n, SIZES[source]))),
                )
                for source, target, n, delay in PATHS
            ),
            FloatProjection(
                source="b", target="b", delay=1,
                synapse=FloatConv2d(w=rng.normal(0, 0.3, (1, 1, 1, 1))),
            ),
        ),
        readout=Readout(population="c", kind=kind),
        steps=STEPS,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["count", "last_v", "sum_v"])
@pytest.mark.parametrize("seed", range(6))
def test_the_float_twin_follows_the_definition(seed: int, kind: str) -> None:
    net = floats(kind, seed=seed)
    x = np.random.default_rng([seed, 2]).integers(0, 256, (STEPS, 4, 5)) / 255
    for train in (x, np.broadcast_to(x[0], x.shape), x[:3]):
        trace = floating.run(net, train)
        wanted = trace.logits(net.readout) / (1 if kind == "count" else len(train))
        found = FloatTwin(net, dtype=torch.float64)(torch.from_numpy(train.copy()))
        assert found.numpy() == pytest.approx(wanted, abs=1e-12)
    static = FloatTwin(net, dtype=torch.float64)(torch.from_numpy(x[0]))
    trace = floating.run(net, np.broadcast_to(x[0], x.shape))
    wanted = trace.logits(net.readout) / (1 if kind == "count" else STEPS)
    assert static.numpy() == pytest.approx(wanted, abs=1e-12)
    assert sum(trace[name].spikes.any() for name in ("a", "b", "clock")) == 3


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("kind", ["count", "sum_v"])
def test_the_float_twin_flows_back_through_a_loop(kind: str, detach: bool) -> None:
    """One population that feeds itself two steps later."""
    rng = np.random.default_rng(9)
    base, surrogate = floats(kind), Surrogate("atan", 2.0)
    net = replace(
        base,
        populations=(FloatPopulation(name="c", shape=(3,), v_th=0.5, keep_u=0.25, keep_v=0.5),),
        projections=tuple(
            FloatProjection(
                source=source,
                target="c",
                delay=delay,
                synapse=FloatDense(w=rng.normal(0.2, 0.4, n)),
            )
            for source, delay, n in (("input", 1, (3, 5)), ("c", 2, (3, 3)))
        ),
    )
    w, loop = (torch.from_numpy(np.array(p.synapse.w)) for p in net.projections)

    def plain(x: Tensor) -> Tensor:
        u = v = v_sum = torch.zeros(2, 3).double()
        spikes: list[Tensor] = []
        for t in range(STEPS):
            a = x[t - 1] @ w.T if t >= 1 else torch.zeros(2, 3).double()
            a = a + spikes[t - 2] @ loop.T if t >= 2 else a
            u = u / 4 + a
            v = v / 2 + u
            d = (v - 0.5) / 0.5
            s = straight(d * surrogate(d).detach(), (d > 0).double())
            v = v * (1 - (s.detach() if detach else s))
            v_sum = v_sum + v
            spikes.append(s)
        return torch.stack(spikes).sum(0) if kind == "count" else v_sum / STEPS

    pixels = torch.from_numpy(rng.integers(0, 256, (STEPS, 2, 5)) / 255)
    mix = torch.arange(1.0, 7.0).reshape(2, 3).double()
    grads = []
    for run in (plain, FloatTwin(net, surrogate=surrogate, detach_reset=detach, dtype=w.dtype)):
        x = pixels.clone().requires_grad_()
        (run(x) * mix).sum().backward()
        assert x.grad is not None
        grads.append(x.grad)
    assert grads[0][:-1].abs().max() > 0
    assert grads[0][-1].abs().max() == 0  # too late to arrive
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-12, atol=1e-12)
