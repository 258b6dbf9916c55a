"""MPD-SGR: vectors of the specification, numerical gradients, degenerate layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from spikeport.sim.surrogate import Surrogate
from spikeport.train.methods.mpd_sgr import MpdSgr
from spikeport.train.neuron import Lif
from spikeport.train.regularisers import (
    STATS,
    Activity,
    Drive,
    activity,
    mpd_sgr,
    occupancy,
    omega,
    warmed_up,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_omega_value_and_gradients_of_the_specification() -> None:
    mu, sigma = scalar(-0.7), scalar(0.9)
    value = omega(mu, sigma, 1.0)
    value.backward()
    assert float(value.detach()) == pytest.approx(0.6011053, abs=1e-6)
    assert float(mu.grad) == pytest.approx(0.3448573, abs=1e-6)  # type: ignore[arg-type]
    assert float(sigma.grad) == pytest.approx(-0.2804133, abs=1e-6)  # type: ignore[arg-type]


def test_omega_is_even_and_stationary_at_zero() -> None:
    mu = scalar(0.0)
    value = omega(mu, torch.tensor(1.0), 1.0)
    value.backward()
    assert float(value.detach()) == pytest.approx(0.6826895, abs=1e-6)
    assert float(mu.grad) == 0  # type: ignore[arg-type]
    assert omega(torch.tensor(0.7), torch.tensor(0.9), 0.4) == omega(
        torch.tensor(-0.7), torch.tensor(0.9), 0.4
    )


def test_omega_keeps_its_tails_in_float32() -> None:
    got = float(omega(torch.tensor(9.0), torch.tensor(1.0), 1.0))
    assert got == pytest.approx(0.5 * math.erfc(8 / math.sqrt(2)), rel=1e-3)


def reference_empirical(u: Tensor, v_th: float, gamma: float) -> float:
    """Channel by channel, step by step, with Python's own erf."""
    total, count = 0.0, 0
    for step in u:
        for channel in step.transpose(0, 1).flatten(1).double():
            d = channel / v_th - 1
            mu, sigma = float(d.mean()), math.sqrt(float(d.var(correction=0)) + 1e-6)
            high, low = ((mu + g) / (sigma * math.sqrt(2)) for g in (gamma, -gamma))
            total, count = total + (math.erf(high) - math.erf(low)) / 2, count + 1
    return total / count


def test_empirical_is_the_mean_over_channels_then_layers() -> None:
    maps, vectors = normal(3, 4, 2, 5, 5) * 1.3, normal(3, 64, 6, seed=1) + 0.5
    got = mpd_sgr({"a": maps, "b": vectors}, {"a": 0.8, "b": torch.tensor(1.5)}, gamma=0.6)
    wanted = reference_empirical(maps, 0.8, 0.6) + reference_empirical(vectors, 1.5, 0.6)
    assert float(got.detach()) == pytest.approx(wanted / 2, abs=1e-6)


def drive(channels: int, *, v_init: float = 0.0) -> Drive:
    return Drive(
        mean=normal(channels, seed=7).double().requires_grad_(),
        deviation=(normal(channels, seed=8).double().abs() + 0.3).requires_grad_(),
        keep_v=0.6,
        v_init=v_init,
    )


@pytest.mark.parametrize("stats", ["empirical", "hinge"])
def test_gradient_equals_numerical_differentiation(stats: str) -> None:
    u = normal(2, 3, 2, 2, 2) * 0.9 + 0.2
    exact = u.clone().requires_grad_()
    mpd_sgr({"a": exact}, {"a": 1.0}, gamma=0.7, stats=stats).backward()
    step = 1e-2 if stats == "empirical" else 1e-3  # the hinge has corners
    for index in range(u.numel()):
        values = []
        for sign in (1, -1):
            moved = u.clone()
            moved.view(-1)[index] += sign * step
            values.append(float(mpd_sgr({"a": moved}, {"a": 1.0}, gamma=0.7, stats=stats)))
        assert exact.grad is not None
        assert float(exact.grad.view(-1)[index]) == pytest.approx(
            (values[0] - values[1]) / (2 * step), abs=2e-4
        )


@pytest.mark.parametrize("v_init", [0.0, 0.7])
def test_theory_follows_theorem_1_with_the_resets_taken_off(v_init: float) -> None:
    keep, v_th, gamma = 0.6, 0.9, 0.5
    u = normal(4, 8, 2, 3, 3) + 0.5
    known = drive(2, v_init=v_init)
    got = mpd_sgr({"a": u}, {"a": v_th}, gamma=gamma, stats="theory", drives={"a": known})
    wanted = []
    for t in range(1, 5):
        powers = [keep ** (t - i) for i in range(1, t + 1)]
        for c in range(2):
            fired = [float((u[i, :, c] * (u[i, :, c] > v_th)).mean()) for i in range(t - 1)]
            lost = sum(p * e for p, e in zip(powers, fired, strict=False))
            mu = float(known.mean.detach()[c]) * sum(powers) - lost + keep**t * v_init
            variance = (float(known.deviation.detach()[c]) / v_th) ** 2 * sum(p**2 for p in powers)
            wanted.append(
                float(omega(torch.tensor(mu / v_th - 1), torch.tensor(variance**0.5), gamma))
            )
    assert float(got.detach()) == pytest.approx(sum(wanted) / 8, abs=1e-5)


def test_theory_reaches_the_norm_and_not_the_membrane() -> None:
    u, known = (normal(4, 8, 2) + 0.5).requires_grad_(), drive(2)
    mpd_sgr({"a": u}, {"a": 1.0}, gamma=1.0, stats="theory", drives={"a": known}).backward()
    assert u.grad is None
    for parameter in (known.mean, known.deviation):
        assert parameter.grad is not None
        assert bool((parameter.grad != 0).all())


def test_hinge_vector() -> None:
    u = torch.tensor([1.0, 1.25, 0.5, 3.0]).view(1, 4, 1)
    got = mpd_sgr({"a": u}, {"a": 1.0}, gamma=0.5, stats="hinge")
    assert float(got.detach()) == pytest.approx((0.5 + 0.25 + 0 + 0) / 4)


def test_dead_channels_are_skipped_without_nan() -> None:
    alive = normal(2, 8, 1, 3, 3)
    mixed = torch.cat([alive, torch.zeros_like(alive)], 2).requires_grad_()
    got = mpd_sgr({"a": mixed}, {"a": 1.0}, gamma=1.0)
    assert float(got.detach()) == pytest.approx(float(mpd_sgr({"a": alive}, {"a": 1.0}, gamma=1.0)))
    got.backward()
    assert mixed.grad is not None
    assert torch.isfinite(mixed.grad).all()
    assert bool((mixed.grad[:, :, 1] == 0).all())


def test_a_dead_layer_costs_nothing_and_has_a_zero_gradient() -> None:
    u = torch.zeros(2, 8, 3, requires_grad=True)
    got = mpd_sgr({"a": u}, {"a": 1.0}, gamma=1.0)
    got.backward()
    assert float(got.detach()) == 0
    assert u.grad is not None
    assert bool((u.grad == 0).all())


def test_descending_the_penalty_lowers_the_exact_occupancy() -> None:
    lif = Lif(0.5, surrogate=Surrogate("triangle", 1.0))
    current = (normal(4, 32, 3, 4, 4) * 0.5 + 0.4).requires_grad_()
    lif(current)
    before = occupancy({"a": lif.membrane}, {"a": lif.v_th}, 0.5)["a"]
    for _ in range(30):
        lif(current)
        (gradient,) = torch.autograd.grad(
            mpd_sgr({"a": lif.membrane}, {"a": lif.v_th}, gamma=0.5), current
        )
        current = (current - 200 * gradient).detach().requires_grad_()
    lif(current)
    assert occupancy({"a": lif.membrane}, {"a": lif.v_th}, 0.5)["a"] < before - 0.1


def test_occupancy_counts_strictly_inside() -> None:
    u = torch.tensor([0.0, 0.5, 0.51, 1.0, 1.49, 1.5, 2.0, -1.0]).view(1, 8, 1)
    assert occupancy({"a": u}, {"a": 1.0}, 0.5) == {"a": 3 / 8}


def test_activity_counts_channels() -> None:
    s = torch.zeros(2, 2, 4, 1, 2)
    s[:, :, 1] = 1
    s[0, :, 2] = 1
    assert activity({"a": s}) == {"a": Activity(rate=1.5 / 4, dead=0.5, saturated=0.25)}


def test_warm_up_is_linear() -> None:
    assert [warmed_up(2.0, p, warm_up=0.2) for p in (0.0, 0.05, 0.2, 0.9)] == [0, 0.5, 2, 2]
    assert warmed_up(2.0, 0.0, warm_up=0.0) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mpd_sgr({}, {}, gamma=1.0),
            r"^mpd_sgr: the network has no spiking layer to regularise$",
        ),
        (
            lambda: mpd_sgr({"a": normal(2, 2, 2)}, {"a": 1.0}, gamma=1.0, stats="exact"),
            r"^mpd_sgr: stats is 'exact'; allowed are empirical, theory, hinge$",
        ),
        (
            lambda: mpd_sgr({"a": normal(2, 2, 2)}, {"a": 1.0}, gamma=1.0, stats="theory"),
            r'^mpd_sgr: stats "theory" needs a batch norm right before layer \'a\'; add one or use '
            r'stats "empirical"$',
        ),
    ],
)
def test_refuses(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_stats_are_those_of_the_config() -> None:
    assert get_args(MpdSgr.model_fields["stats"].annotation) == STATS
