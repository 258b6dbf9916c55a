"""SR: probabilities that hardly depend on the pixels (sparse input gradients).

Source: Liu et al., ICML 2024, and their code: the l1 norm of the gradient of p, the probability of
the label against the best wrong class, by a finite difference along the signs of that gradient.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from spikeport.train.methods.base import Method, Step
from spikeport.train.methods.perturb import check_images


class Sr(Method):
    """lam mean ((p(x + h v) - p(x)) / h)^2, v = sign(grad_x p), a constant.

    h: length of the difference, pixels of [0, 1]; direct coding rounds x + h v to whole 255ths, and
    pixels cannot leave [0, 1]. lam: a value to start from, the authors' code has no other than 0.
    """

    h: float = Field(default=0.01, gt=0, le=1)
    lam: float = Field(default=0.002, ge=0, le=1e6)

    def inputs(self, step: Step) -> Tensor:
        """The images, as something whose gradient may be asked for."""
        check_images(step.x)
        return step.x.detach().requires_grad_()

    def penalty(self, step: Step) -> Tensor | None:
        """The squared difference quotient, mean over the batch."""
        if self.lam == 0:
            return None
        z = step.record.logits
        own = step.y[:, None]
        rival = z.detach().scatter(1, own, float("-inf")).argmax(1, keepdim=True)
        p = _against(z, own, rival)
        (slope,) = torch.autograd.grad(p.sum(), step.x, retain_graph=True)
        moved = (step.x.detach() + self.h * slope.sign()).clamp(0, 1)
        away = _against(step.forward(moved).logits, own, rival)
        return self.lam * ((away - p) / self.h).square().mean()


def _against(z: Tensor, own: Tensor, rival: Tensor) -> Tensor:
    """exp z_y / (exp z_y + exp z_m), [B, 1]."""
    return (z.gather(1, own) - z.gather(1, rival)).sigmoid()
