"""Networks whose input is coded at random, under attack: expectation over transformation.

    model = Averaged(twin, code=PoissonCoding(steps=8), draws=10, judges=10, seed=0)
    attack(model, x, y, Apgd(), budget=..., seed=0)

Athalye et al. 2018 (arXiv 1802.00420): the network is its mean over the random draws, and so is its
gradient; a gradient from one draw leads away from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeport.sim import checks
from spikeport.sim.attack.guard import Model, logits_of

Code = Callable[[Tensor, torch.Generator], Tensor]
"""x [B, ...] in [0, 1] and the source of all chance (on the CPU) -> what the network is shown. All
samples share what is drawn, so that none depends on its neighbours."""

JUDGED, CLIMBED = 0, 1


@dataclass(frozen=True, kw_only=True)
class PoissonCoding:
    """Rate coding: x [B, ...] in [0, 1] -> spikes [steps, B, ...], 1 with probability x, else 0, as
    `train.encode.poisson` makes them. The gradient at a spike is passed straight to its pixel."""

    steps: int

    def __post_init__(self) -> None:
        checks.whole(self.steps, where="poisson coding: steps", low=1, high=1 << 16)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """One draw of a number for every step and pixel, the same for all samples."""
        u = torch.rand((self.steps, 1, *x.shape[1:]), generator=generator).to(x)
        return (u < x.detach()).to(x) + (x - x.detach())


class Averaged(nn.Module):
    """`model` shown images that `code` makes of x, at random: a network with fixed logits [B, K]
    and gradients that are drawn anew.

    Logits, with or without gradient, are means over the same `judges` draws, for all samples and in
    all calls: verdicts can be repeated. Every gradient is the mean over `draws` draws that no other
    uses until `forget`, so that an attack follows the network and not the judges' draws; each draw
    is shown after the other, at the memory of one. Parameters get no gradient.

    Gradients of `model` that remember learn from the first of the draws only.
    """

    def __init__(self, model: Model, *, code: Code, draws: int, judges: int, seed: int) -> None:
        super().__init__()
        checks.whole(draws, where="eot: draws", low=1, high=1 << 20)
        checks.whole(judges, where="eot: judges", low=1, high=1 << 20)
        checks.whole(seed, where="eot: seed", low=0, high=(1 << 63) - 1)
        self.model, self.code, self.seed = model, code, seed
        self.draws, self.judges = draws, judges
        self._gradients = 0
        self._rows: tuple[Tensor, int] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K]; see the class."""
        logits: Tensor = _Expected.apply(x, self)
        return logits

    def attend(self, rows: Tensor, *, samples: int) -> None:
        """Which of all `samples` the next gradient is of, int64 [B]; it learns from one draw."""
        self._rows = rows, samples

    def forget(self) -> None:
        """Begin the draws of gradients, and what the model's gradients remember, anew."""
        self._gradients, self._rows = 0, None
        getattr(self.model, "forget", lambda: None)()

    @torch.no_grad()
    def judged(self, x: Tensor) -> Tensor:
        """Mean logits [B, K] over the judges' draws."""
        sources = self._sources(JUDGED, 0, self.judges)
        return torch.stack([self._shown(x, source) for source in sources]).mean(0)

    def climbed(self, x: Tensor, weight: Tensor) -> Tensor:
        """Gradient [B, ...] of (logits * weight).sum() at `x`, mean over fresh draws."""
        call, self._gradients = self._gradients, self._gradients + 1
        total = torch.zeros_like(x)
        for draw, source in enumerate(self._sources(CLIMBED, call, self.draws)):
            self._announce(learn=draw == 0)
            with torch.enable_grad():
                image = x.detach().requires_grad_()
                logits = self._shown(image, source)
            if not logits.requires_grad:
                raise ValueError(
                    "eot: the model passes no gradient to its input; use 'noise' or 'square', "
                    "or attack its differentiable twin"
                )
            total += torch.autograd.grad(logits, image, weight)[0]
        self._rows = None  # who was announced is shown once
        return total / self.draws

    def _announce(self, *, learn: bool) -> None:
        """Tell the model who comes, if it was told here."""
        attend = getattr(self.model, "attend", None)
        if self._rows is not None and attend is not None:
            attend(self._rows[0], samples=self._rows[1], learn=learn)

    def _shown(self, x: Tensor, source: torch.Generator) -> Tensor:
        """Logits [B, K] of one draw."""
        return logits_of(lambda x: self.model(self.code(x, source)), x)

    def _sources(self, purpose: int, call: int, draws: int) -> Iterator[torch.Generator]:
        for draw in range(draws):
            entropy = np.random.SeedSequence([self.seed, purpose, call, draw])
            seed = int(entropy.generate_state(1, np.uint64)[0]) >> 1
            yield torch.Generator().manual_seed(seed)


class _Expected(torch.autograd.Function):
    """Forward the judges' logits, backward the gradient of fresh draws."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, owner: Averaged) -> Tensor:
        ctx.owner, ctx.x = owner, x.detach()
        return owner.judged(x.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.owner.climbed(ctx.x, grads[0]), None
