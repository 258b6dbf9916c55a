"""A piece of a population's life in a twin, and how pieces are read. Needs torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeport.sim.net import FixedNet, FloatNet

State = tuple[Tensor, Tensor]  # u and v [B, n]


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Some consecutive steps of a population, differentiable but for the counts.

    spikes and fired (v before the reset): [T, B, n]. u, v: [B, n] after the last of the steps.
    v_sum: [B, n], v after the reset summed over the steps. wraps, clips: neuron-steps in which u
    left 24 bits or v hit its limit, 0 for floats.
    """

    spikes: Tensor
    fired: Tensor
    u: Tensor
    v: Tensor
    v_sum: Tensor
    wraps: Tensor | int = 0
    clips: Tensor | int = 0


def refuse_other_steps(a: Tensor, steps: int) -> None:
    """ValueError unless a [T, ...] is given for each of `steps`, or [1, ...] for all of them: what
    is compiled does not look where an array ends."""
    if len(a) not in (1, steps):
        raise ValueError(f"{len(a)} steps are given for {steps}; give all, or 1 for each of them")


def joined(life: list[Stretch]) -> Tensor:
    """Spikes [T, B, n] of all stretches."""
    return life[0].spikes if len(life) == 1 else torch.cat([part.spikes for part in life])


def read(life: list[Stretch], kind: str) -> Tensor:
    """[B, n] spike counts, last or summed potentials, as `kind` of readout says."""
    if kind == "last_v":
        return life[-1].v
    parts: list[Tensor] = [part.spikes.sum(0) if kind == "count" else part.v_sum for part in life]
    return sum(parts[1:], start=parts[0])


def late(
    a: Tensor, delay: int, *, steps: int, before: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sums [T or 1, B, n] as they arrive `delay` > 0 steps later, [steps, B, n], and those that are
    then still under way, [delay, B, n]. before: what was under way at the start, or nothing."""
    before = a.new_zeros(delay, *a.shape[1:]) if before is None else before
    arrived = torch.cat([before, a.expand(steps, *a.shape[1:])])
    return arrived[:steps], arrived[steps:]


def shown(x: Tensor, net: FixedNet | FloatNet) -> tuple[Tensor, int]:
    """`x` with a leading time axis, and the number of steps it stands for: a static [B, *shape]
    becomes [1, B, *shape] for all `net.steps`, a train [T, B, *shape] stays for its T."""
    shape = net.input.shape
    if x.numel() and x.shape[1:] == shape:
        return x.unsqueeze(0), net.steps
    if x.numel() and x.shape[2:] == shape:
        return x, len(x)
    raise ValueError(
        f"twin input has shape {tuple(x.shape)}; allowed are [B, *{shape}] and [T, B, *{shape}],"
        " none empty"
    )
