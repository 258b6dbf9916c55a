"""The compiled passes of the twins against the stepped ones, forward and backward."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spikeport.sim import twin_base, twin_float, twin_lif
from spikeport.sim.net import Readout
from spikeport.sim.surrogate import SURROGATES, Surrogate
from spikeport.sim.twin import Twin
from spikeport.sim.twin_adjoint import (
    Adjoint,
    Inputs,
    Outputs,
    compiled,
    runs_compiled,
    stepped,
)
from spikeport.sim.twin_float import FloatNeurons
from spikeport.sim.twin_kernel import BLOCK
from spikeport.sim.twin_lif import Neurons
from spikeport.sim.twin_stretch import State

TYPES = (torch.float32, torch.float64)
FLAGS = {
    "seed": st.integers(0, 1 << 30), "each": st.booleans(), "subtract": st.booleans(),
    "resumed": st.booleans(), "static": st.booleans(), "dtype": st.sampled_from(TYPES),
}  # fmt: skip


class Draw:
    """Random tensors of one seed."""

    def __init__(self, seed: int) -> None:
        self.g = torch.Generator().manual_seed(seed)

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=self.g)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.g, dtype=torch.float64)

    def some(self, *shape: int) -> Tensor | None:
        """Normal numbers, or nothing."""
        return self.normal(*shape) if self.whole(0, 2) else None


def test_one_rule_says_which_runs() -> None:
    assert [runs_compiled(torch.zeros(1, dtype=dtype)) for dtype in TYPES] == [True, True]
    assert not runs_compiled(torch.zeros(1, dtype=torch.bfloat16))
    assert not runs_compiled(torch.zeros(1, device="meta"))


@pytest.mark.parametrize("steps", [1, 5])
def test_sums_have_the_steps_of_the_stretch(steps: int) -> None:
    (a, *others), _ = integers(
        Draw(1), each=False, subtract=False, resumed=False, static=False, dtype=torch.float32,
        sizes=(3, 2, 4), reach=6,
    )  # fmt: skip
    floats = FloatNeurons(
        bias=torch.zeros(()),
        adjoint=adjoint(
            Draw(2), each=False, subtract=False, detach=True, dtype=torch.float32, n=4
        ),
    )  # fmt: skip
    message = rf"^3 steps are given for {steps}; give all, or 1 for each of them$"
    v_th, bias, neurons = others
    with pytest.raises(ValueError, match=message):
        twin_lif.integrate(a, v_th, bias, neurons, steps=steps)
    with pytest.raises(ValueError, match=message):
        twin_float.integrate(a, floats, state=None, steps=steps)


def integers(
    draw: Draw, *, each: bool, subtract: bool, resumed: bool, static: bool, dtype: torch.dtype,
    sizes: tuple[int, int, int], reach: int,
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    """Arguments of `twin_lif.compiled`; sums below 2**reach."""
    (steps, batch, n), size = sizes, (sizes[2],) if each else ()
    # Beyond what float32 counts in ones, its numbers are whole multiples of more.
    unit = 1 << max(0, reach - 24) if dtype == torch.float32 else 1
    top = (1 << reach) // unit
    a = draw.whole(-top, top, 1 if static else steps, batch, n) * unit
    state: State | None = None
    if resumed:
        u = draw.whole(-(1 << 30), 1 << 30, batch, n).double()
        state = u, draw.whole(1 - (1 << 23), 1 << 23, batch, n).to(dtype)
    neurons = Neurons(
        du=draw.whole(0, 4096, *size), dv=draw.whole(0, 4096, *size), unit=torch.tensor(1.0),
        v_init=draw.whole(-(1 << 22), 1 << 22, *size), reset="subtract" if subtract else "zero",
    )  # fmt: skip
    v_th = draw.whole(0, 1 << 12, *size).to(dtype)
    bias = draw.whole(-(1 << 15), 1 << 15, *size).to(dtype)
    return (a.to(dtype), v_th, bias, neurons), {"state": state, "steps": steps}


@given(**FLAGS, reach=st.sampled_from([6, 12, 18, 24, 31, 36]))
def test_integers_live_alike(seed: int, reach: int, **flags: Any) -> None:
    """Whatever wraps and clips, sums beyond 32 bits too."""
    found, wanted = (
        live(*arguments, **named)
        for live in (twin_lif.compiled, twin_lif.stepped)
        for arguments, named in [
            integers(Draw(seed), **flags, sizes=(5, 3, 4), reach=reach),
        ]
    )
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)


def test_more_neurons_than_a_block() -> None:
    flags = {"each": True, "subtract": True, "resumed": True, "static": False}
    size = (3, 2, BLOCK + 5)
    arguments, named = integers(Draw(1), **flags, dtype=torch.float32, sizes=size, reach=16)
    found = twin_lif.compiled(*arguments, **named)
    wanted = twin_lif.stepped(*arguments, **named)
    assert 0.2 < wanted[0].mean() < 0.8
    assert min(wanted[5:]) > 0
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.equal(mine, theirs)


@given(**FLAGS, sizes=st.sampled_from([(5, 3, 4), (2, 1, BLOCK + 3)]))
def test_floats_live_alike(
    seed: int, each: bool, subtract: bool, resumed: bool, static: bool, dtype: torch.dtype,
    sizes: tuple[int, int, int],
) -> None:  # fmt: skip
    draw, (steps, batch, n) = Draw(seed), sizes
    p = adjoint(draw, each=each, subtract=subtract, detach=True, dtype=dtype, n=n)
    v_init, bias = (0.3 * draw.normal(*p.threshold.shape).to(dtype) for _ in range(2))
    neurons = FloatNeurons(bias=bias, adjoint=replace(p, v_init=v_init))
    a = draw.normal(1 if static else steps, batch, n).to(dtype)
    u, v = (draw.normal(batch, n).to(dtype) for _ in range(2))
    state = (u, v) if resumed else None
    found, wanted = (
        live(a, neurons, state=state, steps=steps)
        for live in (twin_float.compiled, twin_float.stepped)
    )
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.equal(mine, theirs)


def adjoint(
    draw: Draw, *, each: bool, subtract: bool, detach: bool, dtype: torch.dtype, n: int
) -> Adjoint:
    size = (n,) if each else ()
    threshold = draw.normal(*size).abs() + 0.2
    elsewhere = torch.full_like(threshold, 0.7)
    return Adjoint(
        keep_u=draw.normal(*size).abs().clamp(max=1).to(dtype),
        keep_v=draw.normal(*size).abs().clamp(max=1).to(dtype),
        threshold=threshold.to(dtype),
        unit=torch.where(threshold < 1, threshold, elsewhere).to(dtype),
        gain=int(draw.whole(1, 65)),
        v_init=torch.zeros_like(threshold).to(dtype),
        reset="subtract" if subtract else "zero",
        surrogate=Surrogate(sorted(SURROGATES)[int(draw.whole(0, len(SURROGATES)))], 1.5),
        detach_reset=detach,
    )


def both(
    draw: Draw, p: Adjoint, *, static: bool, wanted: tuple[bool, bool], dtype: torch.dtype,
    sizes: tuple[int, int, int],
) -> tuple[Inputs, Inputs]:  # fmt: skip
    """Gradients by either way, some of those at the outputs missing."""
    fired = draw.normal(*sizes).to(dtype)
    drawn = [draw.some(*sizes), draw.some(*sizes), *(draw.some(*sizes[1:]) for _ in range(3))]
    spikes, seen, u, v, v_sum = (None if g is None else g.to(dtype) for g in drawn)
    outputs = Outputs(spikes=spikes, fired=seen, u=u, v=v, v_sum=v_sum)
    mine = compiled(fired, outputs, p, static=static, wanted=wanted)
    return mine, stepped(fired, outputs, p, static=static, wanted=wanted)


def assert_alike(found: Inputs, wanted: Inputs, dtype: torch.dtype) -> None:
    near = 1e-4 if dtype == torch.float32 else 1e-10
    for name in ("a", "u", "v", "threshold", "bias"):
        mine, theirs = getattr(found, name), getattr(wanted, name)
        assert (mine is None) == (theirs is None)
        if theirs is not None:
            assert mine.shape == theirs.shape
            torch.testing.assert_close(mine, theirs, rtol=near, atol=near, check_dtype=False)


@given(**FLAGS, detach=st.booleans(), th=st.booleans(), bias=st.booleans())
def test_gradients_are_alike(
    seed: int, each: bool, subtract: bool, detach: bool, resumed: bool, static: bool, th: bool,
    bias: bool, dtype: torch.dtype,
) -> None:  # fmt: skip
    draw, sizes = Draw(seed), (5, 3, 7 if resumed else 1)
    p = adjoint(draw, each=each, subtract=subtract, detach=detach, dtype=dtype, n=sizes[2])
    found, expected = both(draw, p, static=static, wanted=(th, bias), dtype=dtype, sizes=sizes)
    assert_alike(found, expected, dtype)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("subtract", [False, True])
def test_gradients_of_more_than_a_block(subtract: bool, static: bool) -> None:
    sizes = (3, 4, BLOCK + 5)
    draw = Draw(3)
    p = adjoint(draw, each=True, subtract=subtract, detach=False, dtype=torch.float64, n=sizes[2])
    found, expected = both(
        draw, p, static=static, wanted=(True, True), dtype=torch.float64, sizes=sizes
    )
    assert (expected.a != 0).double().mean() > 0.1
    assert_alike(found, expected, torch.float64)


def test_there_is_no_second_derivative() -> None:
    """Better an error than a gradient that silently leaves the neurons out."""
    a = torch.ones(2, 1, 3, requires_grad=True)
    neurons = Neurons(
        du=torch.tensor(0), dv=torch.tensor(0), v_init=torch.tensor(0), unit=torch.tensor(64.0),
        surrogate=Surrogate("atan", 2.0),
    )  # fmt: skip
    life = twin_lif.integrate(a, torch.tensor(1.0), torch.tensor(0.0), neurons)
    (g,) = torch.autograd.grad((life.spikes**2).sum(), a, create_graph=True)
    assert g.abs().max() > 0
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_portions_change_nothing(
    random_net: Any, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    net, x = random_net(seed, lava=False)
    twin = Twin(replace(net, readout=Readout(population=net.readout.population)))
    image = torch.from_numpy(np.tile(x[0], (9, *[1] * (x.ndim - 2)))).float() / net.input.scale
    results = []
    for least in (10_000, 2):
        monkeypatch.setattr(twin_base, "LEAST_SAMPLES", least)
        monkeypatch.setattr(twin_base, "PORTION_BYTES", 0)
        leaf = image.clone().requires_grad_()
        logits = twin(leaf)
        logits.square().sum().backward()
        results.append((logits.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] is not None
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-4, atol=1e-6)
