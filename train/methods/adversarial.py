"""Plain adversarial training: on the images that PGD makes of those of the batch.

Source: Madry et al. 2018, arXiv 1706.06083; numbers and the absence of a clean half from the code
of SNN-RAT (NeurIPS 2022), which attacks in evaluation mode.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from spikeport.train.methods.base import Step
from spikeport.train.methods.perturb import Perturbing, evaluating


class Adversarial(Perturbing):
    """Maximises the cross entropy, whatever loss is trained. share: of every batch, 0..1, is
    perturbed, all of it by default."""

    share: float = Field(default=1.0, gt=0, le=1)

    def inputs(self, step: Step) -> Tensor:
        """The batch with the first images, whose order is random, perturbed."""
        n = round(self.share * len(step.x))
        if n == 0:
            return step.x
        y = step.y[:n]
        with evaluating(step):
            found = self.climb(
                step, step.x[:n], lambda z: functional.cross_entropy(z, y, reduction="sum")
            )
        return torch.cat([found, step.x[n:]])
