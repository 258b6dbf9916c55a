"""What attacks on trains raise: the losses of all attacks, and the margin itself."""

from __future__ import annotations

from torch import Tensor

from spikeport.sim.attack import losses


def lost_margin(logits: Tensor, y: Tensor) -> Tensor:
    """-margin [B] of logits [B, K], labels int64 [B]. Cross entropy goes flat in float32 where a
    model is sure (margins above 17, which are common among spike counts); this does not."""
    return -losses.margin(logits, y)


LOSSES: dict[str, losses.Loss] = {**losses.LOSSES, "margin": lost_margin}
