"""Gather the figures that the checks of `masking` judge."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from spikeport.sim.attack import masking
from spikeport.sim.attack.budget import Budget
from spikeport.sim.attack.gradient import Bim, Fgsm, Pgd
from spikeport.sim.attack.guard import (
    Model,
    batches,
    check_batch,
    check_labels,
    logits_in_batches,
    logits_of,
    undisturbed,
)
from spikeport.sim.attack.losses import LOSSES, margin
from spikeport.sim.attack.masking import Check
from spikeport.sim.attack.noise import Noise
from spikeport.sim.attack.run import Result, attack, sweep
from spikeport.sim.attack.spec import Attack
from spikeport.sim.attack.square import Square
from spikeport.sim.attack.streams import Streams

SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
"""Of the radius, where the loss is looked at for C9."""

LEAST_EPS = 8 / 255
"""Radius at which an undefended model is expected to break (check C8)."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard `run_checks` tries. epsilons: for C3, growing, up to at least 0.5. ladder: PGD
    steps for C4, growing, at least two."""

    pgd: Pgd = field(default_factory=lambda: Pgd(steps=40, restarts=2))
    square: Square = field(default_factory=Square)
    noise: Noise = field(default_factory=Noise)
    epsilons: tuple[float, ...] = (0.0, *(k / 255 for k in (1, 2, 4, 8, 16, 32, 64)), 0.5)
    ladder: tuple[int, ...] = (1, 7, 20, 50, 100)

    def __post_init__(self) -> None:
        if max(self.epsilons, default=0.0) < 0.5:
            raise ValueError(f"effort: epsilons are {self.epsilons}; the last must be at least 0.5")
        if len(self.ladder) < 2 or list(self.ladder) != sorted(set(self.ladder)):
            raise ValueError(
                f"effort: ladder is {self.ladder}; needed are two or more growing steps"
            )


def run_checks(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    budget: Budget,
    seed: int,
    effort: Effort | None = None,
    undefended: Model | None = None,
    batch: int = 256,
) -> list[Check]:
    """Apply every check of `masking` to `model`; arguments as for `attack`.

    undefended: a model of the same task trained without defence, for C8, which is left out
    without it. A model that passes no gradient at all is checked as one whose gradient is zero.
    """
    check_batch(x, y, norm=budget.norm)
    budget.check(x)
    effort = effort or Effort()
    with undisturbed(model):
        probe = _Probe(_attached(model), x, y, budget=budget, seed=seed, batch=batch)
        found = _checks(probe, effort)
    if undefended is not None:
        wide = replace(budget, eps=max(budget.eps, LEAST_EPS))
        broken = attack(undefended, x, y, effort.pgd, budget=wide, seed=seed, batch=batch)
        found.insert(-2, masking.breaks_undefended(accuracy=broken.robust_accuracy, eps=wide.eps))
    return found


@dataclass(frozen=True)
class _Probe:
    """One model with the images it is probed with."""

    model: Model
    x: Tensor
    y: Tensor
    budget: Budget
    seed: int
    batch: int

    def under(self, spec: Attack) -> Result:
        return attack(
            self.model, self.x, self.y, spec, budget=self.budget, seed=self.seed, batch=self.batch
        )

    def accuracies(self, spec: Attack, epsilons: tuple[float, ...]) -> list[float]:
        """Robust accuracy of a separate run at each radius."""
        swept = sweep(
            self.model,
            self.x,
            self.y,
            spec,
            epsilons=epsilons,
            levels=self.budget.levels,
            seed=self.seed,
            batch=self.batch,
        )
        return [r.robust_accuracy for r in swept.results]

    def logits(self) -> Tensor:
        return logits_in_batches(self.model, self.x, batch=self.batch)


def _checks(probe: _Probe, effort: Effort) -> list[Check]:
    logits = probe.logits()
    check_labels(probe.y, logits.shape[1])
    right = margin(logits, probe.y) > 0
    fgsm, bim = probe.under(Fgsm()), probe.under(Bim(steps=effort.pgd.steps))
    pgd, square = probe.under(effort.pgd), probe.under(effort.square)
    gradient = fgsm.fooled | bim.fooled | pgd.fooled
    if logits.shape[1] >= 3 and effort.pgd.loss == "ce":
        # Cross-entropy pulls towards all classes at once, and may miss the nearest one.
        gradient |= probe.under(replace(effort.pgd, loss="dlr")).fooled
    steps = [probe.under(replace(effort.pgd, steps=k)).robust_accuracy for k in effort.ladder]
    return [
        masking.repeatable(logits, probe.logits()),
        masking.iterative(fgsm=fgsm.robust_accuracy, pgd=pgd.robust_accuracy),
        masking.white_box(
            gradient=float((~gradient).double().mean()), square=square.robust_accuracy
        ),
        masking.monotone(
            effort.epsilons,
            probe.accuracies(effort.pgd, effort.epsilons),
            chance=1 / logits.shape[1],
        ),
        masking.convergence(effort.ladder, steps),
        masking.random_search(noise=probe.under(effort.noise).fooled, gradient=gradient),
        masking.gradients(_gradient_norms(probe, right)),
        masking.rising_loss(bim.path, fooled=bim.fooled),
        masking.slice_of_loss(*_slices(probe, right)),
        masking.raw_logits(logits, accuracy=float(right.double().mean())),
    ]


def _gradient_norms(probe: _Probe, right: Tensor) -> Tensor:
    """L1 norms of the gradients of the cross-entropy at the samples that are `right`; what is not
    finite counts as zero."""
    _, gradient = _climbed(probe, probe.x[right], probe.y[right])
    return gradient.abs().flatten(1).sum(1)


def _climbed(probe: _Probe, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropies [B] at `x` and their gradients, shape of x, 0 where not finite."""
    losses, gradients = [x.new_zeros(0)], [x.new_zeros(0, *x.shape[1:])]
    for image, labels in zip(batches(x, probe.batch), batches(y, probe.batch), strict=True):
        image = image.detach().requires_grad_()
        with torch.set_grad_enabled(True):
            loss = LOSSES["ce"](logits_of(probe.model, image), labels)
        (g,) = torch.autograd.grad(loss.sum(), image)
        losses.append(loss.detach().to(x))
        gradients.append(g.nan_to_num(0, 0, 0))
    return torch.cat(losses), torch.cat(gradients)


def _slices(probe: _Probe, right: Tensor) -> tuple[Tensor, Tensor]:
    """Rise of the cross-entropy [points, samples] from the samples that are `right`, at growing
    shares of the radius: along the sign of its gradient, and along random signs."""
    x, y = probe.x[right], probe.y[right]
    if not len(x):
        return x.new_zeros(0, 0), x.new_zeros(0, 0)
    streams = Streams(x, y, seed=probe.seed, name="slice")
    _, uphill = _climbed(probe, x, y)
    radius, found = probe.budget.radius, []
    for direction in (uphill.sign(), streams.signs(*x.shape[1:])):
        start, *others = (
            _climbed(probe, probe.budget.legal(x + share * radius * direction, x), y)[0]
            for share in (0.0, *SHARES)
        )
        found.append(torch.stack([loss - start for loss in others]))
    return found[0], found[1]


def _attached(model: Model) -> Model:
    """`model` with a gradient path that carries exactly zero, for models that have none."""
    return lambda x: model(x) + 0 * x.flatten(1).sum(1, keepdim=True)
