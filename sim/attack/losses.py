"""What attacks raise: the margin that judges them, and the losses they climb.

All take logits [B, K] and labels int64 [B] and return [B]; nothing is averaged over the batch, so
the gradient of one sample never depends on another.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """z_y - max over the other classes. Fooled means margin <= 0: a tie counts as misclassified,
    because a chip that counts spikes ties often and no reading order deserves the benefit."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], float("-inf"))
    return own - others.amax(1)


def lost_margin(logits: Tensor, y: Tensor) -> Tensor:
    """-margin. Cross-entropy goes flat in float32 where a model is sure (margins above 17, which
    are common among spike counts); this does not."""
    return -margin(logits, y)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-log softmax(z)_y."""
    return F.cross_entropy(logits, y, reduction="none")


def difference_of_logits_ratio(logits: Tensor, y: Tensor) -> Tensor:
    """-margin / (z_(1) - z_(3)), blind to the scale of the logits (Croce and Hein 2020, 4).

    Needs K >= 3. The 1e-12 guards ties of integer logits.
    """
    if logits.shape[1] < 3:
        raise ValueError(
            f"attack: loss 'dlr' needs at least 3 classes, the model has {logits.shape[1]}; "
            f"use loss 'ce'"
        )
    top = logits.topk(3, dim=1).values
    return -margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_ratio(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """(z_target - z_y) / (z_(1) - (z_(3) + z_(4)) / 2), the ratio that leads towards one class
    (Croce and Hein 2020, 4). target: int64 [B], other classes than y. Needs K >= 4. It is flat
    where only class y spikes, as (12, 0, 0, 0) shows."""
    if logits.shape[1] < 4:
        raise ValueError(
            f"attack: targeted loss 'dlr' needs at least 4 classes, the model has "
            f"{logits.shape[1]}; use loss 'ce'"
        )
    top = logits.topk(4, dim=1).values
    own, other = (logits.gather(1, k[:, None]).squeeze(1) for k in (y, target))
    return (other - own) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def targeted_entropy(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """log softmax(z)_target; `y` does not matter."""
    return -cross_entropy(logits, target)


Loss = Callable[[Tensor, Tensor], Tensor]
TargetedLoss = Callable[[Tensor, Tensor, Tensor], Tensor]

LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "dlr": difference_of_logits_ratio,
    "margin": lost_margin,
}
TARGETED: dict[str, TargetedLoss] = {"ce": targeted_entropy, "dlr": targeted_ratio}
