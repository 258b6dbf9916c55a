"""The fused window: its compiled passes are the stepped ones, and autograd's through the loop."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikeport.sim.surrogate import Surrogate, spike
from spikeport.train import fused
from spikeport.train.fused import Rules, integrate
from spikeport.train.fused_kernel import BLOCK
from spikeport.train.window import Fixed

FLAGS = list(itertools.product([False, True], repeat=4))


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_autograd(
    current: Tensor, keep_v: Tensor, v_th: Tensor, v_init: Tensor, noise: Tensor, rules: Rules
) -> tuple[Tensor, Tensor]:
    """The equations, differentiated by torch."""
    v, spikes, membrane = v_init.expand_as(current[0]), [], []
    window = rules.window
    assert isinstance(window, Fixed)
    for t, i in enumerate(current):
        u = keep_v * (v.detach() if rules.detach_time else v) + i
        d = (u + noise[t]) / v_th - 1 if window.relative else u + noise[t] - v_th
        s = spike(d, window.form)
        reset = s.detach() if rules.detach_reset else s
        v = u - v_th * reset if rules.subtract else u * (1 - reset)
        spikes.append(s)
        membrane.append(u)
    return torch.stack(spikes), torch.stack(membrane)


@pytest.mark.parametrize(("subtract", "detach_reset", "relative", "detach_time"), FLAGS)
@pytest.mark.parametrize("way", ["compiled", "stepped"])
def test_values_and_all_gradients_are_those_of_autograd(
    way: str, subtract: bool, detach_reset: bool, relative: bool, detach_time: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if way == "stepped":
        monkeypatch.setattr(fused, "_compiled_forward", fused.stepped_forward)
        monkeypatch.setattr(fused, "_compiled_backward", fused.stepped_backward)
    rules = Rules(
        window=Fixed(Surrogate("atan", 1.3), relative=relative),
        subtract=subtract,
        detach_reset=detach_reset,
        detach_time=detach_time,
    )
    noise = 0.3 * random(5, 3, 4, seed=1)
    g_spikes, g_membrane = random(5, 3, 4, seed=2), random(5, 3, 4, seed=3)
    found = []
    for ours in (True, False):
        given = [random(5, 3, 4, seed=4) + 0.4, *map(torch.tensor, (0.7, 0.9, 0.3))]
        leaves = [x.double().detach().requires_grad_() for x in given]
        s, u = (
            integrate(*leaves, rules=rules, noise=noise)
            if ours
            else by_autograd(*leaves, noise, rules)
        )
        ((s * g_spikes).sum() + (u * g_membrane).sum()).backward()
        gradients = (torch.zeros_like(x) if x.grad is None else x.grad for x in leaves)
        found.append([s.detach(), u.detach(), *gradients])
    assert 0.2 < float(found[0][0].mean()) < 0.8
    for ours_, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=1e-11, atol=1e-12)


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
    scalars = (torch.tensor(keep_v), torch.tensor(0.4), torch.tensor(0.1))
    rules = Rules(window=Fixed(Surrogate()), subtract=subtract)
    s, u = integrate(current, *scalars, rules=rules)
    s_steps, u_steps = fused.stepped_forward(current, *scalars, None, rules)
    assert torch.equal(s, s_steps)
    assert torch.equal(u, u_steps)


def test_half_precision_is_computed_in_float32() -> None:
    current = random(3, 4, seed=0).bfloat16().requires_grad_()
    scalars = (torch.tensor(0.5), torch.tensor(1.0), torch.tensor(0.0))
    s, u = integrate(current, *scalars, rules=Rules(window=Fixed(Surrogate())))
    assert (s.dtype, u.dtype) == (torch.float32, torch.float32)
    u.sum().backward()
    assert current.grad is not None
    assert current.grad.dtype == torch.bfloat16


def test_a_relative_rectangle_is_trsg() -> None:
    """The published vector: dA/dU of the amplitude A = v_th s, and its derivative by v_th."""
    u = torch.tensor([-0.2, 0.39, 0.41, 0.79, 0.80, 0.81, 1.19, 1.21, 2.0], dtype=torch.float64)
    current = u.view(1, 9).requires_grad_()
    v_th = torch.tensor(0.8, dtype=torch.float64).requires_grad_()
    zero = torch.tensor(0.0)
    rules = Rules(window=Fixed(Surrogate("rectangle", 1.0), relative=True))
    s, _ = integrate(current, zero, v_th, zero, rules=rules)
    amplitude = s * v_th
    assert amplitude.tolist()[0] == [0, 0, 0, 0, 0, 0.8, 0.8, 0.8, 0.8]
    by_neuron = [
        torch.autograd.grad(amplitude[0, j], (current, v_th), retain_graph=True) for j in range(9)
    ]
    d_u = [float(g[0][0, j]) for j, g in enumerate(by_neuron)]
    assert d_u == pytest.approx([0, 0, 1, 1, 1, 1, 1, 0, 0])
    wanted = [0, 0, -0.5125, -0.9875, -1, -0.0125, -0.4875, 1, 1]
    assert [float(g[1]) for g in by_neuron] == pytest.approx(wanted)
