"""DSD: gradients without their dominant singular component.

Source: arXiv 2505.11134 (ICLR 2026), Dominant Singular Deflation. Under direct coding the curvature
grows with T along one direction of rank one; without it, training on perturbed images holds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spikeport.train.methods.base import Method

NOTHING = 1e-8
"""Frobenius norm below which a gradient is left alone."""


class Dsd(Method):
    """M <- M - s_1 u_1 v_1^T for the gradient of every parameter with at least two axes, as
    [first, rest]. No parameters. A rank-1 gradient, as of a batch of one image, becomes 0."""

    def gradients(self, module: nn.Module, generator: torch.Generator) -> None:
        """Deflate all of them; what is not finite is left to the loop to report."""
        for parameter in module.parameters():
            gradient = parameter.grad
            if gradient is None or gradient.ndim < 2:
                continue
            matrix = gradient.flatten(1)
            if NOTHING <= float(matrix.norm()) < math.inf:
                gradient.copy_(deflated(matrix).view_as(gradient))


def deflated(matrix: Tensor) -> Tensor:
    """`matrix` [n, m], finite, without its largest singular component.

    The singular vector comes from the smaller Gram matrix, which is exact and keeps no state that a
    resumed run would lack. Of equal largest values one is taken out.
    """
    if len(matrix) > matrix.shape[1]:
        return deflated(matrix.T).T
    scaled = matrix / matrix.norm()
    vector = torch.linalg.eigh(scaled @ scaled.T).eigenvectors[:, -1]
    return matrix - torch.outer(vector, vector @ matrix)
