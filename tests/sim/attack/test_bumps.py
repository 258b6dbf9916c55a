"""The square attack in L2: its bumps by the paper's formulas, its steps by loops, what it finds."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport.sim.attack import Budget, Noise, Square, attack
from spikeport.sim.attack.bumps import DRAWS, bump, first, moved, odd, peak
from spikeport.sim.attack.streams import Streams

Map = NDArray[np.float64]


def rings(rows: int, columns: int) -> Map:
    """A peak as the paper's code makes it: squares of growing side, laid upon one another."""
    found = np.zeros((rows, columns))
    for k in range(max(rows, columns) // 2 + 1):
        top, left = rows // 2 - k, columns // 2 - k
        found[max(top, 0) : top + 2 * k + 1, max(left, 0) : left + 2 * k + 1] += 1 / (k + 1) ** 2
    scaled: Map = found / np.sqrt((found**2).sum())
    return scaled


@given(rows=st.integers(1, 12), columns=st.integers(1, 12))
def test_a_peak_is_squares_upon_squares(rows: int, columns: int) -> None:
    assert np.allclose(peak(rows, columns), rings(rows, columns), atol=1e-6)


def test_a_peak_in_numbers() -> None:
    # 1 + 1/4 in the middle, 1/4 around it.
    expected = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 33**0.5
    assert torch.allclose(peak(3, 3), expected)


@pytest.mark.parametrize("side", [2, 3, 4, 5, 8])
def test_a_bump_is_a_peak_above_its_opposite_or_beside(side: int) -> None:
    upright, turned = bump(side, side)
    expected = np.concatenate([rings(side // 2, side), -rings(side - side // 2, side)]) / 2**0.5
    assert np.allclose(upright, expected, atol=1e-6)
    assert torch.equal(turned, upright.T)


def test_bumps_of_one_row_and_of_one_value() -> None:
    for row in bump(1, 5):
        assert np.allclose(row, np.concatenate([rings(2, 1), -rings(3, 1)]).T / 2**0.5)
    assert bump(1, 1).abs().tolist() == [[[1.0]], [[1.0]]]


@pytest.mark.parametrize(
    ("size", "map_", "expected"),
    [
        ((1, 1), (8, 8), (3, 3)),
        ((4, 4), (8, 8), (5, 5)),
        ((8, 8), (8, 8), (8, 8)),
        ((1, 1), (2, 9), (2, 2)),
        ((1, 4), (1, 40), (1, 5)),
        ((1, 1), (1, 2), (1, 2)),
    ],
)
def test_windows_are_odd_where_there_is_room(
    size: tuple[int, int], map_: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert odd(size, height=map_[0], width=map_[1]) == expected


def length(a: Map) -> float:
    return float(np.sqrt((a**2).sum()))


def step(v: Map, u: Map, size: tuple[int, int], eps: float) -> Map:
    """Algorithm 3 on one image v [C, H, W], as it stands in the paper."""
    places = []
    for k in (0, 2):
        room = [v.shape[1 + i] - size[i] + 1 for i in (0, 1)]
        top, left = (int(np.floor(u[k + i] * room[i])) for i in (0, 1))
        mask = np.zeros(v.shape[1:], bool)
        mask[top : top + size[0], left : left + size[1]] = True
        places.append(mask)
    w1, w2 = places
    eta = bump(*size)[int(u[4] < 0.5)].double().numpy()
    unused = max(eps**2 - length(v) ** 2, 0)
    new = v.copy()
    for i in range(len(v)):
        rho = -1 if u[DRAWS + i] < 0.5 else 1
        old = v[i][w1].reshape(size)
        temporary = rho * eta + old / max(length(old), 1e-10)
        available = np.sqrt(length(v[i][w1 | w2]) ** 2 + unused / len(v))
        new[i][w2] = 0
        new[i][w1] = (temporary / length(temporary) * available).ravel()
    return new / length(new) * eps


@pytest.mark.parametrize(
    ("shape", "size"), [((3, 8, 8), (5, 5)), ((1, 6, 9), (3, 3)), ((2, 5, 5), (5, 5)),
                        ((1, 1, 12), (1, 5)), ((2, 2, 2), (2, 2))],
)  # fmt: skip
@pytest.mark.parametrize("filled", [0.0, 0.5, 1.0])
def test_a_step_is_the_papers(shape: tuple[int, ...], size: tuple[int, int], filled: float) -> None:
    rng, eps = np.random.default_rng(4), 1.5
    v = rng.normal(size=(6, *shape)) * (rng.random((6, *shape)) < filled)
    v *= rng.uniform(0.3, 1, (6, 1, 1, 1)) * eps / max(length(v[0]), 1)
    u = rng.random((6, DRAWS + shape[0]))
    found = moved(torch.tensor(v).float(), torch.tensor(u).float(), size=size, eps=eps)
    expected = np.stack([step(a, b, size, eps) for a, b in zip(v, u, strict=True)])
    assert np.allclose(found, expected, atol=1e-5)


def test_the_first_image_is_25_bumps_or_as_many_as_fit() -> None:
    x = torch.rand(2, 2, 13, 17)
    found = first(Streams(x, torch.zeros(2).long(), seed=0, name="any"), x.shape)
    assert torch.allclose(found.flatten(1).norm(dim=1), torch.ones(2))
    assert (found[:, :, :12, :16] != 0).all()  # 6 x 8 bumps of 2 x 2, the odd ones out below, right
    assert (found[:, :, 12:] == 0).all()
    assert (found[..., 16:] == 0).all()
    pattern = (found[:, :, :12, :16] * found.abs().amax() ** -1).sign()
    tiles = pattern.unfold(2, 2, 2).unfold(3, 2, 2)
    assert (tiles.sum((-1, -2)) == 0).all()  # each holds a peak and its opposite
    kinds = {tuple(tile.flatten().tolist()) for tile in tiles.reshape(-1, 2, 2)}
    assert len(kinds) == 4  # upright and turned, both signs
    row = torch.rand(3, 60)
    flat = first(Streams(row, torch.zeros(3).long(), seed=0, name="any"), torch.Size((3, 1, 1, 60)))
    assert ((flat != 0).sum((1, 2, 3)) == 60).all()


class Watcher(nn.Module):
    """Keeps what it is shown; constant logits, so that nothing is ever fooled."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits of two classes, the first ahead."""
        self.seen.append(x.clone())
        return torch.tensor([[1.0, 0.0]]).expand(len(x), 2)


def test_what_is_shown_uses_the_budget_and_changes_in_two_windows() -> None:
    model, x = Watcher(), torch.full((2, 1, 10, 10), 0.5)
    budget = Budget(eps=0.8, norm="l2", levels=None)
    attack(model, x, torch.zeros(2).long(), Square(queries=60), budget=budget, seed=0)
    _, *shown = ((seen - x).double() for seen in model.seen)
    # 0.8 of 100 pixels, halved after 0.1, 0.5, 2, 5, 10, 20, 40, 60 and 80 % of the 60 queries:
    # squares of 20 pixels are of side 5, of 10 and less of side 3, the least.
    sides = [5] + [3] * 58
    for side, (before, after) in zip(sides, pairwise(shown), strict=True):
        assert torch.allclose(after.flatten(1).norm(dim=1), torch.full((2,), 0.8).double())
        # Outside of both windows the change is scaled as a whole, where there is one.
        ratio = after / before
        usual = ratio.flatten(1).nanmedian(1).values[:, None, None, None]
        other = ((ratio - usual).abs() > 1e-3).sum((1, 2, 3))  # nan, 0 / 0, is not
        assert (other <= 2 * side**2).all()
    assert len(shown) == 60


@pytest.mark.parametrize("eps", [0.2, 0.45])
def test_bumps_beat_noise_of_as_many_queries(eps: float, conv: Any) -> None:
    noise, square = (
        attack(conv.model, conv.x, conv.y, spec, budget=Budget(eps=eps, norm="l2"), seed=0)
        for spec in (Noise(draws=100), Square(queries=100))
    )
    assert square.robust_accuracy <= noise.robust_accuracy - 0.2


def test_more_queries_find_more(case: Any) -> None:
    few, many = (
        attack(case.model, case.x, case.y, spec, budget=Budget(eps=0.45, norm="l2"), seed=0)
        for spec in (Square(queries=15), Square(queries=150))
    )
    assert many.robust_accuracy <= few.robust_accuracy - 0.1
    assert many.margin.mean() < few.margin.mean()
