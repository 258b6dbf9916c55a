"""What both twins share: how a network is lived through, differentiably. Needs torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spikeport.sim import checks, effective
from spikeport.sim.engine import PORTION_BYTES, samples_in
from spikeport.sim.net import (
    FixedNet,
    FloatNet,
    FloatPopulation,
    FloatProjection,
    Population,
    Projection,
)
from spikeport.sim.product_torch import conv2d
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import (
    Conv2d,
    Dense,
    FloatConv2d,
    FloatDense,
    FloatSumPool2d,
    SumPool2d,
)
from spikeport.sim.topology import blocks, is_loop
from spikeport.sim.twin_memory import Memory, Slot
from spikeport.sim.twin_pooled import Parts, sum_pool, taken_apart
from spikeport.sim.twin_rules import PLAIN, Rule
from spikeport.sim.twin_segments import Passage, read_in_segments
from spikeport.sim.twin_stretch import State, Stretch, joined, read, shown

AnyTwin = TypeVar("AnyTwin", bound="TwinBase")

LEAST_SAMPLES = 16  # fewer at a time cost more in calls than they save


class TwinBase(nn.Module):
    """A network run by torch: populations outside loops live all their steps in one stretch, loops
    in stretches of one step each, so that gradients flow back through time along every synapse.

    A twin says how its input and logits are made (`_logits`), how sums are (`_sum`) and how a
    population integrates them (`_integrator`).
    """

    def __init__(
        self, net: FixedNet | FloatNet, *, surrogate: Surrogate | Rule | None, detach_reset: bool,
        checkpoint: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if net.readout.kind == "first_spike":
            raise ValueError(
                "the twin cannot differentiate a first_spike readout; use count, last_v or sum_v"
            )
        if checkpoint is not None:
            where = "twin: checkpoint (steps, or None)"
            checkpoint = checks.whole(checkpoint, where=where, low=1, high=1 << 20)
        self.net, self.checkpoint = net, checkpoint
        self._blocks = [(names, is_loop(net, names)) for names in blocks(net)]
        self._look(surrogate or Surrogate("triangle", 1.0), detach_reset=detach_reset)
        self._shapes = {p.name: p.shape for p in net.populations}
        projections: tuple[Projection | FloatProjection, ...] = net.projections
        self._incoming = {
            name: [(i, p) for i, p in enumerate(projections) if p.target == name]
            for name in self._shapes
        }
        self._parts: dict[int, Parts] = {}
        found = {p.name: self._copied_by(p) for p in net.populations}
        self._copied = {name: weight for name, weight in found.items() if weight}

    def _copied_by(self, population: Population | FloatPopulation) -> float:
        """By what to divide the sums of a population that fires exactly when its one source does
        (a relay, `spikeport.export.late`) to have its spikes; 0 for any other."""
        incoming = [p for _, p in self._incoming[population.name]]
        pool = incoming[0].synapse if len(incoming) == 1 else None
        if not isinstance(pool, (SumPool2d, FloatSumPool2d)):
            return 0.0
        is_one = pool.kernel == pool.stride == (1, 1) and pool.padding == (0, 0)
        source = self.net.input
        ones = incoming[0].source != "input" or source.largest == source.scale == 1
        return float(pool.w) if is_one and ones and copies(population, pool.w) else 0.0

    def _taken(self, i: int, part: Dense | Conv2d | FloatDense | FloatConv2d, w: Any) -> Any:
        """The weights w, an array, of projection `i` with synapse `part` as its sums take them: of
        convolutions those that `_convolved` wants."""
        if isinstance(part, (Dense, FloatDense)):
            return w
        source = self.net.shape_of(self.net.projections[i].source)
        self._parts[i] = taken_apart(w, part.geometry, source)
        return self._parts[i].w

    def _convolved(self, i: int, s: Tensor, w: Tensor) -> Tensor:
        """[N, C_out, H_out, W_out] that projection `i`, a convolution, makes of s [N, C, H, W] with
        the weights that `_taken` gave."""
        s = sum_pool(s, self._parts[i].pool)
        found: Tensor = conv2d(s, w, self._parts[i].geometry)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K]; see the class."""
        s, steps = shown(x, self.net)
        portion, memory = self._portion(s, steps), self._memory
        rows, memory.rows = memory.rows, None  # who was announced is shown once
        if rows is not None and len(rows) != s.shape[1]:
            raise ValueError(
                f"twin: attend named {len(rows)} samples, {s.shape[1]} are shown; name each"
            )
        logits = []
        for i, part in enumerate(s.split(portion, dim=1)):
            memory.rows = None if rows is None else rows[i * portion : (i + 1) * portion]
            logits.append(self._logits(part, steps=steps))
        memory.rows = None
        return torch.cat(logits)

    def attend(self, rows: Tensor, *, samples: int, learn: bool = True) -> None:
        """Say which of all `samples` the next batch shows, rows int64 [B], for rules of the
        gradient that remember what a sample did; once for every batch. Unless they are to `learn`,
        they use what they know and keep nothing."""
        self._memory.rows, self._memory.samples, self._memory.learns = rows, samples, learn

    def forget(self) -> None:
        """Let the rules of the gradient begin anew."""
        self._memory = Memory()

    def through(self: AnyTwin, surrogate: Surrogate | Rule, *, detach_reset: bool) -> AnyTwin:
        """The same network, sharing its weights, whose gradients pass spikes by another rule."""
        other = copy(self)
        other._look(surrogate, detach_reset=detach_reset)
        return other

    def _look(self, surrogate: Surrogate | Rule, *, detach_reset: bool) -> None:
        """Let gradients pass spikes by `surrogate`, with nothing remembered."""
        self.surrogate, self.detach_reset = surrogate, detach_reset
        self._memory, self._lived = Memory(), Counter[str]()
        rule, loops = surrogate, any(loop for _, loop in self._blocks)
        if isinstance(rule, Rule) and rule.whole and (loops or self.checkpoint):
            cut = "this network has loops" if loops else "checkpoint cuts them"
            raise ValueError(
                f"twin: gradient rule {rule.name!r} needs whole lives, but {cut};"
                " use a Surrogate or Assg"
            )

    def _passing(self, name: str) -> Surrogate | Rule:
        """How gradients pass population `name`; see `sim.twin_rules`."""
        readout = self.net.readout
        is_read = readout.population == name and readout.kind != "count"
        return PLAIN if is_read and isinstance(self.surrogate, Rule) else self.surrogate

    def _slot(self, name: str) -> Slot:
        """Memory for the next stretch of population `name`."""
        self._lived[name] += 1
        return self._memory.slot((name, self._lived[name]), self._shapes[name])

    def _portion(self, s: Tensor, steps: int) -> int:
        """How many samples of `s` run at a time. On the CPU as many as the engine takes: larger
        tensors leave the caches, and their memory is made anew for every call."""
        if s.device.type != "cpu" or any(loop for _, loop in self._blocks):
            return max(1, s.shape[1])
        return max(LEAST_SAMPLES, samples_in(PORTION_BYTES, self.net, steps=steps))

    def _logits(self, s: Tensor, *, steps: int) -> Tensor:
        """Logits [B, K] of inputs [T, B, *shape] in float units, or [1, B, *shape] for `steps`."""
        raise NotImplementedError

    def _sum(self, i: int, s: Tensor) -> Tensor:
        """Synaptic sums [T, B, n_out] that projection `i` makes of source values [T, B, *shape]."""
        raise NotImplementedError

    def _integrator(
        self, name: str, device: torch.device, *, steps: int
    ) -> Callable[[Tensor, State | None], Stretch]:
        """What carries population `name` on by `steps` from a state (None: the initial one), with
        sums [steps, B, n], or [1, B, n] for each step."""
        raise NotImplementedError

    def _read(self, s: Tensor, *, steps: int) -> Tensor:
        """[B, K] that the readout reads; s as for `_live`."""
        if self.checkpoint is not None and self.checkpoint < steps:
            return read_in_segments(self, s, steps=steps, every=self.checkpoint)
        readout = self.net.readout
        return read(self._live(s, steps=steps)[readout.population], readout.kind)

    def _live(
        self, s: Tensor, *, steps: int, every_step: bool = False, passage: Passage | None = None
    ) -> dict[str, list[Stretch]]:
        """The life of every population, in one stretch or, in loops and with `every_step`, one a
        step. s: [T, B, *shape], or one step that stands for all of them (the sums of a static
        image are then made once). passage: which part of a longer life it is."""
        values, lives = {"input": s}, {}
        passage = passage or Passage()
        self._lived = Counter(dict.fromkeys(self._shapes, passage.first))
        for names, loop in self._blocks:
            outside = {name: self._outside(name, values, passage, steps=steps) for name in names}
            stepped = loop or every_step
            at_once = 1 if stepped else steps
            integrators = {name: self._sender(name, s.device, steps=at_once) for name in names}
            if stepped:
                found = self._step(integrators, outside, passage, steps=steps)
            else:
                found = {n: [integrators[n](outside[n], passage.state(n))] for n in names}
            for name, life in found.items():
                lives[name] = life
                values[name] = joined(life).reshape(steps, s.shape[1], *self._shapes[name])
        return lives

    def _sender(
        self, name: str, device: torch.device, *, steps: int
    ) -> Callable[[Tensor, State | None], Stretch]:
        """`_integrator`, but backward a population that copies its source is the identity: with
        the slopes of a surrogate every relay on a path would weaken the gradient."""
        live = self._integrator(name, device, steps=steps)
        if name not in self._copied:
            return live
        weight = self._copied[name]

        def sent_on(a: Tensor, state: State | None) -> Stretch:
            life = live(a, state)
            return replace(life, spikes=(a / weight).expand_as(life.spikes))

        return sent_on

    def _outside(
        self, name: str, values: Mapping[str, Tensor], passage: Passage, *, steps: int
    ) -> Tensor:
        """Synaptic sums, [T, B, n] or [1, B, n] for every step, of a population from those sources
        whose `values` are known."""
        found = [
            (passage.still[i] if i in passage.still else self._sum(i, values[p.source]), i, p.delay)
            for i, p in self._incoming[name]
            if p.source in values
        ]
        sums = [passage.late(i, a, delay, steps=steps) for a, i, delay in found]
        if not sums:
            s = values["input"]
            n = math.prod(self._shapes[name])
            wide = torch.promote_types(s.dtype, torch.float32)
            sums = [torch.zeros(1, s.shape[1], n, dtype=wide, device=s.device)]
        return sum(sums[1:], start=sums[0])

    def _step(
        self,
        integrators: Mapping[str, Callable[[Tensor, State | None], Stretch]],
        outside: Mapping[str, Tensor],
        passage: Passage,
        *,
        steps: int,
    ) -> dict[str, list[Stretch]]:
        """Live through populations that may feed one another, step by step."""
        lives: dict[str, list[Stretch]] = {name: [] for name in integrators}
        # Splitting once keeps the gradient from filling a whole tensor for every step.
        sums = {name: a.expand(steps, *a.shape[1:]).split(1) for name, a in outside.items()}
        sent = {name: passage.sent(name) for name in lives}
        known = {name: len(spikes) for name, spikes in sent.items()}
        for t in range(steps):
            for name, life in lives.items():
                a = sums[name][t]
                for i, p in self._incoming[name]:
                    if p.source in lives and t + known[p.source] >= p.delay:
                        s = sent[p.source][t + known[p.source] - p.delay]
                        a = a + self._sum(i, s.reshape(*s.shape[:2], *self._shapes[p.source]))
                state = (life[-1].u, life[-1].v) if life else passage.state(name)
                life.append(integrators[name](a, state))
                sent[name].append(life[-1].spikes)
        for name in lives:
            inner = (p.delay for each in lives for _, p in self._incoming[each] if p.source == name)
            passage.keep_sent(name, sent[name], steps=max(inner, default=0))
        return lives


def copies(population: Population | FloatPopulation, w: float) -> bool:
    """Whether neurons fire exactly when the one synapse of weight `w` > 0 of each brings a spike,
    whatever came before."""
    scale = population.scale if isinstance(population, Population) else 1.0
    p = effective.population(population) if isinstance(population, Population) else population
    if p.reset != "zero" or p.keep_u.any() or p.v_init.any() or p.keep_v.max() == 1:
        return False
    # Without a spike v stays between these, as the chip's rounding only makes it smaller.
    lowest, highest = (part / (1 - p.keep_v) for part in (p.bias.clip(max=0), p.bias.clip(min=0)))
    rests = p.keep_v * highest + p.bias <= p.v_th
    fires = p.keep_v * lowest + p.bias + w / scale > p.v_th
    return bool(rests.all() and fires.all())
