"""Lives that are lived again instead of kept: gradients in the memory of few steps. Needs torch.

A pass keeps the spikes and potentials of all T steps for its gradient. In segments of k steps only
the state between two of them is kept, u and v of every neuron, and each segment is lived again when
the gradient comes to it: memory of T / k + k steps instead of T, least at k = sqrt(T), for one more
forward pass (Chen et al. 2016, arXiv 1604.06174). All populations live a segment before the next
begins, so that nothing is as long as a whole life.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikeport.sim.twin_memory import Memory
from spikeport.sim.twin_stretch import State, Stretch, late, read

if TYPE_CHECKING:
    from spikeport.sim.twin_base import TwinBase

Carry = dict[Hashable, Tensor]
"""What a segment leaves to the next: ("u", NAME) and ("v", NAME) [B, n] of populations; (i,), what
projection i with a delay has under way, [delay, B, n]; (NAME,), spikes in loops, [steps, B, n]."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A segment of a life between its neighbours. first: steps lived before it. begin: what was
    left to it, empty at the start of life. still: sums [1, B, n] or [steps, B, n] of a static
    input by projection. end: filled with what is under way after it."""

    first: int = 0
    begin: Mapping[Hashable, Tensor] = field(default_factory=dict)
    still: Mapping[int, Tensor] = field(default_factory=dict)
    end: Carry = field(default_factory=dict)

    def state(self, name: str) -> State | None:
        """Of a population to begin with; None: its initial one."""
        if ("u", name) not in self.begin:
            return None
        return self.begin["u", name], self.begin["v", name]

    def late(self, i: int, a: Tensor, delay: int, *, steps: int) -> Tensor:
        """What arrives of `a` [steps or 1, B, n] that projection `i` delays."""
        if not delay:
            return a
        arriving, self.end[i,] = late(a, delay, steps=steps, before=self.begin.get((i,)))
        return arriving

    def sent(self, name: str) -> list[Tensor]:
        """Spikes [1, B, n] of a population in a loop in the steps before, as far as they matter."""
        return list(self.begin[name,].split(1)) if (name,) in self.begin else []

    def keep_sent(self, name: str, spikes: list[Tensor], *, steps: int) -> None:
        """Keep the last `steps` of its spikes for the next."""
        if steps:
            self.end[name,] = torch.cat(spikes[-steps:])

    def left(self, lives: Mapping[str, list[Stretch]]) -> Carry:
        """What it leaves to the next."""
        for name, life in lives.items():
            self.end["u", name], self.end["v", name] = life[-1].u, life[-1].v
        return self.end


def read_in_segments(twin: TwinBase, s: Tensor, *, steps: int, every: int) -> Tensor:
    """[B, K] that the readout reads of inputs s [T, B, *shape], or [1, B, *shape] for `steps`, by
    segments of `every` steps."""
    still = [twin._sum(i, s) for i in _from_input(twin)] if len(s) == 1 else []
    plan = _Plan(twin=twin, steps=steps, every=every, told=replace(twin._memory))
    found: Tensor = _Segments.apply(plan, s, *still)
    return found


def _from_input(twin: TwinBase) -> list[int]:
    incoming = (each for found in twin._incoming.values() for each in found)
    return sorted(i for i, p in incoming if p.source == "input")


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How a life is cut, and of whom the rules of the gradient were told when it began: a memory
    that keeps where the twin's does."""

    twin: TwinBase
    steps: int
    every: int
    told: Memory

    @property
    def spans(self) -> list[range]:
        """The steps of each segment."""
        starts = range(0, self.steps, self.every)
        return [range(i, min(i + self.every, self.steps)) for i in starts]

    def live(
        self, span: range, s: Tensor, still: Sequence[Tensor], begin: Mapping[Hashable, Tensor]
    ) -> tuple[Tensor, Carry]:
        """What the readout reads of the steps of `span`, in which s is shown, and what is left."""
        sums = dict(zip(_from_input(self.twin), still, strict=True)) if still else {}
        passage = Passage(first=span.start, begin=begin, still=sums)
        lives = self.twin._live(s, steps=len(span), passage=passage)
        readout = self.twin.net.readout
        return read(lives[readout.population], readout.kind), passage.left(lives)

    def again(
        self, span: range, s: Tensor, still: Sequence[tuple[Tensor, Tensor | None]], begin: Carry,
        *, read: Tensor | None, later: Mapping[Hashable, Tensor],
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        """Gradients at `begin`, at sums of a static input and at s, of what is lived again. read,
        later: those of what the readout reads and of what is left. still: the sums, and their
        gradients from later segments, to which are added."""
        begin, s = {key: _leaf(x) for key, x in begin.items()}, _leaf(s)
        sums = [_leaf(a) for a, _ in still]
        each = [_Repeated.apply(a, len(span), g) for a, (_, g) in zip(sums, still, strict=True)]
        part, end = self.live(span, s, each, begin)
        wanted = [(end[key], g) for key, g in later.items()]
        wanted += [] if read is None else [(part, read)]
        wanted = [(x, g) for x, g in wanted if x.requires_grad]
        given = (*begin.values(), *sums, s)
        if not wanted:
            return (None,) * len(given)
        return torch.autograd.grad(
            [x for x, _ in wanted], given, [g for _, g in wanted], allow_unused=True
        )

    @contextmanager
    def as_told(self) -> Iterator[None]:
        """Inside, the twin remembers as it did when the life began."""
        twin, now = self.twin, self.twin._memory
        twin._memory = self.told
        try:
            yield
        finally:
            twin._memory = now


class _Segments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, s: Tensor, *still: Tensor) -> Tensor:
        carry: Carry = {}
        kept, parts = list[Tensor](), list[Tensor]()
        for span in plan.spans:
            kept += carry.values()
            part, carry = plan.live(span, _shown(s, span), still, carry)
            parts.append(part)
        ctx.plan, ctx.keys = plan, tuple(carry)
        ctx.save_for_backward(s, *still, *kept)
        return parts[-1] if plan.twin.net.readout.kind == "last_v" else torch.stack(parts).sum(0)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan, keys, s = ctx.plan, ctx.keys, ctx.saved_tensors[0]
        count = len(ctx.needs_input_grad) - 2
        still, kept = ctx.saved_tensors[1 : 1 + count], ctx.saved_tensors[1 + count :]
        g_still, g_s = list[Tensor | None]([None] * count), list[Tensor]()
        later, last = dict[Hashable, Tensor](), plan.spans[-1]
        for i, span in reversed(list(enumerate(plan.spans))):
            states = kept[(i - 1) * len(keys) : i * len(keys)] if i else ()
            begin, shown = dict(zip(keys, states, strict=False)), _shown(s, span)
            read = grads[0] if span == last or plan.twin.net.readout.kind != "last_v" else None
            with torch.enable_grad(), plan.as_told():
                *found, own = plan.again(
                    span, shown, list(zip(still, g_still, strict=True)), begin, read=read,
                    later=later,
                )  # fmt: skip
            g_still = [
                new if new is not None else g
                for g, new in zip(g_still, found[len(begin) :], strict=True)
            ]
            later = {key: g for key, g in zip(begin, found, strict=False) if g is not None}
            g_s.append(torch.zeros_like(shown) if own is None else own)
        return None, (None if len(s) == 1 else torch.cat(g_s[::-1])), *g_still


class _Repeated(torch.autograd.Function):
    """Sums [1, B, n] for each of some steps; backward adds step by step to what later ones gave, in
    the order of `twin_kernel.look_back`, so that cuts change no bit."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, steps: int, later: Tensor | None) -> Tensor:
        ctx.later = later
        return a.expand(steps, *a.shape[1:])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (g,) = grads
        total = g[-1:] if ctx.later is None else ctx.later + g[-1:]
        for t in reversed(range(len(g) - 1)):
            total = total + g[t : t + 1]
        return total, None, None


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()


def _shown(s: Tensor, span: range) -> Tensor:
    """The inputs of the steps of `span`, those of a static input for all of them."""
    return s if len(s) == 1 else s[span.start : span.stop]
