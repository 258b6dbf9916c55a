"""MPD-SGR: keep membrane potentials out of the window where the surrogate passes gradients.

Source: arXiv 2511.12199 (AAAI 2026). With d = U / v_th - 1, U the potential before the reset, the
penalty is the share of a Gaussian with the mean mu and deviation sigma of d that lies in
(-gamma, gamma), one per channel and step; vectors count every neuron as a channel. The paper does
not say how mu and sigma are found, so `stats` chooses:

  empirical  from the batch, through which gradients flow
  theory     from the norm in front (Theorem 1), gradients reach its weight and bias only
  hinge      no Gaussian: mean of max(0, gamma - |d|) (arXiv 2602.20548)

Under direct coding the Gaussian can miss the truth by a factor of two: judge by `occupancy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

FLOOR = 1e-6
"""Least variance of d; a channel at the floor is constant and is skipped."""


@dataclass(frozen=True, eq=False)
class Drive:
    """What is known beforehand of the current into a layer: mean and deviation [C] per channel
    (the bias and the weight of its norm), the share of the potential kept per step, and the
    potential that every window starts from."""

    mean: Tensor
    deviation: Tensor
    keep_v: float
    v_init: float = 0.0


def omega(mu: Tensor, sigma: Tensor, gamma: float) -> Tensor:
    """P(|d| < gamma) for d normal with mean `mu` and deviation `sigma` > 0, elementwise.

    Even in mu; written with the tails below zero, where float32 does not cancel.
    """
    below = -mu.abs()
    inside: Tensor = torch.special.ndtr((below + gamma) / sigma) - torch.special.ndtr(
        (below - gamma) / sigma
    )
    return inside


def mpd_sgr(
    membranes: Mapping[str, Tensor],
    v_th: Mapping[str, Tensor | float],
    *,
    gamma: float,
    stats: str = "empirical",
    drives: Mapping[str, Drive] | None = None,
) -> Tensor:
    """The penalty, a float32 scalar >= 0: mean over channels and steps, then over layers.

    membranes: U [T, B, C, H, W] or [T, B, n] per spiking layer. v_th: membrane units. gamma: half
    width of the window, thresholds. drives: per layer, for stats "theory" only.
    Raises ValueError when nothing spikes, `stats` is unknown, or a layer has no drive.
    """
    if not membranes:
        raise ValueError("mpd_sgr: the network has no spiking layer to regularise")
    if stats not in STATS:
        raise ValueError(f"mpd_sgr: stats is {stats!r}; allowed are {', '.join(STATS)}")
    layers = []
    for name, membrane in membranes.items():
        d = membrane.float() / v_th[name] - 1
        if stats == "empirical":
            layers.append(_empirical(d, gamma))
        elif stats == "hinge":
            layers.append((gamma - d.abs()).clamp_min(0).mean())
        elif drives is None or name not in drives:
            raise ValueError(
                f'mpd_sgr: stats "theory" needs a batch norm right before layer {name!r}; '
                'add one or use stats "empirical"'
            )
        else:
            layers.append(_theory(membrane.detach().float(), v_th[name], drives[name], gamma))
    return torch.stack(layers).mean()


STATS = ("empirical", "theory", "hinge")


def _channel_mean(x: Tensor) -> Tensor:
    """[T, B, C, ...] -> [T, C]."""
    return x.mean(dim=[1, *range(3, x.ndim)])


def _empirical(d: Tensor, gamma: float) -> Tensor:
    mu = _channel_mean(d)
    variance = _channel_mean(
        (d - mu.view(*mu.shape[:1], 1, *mu.shape[1:], *[1] * (d.ndim - 3))) ** 2
    )
    alive = variance > FLOOR
    if not alive.any():
        return d.sum() * 0
    return omega(mu, (variance + FLOOR).sqrt(), gamma)[alive].mean()


def _theory(membrane: Tensor, v_th: Tensor | float, drive: Drive, gamma: float) -> Tensor:
    """Theorem 1, with S(t) = sum over i < t of keep^(t-i) E[U(i) O(i)], what resets took away, and
    keep^t times the potential at the start."""
    lost = _channel_mean(membrane * (membrane > v_th))
    gone = torch.zeros_like(lost)
    for t in range(1, len(gone)):
        gone[t] = drive.keep_v * (gone[t - 1] + lost[t - 1])
    steps = torch.arange(len(gone), device=gone.device)
    kept = torch.cumsum(drive.keep_v**steps, 0)[:, None]
    kept_squared = torch.cumsum(drive.keep_v ** (2 * steps), 0)[:, None]
    start = drive.v_init * drive.keep_v ** (steps + 1)[:, None]
    mu = (drive.mean.float() * kept - gone + start) / v_th - 1
    variance = (drive.deviation.float() / v_th) ** 2 * kept_squared
    return omega(mu, (variance + FLOOR).sqrt(), gamma).mean()


def occupancy(
    membranes: Mapping[str, Tensor], v_th: Mapping[str, Tensor | float], gamma: float
) -> dict[str, float]:
    """Per layer the exact share of neurons and steps with |U / v_th - 1| < gamma, 0..1."""
    return {
        name: float(((u.detach() / v_th[name] - 1).abs() < gamma).double().mean())
        for name, u in membranes.items()
    }


@dataclass(frozen=True)
class Activity:
    """Of one layer: spikes per neuron and step, and the shares of channels (of neurons, for
    vectors) that never fired and that fired everywhere in every step; all 0..1."""

    rate: float
    dead: float
    saturated: float


def activity(spikes: Mapping[str, Tensor]) -> dict[str, Activity]:
    """`Activity` of every layer's spikes [T, B, C, ...]."""
    found = {}
    for name, s in spikes.items():
        rates = s.detach().double().mean(dim=[i for i in range(s.ndim) if i != 2])
        found[name] = Activity(
            rate=float(rates.mean()),
            dead=float((rates == 0).double().mean()),
            saturated=float((rates == 1).double().mean()),
        )
    return found


def warmed_up(eta: float, progress: float, *, warm_up: float) -> float:
    """The penalty's weight after a share `progress` of training: it rises linearly from 0 and
    reaches `eta` at the share `warm_up` (0: at once)."""
    return eta if progress >= warm_up else eta * progress / warm_up
