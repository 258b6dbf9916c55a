"""LIF neurons over a whole window as differentiable functions, backward by hand.

    U(t) = keep_v V(t-1) + I(t),   s(t) = 1[U(t) > v_th],   V(t) = U(t) (1 - s(t))  ("zero")
                                                            V(t) = U(t) - v_th s(t) ("subtract")

The values and gradients are those of a loop over snnTorch's Leaky; the window is run by one
compiled pass per direction on the CPU and by vectorised steps elsewhere. Nothing but the current
is kept for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from spikeport.sim.surrogate_kernel import KINDS
from spikeport.sim.twin_stretch import refuse_other_steps
from spikeport.train.fused_kernel import BLOCK, run_backward, run_forward
from spikeport.train.window import Window, slope

SPIKES, MEMBRANE = "spikes", "membrane"
MAPS = 5
"""Axes of currents over maps, [T, B, C, H, W]."""
LEAST_BLOCK, BLOCK_STEPS = 256, 1 << 15
"""Blocks of long windows are smaller, so that the potentials of all steps stay near."""
WORTH_A_THREAD = 1 << 18
"""Neuron-steps: about half a millisecond."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """What a window is lived through with.

    keep_v, v_th, v_init: tensors (), membrane units; gradients reach them. steps: T. noise:
    [T, B, ...], added where U meets v_th, or None. detach_reset: leave the spike in the reset out
    of the gradient. detach_time: leave out every earlier step, as online learning does.
    """

    keep_v: Tensor
    v_th: Tensor
    v_init: Tensor
    window: Window
    steps: int
    noise: Tensor | None = None
    subtract: bool = False
    detach_reset: bool = True
    detach_time: bool = False

    def spikes(self, current: Tensor, *, pool: int = 1) -> Tensor:
        """0 or 1, [T, B, ...], for a current [T, B, ...] or, the same in every step, [1, B, ...].
        Half precision is computed, and returned, in float32.

        pool: of maps [T, B, C, H, W] whose sides it divides, the means over squares of that side,
        in one pass with the neurons.
        """
        return self._live(current, SPIKES, pool)

    def membrane(self, current: Tensor) -> Tensor:
        """The potential U [T, B, ...] before the reset, as `spikes` otherwise."""
        return self._live(current, MEMBRANE, 1)

    def _live(self, current: Tensor, wanted: str, pool: int) -> Tensor:
        refuse_other_steps(current, self.steps)
        half = current.dtype in (torch.float16, torch.bfloat16)
        current = current.float() if half else current
        scalars = (each.to(current) for each in (self.keep_v, self.v_th, self.v_init))
        found: Tensor
        if pool > 1 and current.device.type != "cpu":
            found = _Live.apply(current, *scalars, self, wanted, 1)
            pooled: Tensor = F.avg_pool2d(found.flatten(0, 1), pool)
            return pooled.unflatten(0, found.shape[:2])  # type: ignore[no-any-return]
        found = _Live.apply(current, *scalars, self, wanted, pool)
        return found


class _Live(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, keep_v: Tensor, v_th: Tensor, v_init: Tensor, p: Population,
        wanted: str, pool: int,
    ) -> Tensor:  # fmt: skip
        current = dense(current)
        ctx.save_for_backward(current, keep_v, v_th, v_init)
        ctx.p, ctx.wanted, ctx.pool = p, wanted, pool
        run = compiled_forward if current.device.type == "cpu" else stepped_forward
        return run(current, (keep_v, v_th, v_init), p, wanted, pool)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        current, *scalars = ctx.saved_tensors
        run = compiled_backward if current.device.type == "cpu" else stepped_backward
        asked = tuple(ctx.needs_input_grad[1:4])
        found = run(dense(grads[0]), current, tuple(scalars), ctx.p, ctx.wanted, asked, ctx.pool)
        return *found, None, None, None


Scalars = tuple[Tensor, ...]  # keep_v, v_th, v_init


def compiled_forward(
    current: Tensor, scalars: Scalars, p: Population, wanted: str, pool: int = 1
) -> Tensor:
    """`wanted` of the population, on the CPU."""
    shape = list(current.shape[1:])
    if pool > 1:
        shape[-2:] = [side // pool for side in shape[-2:]]
    if current.ndim == MAPS:
        batch, channels, *sides = shape
        found = current.new_empty((p.steps, batch, *sides, channels)).movedim(-1, 2)
    else:
        found = current.new_empty((p.steps, *shape))
    nothing = current.new_empty((0, 1))
    given = (
        _rows(current), *_numbers(scalars), p.subtract, _noise(p, current),
        *_blocks(current, p.steps, pool),
    )  # fmt: skip
    filled = (
        _rows(found if wanted == MEMBRANE else nothing),
        _rows(found if wanted == SPIKES else nothing),
    )
    _share(lambda start, stop: run_forward(*given, start, stop, *filled), current, p.steps, pool)
    return found


def compiled_backward(
    grad: Tensor, current: Tensor, scalars: Scalars, p: Population, wanted: str,
    asked: tuple[bool, ...], pool: int = 1,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Gradients of the current and, where `asked`, of the scalars."""
    g_current, nothing = torch.empty_like(current), current.new_empty((0, 1))
    n = current[0].numel()
    g_keep, g_th, g_init = (current.new_zeros(n if one else 0) for one in asked)
    widths = p.window.widths(p.steps, scalars[1]).to(current)
    given = (
        _rows(grad if wanted == SPIKES else nothing),
        _rows(grad if wanted == MEMBRANE else nothing),
        _rows(current), _noise(p, current), KINDS.index(p.window.form), widths.numpy(),
        p.window.relative, *_numbers(scalars), p.subtract, p.detach_reset, p.detach_time,
        *_blocks(current, p.steps, pool),
    )  # fmt: skip
    filled = (_rows(g_current), g_keep.numpy(), g_th.numpy(), g_init.numpy())
    _share(lambda start, stop: run_backward(*given, start, stop, *filled), current, p.steps, pool)
    sums = zip((g_keep, g_th, g_init), asked, strict=True)
    totals = (x.double().sum().to(x) if one else None for x, one in sums)
    return g_current, *totals


def _share(
    run: Callable[[int, int], None], current: Tensor, steps: int, pool: int
) -> None:  # fmt: skip
    """Run all neurons, in as many threads as torch may use where there is enough to do: they share
    nothing, and compiled passes leave other threads alone."""
    n, block = current[0].numel(), _blocks(current, steps, pool)[0]
    threads = min(torch.get_num_threads(), n * steps // WORTH_A_THREAD)
    if threads < 2:
        run(0, n)
        return
    each = -(-n // (threads * block)) * block
    with ThreadPoolExecutor(threads) as workers:
        list(workers.map(lambda start: run(start, min(start + each, n)), range(0, n, each)))


def _blocks(current: Tensor, steps: int, pool: int) -> tuple[int, int, int, int]:
    """Neurons to a block, the pool's side, neurons in a row of maps and how far neighbours in it
    are apart."""
    block = min(BLOCK, max(LEAST_BLOCK, BLOCK_STEPS // steps))
    if pool == 1:
        return block, 1, 1, 1
    channels, _, width = current.shape[2:]
    rows = pool * width * channels
    return max(1, block // rows) * rows, pool, width * channels, channels


def dense(x: Tensor) -> Tensor:
    """`x` without gaps in memory, on the CPU maps [T, B, C, H, W] with their channels last: so
    convolutions, whose inputs and outputs they are, are faster, and pools find longer rows."""
    if x.ndim == MAPS and x.device.type == "cpu":
        return x.movedim(2, -1).contiguous().movedim(-1, 2)
    return x.contiguous()


def _rows(x: Tensor) -> Any:
    """A dense `x` as numpy rows, one a step, in the order of memory."""
    if not len(x):
        return x.numpy()
    x = x.detach().movedim(2, -1) if x.ndim == MAPS else x.detach()
    return x.view(len(x), -1).numpy()


def _noise(p: Population, like: Tensor) -> Any:
    return _rows(like.new_empty((0, 1)) if p.noise is None else dense(p.noise.to(like)))


def _numbers(scalars: Scalars) -> tuple[Any, Any, Any]:
    """numpy scalars of the tensors' own type."""
    keep_v, v_th, v_init = (x.detach().numpy()[()] for x in scalars)
    return keep_v, v_th, v_init


def stepped_forward(
    current: Tensor, scalars: Scalars, p: Population, wanted: str, _: int = 1
) -> Tensor:
    """`wanted` of the population, not pooled, step by step on any device."""
    membrane, spikes = _stepped(current, scalars, p)
    return membrane if wanted == MEMBRANE else spikes


def _stepped(current: Tensor, scalars: Scalars, p: Population) -> tuple[Tensor, Tensor]:
    keep_v, v_th, v_init = scalars
    membrane, spikes = [], []
    v = v_init.expand_as(current[0])
    for t in range(p.steps):
        u = keep_v * v + current[min(t, len(current) - 1)]
        s = ((u if p.noise is None else u + p.noise[t]) > v_th).to(u)
        v = u - v_th * s if p.subtract else u * (1 - s)
        membrane.append(u)
        spikes.append(s)
    return torch.stack(membrane), torch.stack(spikes)


def stepped_backward(
    grad: Tensor, current: Tensor, scalars: Scalars, p: Population, wanted: str,
    asked: tuple[bool, ...], _: int = 1,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """As `compiled_backward`, on any device."""
    keep_v, v_th, v_init = scalars
    membrane, spikes = _stepped(current, scalars, p)
    seen = membrane if p.noise is None else membrane + p.noise
    slopes = slope(p.window, seen, v_th)
    g_current = torch.empty_like(membrane)
    g_v = torch.zeros_like(membrane[0])
    g_keep, g_th = torch.zeros_like(g_v), torch.zeros_like(g_v)
    for t in range(p.steps - 1, -1, -1):
        u, s = membrane[t], spikes[t]
        total = grad[t] if wanted == SPIKES else torch.zeros_like(u)
        if not p.detach_reset:
            total = total - g_v * (v_th if p.subtract else u)
        through = total * slopes[t]
        g_th -= through * seen[t] / v_th if p.window.relative else through
        if p.subtract:
            g_th -= g_v * s
        g_u = through + (g_v if p.subtract else g_v * (1 - s))
        g_current[t] = g_u = g_u + grad[t] if wanted == MEMBRANE else g_u
        x, fired = (membrane[t - 1], spikes[t - 1]) if t else (v_init, torch.zeros_like(v_init))
        g_keep += g_u * (x - fired * v_th if p.subtract else x * (1 - fired))
        g_v = torch.zeros_like(g_u) if p.detach_time else keep_v * g_u
    sums = zip((g_keep, g_th, g_v), asked, strict=True)
    totals = (x.double().sum().to(keep_v) if one else None for x, one in sums)
    return (g_current.sum(0, keepdim=True) if len(current) == 1 else g_current), *totals
