"""Faults planted in the certificates: bounds that are unsound, or looser than they claim to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from spikeport.sim.net import READOUTS, FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, Dense

Planted = Callable[..., ModuleType]
MODULES = ("sim.certify_kernel", "sim.certify_bounds", "sim.certify_gaps", "sim.certify")
SMALL = (("PORTION_BYTES = 64 << 20", "PORTION_BYTES = 1"),)

# What is wrong: (text, wrong text).
MUTANTS = {
    "the floor of u": ("low = _decayed(u_low, keep_u)", "low = ((u_low * keep_u) >> 12)"),
    "the floor of v": ("low = _decayed(v_low, keep_v)", "low = ((v_low * keep_v) >> 12)"),
    "the decay of u rounds up": (
        "high = _decayed(u_high, keep_u)", "high = -((-u_high * keep_u) >> 12)",
    ),
    "the decay of v rounds up": (
        "high = _decayed(v_high, keep_v)", "high = -((-v_high * keep_v) >> 12)",
    ),
    "decays change places": ("_decayed(v_low, keep_v) + u_low", "_decayed(v_low, keep_v) + u_high"),
    "ends change places": ("_decayed(v_high, keep_v) + u_high", "_decayed(v_high, keep_v) + u_low"),
    "the sum is not shifted": ("(a_high << STATE_SHIFT)", "a_high"),
    "no bias": ("+ u_low + bias", "+ u_low"),
    "-2**23 stays": ("low > -U_LIMIT and high <= U_LIMIT", "low >= -U_LIMIT and high <= U_LIMIT"),
    "2**23 wraps": ("low > -U_LIMIT and high <= U_LIMIT", "low > -U_LIMIT and high < U_LIMIT"),
    "u never wraps": ("low > -U_LIMIT and high <= U_LIMIT", "low <= high"),
    "u wraps without a hull": ("if last - first == high - low:", "if first <= last:"),
    "u may be anything when it wraps": ("if last - first == high - low:", "if False:"),
    "32 bits do not wrap": ("right - left != high - low", "False"),
    "32 bits wrap into 24": ("INT32_LOW + SPAN_U, INT32_HIGH - SPAN_U", "1 - U_LIMIT, U_LIMIT"),
    "the hull of a wrap ends at the ends": ("min(first, 1 - U_LIMIT), max", "first, max"),
    "a symmetric wrap": ("max(last, U_LIMIT), True", "max(last, U_LIMIT - 1), True"),
    "the lower end is not clipped": ("max(min(low, V_LIMIT), -V_LIMIT)", "low"),
    "the upper end is not clipped": ("max(min(high, V_LIMIT), -V_LIMIT), clipped", "high, clipped"),
    "clips go unseen": ("clipped = low < -V_LIMIT or high > V_LIMIT", "clipped = False"),
    "only surely clipped": (
        "clipped = low < -V_LIMIT or high > V_LIMIT", "clipped = high < -V_LIMIT or low > V_LIMIT",
    ),
    "fires at the threshold": ("    if low > threshold:", "    if low >= threshold:"),
    "may not fire above": ("    if high <= threshold:", "    if high <= threshold + 1:"),
    "no hull behind a reset to zero": ("return min(low, 0), threshold, 0, 1", "return 0, 0, 0, 1"),
    "zero is not in the hull": ("return min(low, 0), threshold", "return low, threshold"),
    "silent neurons above the threshold": ("min(low, 0), threshold, 0", "min(low, 0), high, 0"),
    "no hull behind a subtraction": (
        "min(low, 1), max(threshold, high - threshold)", "low - threshold, high - threshold",
    ),
    "those that fired have no lower end": ("return min(low, 1), max", "return low, max"),
    "those that fired have no upper end": ("max(threshold, high - threshold)", "threshold"),
    "every reset is to zero": (
        "return low - threshold, high - threshold, 1, 1", "return 0, 0, 1, 1",
    ),
    "wraps go unseen": (
        "v_low, v_high, must, may, wraps or clips", "v_low, v_high, must, may, clips",
    ),
    "only the last step is loose": ("surely, maybe\n                loose[b, j] |= out", (
        "surely, maybe\n                loose[b, j] = out"
    )),
    "every step is the first": ("                if t:\n", "                if False:\n"),
    "v starts at zero": (
        "np.int64(v_init[j]), np.int64(v_init[j])\n                if t:",
        "np.int64(0), np.int64(0)\n                if t:",
    ),
    "cells leave gaps": ("((cell + 1) << shift) - 1", "cell << shift"),
    "cells forget the ends": ("low = max(a_low[b, j], cell << shift)", "low = cell << shift"),
    "the last cell is left out": (
        "in range(first, last + 1)", "in range(first, max(last, first + 1))",
    ),
    "cells are never narrow": ("    shift = 0\n", "    shift = 3\n"),
    "only the last cell counts": ("fresh = cell == first", "fresh = True"),
    "only the first cell counts": (
        "fresh else min(lows[t, b, j], low)", "fresh else lows[t, b, j]",
    ),
    "lows are highs": (
        "highs[t, b, j] = high if fresh else max", "highs[t, b, j] = high if fresh else min",
    ),
    "scores of the last cell": ("score_low if fresh else min(z_low[b, j], score_low)", "score_low"),
    "highest score of the last cell": (
        "score_high if fresh else max(z_high[b, j], score_high)", "score_high",
    ),
    "surely as often as maybe": ("scored(score_low, surely,", "scored(score_low, maybe,"),
    "the last spike, not the first": ("left if spike and not score", "left if spike"),
    "negative weights are not crossed": (
        "in ((low, high), (high, low))", "in ((low, low), (high, high))",
    ),
    "positive weights are crossed": (
        "in ((low, high), (high, low))", "in ((high, high), (low, low))",
    ),
    "no negative weights": ("negative=replace(product, w=product.w.clip(max=0))", (
        "negative=replace(product, w=0 * product.w)"
    )),
    "signs change places": ("positive=replace(product, w=product.w.clip(min=0))", (
        "positive=replace(product, w=product.w.clip(max=0))"
    )),
    "convolutions do not wrap": (
        "_moved(least, most, wrap_int24, ", "_moved(least, most, wrap_int32, ",
    ),
    "wraps keep what jumps": ("whole = last - first == high - low", "whole = first <= last"),
    "what wraps may be anything": ("whole = last - first == high - low", "whole = first == low"),
    "the wrap has no low end": ("np.where(whole, first, ends[0])", "first"),
    "exponents floor upwards": (
        "least >> -w_exp, most >> -w_exp", "-(-least >> -w_exp), most >> -w_exp",
    ),
    "exponents floor toward zero": ("most >> -w_exp\n", "-(-most >> -w_exp)\n"),
    "no left shift": ("_arriving(least << w_exp, most << w_exp)", "_arriving(least, most)"),
    "nothing is late": ("slice(first - way.delay, steps.stop - way.delay)", (
        "slice(first, steps.stop)"
    )),
    "what is late arrives from the start": ("low[first - steps.start :] += more[0]", (
        "low[len(low) - len(more[0]) :] += more[0]"
    )),
    "the loop hears the first step alone": (
        "outside[name][0][t], high", "outside[name][0][0], high",
    ),
    "the loop does not hear itself": ("range(t, t + 1), [*names])", "range(t, t + 1), [])"),
    "late populations are swept": (
        'p.source == "input" and not p.delay for', 'p.source == "input" for',
    ),
    "driven populations are swept": ('p.source == "input" and not p.delay for', "not p.delay for"),
    "moving images are swept": ("cells if static and alone else 1", "cells if alone else 1"),
    "nothing is swept": ("cells if static and alone else 1", "1"),
    "scores of a sweep are not used": ("        if scores is None:", "        if True:"),
    "lows are read twice": ("box.trace(side) for", "box.trace(0) for"),
    "no slack for rounding": ("return (d * keep // DECAY_ONE) - 1", "return d * keep // DECAY_ONE"),
    "slack where nothing is rounded": ("if keep in (0, DECAY_ONE):", "if keep == 0:"),
    "the others' lead": ("each[label] - each)", "each - each[label])"),
    "the others' weights": ("w[label] - w)", "w - w[label])"),
    "weights of the difference are not crossed": ("high @ d.clip(max=0)", "low @ d.clip(max=0)"),
    "differences are floored upwards": (
        "else least >> -p.synapse.w_exp\n", "else -(-least >> -p.synapse.w_exp)\n",
    ),
    "nothing is late in a difference": (
        "a[p.delay :] += least if", "a[: steps - p.delay] += least if",
    ),
    "u is not kept in a difference": ("u = _kept(u, keep_u) + (arr", "u = (arr"),
    "v is not kept in a difference": ("v = _kept(v, keep_v) + u + bias", "v = u + bias"),
    "the last difference for the sum": ('total if net.readout.kind == "sum_v" else v', "v"),
    "the sum for the last difference": ('total if net.readout.kind == "sum_v" else v', "total"),
    "loose neurons are linear": ("calm = ~found.loose[population.name] & ", "calm = "),
    "neurons that fire are linear": (" & ~found.high[population.name].spikes.any(0)", ""),
    "neurons that surely fire are not": ("~found.high[population.name].spikes.any", (
        "~found.low[population.name].spikes.any"
    )),
    "all neurons are alike": ("(u == u[label]) & (v == v[label])", "u == u"),
    "spikes are potentials": ("return net.readout.of_potentials and total", "return total"),
    "32 bits hold every sum": (" and total <= INT32_HIGH", ""),
    "nothing is linear": ("    if not _is_linear(net):\n", "    if True:\n"),
    "pixels below zero": ("np.maximum(x[:, part] - reach, 0)", "x[:, part] - reach"),
    "pixels above the largest": (
        "np.minimum(x[:, part] + reach, net.input.largest)", "x[:, part] + reach",
    ),
    "half a box": ("np.minimum(x[:, part] + reach, net.input.largest)", "x[:, part]"),
    "labels of the first portion": (
        "gaps(net, found, y[part])", "gaps(net, found, y[: len(x[0, part])])",
    ),
    "the best of the others": (
        "margin[part] = ahead.min(1)", "margin[part] = ahead[:, :-1].min(1)",
    ),
    "ties are certified": ("self.margin > 0)", "self.margin >= 0)"),
    "bisection drops what it found": ("np.where(sound, probe, good[rows])", "probe"),
    "bisection never rises": ("np.where(sound, bad[rows], probe)", "probe"),
}  # fmt: skip


def tiny(
    *, seed: int, kind: str, w_exp: int = 0, reset: str = "zero", delay: int = 0, skip: bool = True,
    loop: bool = False, bits: int = 3,
) -> FixedNet:  # fmt: skip
    """Two pixels into three neurons and those into three readouts, with a skip or a loop."""
    rng = np.random.default_rng(seed)
    first = Population(
        name="first", shape=(3,), v_th=80 << max(w_exp, 0), reset=reset,
        dv=rng.integers(100, 2000, 3), du=int(rng.integers(1500, 4096)),
        bias=rng.integers(-300, 300, 3),
        v_init=rng.integers(-900, 900, 3),
    )  # fmt: skip
    v_th = 131071 if kind.endswith("_v") else 40
    bias = rng.integers(-500, 900, 3)
    out = Population(name="out", shape=(3,), v_th=v_th, dv=700, du=3000, bias=bias)
    into, on, past, back = (
        Dense(w=rng.integers(-reach, reach + 1, (3, n)), w_exp=shift)
        for reach, n, shift in ((24, 2, w_exp), (40, 3, min(w_exp, 0)), (9, 2, 0), (60, 3, 0))
    )
    wires = [
        Projection(source="input", target="first", synapse=into, delay=delay),
        Projection(source="first", target="out", synapse=on, delay=delay),
    ]
    if skip:
        wires.append(Projection(source="input", target="out", synapse=past, delay=1))
    if loop:
        wires.append(Projection(source="first", target="first", synapse=back, delay=1))
    return FixedNet(
        input=Input(shape=(2,), kind="graded", payload_bits=bits), populations=(first, out),
        projections=tuple(wires), readout=Readout(population="out", kind=kind), steps=4,
    )  # fmt: skip


def wrapped_conv() -> FixedNet:
    """24-bit pixels: sums of the convolution, and their currents, wrap."""
    conv = Conv2d(w=np.array([[[[200]]], [[[-255]]], [[[3]]]]))
    return FixedNet(
        input=Input(shape=(1, 1, 2), kind="graded", payload_bits=24),
        populations=(Population(name="out", shape=(3, 1, 2), v_th=900, dv=300, du=2000),),
        projections=(Projection(source="input", target="out", synapse=conv),),
        readout=Readout(population="out", kind="sum_v"), steps=3,
    )  # fmt: skip


CASES = [
    tiny(seed=1, kind="count"),
    tiny(seed=1, kind="sum_v", skip=False),
    tiny(seed=2, kind="last_v", reset="subtract", delay=1),
    tiny(seed=3, kind="sum_v", w_exp=-2),
    tiny(seed=4, kind="first_spike", loop=True, reset="subtract"),
    tiny(seed=5, kind="last_v", w_exp=7, bits=8),
    tiny(seed=6, kind="sum_v", w_exp=-1, delay=2),
    wrapped_conv(),
]


def check_kernel(tests: Any) -> None:
    half = 1 << 23
    for keep in (0, 3001, 4095):
        for edge in (0, half, -half, 3 * half, (1 << 31) - 30, 30 - (1 << 31)):
            for off, width in ((-70, 40), (-9, 0), (0, 0), (-30, 60), (0, 30), (-1, 1)):
                a, rest = divmod(edge, 64)
                tests.check_u(centre=rest + off, a=a, width=width, keep=keep)
    for v, u in ((-30, 0), (half - 40, 3), (9 - half, -3), (half - 40, -9000), (500, 7)):
        tests.check_v(v=v, u=u, width=30, keep=3901, bias=-7)
        tests.check_v(v=v, u=u, width=30, keep=4096, bias=9)
    tests.check_v(v=half - 40, u=0, width=30, keep=4096, bias=20)
    tests.check_v(v=20 - half, u=0, width=30, keep=4096, bias=-30)
    ranges = ((127, 128), (128, 129), (129, 300), (-5, 400), (5, 140), (0, 9), (7, 200))
    for subtract in (False, True):
        for low, high in ranges:
            tests.check_reset(low=low, high=high, v_th=2, subtract=subtract)
    tests.test_a_current_beyond_32_bits_may_be_anything()
    tests.test_a_wide_current_reaches_both_sides_of_the_jump(0, 390_000)


def check_all(load_file: Callable[[Path], ModuleType]) -> None:
    """The checks of the other files on whatever modules are in place, on little work."""
    kernel, whole, differences = (
        load_file(Path(__file__).with_name(f"test_certify{name}.py"))
        for name in ("_kernel", "", "_gaps")
    )
    check_kernel(kernel)
    whole.test_hand_calculation()
    whole.test_a_sweep_is_tighter_than_intervals()
    whole.test_figures_are_json()
    whole.test_changed_pixels_stay_on_the_grid()
    whole.test_the_largest_radius_ends_at_the_limit()
    for seed, kind in enumerate(READOUTS):
        whole.test_a_sweep_is_exact(kind, whole.RESETS[seed % 2], seed)
        net = whole.pixel_net([[3, 1], [2, -5]], kind=kind, v_th=30)
        whole.check_sound(net, np.array([[[7, 6]]]), radius=2, cells=2, static=True)
    differences.test_hand_calculation()
    differences.test_sums_beyond_32_bits_are_left_alone()
    differences.test_wraps_are_left_alone()
    differences.test_samples_of_several_labels_keep_their_rows()
    for change in (
        {"v_th": 12},
        {"v_init": [(1 << 23) - 1, 0]},
        {"dv": [0, 100]},
        {"kind": "count"},
    ):
        differences.test_neurons_that_are_not_alike_and_linear_are_left_alone(change)
    differences.test_differences_are_exact_where_nothing_is_rounded("sum_v", 1)
    for seed in range(6):
        differences.test_differences_hold_for_every_spike_train(("last_v", "sum_v")[seed % 2], seed)
    rng = np.random.default_rng(0)
    for net in CASES:
        x = rng.integers(0, net.input.largest + 1, (net.steps, 2, *net.input.shape))
        whole.check_radius_zero(net, x)
        for static, cells in ((False, 9), (True, 9), (True, 2)):
            whole.check_sound(net, x, radius=1, cells=cells, static=static)
        whole.check_nested(net, x[:1], radius=1, cells=2)
    for pixel, radius in ((41943, 1), (100_000, 60_000)):  # 200 * 41943.04 is 2**23
        x = np.full((3, 1, 1, 1, 2), pixel)
        whole.check_sound(wrapped_conv(), x, radius=radius, cells=9, static=False)


def test_the_checks_pass_as_it_is(
    planted: Planted, load_file: Callable[[Path], ModuleType]
) -> None:
    planted(MODULES, *SMALL)
    check_all(load_file)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_caught(
    planted: Planted, load_file: Callable[[Path], ModuleType], name: str
) -> None:
    planted(MODULES, *SMALL, MUTANTS[name])
    with pytest.raises((AssertionError, ArithmeticError, IndexError, ValueError)):
        check_all(load_file)
