"""Faults planted in the twins' passes over time, compiled and stepped: either must then differ from
the other, as it is. Kernels run uncompiled, in small blocks and portions.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport.sim import twin_adjoint, twin_float, twin_lif

Planted = Callable[..., ModuleType]
MODULES = ("sim.twin_kernel", "sim.twin_adjoint", "sim.twin_lif", "sim.twin_float")
SMALL = (("BLOCK = 4096", "BLOCK = 3"),)
SIZES = (4, 3, 7)

# What is wrong: (text, wrong text).
INTEGERS = {
    "sums beyond 32 bits": ("a[j] - np.trunc(a[j] * share) * period", "a[j]"),
    "a period too short": ("PERIOD = 1 << 26", "PERIOD = 1 << 25"),
    "u is forgotten": ("np.int32(u_last[b, low + j]) if resume else np.int32", "np.int32"),
    "v is forgotten": ("np.int32(v_last[b, low + j]) if resume else v_init", "v_init"),
    "u of the first block": ("np.int32(u_last[b, low + j])", "np.int32(u_last[b, j])"),
    "parameters of the first block": (
        "keep_u[part], keep_v[part], threshold[part], bias[part]\n"
        "            for j in range(size):\n                u[j] = np",
        "keep_u, keep_v, threshold, bias\n"
        "            for j in range(size):\n                u[j] = np",
    ),
    "sums of the first block": ("arrive(a[t if len(a) > 1 else 0, b, part]", (
        "arrive(a[t if len(a) > 1 else 0, b]"
    )),
    "sums of the first step": ("arrive(a[t if len(a) > 1 else 0, b", "arrive(a[0, b"),
    "decays change places": ("x[j], keep_u[j], keep_v[j],", "x[j], keep_v[j], keep_u[j],"),
    "no hidden one": ("DECAY_ONE - DU_OFFSET - neurons.du,", "DECAY_ONE - neurons.du,"),
    "fires at the threshold": ("one if y[j] > threshold", "one if y[j] >= threshold"),
    "every reset is to zero": (
        "y.dtype.type(y[j] - threshold[j]) if subtract else silence", "silence",
    ),
    "no reset": ("after if y[j] > threshold[j] else y[j]", "y[j]"),
    "fired is after the reset": ("copy(y, fired)", "copy(v, fired)"),
    "blocks are summed up": ("total[j] = 0\n", "total[j] += 0\n"),
    "wraps of the last": ("counts[0] += wraps", "counts[0] = wraps"),
    "clips of the last": ("counts[1] += clips", "counts[1] = clips"),
    "u is not kept": ("copy(u, u_last)", "pass"),
    "v is not kept": ("copy(v, v_last)", "pass"),
    "sums are not kept": ("copy(total, v_sum)", "pass"),
    "the state lands in the first block": (
        "fired[t, b, part])\n                add(v[:size], total[:size])\n            keep("
        "u[:size], v[:size], total[:size], u_last[b, part], v_last[b, part], v_sum[b, part])",
        "fired[t, b, part])\n                add(v[:size], total[:size])\n            keep("
        "u[:size], v[:size], total[:size], u_last[b], v_last[b], v_sum[b, part])",
    ),
}  # fmt: skip
FLOATS = {
    "u is not kept": ("keep_u[j] * u[j] + a[j]", "a[j]"),
    "v is not kept": ("keep_v[j] * v[j] + u[j]", "v[j] + u[j]"),
    "no bias": ("u[j] + bias[j]", "u[j]"),
    "fires at the threshold": ("one if y[j] > threshold", "one if y[j] >= threshold"),
    "every reset is to zero": (
        "y.dtype.type(y[j] - threshold[j]) if subtract else silence", "silence",
    ),
    "no reset": ("after if y[j] > threshold[j] else y[j]", "y[j]"),
    "the sum is of v before the reset": (
        "s, f)\n                add(v[:size]", "s, f)\n                add(y[:size]",
    ),
    "fired is after the reset": ("copy(y, fired)", "copy(v, fired)"),
    "u is forgotten": ("u[j] = u_last[b, low + j] if resume else zero", "u[j] = zero"),
    "v is forgotten": ("v_last[b, low + j] if resume else v_init", "v_init"),
    "blocks are summed up": ("total[j] = zero", "total[j] += zero"),
    "sums of the first step": ("row = a[t if len(a) > 1 else 0", "row = a[0"),
    "sums of the first block": ("row = a[t if len(a) > 1 else 0, b, part]", (
        "row = a[t if len(a) > 1 else 0, b]"
    )),
    "parameters of the first block": (
        "keep_u[part], keep_v[part], threshold[part], bias[part]\n"
        "            for j in range(size):\n                total",
        "keep_u, keep_v, threshold, bias\n"
        "            for j in range(size):\n                total",
    ),
    "the state is not written down": ("copy(v, v_last)", "pass"),
    "the state lands in the first block": (
        "s, f)\n                add(v[:size], total[:size])\n            keep("
        "u[:size], v[:size], total[:size], u_last[b, part], v_last[b, part], v_sum[b, part])",
        "s, f)\n                add(v[:size], total[:size])\n            keep("
        "u[:size], v[:size], total[:size], u_last[b], v_last[b], v_sum[b, part])",
    ),
}  # fmt: skip
GRADIENTS = {
    "u carries nothing back": ("g_u[j] += g[j]\n", "g_u[j] = g[j]\n"),
    "u carries all back": ("g_u[j] *= keep_u[j]", "g_u[j] *= 1"),
    "v carries all back": ("g_v[j] = keep_v[j] * g[j]", "g_v[j] = g[j]"),
    "no gain": ("g_a[j] = g_u[j] * gain", "g_a[j] = g_u[j]"),
    "static sums of the first step": ("g_a[j] += g_u[j] * gain", "g_a[j] = g_u[j] * gain"),
    "static sums miss the last step": ("t < steps - 1\n", "t < steps - 2\n"),
    "the sum's of another sample": ("g_v_sum[b, low + j]", "g_v_sum[0, low + j]"),
    "the spikes' of another sample": ("g_spikes[t, b, low:]", "g_spikes[t, 0, low:]"),
    "fired of another sample": ("f, gs = fired[t, b, low:]", "f, gs = fired[t, 0, low:]"),
    "slopes of the step before": ("given, f, th,", "given, fired[max(t - 1, 0), b, low:], th,"),
    "slopes of the first block": ("given, f, th,", "given, fired[t, b], th,"),
    "known slopes of the first step": ("slopes[min(t, len(slopes) - 1), b", "slopes[0, b"),
    "known slopes of another sample": ("len(slopes) - 1), b, low:]", "len(slopes) - 1), 0, low:]"),
    "known slopes of the first block": ("len(slopes) - 1), b, low:]", "len(slopes) - 1), b]"),
    "known slopes are not used": ("if slopes.size else h[:0]", "if False else h[:0]"),
    "slopes per unit of d": ("h[j] /= unit[j]", "pass"),
    "units of the first block": ("threshold[low:], unit[low:]", "threshold[low:], unit"),
    "every reset takes v": ("gv[j], th[j] if subtract else f[j]", "gv[j], f[j]"),
    "the reset is detached": ("(gs[j] if detach_reset else gs[j] - left * jump)", "gs[j]"),
    "the reset is not detached": ("gs[j] if detach_reset else gs[j] - left", "gs[j] - left"),
    "subtraction stops gradients": ("f[j] > th[j] and not subtract\n", "f[j] > th[j]\n"),
    "resets stop no gradients": ("resets = f[j] > th[j] and not subtract", "resets = False"),
    "fired's of the first step": ("g_fired[t, b, low + j]", "g_fired[0, b, low + j]"),
    "the bias of one step": ("g_bias[low + j] += g[j]", "g_bias[low + j] = g[j]"),
    "every threshold is the unit": ("+ offset[low + j]", ""),
    "no threshold is the unit": ("f[j] * rate[low + j] + ", ""),
    "the unit is the threshold": ("relative = p.unit == p.threshold\n    rate", (
        "relative = p.unit > 0\n    rate"
    )),
    "what is subtracted is forgotten": ("moved + kept", "moved"),
    "what is subtracted is never detached": (" and not detach_reset else zero", " else zero"),
    "the threshold of one step": ("g_threshold[low + j] -= ", "g_threshold[low + j] = -"),
}  # fmt: skip
STEPPED_INTEGERS = {
    "the state is forgotten": ("= state or (torch.zeros_like(sums", "= (torch.zeros_like(sums"),
    "thresholds are rounded up": ("v_th=v_th.long(), bias", "v_th=v_th.long() + 1, bias"),
    "the sum is of one step": ("v_sum += v\n", "v_sum = v\n"),
}  # fmt: skip
STEPPED_FLOATS = {
    "u is not kept": ("u = p.keep_u * u + arriving", "u = arriving"),
    "no bias": ("p.keep_v * v + u + neurons.bias", "p.keep_v * v + u"),
    "fires at the threshold": ("(v > p.threshold).to(v)", "(v >= p.threshold).to(v)"),
    "every reset is to zero": ('v - s * p.threshold if p.reset == "subtract" else ', ""),
    "the sum is of v before the reset": ("v_sum = v_sum + v", "v_sum = v_sum + fired[t]"),
    "the state is forgotten": ("u, v = state or (torch.zeros_like(a", "u, v = (torch.zeros_like(a"),
}  # fmt: skip
STEPPED_GRADIENTS = {
    "u carries all back": ("p.keep_u * g_u, p.keep_v", "g_u, p.keep_v"),
    "v carries all back": ("p.keep_u * g_u, p.keep_v * g_fired", "p.keep_u * g_u, g_fired"),
    "no gain": ("g_u * p.gain", "g_u"),
    "static sums miss the first step": ("g_a.sum(0, keepdim", "g_a[1:].sum(0, keepdim"),
    "slopes of the step before": ("g_s * slope[t]", "g_s * slope[max(t - 1, 0)]"),
    "every reset takes v": ('(fired[t] if p.reset == "zero" else p.threshold)', "fired[t]"),
    "the reset is not detached": ("if not p.detach_reset:", "if True:"),
    "the reset is detached": ("if not p.detach_reset:", "if False:"),
    "resets stop no gradients": ('(g_v * (1 - spikes[t]) if p.reset == "zero" else g_v)', "g_v"),
    "fired's are lost": ("if grads.fired is None else g_fired + grads.fired[t]", ""),
    "the bias of one step": ("g_bias = g_bias + g_fired", "g_bias = 0 * g_bias + g_fired"),
    "no threshold is the unit": (
        "torch.where(relative, fired[t] / p.unit, torch.ones", "(torch.ones",
    ),
    "what is subtracted is forgotten": ("g_th = g_th - g_v * spikes[t]", "pass"),
}  # fmt: skip


@pytest.fixture(scope="module")
def kernel_tests(load_file: Callable[[Path], ModuleType]) -> Any:
    return load_file(Path(__file__).with_name("test_twin_kernel.py"))


def equal(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(found, wanted, strict=True))


def integers_agree(mine: Any, theirs: Any, draws: Any) -> bool:
    """Whether two passes of `twin_lif` do the same: at random, and where v meets the threshold."""
    for i, reach in enumerate((6, 12, 18, 24, 36)):
        flags = {"each": i > 1, "subtract": bool(i % 2), "resumed": i > 0, "static": i == 2}
        given, named = draws.integers(
            draws.Draw(i), **flags, dtype=torch.float64, sizes=SIZES, reach=reach
        )
        if not equal(mine(*given, **named), theirs(*given, **named)):
            return False
    neurons = twin_lif.Neurons(
        du=torch.tensor(4095), dv=torch.tensor(4096), v_init=torch.tensor(0), unit=torch.tensor(1.0)
    )
    a = torch.full((2, 1, 1), 9.0)
    given = (a, torch.tensor(9.0), torch.tensor(0.0), neurons)
    return equal(mine(*given, state=None, steps=2), theirs(*given, state=None, steps=2))


def floats_agree(mine: Any, theirs: Any, draws: Any) -> bool:
    for subtract, resumed, static in itertools.product((False, True), repeat=3):
        draw, (steps, batch, n) = draws.Draw(2), SIZES
        p = draws.adjoint(draw, each=True, subtract=subtract, detach=True, dtype=torch.float64, n=n)
        bias, v_init = 0.3 * draw.normal(n), 0.3 * draw.normal(n)
        a, u = draw.normal(1 if static else steps, batch, n), draw.normal(batch, n)
        a[0, 0, 0] = p.threshold[0]
        bias[0] = v_init[0] = 0.0
        v = draw.normal(batch, n)
        named = {"state": (u, v) if resumed else None, "steps": steps}
        neurons = twin_float.FloatNeurons(bias=bias, adjoint=replace(p, v_init=v_init))
        if not equal(mine(a, neurons, **named), theirs(a, neurons, **named)):
            return False
    return True


def gradients_agree(mine: Any, theirs: Any, draws: Any) -> bool:
    cases = itertools.product((False, True), (False, True), (False, True), (0, 1, SIZES[0]))
    for subtract, detach, static, known in cases:
        draw, (_, batch, n) = draws.Draw(3), SIZES
        p = draws.adjoint(
            draw, each=True, subtract=subtract, detach=detach, dtype=torch.float64, n=n
        )
        p = replace(p, slopes=draw.normal(known, batch, n)) if known else p
        fired = draw.normal(*SIZES)
        outputs = twin_adjoint.Outputs(
            spikes=draw.normal(*SIZES), fired=draw.normal(*SIZES), u=draw.normal(batch, n),
            v=draw.normal(batch, n), v_sum=draw.normal(batch, n),
        )  # fmt: skip
        named = {"static": static, "wanted": (True, True)}
        found, wanted = mine(fired, outputs, p, **named), theirs(fired, outputs, p, **named)
        if not all(
            torch.allclose(getattr(found, name), getattr(wanted, name), rtol=1e-9, atol=1e-11)
            for name in ("a", "u", "v", "threshold", "bias")
        ):
            return False
    return True


# Who agrees, and the module of the pass.
PASSES = {
    "integers": (integers_agree, twin_lif), "floats": (floats_agree, twin_float),
    "gradients": (gradients_agree, twin_adjoint),
}  # fmt: skip
MUTANTS = {
    ("integers", "compiled"): INTEGERS, ("integers", "stepped"): STEPPED_INTEGERS,
    ("floats", "compiled"): FLOATS, ("floats", "stepped"): STEPPED_FLOATS,
    ("gradients", "compiled"): GRADIENTS, ("gradients", "stepped"): STEPPED_GRADIENTS,
}  # fmt: skip
EVERY = [(*where, mutant) for where, planted_ in MUTANTS.items() for mutant in planted_]


def agree(name: str, way: str, draws: Any) -> bool:
    """Whether a pass that is planted agrees with the true one that goes the other way."""
    judge, true = PASSES[name]
    mutated, other = sys.modules[true.__name__], "stepped" if way == "compiled" else "compiled"
    assert mutated is not true
    with np.errstate(all="ignore"):
        return bool(judge(getattr(mutated, way), getattr(true, other), draws))


@pytest.mark.parametrize(("name", "way"), MUTANTS)
def test_without_a_mutant_all_agree(
    planted: Planted, kernel_tests: Any, name: str, way: str
) -> None:
    planted(MODULES, *SMALL)
    assert agree(name, way, kernel_tests)


@pytest.mark.parametrize(("name", "way", "mutant"), EVERY)
def test_mutant_is_caught(
    planted: Planted, kernel_tests: Any, name: str, way: str, mutant: str
) -> None:
    planted(MODULES, *SMALL, MUTANTS[name, way][mutant])
    assert not agree(name, way, kernel_tests)
