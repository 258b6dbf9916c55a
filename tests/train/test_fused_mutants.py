"""Faults planted in the passes over a window: each must differ from torch's own differentiation.

The equations are written out below once more, plainly. Kernels run uncompiled, in small blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from spikeport.sim.surrogate import Surrogate, spike
from spikeport.train.window import Fixed

Planted = Callable[..., ModuleType]
MODULES = ("sim.squares_kernel", "train.window", "train.fused_kernel", "train.fused")
BLOCKS = (("BLOCK = 4096", "BLOCK = 5"),)
STEPPED = (
    ('compiled_forward if current.device.type == "cpu" else ', ""),
    ('compiled_backward if current.device.type == "cpu" else ', ""),
    ('if pool > 1 and current.device.type != "cpu":', "if pool > 1:"),
)
STEPS = 4

# What is wrong: (text, wrong text).
MUTANTS = {
    "every window starts from zero": (
        "current.dtype)\n    v[:] = v_init", "current.dtype)\n    v[:] = zero",
    ),
    "the current decays too": ("keep_v * v[j] + i[j]", "keep_v * (v[j] + i[j])"),
    "a still current is there once": ("+ i[j]\n", "+ (i[j] if t < len(current) else zero)\n"),
    "noise stays": (
        "m[:size] = u[:size] + noise[t, first : first + size]",
        "m[:size] = u[:size] = u[:size] + noise[t, first : first + size]",
    ),
    "noise of the first step": ("noise[t, first", "noise[0, first"),
    "what met is reset": ("v[j] = u[j] - v_th if m", "v[j] = m[j] - v_th if m"),
    "no reset": ("v[j] = zero if m[j] > v_th else u[j]", "v[j] = u[j]"),
    "noise does not reset": ("v[j] = zero if m[j]", "v[j] = zero if u[j]"),
    "fires at the threshold": ("one if met[j] > v_th", "one if met[j] >= v_th"),
    "reset at the threshold": ("v[j] = zero if m[j] > v_th", "v[j] = zero if m[j] >= v_th"),
    "membranes are what met": ("copy(us[t, :size], membrane", "copy(met[t, :size], membrane"),
    "pools add": ("share = current.dtype.type(1) / ", "share = current.dtype.type(1)  # "),
    "pools miss a row": ("total[j] = row[j] + other[j]", "total[j] = row[j]"),
    "pools miss a third row": (
        "add(x[first + k * width : first + (k + 1) * width], total)", "pass",
    ),
    "pools miss a column": ("square[c] = left[c] + right[c]", "square[c] = left[c]"),
    "pools miss a third column": (
        "add(left[k * lanes : (k + 1) * lanes], square)", "pass",
    ),
    "pools of one channel miss a column": ("rows[2 * j] + rows[2 * j + 1]", "rows[2 * j]"),
    "pooled gradients are not divided": (
        "share = g.dtype.type(1) / ", "share = g.dtype.type(1)  # ",
    ),
    "pooled gradients reach one row": (
        "for k in range(y * pool, (y + 1) * pool):", "for k in range(y * pool, y * pool + 1):",
    ),
    "pooled gradients miss a third column": (
        "copy(left[:lanes], left[k * lanes : (k + 1) * lanes])", "pass",
    ),
    "pooled gradients of a block before": (
        "means = g_spikes[t, first // area : (first + size) // area]",
        "means = g_spikes[t, : size // area]",
    ),
    "gradients of the first step's spikes": ("copy(g_spikes[t, ", "copy(g_spikes[0, "),
    "the reset is not detached": ("if not detach_reset:", "if True:"),
    "the reset is detached": ("if not detach_reset:", "if False:"),
    "the reset takes the threshold": ("g_v[j] * (v_th if subtract else u[j])", "g_v[j] * v_th"),
    "the reset takes the potential": ("g_v[j] * (v_th if subtract else u[j])", "g_v[j] * u[j]"),
    "the threshold of an absolute window": ("(met[j] * unit if relative else one)", "one"),
    "the threshold without noise": ("(met[j] * unit if", "(u[j] * unit if"),
    "the threshold without what resets take": ("g_th[j] -= moved + lost", "g_th[j] -= moved"),
    "the threshold of one step": ("g_th[j] -= moved + lost", "g_th[j] = -moved - lost"),
    "resets to zero pass gradients": ("(zero if met[j] > v_th else left)", "left"),
    "resets by subtraction do not": (
        "g[j] * h[j] + g_v[j]", "g[j] * h[j] + (zero if met[j] > v_th else g_v[j])",
    ),
    "the decay of what a reset took": ("(reset if met[j] > v_th else u[j])", "u[j]"),
    "the decay where noise fired": ("(reset if met[j] > v_th", "(reset if u[j] > v_th"),
    "the decay forgets the first step": (
        "g_keep[part] += g[:size] * v_init", "g_keep[part] += zero",
    ),
    "the decay of the step itself": ("add_kept(us[t - 1], met[t - 1]", "add_kept(u, m"),
    "slopes of the step before": ("widths[t], m[:size]", "widths[t], met[max(t - 1, 0)][:size]"),
    "slopes without noise": ("widths[t], m[:size]", "widths[t], u[:size]"),
    "widths of the first step": ("widths[t], m[:size]", "widths[0], m[:size]"),
    "no window is relative": ("unit = one / v_th if relative else one", "unit = one"),
    "every window is relative": ("unit = one / v_th if relative else one", "unit = one / v_th"),
    "time is not detached": ("keep = zero if detach_time else keep_v", "keep = keep_v"),
    "time is detached": ("keep = zero if detach_time else keep_v", "keep = zero"),
    "a still current misses a step": (
        "add(g[:size], g_current[0, part])", "add(g[:size] * (t > 0), g_current[0, part])",
    ),
    "gradients of the first membrane": ("g_membrane[t, part]", "g_membrane[0, part]"),
    "no decay of gradients": ("g_v[j] = keep * g[j]", "g_v[j] = g[j]"),
    "the start does not decay": ("g_init[part] = g_v[:size]", "g_init[part] = g[:size]"),
    "a block goes on where one ended": ("g_v[:size] = zero", "g_v[:size] += zero"),
    "maps are turned": ("channels, _, width = ", "channels, width, _ = "),
}  # fmt: skip
STEPPED_MUTANTS = {
    "every window starts from zero": ("v = v_init.expand_as(current[0])", "v = 0 * current[0]"),
    "a still current is there once": (
        "current[min(t, len(current) - 1)]", "(current[t] if t < len(current) else 0)",
    ),
    "no noise": ("u if p.noise is None else u + p.noise[t]", "u"),
    "every reset is to zero": ("u - v_th * s if p.subtract else u * (1 - s)", "u * (1 - s)"),
    "slopes without noise": ("membrane if p.noise is None else membrane + p.noise", "membrane"),
    "slopes of the step before": ("total * slopes[t]", "total * slopes[max(t - 1, 0)]"),
    "the reset is not detached": ("if not p.detach_reset:", "if True:"),
    "the reset is detached": ("if not p.detach_reset:", "if False:"),
    "the reset takes the potential": ("g_v * (v_th if p.subtract else u)", "g_v * u"),
    "the threshold of an absolute window": (
        "through * seen[t] / v_th if p.window.relative else through", "through",
    ),
    "the threshold without what resets take": ("g_th -= g_v * s", "pass"),
    "resets to zero pass gradients": ("(g_v if p.subtract else g_v * (1 - s))", "g_v"),
    "no gradients of membranes": ("g_u + grad[t] if wanted == MEMBRANE else g_u", "g_u"),
    "the decay forgets the first step": ("if t else (v_init, ", "if t else (0 * v_init, "),
    "the decay of what a reset took": (
        "(x - fired * v_th if p.subtract else x * (1 - fired))", "x",
    ),
    "time is not detached": ("torch.zeros_like(g_u) if p.detach_time else ", ""),
    "a still current misses a step": ("g_current.sum(0, keep", "g_current[1:].sum(0, keep"),
    "pools add": ("F.avg_pool2d(found.flatten(0, 1), pool)", (
        "F.avg_pool2d(found.flatten(0, 1), pool, divisor_override=1)"
    )),
    "no window is relative": ("unit = v_th if window.relative else ", "unit = "),
    "slopes per threshold": ("torch.stack(each) / unit", "torch.stack(each)"),
    "widths of the first step": ("float(width)", "float(widths[0])"),
}  # fmt: skip


@dataclass(frozen=True)
class Widening(Fixed):
    """A window that is another in every step."""

    def widths(self, steps: int, v_th: Tensor) -> Tensor:
        return self.of.width + torch.arange(steps).to(v_th) / 4


def plainly(current: Tensor, p: Any) -> tuple[Tensor, Tensor]:
    """Spikes and membranes by the equations, one step after the other, differentiable."""
    v, spikes, membranes = p.v_init.expand_as(current[0]), [], []
    for t, i in enumerate(current.expand(p.steps, *current.shape[1:])):
        u = p.keep_v * (v.detach() if p.detach_time else v) + i
        met = u if p.noise is None else u + p.noise[t]
        form = Surrogate(p.window.form, float(p.window.widths(p.steps, p.v_th)[t]))
        s = spike(met / p.v_th - 1 if p.window.relative else met - p.v_th, form)
        r = s.detach() if p.detach_reset else s
        v = u - p.v_th * r if p.subtract else u * (1 - r)
        spikes.append(s)
        membranes.append(u)
    return torch.stack(spikes), torch.stack(membranes)


def agrees(
    module: ModuleType, *, pool: int = 1, noisy: bool = False, static: bool = False,
    relative: bool = False, channels: int = 2, **flags: bool,
) -> bool:  # fmt: skip
    """Whether values and all gradients are those of `plainly`."""
    generator = torch.Generator().manual_seed(6)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    sides = (2, 4) if pool < 3 else (3, 6)
    maps = (3, channels, *sides)
    start, noise = normal(1 if static else STEPS, *maps) + 0.4, normal(STEPS, *maps) / 3
    start[0, 0, 0, 0, 0], noise[0, 0, 0, 0, 0] = 0.625, 0.0  # meets the threshold exactly
    g_s = normal(STEPS, 3, channels, *(side // pool for side in sides))
    g_u = normal(STEPS, *maps)
    found = []
    for ours in (True, False):
        keep_v, v_th, v_init = (
            torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.5, 0.75, 0.25)
        )
        current = start.clone().requires_grad_()
        p = module.Population(
            keep_v=keep_v, v_th=v_th, v_init=v_init, steps=STEPS, noise=noise if noisy else None,
            window=Widening(Surrogate("atan", 1.3), relative=relative), **flags,
        )  # fmt: skip
        if ours:
            s, u = p.spikes(current, pool=pool), p.membrane(current)
        else:
            s, u = plainly(current, p)
            s = avg_pool2d(s.flatten(0, 1), pool).unflatten(0, s.shape[:2])
        leaves = (current, keep_v, v_th, v_init)
        each = [torch.autograd.grad((x * g).sum(), leaves, allow_unused=True, retain_graph=True)
                for x, g in ((s, g_s), (u, g_u))]  # fmt: skip
        grads = [torch.zeros_like(leaf) if g is None else g
                 for both in each for g, leaf in zip(both, leaves, strict=True)]  # fmt: skip
        found.append([s, u, *grads])
    return all(
        mine.shape == theirs.shape and torch.allclose(mine, theirs, rtol=1e-9, atol=1e-12)
        for mine, theirs in zip(*found, strict=True)
    )


CASES: tuple[dict[str, Any], ...] = (
    {}, {"static": True, "relative": True}, {"subtract": True, "noisy": True},
    {"noisy": True, "relative": True, "detach_reset": False},
    {"subtract": True, "relative": True, "detach_reset": False, "static": True},
    {"detach_time": True, "detach_reset": False}, {"pool": 2}, {"pool": 3, "noisy": True},
    {"pool": 2, "channels": 1},
)  # fmt: skip


def all_agree(module: ModuleType) -> bool:
    with np.errstate(all="ignore"):  # what a mutant leaves undefined may overflow
        return all(agrees(module, **case) for case in CASES)


@pytest.mark.parametrize("way", [BLOCKS, STEPPED], ids=["compiled", "stepped"])
def test_without_a_mutant_all_agree(planted: Planted, way: Any) -> None:
    assert all_agree(planted(MODULES, *way))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_of_the_compiled_passes_is_caught(planted: Planted, mutant: str) -> None:
    assert not all_agree(planted(MODULES, *BLOCKS, MUTANTS[mutant]))


@pytest.mark.parametrize("mutant", STEPPED_MUTANTS)
def test_mutant_of_the_stepped_passes_is_caught(planted: Planted, mutant: str) -> None:
    assert not all_agree(planted(MODULES, *STEPPED, STEPPED_MUTANTS[mutant]))
