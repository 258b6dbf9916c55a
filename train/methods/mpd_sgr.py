"""MPD-SGR as a method: the penalty of `spikeport.train.regularisers`, its weight warmed up."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from spikeport.train.methods.base import Method, Step
from spikeport.train.regularisers import mpd_sgr, warmed_up


class MpdSgr(Method):
    """eta: weight of the penalty, 0 switches it off. gamma: half width of its window, thresholds.
    stats: see `regularisers`; norms are folded in the quantised phase, where "theory" becomes
    "empirical". warm_up: share of the float phase in which eta rises."""

    eta: float = Field(default=0.3, ge=0, le=1000)
    gamma: float = Field(default=1.0, gt=0, le=1e6)
    stats: Literal["empirical", "theory", "hinge"] = "empirical"
    warm_up: float = Field(default=0.1, ge=0, le=1)

    def penalty(self, step: Step) -> Tensor | None:
        """eta * L_SGR."""
        early = step.phase == "float"
        eta = warmed_up(self.eta, step.progress, warm_up=self.warm_up) if early else self.eta
        if eta == 0:
            return None
        theory = self.stats == "theory" and early
        return eta * mpd_sgr(
            step.record.membranes,
            step.model.thresholds(),
            gamma=self.gamma,
            stats=self.stats if early or self.stats != "theory" else "empirical",
            drives=step.model.drives() if theory else None,
        )
