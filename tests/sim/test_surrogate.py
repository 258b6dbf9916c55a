"""Surrogate derivatives: shapes by hand, areas by quadrature, scaling, limits."""

from __future__ import annotations

import math

import pytest
import torch

from spikeport.sim.surrogate import SURROGATES, Surrogate, spike

WIDTHS = (0.3, 1.0, 2.5)
AREA_ONE = sorted(set(SURROGATES) - {"superspike"})


def at(name: str, width: float, *distances: float) -> list[float]:
    values: list[float] = Surrogate(name, width)(
        torch.tensor(distances, dtype=torch.float64)
    ).tolist()
    return values


def test_there_are_six() -> None:
    assert sorted(SURROGATES) == ["atan", "gauss", "rectangle", "sigmoid", "superspike", "triangle"]


@pytest.mark.parametrize(
    ("name", "width", "distances", "heights"),
    [
        ("triangle", 1.0, [0, 0.5, -0.5, 1, -1, 3], [1, 0.5, 0.5, 0, 0, 0]),
        ("triangle", 0.5, [0, 0.25, -0.25, 0.5], [2, 1, 1, 0]),
        ("rectangle", 0.5, [0, 0.24, -0.24, 0.26], [2, 2, 2, 0]),
        ("atan", 2.0, [0, 1 / math.pi, -1 / math.pi], [1, 0.5, 0.5]),
        ("sigmoid", 4.0, [0, math.log(3) / 4], [1, 0.75]),
        ("superspike", 10.0, [0, 0.1, -0.1, 0.9], [1, 0.25, 0.25, 0.01]),
        ("gauss", 2.0, [0, 0.5], [0.7978845608, 0.4839414490]),
    ],
)
def test_heights_by_hand(
    name: str, width: float, distances: list[float], heights: list[float]
) -> None:
    assert at(name, width, *distances) == pytest.approx(heights, abs=1e-9)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SURROGATES)
def test_area(name: str, width: float) -> None:
    # d = tan(p) maps the whole line, heavy tails included, to an interval; midpoint rule.
    n = 400_000
    p = (torch.arange(n).double() + 0.5) / n * math.pi - math.pi / 2
    area = float((Surrogate(name, width)(p.tan()) / p.cos() ** 2).sum() * math.pi / n)
    assert area == pytest.approx(2 / width if name == "superspike" else 1, rel=1e-4)


@pytest.mark.parametrize("name", SURROGATES)
def test_finite_symmetric_and_never_negative_however_far(name: str) -> None:
    d = torch.tensor([-1e6, -30.0, -0.2, 0.2, 30.0, 1e6])
    h = Surrogate(name, 5.0)(d)
    assert h.dtype == torch.float32
    assert torch.isfinite(h).all()
    assert h.min() >= 0
    torch.testing.assert_close(h, h.flip(0))
    assert h[3] >= h[4] >= h[5]
    assert h[5] < 1e-6


@pytest.mark.parametrize("unit", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("name", SURROGATES)
def test_a_window_in_other_units_is_the_same_window(name: str, unit: float) -> None:
    """Densities of area one scale by the unit; superspike, of height one, keeps its height."""
    original = Surrogate(name, 0.8)
    scaled = original.in_units_of(unit)
    d = torch.linspace(-2, 2, 41).double() + 0.013
    height = 1 if name == "superspike" else unit
    torch.testing.assert_close(scaled(d / unit), height * original(d))
    assert scaled.in_units_of(1 / unit).width == pytest.approx(0.8)


def test_spike_is_strict_and_multiplies_by_the_height() -> None:
    surrogate = Surrogate("sigmoid", 3.0)
    d = torch.tensor([-1.0, -0.0, 0.0, 1e-30, 2.0], requires_grad=True)
    s = spike(d, surrogate)
    assert s.tolist() == [0, 0, 0, 1, 1]
    (s * torch.arange(5.0)).sum().backward()
    assert d.grad is not None
    torch.testing.assert_close(d.grad, surrogate(d.detach()) * torch.arange(5.0))


def test_refusals() -> None:
    with pytest.raises(
        ValueError,
        match=r"^surrogate is 'step'; allowed are atan, gauss, rectangle, sigmoid, superspike, tri",
    ):
        Surrogate("step")
    for width in (0.0, -1.0, math.nan):
        with pytest.raises(
            ValueError, match=rf"^surrogate 'atan': width is {width}; it must be positive$"
        ):
            Surrogate("atan", width)
