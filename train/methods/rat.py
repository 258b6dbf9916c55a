"""RAT: weights drawn towards orthogonal rows after every step, so that layers do not amplify.

Source: SNN-RAT, NeurIPS 2022, and its code. The paper's method is this together with
`adversarial`. Its convex weights of residual sums have nothing to act on here: ours are plain sums.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from spikeport.train.methods.base import Method

ALL_ROWS = 200
"""Linear layers with fewer outputs are drawn whole, others by a share of rows at a time."""
SHARE = 0.3


class Rat(Method):
    """W <- (1 + r) W - r W W^T W for every convolution, as [out, rest], and linear layer; of linear
    layers with 200 outputs or more, for a random 30 % of the rows.

    r: 5e-4 in the authors' code (0.004 in a later reimplementation, arXiv 2512.22522). In the float
    phase only: folded weights hold the gains of their norms, which it would draw to 1 too.
    """

    phases: ClassVar[tuple[str, ...]] = ("float",)

    r: float = Field(default=5e-4, ge=0, le=0.1)

    @torch.no_grad()
    def weights(self, module: nn.Module, generator: torch.Generator) -> None:
        """Draw all layers of `module`."""
        for layer in module.modules():
            if not isinstance(layer, (nn.Linear, nn.Conv2d)):
                continue
            rows = layer.weight.flatten(1)
            if isinstance(layer, nn.Conv2d) or len(rows) < ALL_ROWS:
                layer.weight.copy_(drawn(rows, self.r).view_as(layer.weight))
                continue
            shuffled = torch.randperm(len(rows), generator=generator, device=rows.device)
            some = shuffled[: int(SHARE * len(rows))]
            layer.weight[some] = drawn(rows[some], self.r)


def drawn(rows: Tensor, r: float) -> Tensor:
    """(1 + r) W - r W W^T W of W [n, m]: singular values s become s + r (s - s^3)."""
    return (1 + r) * rows - r * (rows @ rows.T) @ rows
