"""Certificates: sound against every input of tiny boxes, exact where they claim to be, and refused
where they would mean nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeport.sim import reference
from spikeport.sim.certify import Certificate, certify, largest_radius
from spikeport.sim.certify_bounds import Bounds, bounds
from spikeport.sim.certify_kernel import cell_shift
from spikeport.sim.net import READOUTS, RESETS, FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d
from spikeport.sim.trace import Trace

Array = NDArray[Any]
MANY = 1500  # inputs of a box that are still all tried


def box(net: FixedNet, x: Array, radius: int) -> tuple[Array, Array]:
    return np.maximum(x - radius, 0), np.minimum(x + radius, net.input.largest)


def inputs(low: Array, high: Array, rng: np.random.Generator) -> Array:
    """Inputs between low and high [T, 1, ...], as samples [T, N, ...]: all, or corners and some."""
    free = [range(a, b + 1) for a, b in zip(low.ravel(), high.ravel(), strict=True)]
    if np.prod([float(len(values)) for values in free]) <= MANY:
        rows = np.array([*itertools.product(*free)])
    else:
        corner = np.where(rng.random((60, low.size)) < 0.5, low.ravel(), high.ravel())
        rows = np.concatenate([corner, rng.integers(low.ravel(), high.ravel() + 1, (60, low.size))])
    return np.moveaxis(rows.reshape(len(rows), len(low), *low.shape[2:]), 0, 1)


def escapes(found: Bounds, trace: Trace, readout: Readout) -> list[str]:
    """Which quantities of `trace` [T, N, n] leave the bounds [T, 1, n]."""
    out = []
    for name, part in trace.populations.items():
        for quantity in ("spikes", "u", "v"):
            low, high, value = (
                getattr(p, quantity) for p in (found.low[name], found.high[name], part)
            )
            if (value < low).any() or (value > high).any():
                out.append(f"{name}.{quantity}")
    z = trace.logits(readout)
    if (z < found.logits[0]).any() or (z > found.logits[1]).any():
        out.append("logits")
    return out


def shown(x: Array, steps: int) -> Array:
    """Static samples [1, N, ...] in every step."""
    return np.broadcast_to(x, (steps, *x.shape[1:]))


def margins(z: Array, label: int) -> Array:
    return np.asarray(z[:, label] - np.delete(z, label, axis=1).max(1))


def check_sound(net: FixedNet, x: Array, *, radius: int, cells: int, static: bool) -> None:
    """Bounds and margins of sample 0 of x [T, B, ...] hold for all, or many, inputs in reach."""
    x = x[: 1 if static else len(x), :1].astype(np.int64)
    low, high = box(net, x, radius)
    tried = inputs(low, high, np.random.default_rng(radius))
    trace = reference.run(net, shown(tried, net.steps))
    found = bounds(net, low, high, steps=net.steps, cells=cells)
    assert escapes(found, trace, net.readout) == []
    spilled = {name for name in trace.wraps if trace.wraps[name] or trace.clips[name]}
    assert spilled <= {name for name, loose in found.loose.items() if loose.any()}
    z = trace.logits(net.readout)
    for label in range(z.shape[1] if z.shape[1] > 1 else 0):
        made = certify(net, x[0] if static else x, [label], radius, cells=cells)
        assert made.margin[0] <= margins(z, label).min()


def test_bounds_hold_for_drawn_networks(fixed_nets: Callable[[], Any]) -> None:
    @given(fixed_nets(), st.integers(0, 3), st.sampled_from([1, 7, 4096]), st.booleans())
    def check(case: tuple[FixedNet, Array], radius: int, cells: int, static: bool) -> None:
        net, x = case
        check_sound(net, x, radius=min(radius, net.input.largest), cells=cells, static=static)

    check()


@pytest.mark.parametrize("kind", ["dense", "conv", "delay", "recurrent"])
@pytest.mark.parametrize("seed", range(8))
def test_bounds_hold_for_random_networks(
    random_net: Callable[..., Any], kind: str, seed: int
) -> None:
    net, x = random_net(seed, kind=kind, lava=bool(seed % 2))
    check_sound(net, x, radius=1 + seed % 2 * (net.input.largest > 1), cells=64, static=seed < 4)


def check_radius_zero(net: FixedNet, x: Array) -> None:
    """Bounds of a single input are its run, bit for bit, and its margin is the run's."""
    trace = reference.run(net, x)
    for cells in (1, 4096):
        found = bounds(net, x, x, steps=net.steps, cells=cells)
        for side in (found.low, found.high):
            for name, part in trace.populations.items():
                for quantity in ("spikes", "u", "v"):
                    value = getattr(side[name], quantity)
                    np.testing.assert_array_equal(value, getattr(part, quantity))
        z = trace.logits(net.readout)
        for side_z in found.logits:
            np.testing.assert_array_equal(side_z, z)
    if z.shape[1] > 1:
        y = z.argmax(1)
        wanted = [margins(row[None], label)[0] for row, label in zip(z, y, strict=True)]
        np.testing.assert_array_equal(certify(net, x, y, 0).margin, wanted)


@pytest.mark.parametrize("kind", ["dense", "conv", "delay", "recurrent"])
@pytest.mark.parametrize("seed", range(12))
def test_radius_zero_is_the_run_itself(
    random_net: Callable[..., Any], kind: str, seed: int
) -> None:
    check_radius_zero(*random_net(seed, kind=kind, lava=bool(seed % 2)))


def pixel_net(
    w: Any, *, steps: int = 5, w_exp: int = 0, bits: int = 4, kind: str = "count", **neuron: Any
) -> FixedNet:
    """One dense layer behind graded pixels, which is also the readout."""
    w = np.asarray(w)
    layer = Population(name="out", shape=(len(w),), **neuron)
    return FixedNet(
        input=Input(shape=(w.shape[1],), kind="graded", payload_bits=bits),
        populations=(layer,),
        projections=(Projection(source="input", target="out", synapse=Dense(w=w, w_exp=w_exp)),),
        readout=Readout(population="out", kind=kind),
        steps=steps,
    )


def test_hand_calculation() -> None:
    # a0 = 2 p0 - 2 p1 in {-2..6} for p0 = 3 +- 1, p1 = 2 +- 1, a1 = 4 p1 in {4..12}; u = 64 a,
    # v adds up from step to step, and fires above 64 * 10. Neuron 0: 6 after one step, 12 after
    # two: may fire in step 1, never must. Neuron 1: 12 fires in both steps, 4 in neither.
    net = pixel_net([[2, -2], [0, 4]], steps=2, v_th=10)
    low, high = np.array([[[2, 1]]]), np.array([[[4, 3]]])
    found = bounds(net, low, high, steps=2, cells=1)
    assert np.asarray(found.low["out"].u)[:, 0].tolist() == [[64 * -2, 64 * 4]] * 2
    assert np.asarray(found.high["out"].u)[:, 0].tolist() == [[64 * 6, 64 * 12]] * 2
    # Neuron 1 is at 12 and fires, or at 10 at most and does not.
    assert np.asarray(found.low["out"].v)[:, 0].tolist() == [[64 * -2, 0], [64 * -4, 0]]
    assert np.asarray(found.high["out"].v)[:, 0].tolist() == [[64 * 6, 64 * 10], [64 * 10, 64 * 10]]
    assert not found.low["out"].spikes.any()
    assert found.high["out"].spikes[:, 0].tolist() == [[0, 1], [1, 1]]
    assert [z.tolist() for z in found.logits] == [[[0, 0]], [[1, 2]]]
    assert certify(net, [[3, 2]], [1], 1).margin.tolist() == [-1]
    # Followed number by number: a1 = 4 is at 8 after two steps, a1 = 11 and 12 fire twice.
    swept = bounds(net, low, high, steps=2, cells=100)
    assert np.asarray(swept.high["out"].v)[:, 0].tolist() == [[64 * 6, 64 * 10], [64 * 10, 64 * 10]]
    assert np.asarray(swept.low["out"].v)[:, 0].tolist() == [[64 * -2, 0], [64 * -4, 0]]
    # Pixels (3, 2) themselves: a = (2, 8), so v = 16 fires in step 1; (1, 15) allows 8 or more.
    assert certify(net, [[3, 2]], [1], 0).margin.tolist() == [1]
    assert certify(net, [[1, 15]], [1], 2).margin.tolist() == [2]


@pytest.mark.parametrize("kind", READOUTS)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("seed", range(4))
def test_a_sweep_is_exact(kind: str, reset: str, seed: int) -> None:
    # Weights 1 and 3 reach every integer between the ends, so the box and the sums are the same.
    rng = np.random.default_rng(seed)
    net = pixel_net(
        [[1, 3], [3, 1], [2, 1]], kind=kind, reset=reset, v_th=rng.integers(5, 60, 3), steps=6,
        du=rng.integers(2000, 4096), dv=rng.integers(0, 2000), bias=rng.integers(-90, 90, 3),
        v_init=rng.integers(-500, 500, 3),
    )  # fmt: skip
    x = rng.integers(0, 16, (1, 1, 2))
    low, high = box(net, x, 2)
    tried = inputs(low, high, rng)
    trace = reference.run(net, shown(tried, 6))
    part, z = trace["out"], trace.logits(net.readout)
    found = bounds(net, low, high, steps=6, cells=64)
    for side, ends, end in ((0, found.low["out"], np.min), (1, found.high["out"], np.max)):
        np.testing.assert_array_equal(found.logits[side][0], end(z, axis=0))
        for quantity in ("spikes", "u", "v"):
            wanted = end(getattr(part, quantity), axis=1)
            np.testing.assert_array_equal(getattr(ends, quantity)[:, 0], wanted)


def test_a_sweep_is_tighter_than_intervals() -> None:
    # Pixels 14 and 15, threshold 19, subtracted: 14 fires in steps 1, 2, 4, 5 (v before the reset
    # is 14 28 23 18 32 27), 15 in steps 1, 2, 3, 5 (15 30 26 22 18 33). As intervals, step 3 has
    # 18..22, steps 4 and 5 have 15..34: two spikes are sure, five possible.
    net = pixel_net([[1], [0]], v_th=19, steps=6, reset="subtract")
    assert certify(net, [[15]], [0], 1).margin == 4
    assert certify(net, [[15]], [0], 1, cells=2).margin == 4
    assert certify(net, [[15]], [0], 1, cells=1).margin == 2
    assert certify(net, np.full((6, 1, 1), 15), [0], 1).margin == 2


@given(st.integers(-1000, 1000), st.integers(0, 5000), st.integers(2, 300))
def test_cells_are_few_and_nest(low: int, length: int, cells: int) -> None:
    high = low + length
    shift = int(cell_shift(low, high, cells))
    assert (high >> shift) - (low >> shift) < cells
    assert shift == 0 or (high >> (shift - 1)) - (low >> (shift - 1)) >= cells
    assert int(cell_shift(low - 3, high + 5, cells)) >= shift


def check_nested(net: FixedNet, x: Array, *, radius: int, cells: int) -> None:
    """Neither a larger box nor fewer cells make any bound of x [T or 1, B, ...] tighter."""
    inner = bounds(net, *box(net, x, radius), steps=net.steps, cells=cells)
    outer = bounds(net, *box(net, x, radius + 1), steps=net.steps, cells=cells)
    coarse = bounds(net, *box(net, x, radius), steps=net.steps, cells=1)
    for wide in (outer, coarse):
        assert escapes(wide, inner.low, net.readout) == []
        assert escapes(wide, inner.high, net.readout) == []


def test_larger_boxes_and_fewer_cells_are_never_tighter(fixed_nets: Callable[[], Any]) -> None:
    @given(fixed_nets(), st.integers(0, 3), st.sampled_from([1, 2, 5]))
    def check(case: tuple[FixedNet, Array], radius: int, cells: int) -> None:
        net, x = case
        for part in (x, x[:1]):
            check_nested(net, part, radius=radius, cells=cells)

    check()


def test_changed_pixels_stay_on_the_grid() -> None:
    # Neuron 1 fires by its bias. A pixel of -1 or of 16 would make neuron 0 fire, 0..15 do not.
    below = pixel_net([[-8], [0]], v_th=1, bias=[0, 4095], steps=3)
    assert certify(below, [[0]], [1], 1).margin == 3
    above = pixel_net([[8], [0]], v_th=120, bias=[0, 4095], bias_exp=2, steps=1)
    assert certify(above, [[15]], [1], 1).margin == 1
    assert certify(pixel_net([[8], [0]], v_th=119, steps=1), [[15]], [1], 1).margin == -1


def conv_net(kind: str, *, w_exp: int = 0, seed: int = 0) -> FixedNet:
    """8-bit maps of 6 x 6 through a convolution and a pool into three classes."""
    rng = np.random.default_rng(seed)
    shape = (1, 6, 6)
    conv = Conv2d(w=rng.integers(-20, 30, (2, 1, 3, 3)), geometry=ConvGeometry(padding=(1, 1)))
    pool = SumPool2d(kernel=(2, 2), stride=(2, 2), w=16)
    never: dict[str, Any] = {"v_th": 131071, "dv": 300} if kind.endswith("_v") else {"v_th": 60}
    return FixedNet(
        input=Input(shape=shape, kind="graded", payload_bits=8),
        populations=(
            Population(name="conv", shape=(2, 6, 6), v_th=8000, dv=100, reset="subtract"),
            Population(name="pool", shape=(2, 3, 3), v_th=24, dv=500),
            Population(name="out", shape=(3,), **never),
        ),
        projections=(
            Projection(source="input", target="conv", synapse=conv),
            Projection(source="conv", target="pool", synapse=pool),
            Projection(
                source="pool", target="out",
                synapse=Dense(w=rng.integers(-60, 60, (3, 18)), w_exp=w_exp),
            ),
        ),
        readout=Readout(population="out", kind=kind),
        steps=4,
    )  # fmt: skip


@pytest.mark.parametrize("kind", READOUTS)
def test_the_largest_radius_is_the_last_certified(kind: str) -> None:
    net = conv_net(kind)
    x = np.random.default_rng(1).integers(0, 256, (6, 1, 6, 6))
    z = reference.run(net, shown(x[None], 4)).logits(net.readout)
    y = z.argmax(1)
    y[0] = z[0].argmin()
    found = largest_radius(net, x, y, limit=6)
    scanned = np.stack([certify(net, x, y, r).certified for r in range(7)])
    np.testing.assert_array_equal(found, scanned.sum(0) - 1)
    assert (np.diff(scanned.astype(int), axis=0) <= 0).all()
    assert found[0] == -1
    assert found.max() >= 0


def test_the_largest_radius_ends_at_the_limit() -> None:
    net = pixel_net([[8], [0]], v_th=1, steps=3)
    found = largest_radius(net, [[9], [1], [0], [15]], [0, 0, 0, 1], limit=15)
    # 8 p > 1 holds for p >= 1; a black pixel ties at no spikes, and the last label is wrong.
    assert found.tolist() == [8, 0, -1, -1]
    assert largest_radius(net, [[9], [1]], [0, 0], limit=3).tolist() == [3, 0]
    assert largest_radius(net, [[9]], [0], limit=0).tolist() == [0]


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net = conv_net("sum_v")
    x = np.random.default_rng(5).integers(0, 256, (5, 1, 6, 6))
    whole = certify(net, x, [0, 1, 2, 0, 1], 2).margin
    monkeypatch.setattr("spikeport.sim.certify.PORTION_BYTES", 1)
    np.testing.assert_array_equal(certify(net, x, [0, 1, 2, 0, 1], 2).margin, whole)
    each = [certify(net, x[i : i + 1], [i % 3], 2).margin[0] for i in range(5)]
    np.testing.assert_array_equal(each, whole)


def test_figures_are_json() -> None:
    made = Certificate(radius=2, margin=np.array([3, 0, -4, 1]), cells=9)
    assert made.certified.tolist() == [True, False, False, True]
    assert json.loads(json.dumps(made.figures())) == {
        "radius": 2, "samples": 4, "certified_accuracy": 0.5, "margin": [3, 0, -4, 1], "cells": 9,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": [[16]]}, r"network input is 16; allowed are 0\.\.15"),
        ({"x": [[0.5]]}, "network input must hold integers"),
        ({"x": [0]}, r"network input has shape \(1,\); needed is"),
        ({"x": [[[1]], [[2]]]}, "certify: x has 2 steps, the network 5; give an image for each"),
        ({"y": [2]}, r"certify: y is 2; allowed are 0\.\.1"),
        ({"y": [0, 1]}, r"certify: y has shape \(2,\); needed is a label a sample"),
        ({"radius": -1}, r"certify: radius is -1; allowed are 0\.\.15"),
        ({"radius": 0.5}, r"certify: radius is 0\.5; it must be a whole number"),
        ({"cells": 0}, r"certify: cells is 0; allowed are 1\.\."),
        ({"net": pixel_net([[1]], v_th=1)}, "the readout has one neuron; a decision needs two"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "net": pixel_net([[1], [0]], v_th=1),
        "x": [[3]],
        "y": [0],
        "radius": 1,
    } | change
    with pytest.raises(ValueError, match=message):
        certify(**given)


def test_a_limit_beyond_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"certify: limit is 16; allowed are 0\.\.15"):
        largest_radius(pixel_net([[1], [0]], v_th=1), [[3]], [0], limit=16)
