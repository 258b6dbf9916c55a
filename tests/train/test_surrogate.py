"""The spike function, and guards that show why snnTorch's own surrogates are not used."""

from __future__ import annotations

import pytest
import snntorch.surrogate
import torch

from spikeport.sim.surrogate import SURROGATES, Surrogate
from spikeport.train.surrogate import spike_function

D = [-2.0, -0.5, -0.01, 0.01, 0.5, 2.0]


def gradient(spike_grad: object, values: list[float]) -> list[float]:
    d = torch.tensor(values, requires_grad=True)
    spike_grad(d).sum().backward()  # type: ignore[operator]
    assert d.grad is not None
    return [float(g) for g in d.grad]


def test_forward_is_a_strict_step() -> None:
    d = torch.tensor([[-1.0, -0.0, 0.0], [1e-30, 0.3, 7.0]])
    assert spike_function(Surrogate("atan", 3.0))(d).tolist() == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("name", SURROGATES)
def test_backward_is_the_surrogate_times_the_incoming_gradient(name: str) -> None:
    surrogate = Surrogate(name, 1.7)
    d = torch.tensor(D, requires_grad=True)
    weights = torch.arange(1.0, 7.0)
    (spike_function(surrogate)(d) * weights).sum().backward()
    torch.testing.assert_close(d.grad, surrogate(d.detach()) * weights)


@pytest.mark.parametrize(
    ("width", "d", "h"),
    [
        (1.0, 0.0, 1.0),
        (1.0, 0.5, 0.5),
        (1.0, -0.5, 0.5),
        (1.0, 1.0, 0.0),
        (1.0, -1.0, 0.0),
        (0.5, 0.0, 2.0),
        (0.5, 0.25, 1.0),
    ],
)
def test_triangle_vectors(width: float, d: float, h: float) -> None:
    assert gradient(spike_function(Surrogate("triangle", width)), [d]) == [h]


def test_snntorch_triangular_is_no_triangle() -> None:
    assert gradient(snntorch.surrogate.triangular(1), D) == [1, 1, 1, -1, -1, -1]


def test_snntorch_sigmoid_is_nan_far_below_threshold_and_ours_is_not() -> None:
    (theirs,) = gradient(snntorch.surrogate.sigmoid(), [-5.0])
    (ours,) = gradient(spike_function(Surrogate("sigmoid", 25.0)), [-5.0])
    assert theirs != theirs
    assert ours == pytest.approx(0.0, abs=1e-30)
