"""Images that are bad for the network as it is, for methods that train on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from spikeport.sim.attack.budget import Budget
from spikeport.train.methods.base import Method, Step


class Perturbing(Method):
    """What such methods share: PGD within an L-infinity ball (Madry et al. 2018).

    eps: radius; alpha: length of a step; both in pixels of [0, 1]. steps: how many. random_start:
    begin at a uniformly random point of the ball, not at the image. FGSM is alpha = eps, steps = 1
    without random start. The defaults are those of SNN-RAT's code, which MPD-SGR's adversarial
    training shares (eps 2/255, 2 steps).
    """

    claims: ClassVar[frozenset[str]] = frozenset({"training images"})

    eps: float = Field(default=2 / 255, gt=0, le=1)
    alpha: float = Field(default=1 / 255, gt=0, le=1)
    steps: int = Field(default=2, ge=1, le=1000)
    random_start: bool = True

    def climb(self, step: Step, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """Images of the ball around `x` [B, C, H, W], in [0, 1], that raise `loss` (logits to a
        scalar, a sum over the batch). Leaves no gradient in the parameters."""
        check_images(x)
        # The encoder puts images on their grid; here the grid would only shorten the steps.
        budget = Budget(eps=self.eps, levels=None)
        found = x = x.detach()
        if self.random_start:
            draws = torch.rand(x.shape, generator=step.generator, device=x.device)
            found = budget.clip(found + self.eps * (2 * draws - 1), x)
        for _ in range(self.steps):
            at = found.detach().requires_grad_()
            (uphill,) = torch.autograd.grad(loss(step.forward(at).logits), at)
            found = budget.clip(at.detach() + self.alpha * uphill.sign(), x)
        return found


def check_images(x: Tensor) -> None:
    """Raise ValueError unless `x` can be images."""
    if x.ndim != 4:
        raise ValueError(
            f"methods.adversarial, trades and sr move pixels of images [B, C, H, W], but x is "
            f"{tuple(x.shape)}; leave them out to train on event frames"
        )


@contextmanager
def evaluating(step: Step) -> Iterator[None]:
    """The step's model in evaluation mode, so that attacks do not move the statistics of norms."""
    module = cast("nn.Module", step.model)
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
