"""A margin around the threshold as wide as the chip's weights are coarse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol, cast

import torch
from pydantic import Field
from torch import Tensor

from spikeport.train.methods.base import Method, Step


class OnChip(Protocol):
    """What the penalty asks of a model on the chip's integers."""

    def lsbs(self) -> Mapping[str, Tensor]:
        """Per spiking layer one LSB in thresholds."""


class ChipMargin(Method):
    """weight * mean over layers of mean max(0, 1 - |d| / (lsb m)), d = v / v_th - 1 the distance to
    the threshold before the reset and m one LSB, both in thresholds.

    One LSB is what the membrane gains by the next integer of one weight under a spike (of the
    input: its largest value), 1 / v_th in a layer fed by spikes. lsb: half width of the margin,
    LSBs. Half the hinge is the share of spikes that uniform noise in -lsb..lsb LSBs, added to the
    membrane of one step, would flip. The width is no way out: no gradient flows through m.
    """

    phases: ClassVar[tuple[str, ...]] = ("quantised",)
    weight: float = Field(default=0.1, ge=0, le=1000)
    lsb: float = Field(default=1.0, gt=0, le=1e6)

    def penalty(self, step: Step) -> Tensor | None:
        """The hinge, weighted; 0..weight."""
        if self.weight == 0:
            return None
        lsbs, membranes = cast(OnChip, step.model).lsbs(), step.record.membranes
        layers = [
            (1 - (u - 1).abs() / (self.lsb * lsbs[name].detach())).clamp_min(0).mean()
            for name, u in membranes.items()
        ]
        return self.weight * torch.stack(layers).mean() if layers else None
