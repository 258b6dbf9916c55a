"""The entry points: one attack on one model, and the same attack over growing budgets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from spikeport.sim import checks
from spikeport.sim.attack.apgd import Apgd, ApgdTargeted
from spikeport.sim.attack.budget import Budget
from spikeport.sim.attack.gradient import Bim, Fgsm, Pgd, Rfgsm
from spikeport.sim.attack.guard import Model, batches, check_batch, undisturbed
from spikeport.sim.attack.momentum import MiFgsm, SaPgd
from spikeport.sim.attack.noise import Noise
from spikeport.sim.attack.oracle import Legality, Oracle
from spikeport.sim.attack.sparse import SparseRs
from spikeport.sim.attack.spec import Attack
from spikeport.sim.attack.square import Square
from spikeport.sim.attack.streams import Streams

ATTACKS: dict[str, type[Attack]] = {
    kind.name: kind
    for kind in (
        Noise, Fgsm, Bim, Pgd, Apgd, Square, Rfgsm, MiFgsm, SaPgd, ApgdTargeted, SparseRs,
    )
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Result:
    """The worst legal image that one attack found for each sample; no certificate for the rest.

    x_adv: shape and type of x; the image of smallest margin, x itself if none was smaller.
    fooled bool [B]: margin <= 0, so ties and samples wrong from the start count. margin,
    clean_margin [B]: z_y - best other logit at x_adv and at x. queries int64 [B]: images shown to
    the model. path [gradients, B]: the loss where each gradient was taken, NaN once fooled.
    """

    spec: Attack
    budget: Legality
    seed: int
    x_adv: Tensor
    fooled: Tensor
    margin: Tensor
    clean_margin: Tensor
    queries: Tensor
    path: Tensor

    @property
    def clean_accuracy(self) -> float:
        """Share of samples right without attack."""
        return _mean(self.clean_margin > 0)

    @property
    def robust_accuracy(self) -> float:
        """Share of samples right without attack and never fooled; an upper bound."""
        return _mean(~self.fooled)

    @property
    def success_rate(self) -> float:
        """Fooled share of the samples right without attack; NaN if there are none."""
        return _mean(self.fooled[self.clean_margin > 0])


def attack_views(
    views: Sequence[Model],
    x: Tensor,
    y: Tensor,
    spec: Attack,
    *,
    budget: Legality,
    seed: int,
    batch: int = 256,
) -> Result:
    """`attack` on views of one network, of equal logits and different gradients, one after the
    other: each takes on the samples that the ones before it left standing. Queries add up; the path
    is the first view's."""
    found = attack(views[0], x, y, spec, budget=budget, seed=seed, batch=batch)
    for view in views[1:]:
        left = (~found.fooled).nonzero().squeeze(1)
        if len(left):
            more = attack(view, x[left], y[left], spec, budget=budget, seed=seed, batch=batch)
            found = _with_worse(found, more, left)
    return found


def _with_worse(found: Result, more: Result, rows: Tensor) -> Result:
    """`found` with what is worse in `more`, the result on those `rows` alone."""
    worse = rows[more.margin < found.margin[rows]]
    x_adv, margin = found.x_adv.clone(), found.margin.clone()
    x_adv[worse] = more.x_adv[more.margin < found.margin[rows]]
    margin[worse] = more.margin[more.margin < found.margin[rows]]
    queries = found.queries.index_add(0, rows, more.queries)
    return replace(found, x_adv=x_adv, margin=margin, fooled=margin <= 0, queries=queries)


def attack(
    model: Model,
    x: Tensor,
    y: Tensor,
    spec: Attack,
    *,
    budget: Legality,
    seed: int,
    batch: int = 256,
) -> Result:
    """Attack `model` on images x, float [B, C, H, W] or [B, n] in [0, 1], with labels int64 [B].

    `batch` samples at a time; neither it nor the order of samples changes what is drawn, and
    results differ only as far as the model's own floats depend on its batch. The model is left
    as it was found. Raises ValueError for illegal images, labels or logits, and for a gradient
    attack on a model without gradient.
    """
    if not isinstance(spec, Attack):
        raise ValueError(
            f"attack: spec is {spec!r}; needed is an Attack, such as Pgd(), or one of your own"
        )
    check_batch(x, y, norm=budget.norm)
    spec.check(budget)
    budget.check(x)
    checks.whole(batch, where="attack: batch", low=1, high=1 << 30)
    oracles = []
    parts = zip(batches(x.detach(), batch), batches(y, batch), strict=True)
    with undisturbed(model):
        for part, labels in parts:
            streams = Streams(part, labels, seed=seed, name=spec.name)
            oracle = Oracle(model, part, labels, budget=budget, streams=streams)
            if budget.radius > 0:
                spec.run(oracle)
            oracles.append(oracle)
    margin = torch.cat([o.margin for o in oracles])
    return Result(
        spec=spec,
        budget=budget,
        seed=seed,
        x_adv=torch.cat([o.x_adv for o in oracles]),
        fooled=margin <= 0,
        margin=margin,
        clean_margin=torch.cat([o.clean_margin for o in oracles]),
        queries=torch.cat([o.queries for o in oracles]),
        path=_joined(oracles),
    )


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One attack at growing radii. results: one a radius, each run on its own.

    fooled bool [radii, B]: nested, a sample fooled at one radius is fooled at every larger one,
    for the smaller change is legal there too. Masking shows in `results`, not here.
    """

    epsilons: tuple[float, ...]
    results: tuple[Result, ...]
    fooled: Tensor

    @property
    def robust_accuracies(self) -> tuple[float, ...]:
        """Nested worst case, one a radius; never rises."""
        return tuple(_mean(~row) for row in self.fooled)


def sweep(
    model: Model,
    x: Tensor,
    y: Tensor,
    spec: Attack,
    *,
    epsilons: Sequence[float],
    levels: int | None,
    seed: int,
    batch: int = 256,
) -> Sweep:
    """Run `spec` at each of the strictly growing `epsilons`; arguments as for `attack`."""
    if not epsilons or any(a >= b for a, b in pairwise(epsilons)):
        raise ValueError(f"sweep: epsilons are {tuple(epsilons)}; they must grow strictly")
    results = tuple(
        attack(model, x, y, spec, budget=Budget(eps=eps, levels=levels), seed=seed, batch=batch)
        for eps in epsilons
    )
    nested = torch.stack([r.fooled for r in results]).int().cummax(0).values.bool()
    return Sweep(epsilons=tuple(epsilons), results=results, fooled=nested)


def _joined(oracles: list[Oracle]) -> Tensor:
    """The paths of all batches side by side, the shorter ones filled up with NaN."""
    length = max(len(o.path) for o in oracles)
    gap = [o.margin.new_full((length - len(o.path), len(o.margin)), math.nan) for o in oracles]
    columns = [
        torch.cat([*(p[None] for p in o.path), g]) for o, g in zip(oracles, gap, strict=True)
    ]
    return torch.cat(columns, dim=1)


def _mean(flags: Tensor) -> float:
    return float(flags.double().mean())
