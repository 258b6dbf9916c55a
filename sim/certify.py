"""Certificates: images around which no legal change at all can fool a FixedNet.

An attack that finds nothing proves nothing. Here the whole box of images around one, radius 0, 1,
2, ... grid steps a pixel, runs through the integers of `sim.lif` at once, as intervals that hold
every run (`certify_bounds.py`). If the right class stays ahead for every run they allow, the image
is certified: on this network, bit for bit, there is no adversarial image in the box. If not,
nothing follows. The share of certified images bounds the robust accuracy from below, as attacks
bound it from above.

Idea: interval bound propagation (Gowal et al. 2018, arXiv 1810.12715), here without rounding error,
because a FixedNet has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim import checks
from spikeport.sim.certify_bounds import bounds
from spikeport.sim.certify_gaps import gaps
from spikeport.sim.net import FixedNet

PORTION_BYTES = 64 << 20  # bounds of the samples that are worked on at a time; changes no result
CELLS = 4096
"""Cells of a sweep, unless told otherwise: enough for one convolution over 8-bit pixels."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What holds for every input within `radius` grid steps. margin: int64 [B], a lower bound on
    the score of the right class minus the best other one. cells: as given to `certify`."""

    radius: int
    margin: NDArray[np.int64]
    cells: int

    @property
    def certified(self) -> NDArray[np.bool_]:
        """bool [B]: right, and right for every input in reach; a tie counts as wrong."""
        return np.asarray(self.margin > 0)

    @property
    def accuracy(self) -> float:
        """Share of certified samples: the robust accuracy is this or more."""
        return float(self.certified.mean())

    def figures(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {
            "radius": self.radius,
            "samples": len(self.margin),
            "certified_accuracy": self.accuracy,
            "margin": self.margin.tolist(),
            "cells": self.cells,
        }


def certify(net: FixedNet, x: Any, y: Any, radius: int, *, cells: int = CELLS) -> Certificate:
    """Bound what inputs within `radius` grid steps of `x`, in every entry, can do to `net`.

    x: legal integers [B, *input.shape], one image shown in all `net.steps` steps, which may change
    as a whole; or [T, B, *input.shape], every step of which may change on its own. Changed entries
    stay in 0..input.largest. y: labels int [B]. cells: a first layer behind a static image is
    followed exactly for this many values of each neuron's sum, in coarser cells beyond; more is
    tighter and slower, 1 forgets that the image stays the same. Raises ValueError for input, labels
    or numbers out of range.
    """
    x, y = _checked(net, x, y)
    radius = checks.whole(radius, where="certify: radius", low=0, high=net.input.largest)
    radii = np.full(len(y), radius, np.int64)
    return Certificate(radius=radius, margin=_margins(net, x, y, radii, cells=cells), cells=cells)


def largest_radius(
    net: FixedNet, x: Any, y: Any, *, limit: int, cells: int = CELLS
) -> NDArray[np.int64]:
    """int64 [B]: the largest radius in 0..limit that `certify` certifies for each sample, -1 for
    samples wrong or tied as they are. Other arguments as for `certify`.

    Bounds of a larger box are never tighter, so doubling and then halving finds it.
    """
    x, y = _checked(net, x, y)
    limit = checks.whole(limit, where="certify: limit", low=0, high=net.input.largest)
    good = np.full(len(y), -1, np.int64)
    bad = np.full(len(y), limit + 1, np.int64)
    while (bad - good > 1).any():
        rows = np.flatnonzero(bad - good > 1)
        doubled = np.minimum(np.maximum(2 * good[rows], good[rows] + 1), limit)
        halved = (good[rows] + bad[rows]) // 2
        probe = np.where(bad[rows] > limit, doubled, halved)
        sound = _margins(net, x[:, rows], y[rows], probe, cells=cells) > 0
        good[rows] = np.where(sound, probe, good[rows])
        bad[rows] = np.where(sound, bad[rows], probe)
    return good


def _checked(net: FixedNet, x: Any, y: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """x as int64 [T, B, *shape], T = 1 for a static image, and y as int64 [B]."""
    x = np.asarray(x)
    static = x.ndim == 1 + len(net.input.shape)
    x = net.input.check(x[None] if static else x)
    if not static and len(x) != net.steps:
        raise ValueError(
            f"certify: x has {len(x)} steps, the network {net.steps}; give an image for each step,"
            " or one without the axis of steps"
        )
    classes = net.population(net.readout.population).size
    if classes < 2:
        raise ValueError("certify: the readout has one neuron; a decision needs two or more")
    y = checks.frozen_ints(y, where="certify: y", low=0, high=classes - 1, dtype=np.int64)
    if y.shape != (x.shape[1],):
        raise ValueError(f"certify: y has shape {y.shape}; needed is a label a sample")
    return x, y


def _margins(
    net: FixedNet, x: NDArray[np.int64], y: NDArray[np.int64], radii: NDArray[np.int64], *,
    cells: int,
) -> NDArray[np.int64]:  # fmt: skip
    """Lower bounds on the margins int64 [B] for `radii` [B]; x [1 or T, B, *shape], y [B]."""
    cells = checks.whole(cells, where="certify: cells", low=1, high=1 << 24)
    margin = np.empty(len(y), np.int64)
    for part in _portions(net, len(y)):
        reach = radii[part].reshape(-1, *[1] * len(net.input.shape))
        low = np.maximum(x[:, part] - reach, 0)
        high = np.minimum(x[:, part] + reach, net.input.largest)
        found = bounds(net, low, high, steps=net.steps, cells=cells)
        ahead = gaps(net, found, y[part])
        ahead[np.arange(len(ahead)), y[part]] = np.iinfo(np.int64).max
        margin[part] = ahead.min(1)
    return margin


def _portions(net: FixedNet, batch: int) -> Iterator[slice]:
    """Slices of samples whose bounds fit `PORTION_BYTES`: four int32 a neuron and step, the sums as
    two int64, and as much again on the way."""
    values = net.steps * (net.input.size + sum(p.size for p in net.populations))
    portion = max(1, PORTION_BYTES // (64 * values))
    for first in range(0, batch, portion):
        yield slice(first, min(first + portion, batch))
