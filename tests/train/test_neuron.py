"""Lif is snnTorch's Leaky, window by window; Integrator sums."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import snntorch
import torch
from torch import Tensor

from spikeport.sim.surrogate import Surrogate
from spikeport.train.neuron import LEAST_V_TH, Integrator, Lif
from spikeport.train.surrogate import spike_function

STEPS = 7


@pytest.fixture
def current() -> Tensor:
    return torch.randn(STEPS, 3, 4, 2, 2, generator=torch.Generator().manual_seed(1)) + 0.3


def loop(neuron: snntorch.Leaky, current: Tensor) -> tuple[Tensor, Tensor]:
    """The user's own loop over a plain snnTorch neuron."""
    mem = torch.zeros_like(current[0])
    out = []
    for a in current:
        s, mem = neuron(a, mem)
        out.append((s, mem))
    return torch.stack([s for s, _ in out]), torch.stack([m for _, m in out])


@pytest.mark.parametrize("keep_v", [0.0, 0.37, 1.0])
def test_equals_a_loop_over_snntorch_leaky_with_gradients(keep_v: float, current: Tensor) -> None:
    surrogate = Surrogate("atan", 2.5)
    ours = Lif(keep_v, v_th=0.8, surrogate=surrogate)
    theirs = snntorch.Leaky(
        beta=keep_v, threshold=0.8, spike_grad=spike_function(surrogate), reset_mechanism="zero"
    )
    x, y = current.clone().requires_grad_(), current.clone().requires_grad_()
    s = ours(x)
    s_theirs, mem_theirs = loop(theirs, y)
    assert 0.1 < float(s.detach().mean()) < 0.9
    assert torch.equal(s, s_theirs)
    assert torch.equal(ours.membrane, mem_theirs)
    (s.sum() + (ours.membrane**2).sum()).backward()
    (s_theirs.sum() + (mem_theirs**2).sum()).backward()
    # Sums in another order; spikes and potentials above are equal to the last bit.
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-5)


def test_membrane_is_before_the_reset_and_the_reset_loses_no_input() -> None:
    lif = Lif(0.5, v_th=1.0)
    s = lif(torch.tensor([0.75, 1.0, 0.5, 1.0, 0.25]).view(5, 1, 1))
    # 1.375 fires and is followed by 0.5 alone; 1.25 fires and is followed by 0.25 alone.
    assert lif.membrane.flatten().tolist() == [0.75, 1.375, 0.5, 1.25, 0.25]
    assert s.flatten().tolist() == [0, 1, 0, 1, 0]


def test_exactly_at_threshold_does_not_fire() -> None:
    assert Lif(1.0, v_th=1.5)(torch.tensor([[[1.5]], [[0.0]]])).sum() == 0


def test_every_call_starts_from_zero(current: Tensor) -> None:
    lif = Lif(0.9, v_th=0.6)
    first = lif(current)
    assert torch.equal(lif(current), first)
    assert lif(current[:, :1]).shape == (STEPS, 1, 4, 2, 2)


def test_attached_reset_changes_gradients_as_differentiating_the_recursion_does() -> None:
    keep_v, a0, a1 = 0.5, 1.25, 0.25
    gradients = {}
    for detach in (True, False):
        x = torch.tensor([a0, a1]).view(2, 1, 1).requires_grad_()
        lif = Lif(keep_v, surrogate=Surrogate("triangle", 1.0), detach_reset=detach)
        lif(x)
        lif.membrane[1].sum().backward()
        assert x.grad is not None
        gradients[detach] = float(x.grad[0])
    # U1 = keep (1 - O0) U0 + a1 with O0 = 1: d/dU0 = keep (1 - O0) - keep U0 h(U0 - 1).
    assert gradients[True] == 0
    assert gradients[False] == pytest.approx(-keep_v * a0 * 0.75)


def test_learned_threshold_is_a_parameter_and_stays_positive(current: Tensor) -> None:
    lif = Lif(0.5, v_th=0.7, learn_v_th=True)
    lif(current).sum().backward()
    assert [name for name, _ in lif.named_parameters()] == ["threshold"]
    assert lif.v_th.grad is not None
    assert float(lif.v_th.grad) < 0  # a higher threshold means fewer spikes
    with torch.no_grad():
        lif.threshold.fill_(-3.0)
    lif(current)
    assert float(lif.v_th.detach()) == pytest.approx(LEAST_V_TH)
    assert not list(Lif(0.5).parameters())


def test_can_be_copied_after_a_call(current: Tensor) -> None:
    lif = Lif(0.25, scale=12.5)
    lif(current.requires_grad_())
    twin = copy.deepcopy(lif)
    assert (twin.keep_v, twin.scale, twin.membrane.numel()) == (0.25, 12.5, 0)
    assert torch.equal(twin(current), lif(current))


def test_is_freed_with_its_graph(current: Tensor) -> None:
    lif = Lif(0.5)
    lif(current.requires_grad_())
    neuron, potential = weakref.ref(lif), weakref.ref(lif.membrane)
    del lif
    gc.collect()
    assert neuron() is None
    assert potential() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep_v": 1.5}, r"^Lif: keep_v is 1\.5; it is the share kept per step, 0\.\.1$"),
        ({"keep_v": float("nan")}, r"^Lif: keep_v is nan; it is the share kept per step, 0\.\.1$"),
        ({"keep_v": 1, "v_th": 0.0}, r"^Lif: v_th is 0\.0; it must be at least 0\.001$"),
    ],
)
def test_refuses(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lif(**arguments)  # type: ignore[arg-type]


def test_integrator_sums_over_time() -> None:
    current = torch.arange(12.0).view(3, 2, 2)
    assert Integrator(scale=3.0)(current).tolist() == [[12, 15], [18, 21]]
