"""TRADES: cross entropy on clean images, and predictions that stay put around them.

Source: Zhang et al. 2019, arXiv 1901.08573. They start 1e-3 N(0, 1) off the image, because the
divergence has no gradient at it; here a random point of the ball does the same.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from spikeport.train.methods.base import Step
from spikeport.train.methods.perturb import Perturbing, evaluating


class Trades(Perturbing):
    """beta KL(p(x) || p(x')), x' in the ball around x maximising it. beta: 6 as published, with
    eps 0.031, alpha 0.007, 10 steps for non-spiking networks; for those see `Perturbing`."""

    beta: float = Field(default=6.0, ge=0, le=1000)

    def penalty(self, step: Step) -> Tensor | None:
        """The divergence, mean over the batch; x' passes the network in training mode."""
        if self.beta == 0:
            return None
        with evaluating(step):
            clean = step.forward(step.x).logits.detach()
            found = self.climb(step, step.x, lambda z: divergence(clean, z) * len(z))
        return self.beta * divergence(step.record.logits, step.forward(found).logits)


def divergence(clean: Tensor, other: Tensor) -> Tensor:
    """KL(softmax(clean) || softmax(other)) of logits [B, K], nats, mean over the batch."""
    log_p, log_q = clean.log_softmax(1), other.log_softmax(1)
    return functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
