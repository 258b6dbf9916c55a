"""The only door between an attack and the model.

Attacks search freely, with float images of the whole batch. The oracle makes every image legal
before the model sees it, judges it, and remembers the worst of each sample. So no attack can
succeed with an illegal image, forget a success, or spend queries on a sample that is lost already.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from spikeport.sim.attack.guard import Model, check_labels, logits_of
from spikeport.sim.attack.losses import Loss, margin
from spikeport.sim.attack.streams import Streams


class Legality(Protocol):
    """What an oracle asks of a budget: `attack.Budget` for images, or one of your own. Attacks may
    ask more of it."""

    @property
    def norm(self) -> str:
        """How changes are measured; an attack's `norms` names those it can search."""

    @property
    def radius(self) -> float:
        """0 where nothing may change."""

    def legal(self, x: Tensor, x0: Tensor) -> Tensor:
        """Legal samples [B, ...] near `x`, around the originals `x0`."""

    def measure(self, x: Tensor, x0: Tensor) -> Tensor:
        """Size of each sample's change, float64 [B]."""

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless `x` holds legal originals."""


class Oracle:
    """A batch under attack. Call it within `undisturbed(model)`.

    x0, y, budget, streams: given. x_adv [B, ...], margin [B]: the legal image with the smallest
    margin so far, at first the original. queries int64 [B]: images of the sample shown to the
    model, the original included. path: a [B] for each gradient, the loss at that point, NaN for
    samples that had left (margin <= 0). clean_logits [B, K]: at the originals.

    A model whose gradients remember (`sim.twin_rules.Assg`) has methods attend(rows, samples=B),
    rows int64 [b]: which samples of the batch it is shown next, and forget(); others need none.
    """

    def __init__(self, model: Model, x: Tensor, y: Tensor, *, budget: Any, streams: Streams):
        self.model, self.x0, self.y, self.budget, self.streams = model, x, y, budget, streams
        self.x_adv = x.clone()
        self.margin = x.new_full((len(x),), float("inf"))
        self.queries = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self.path: list[Tensor] = []
        self._attend = getattr(model, "attend", None)
        self.restart()
        rows, legal = self._admit(x)
        with torch.no_grad():
            self.clean_logits = logits_of(self.model, legal)
        self.clean_margin = self._judge(rows, legal, self.clean_logits)

    @property
    def done(self) -> bool:
        """Whether every sample is fooled."""
        return bool((self.margin <= 0).all())

    @property
    def alive(self) -> Tensor:
        """int64 [b]: the samples not yet fooled. They are what the model is shown next and what a
        loss is given."""
        return (self.margin > 0).nonzero().squeeze(1)

    def restart(self) -> None:
        """A climb begins: what gradients remember of earlier ones is forgotten."""
        if self._attend is not None:
            self.model.forget()  # type: ignore[attr-defined]

    def ask(self, x: Tensor) -> Tensor:
        """Margins [B] at the legal images nearest to `x`; lost samples repeat their last one."""
        rows, legal = self._admit(x)
        if len(rows) == 0:
            return self.margin.clone()
        with torch.no_grad():
            logits = logits_of(self.model, legal)
        return self._judge(rows, legal, logits)

    def gradient(self, x: Tensor, loss: Loss) -> Tensor:
        """Gradients of each sample's loss at the legal images nearest to `x`, shape of `x`.

        Rounding is passed straight through: the gradient found at the legal image is taken for
        that of the float image (Athalye et al. 2018). Zero for lost samples and where not finite.
        """
        rows, legal = self._admit(x)
        gradient = torch.zeros_like(self.x0)
        if len(rows) == 0:
            return gradient
        with torch.set_grad_enabled(True):
            legal.requires_grad_()
            if self._attend is not None:
                self._attend(rows, samples=len(self.x0))
            logits = logits_of(self.model, legal)
            values = loss(logits, self.y[rows])
            gradient[rows] = _input_gradient(values, legal).nan_to_num(0, 0, 0)
        self.path.append(torch.full_like(self.margin, float("nan")))
        self.path[-1][rows] = values.detach().to(self.margin)
        self._judge(rows, legal.detach(), logits.detach())
        return gradient

    def spare(self, x: Tensor, which: Tensor) -> Tensor:
        """bool [B]: those of the lost samples `which` [B] that the legal images nearest to `x`
        still fool. These are then what is kept of them: lighter, where the caller took changes
        back, if not of smaller margin."""
        rows = which.nonzero().squeeze(1)
        legal = self.budget.legal(x[rows], self.x0[rows])
        with torch.no_grad():
            margins = margin(logits_of(self.model, legal), self.y[rows]).to(self.margin)
        self.queries[rows] += 1
        fooled = rows[margins <= 0]
        self.x_adv[fooled], self.margin[fooled] = legal[margins <= 0], margins[margins <= 0]
        return torch.zeros_like(which).index_fill(0, fooled, True)

    def _admit(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.alive
        return rows, self.budget.legal(x[rows].detach(), self.x0[rows])

    def _judge(self, rows: Tensor, legal: Tensor, logits: Tensor) -> Tensor:
        check_labels(self.y, logits.shape[1])
        current = self.margin.clone()
        current[rows] = margin(logits, self.y[rows]).to(current)
        worse = rows[current[rows] < self.margin[rows]]
        self.x_adv[worse] = legal[current[rows] < self.margin[rows]]
        self.margin[worse] = current[worse]
        self.queries[rows] += 1
        return current


def _input_gradient(values: Tensor, x: Tensor) -> Tensor:
    """d sum(values) / dx; ValueError when no path leads from `x` to `values`."""
    if values.requires_grad:
        (found,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
        if found is not None:
            return found
    raise ValueError(
        "attack: the model passes no gradient to its input; use 'noise' or 'square', "
        "or attack its differentiable twin"
    )
