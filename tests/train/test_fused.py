"""The fused window: its compiled passes are the stepped ones, and autograd's through the loop."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import avg_pool2d

from spikeport.sim.surrogate import SURROGATES, Surrogate, spike
from spikeport.sim.surrogate_kernel import KINDS
from spikeport.train import fused
from spikeport.train.fused import Population
from spikeport.train.fused_kernel import BLOCK
from spikeport.train.window import Fixed, slope

FLAGS = list(itertools.product([False, True], repeat=4))
FORM = Surrogate("atan", 1.3)


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def scalars(*values: float) -> list[Tensor]:
    return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]


def by_autograd(current: Tensor, p: Population) -> tuple[Tensor, Tensor]:
    """The equations, differentiated by torch."""
    v, spikes, membrane = p.v_init.expand_as(current[0]), [], []
    assert p.noise is not None
    for t, i in enumerate(current):
        u = p.keep_v * (v.detach() if p.detach_time else v) + i
        met = u + p.noise[t]
        s = spike(met / p.v_th - 1 if p.window.relative else met - p.v_th, FORM)
        reset = s.detach() if p.detach_reset else s
        v = u - p.v_th * reset if p.subtract else u * (1 - reset)
        spikes.append(s)
        membrane.append(u)
    return torch.stack(spikes), torch.stack(membrane)


@pytest.mark.parametrize(("subtract", "detach_reset", "relative", "detach_time"), FLAGS)
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("way", ["compiled", "stepped"])
def test_values_and_all_gradients_are_those_of_autograd(
    way: str, static: bool, subtract: bool, detach_reset: bool, relative: bool, detach_time: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if way == "stepped":
        monkeypatch.setattr(fused, "compiled_forward", fused.stepped_forward)
        monkeypatch.setattr(fused, "compiled_backward", fused.stepped_backward)
    g_spikes, g_membrane = random(5, 3, 4, seed=2), random(5, 3, 4, seed=3)
    found = []
    for ours in (True, False):
        keep_v, v_th, v_init = scalars(0.7, 0.9, 0.3)
        current = (random(1 if static else 5, 3, 4, seed=4) + 0.4).requires_grad_()
        p = Population(
            keep_v=keep_v, v_th=v_th, v_init=v_init, window=Fixed(FORM, relative=relative),
            steps=5, noise=0.3 * random(5, 3, 4, seed=1), subtract=subtract,
            detach_reset=detach_reset, detach_time=detach_time,
        )  # fmt: skip
        s, u = (
            (p.spikes(current), p.membrane(current))
            if ours
            else by_autograd(current.expand(5, 3, 4), p)
        )
        ((s * g_spikes).sum() + (u * g_membrane).sum()).backward()
        leaves = (current, keep_v, v_th, v_init)
        gradients = (torch.zeros_like(x) if x.grad is None else x.grad for x in leaves)
        found.append([s.detach(), u.detach(), *gradients])
    assert 0.2 < float(found[0][0].mean()) < 0.8
    for ours_, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernel_s_derivatives_are_those_of_the_table(name: str, dtype: torch.dtype) -> None:
    assert tuple(SURROGATES) == KINDS
    v_th = torch.tensor(0.8, dtype=dtype)
    window = Fixed(Surrogate(name, 0.7))
    current = (torch.linspace(-12, 12, 4001, dtype=dtype)[None]).requires_grad_()
    zero = torch.tensor(0.0)
    p = Population(keep_v=zero, v_th=v_th, v_init=zero, window=window, steps=1)
    p.spikes(current).sum().backward()
    wanted = slope(window, current.detach(), v_th)
    torch.testing.assert_close(current.grad, wanted, rtol=1e-5, atol=1e-7)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 9),
    neurons=st.sampled_from([1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3]),
    keep_v=st.floats(0, 1, width=32),
    subtract=st.booleans(),
)
def test_blocks_leave_no_seam(
    seed: int, steps: int, neurons: int, keep_v: float, subtract: bool
) -> None:
    current = random(steps, neurons, seed=seed, dtype=torch.float32)
    values = tuple(map(torch.tensor, (keep_v, 0.4, 0.1)))
    p = Population(
        keep_v=values[0], v_th=values[1], v_init=values[2], window=Fixed(FORM), steps=steps,
        subtract=subtract,
    )  # fmt: skip
    for kind, found in (("spikes", p.spikes(current)), ("membrane", p.membrane(current))):
        assert torch.equal(found, fused.stepped_forward(current, values, p, kind))
    g = random(steps, neurons, seed=seed + 1, dtype=torch.float32)
    asked = (True, True, True)
    for ours, theirs in zip(
        fused.compiled_backward(g, current, values, p, "spikes", asked),
        fused.stepped_backward(g, current, values, p, "spikes", asked),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_half_precision_is_computed_in_float32() -> None:
    current = random(3, 4, seed=0).bfloat16().requires_grad_()
    half, one, zero = (torch.tensor(x) for x in (0.5, 1.0, 0.0))
    p = Population(keep_v=half, v_th=one, v_init=zero, window=Fixed(FORM), steps=3)
    assert (p.spikes(current).dtype, p.membrane(current).dtype) == (torch.float32, torch.float32)
    p.membrane(current).sum().backward()
    assert current.grad is not None
    assert current.grad.dtype == torch.bfloat16


def test_a_relative_rectangle_is_trsg() -> None:
    """The published vector: dA/dU of the amplitude A = v_th s, and its derivative by v_th."""
    u = torch.tensor([-0.2, 0.39, 0.41, 0.79, 0.80, 0.81, 1.19, 1.21, 2.0], dtype=torch.float64)
    current = u.view(1, 9).requires_grad_()
    (v_th,) = scalars(0.8)
    zero = torch.tensor(0.0)
    window = Fixed(Surrogate("rectangle", 1.0), relative=True)
    p = Population(keep_v=zero, v_th=v_th, v_init=zero, window=window, steps=1)
    amplitude = p.spikes(current) * v_th
    assert amplitude.tolist()[0] == [0, 0, 0, 0, 0, 0.8, 0.8, 0.8, 0.8]
    by_neuron = [
        torch.autograd.grad(amplitude[0, j], (current, v_th), retain_graph=True) for j in range(9)
    ]
    d_u = [float(g[0][0, j]) for j, g in enumerate(by_neuron)]
    assert d_u == pytest.approx([0, 0, 1, 1, 1, 1, 1, 0, 0])
    wanted = [0, 0, -0.5125, -0.9875, -1, -0.0125, -0.4875, 1, 1]
    assert [float(g[1]) for g in by_neuron] == pytest.approx(wanted)


@pytest.mark.parametrize(("pool", "sides"), [(2, (4, 6)), (3, (6, 9)), (4, (4, 8))])
@pytest.mark.parametrize("static", [False, True])
def test_pooled_spikes_are_those_behind_torch_s_pool(
    pool: int, sides: tuple[int, int], static: bool
) -> None:
    shape = (1 if static else 3, 2, 5, *sides)
    g = random(3, 2, 5, sides[0] // pool, sides[1] // pool, seed=9)
    found = []
    for fused_ in (True, False):
        current = (random(*shape, seed=8) + 0.3).requires_grad_()
        keep_v, v_th, v_init = scalars(0.6, 0.7, 0.2)
        p = Population(
            keep_v=keep_v, v_th=v_th, v_init=v_init, window=Fixed(FORM, relative=True), steps=3,
            detach_reset=False,
        )  # fmt: skip
        pooled = (
            p.spikes(current, pool=pool)
            if fused_
            else avg_pool2d(p.spikes(current).flatten(0, 1), pool).unflatten(0, (3, 2))
        )
        (pooled * g).sum().backward()
        found.append([pooled.detach(), *(x.grad for x in (current, keep_v, v_th, v_init))])
    assert 0.2 < float(found[0][0].mean()) < 0.8  # type: ignore[union-attr]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("pool", [1, 2])
def test_threads_change_nothing(pool: int, monkeypatch: pytest.MonkeyPatch) -> None:
    current = fused.dense(random(3, 5, 7, 30, 32, seed=2, dtype=torch.float32))
    keep_v, v_th, v_init = (torch.tensor(x) for x in (0.6, 0.5, 0.1))
    p = Population(keep_v=keep_v, v_th=v_th, v_init=v_init, window=Fixed(FORM), steps=3)
    g = fused.dense(random(3, 5, 7, 30 // pool, 32 // pool, seed=3, dtype=torch.float32))
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        monkeypatch.setattr(fused, "WORTH_A_THREAD", 1000)
        scalars_ = (keep_v, v_th, v_init)
        asked = (True, True, True)
        found.append([
            fused.compiled_forward(current, scalars_, p, "spikes", pool),
            *fused.compiled_backward(g, current, scalars_, p, "spikes", asked, pool),
        ])  # fmt: skip
    for one, three in zip(*found, strict=True):
        assert torch.equal(one, three)
