"""TET: a loss at every step instead of one at the end.

Source: arXiv 2202.11946 (ICLR 2022). z(t) is the readout's current, not its sum.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from spikeport.train.methods.base import Method, Step


class Tet(Method):
    """(1 - lam) (1/T) sum_t CE(z(t), y) + lam mean (z - phi)^2, over `Record.outputs`.

    lam: weight of the second term, 1e-3 in the authors' code; it pulls all classes to phi, so keep
    it small. phi: where to, 1 (their threshold). With readout "count" z(t) are spikes, 0 or 1.
    """

    claims: ClassVar[frozenset[str]] = frozenset({"task loss"})

    lam: float = Field(default=1e-3, ge=0, le=1)
    phi: float = Field(default=1.0, ge=-1e6, le=1e6)

    def task_loss(self, step: Step) -> Tensor:
        """The loss above, a scalar."""
        z = step.record.outputs
        every_step = functional.cross_entropy(z.flatten(0, 1), step.y.repeat(len(z)))
        return (1 - self.lam) * every_step + self.lam * (z - self.phi).square().mean()
