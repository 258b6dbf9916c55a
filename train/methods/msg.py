"""MSG: every step trains a random part of the weights.

Source: arXiv 2406.19645 (Neural Networks 2024), masked surrogate gradients.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from spikeport.train.methods.base import Method


class Msg(Method):
    """G <- G * M / (1 - p), M ~ Bernoulli(1 - p) for each weight and mini-batch.

    p: share of weights that wait, best at 0.4..0.6 in the paper. Its text disagrees with itself
    about the factor; with it the learning rate keeps its meaning. Parameters with one axis, those
    of norms and biases, are not masked.
    """

    p: float = Field(default=0.5, ge=0, lt=1)

    def gradients(self, module: nn.Module, generator: torch.Generator) -> None:
        """Mask and rescale all weights' gradients."""
        for parameter in module.parameters():
            gradient = parameter.grad
            if gradient is not None and gradient.ndim >= 2:
                draws = torch.rand(gradient.shape, generator=generator, device=gradient.device)
                gradient.mul_((draws >= self.p) / (1 - self.p))
