"""Leaks, thresholds and gains that are learned: torch parametrisations, and the way back."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils import parametrize

from spikeport.train.neuron import Lif


class Share(nn.Module):
    """A number in (0, 1): the logistic function of a free one."""

    def forward(self, x: Tensor) -> Tensor:
        """The share that stands for x."""
        return torch.sigmoid(x)

    def right_inverse(self, share: Tensor) -> Tensor:
        """The free number that stands for `share`."""
        return torch.logit(share)


class Positive(nn.Module):
    """A positive number: the softplus of a free one."""

    def forward(self, x: Tensor) -> Tensor:
        """The positive number that stands for x."""
        return softplus(x)

    def right_inverse(self, positive: Tensor) -> Tensor:
        """The free number that stands for `positive`."""
        free: Tensor = positive + torch.log(-torch.expm1(-positive))
        return free


class Scaled(nn.Module):
    """A weight or bias times what neurons have learned: their threshold, the height of their
    spikes ("v_th"), or the share of the current that they take in ("gain", 1 - keep_v)."""

    def __init__(self, lif: Lif, what: str) -> None:
        super().__init__()
        self._of = (lif, what)  # in a tuple, so that the neurons are no part of the layer

    def forward(self, free: Tensor) -> Tensor:
        """The parameter that the layer computes with."""
        lif, what = self._of
        scaled: Tensor = free * (lif.threshold if what == "v_th" else 1 - lif.beta)
        return scaled


def learn(lif: Lif, name: str, form: nn.Module, start: Tensor) -> None:
    """Make buffer `name` of `lif` a parameter in the parametrisation `form`, at `start`."""
    delattr(lif, name)
    lif.register_parameter(name, nn.Parameter(start.detach().clone()))
    parametrize.register_parametrization(lif, name, form)


def learn_leak(lif: Lif, keep_v: float, where: str) -> None:
    """Let `lif` learn its leak, as a parametric LIF, from `keep_v` on."""
    start = torch.tensor(keep_v)
    if not 0 < float(start) < 1:
        raise ValueError(
            f"{where}: the share kept per step starts at {float(start)}, which a learned leak never"
            " leaves or reaches; start between 0 and 1"
        )
    learn(lif, "beta", Share(), start)


@torch.no_grad()
def scale(layer: nn.Module, lif: Lif, what: str) -> None:
    """Multiply the weight, and for "gain" the bias, of `layer` by what `lif` has learned."""
    for name in ("weight", "bias") if what == "gain" else ("weight",):
        if getattr(layer, name, None) is not None:
            parametrize.register_parametrization(layer, name, Scaled(lif, what))


def settle(module: nn.Module) -> None:
    """Leave plain parameters in a layer, plain buffers in neurons, of their present values."""
    if not parametrize.is_parametrized(module):
        return
    for name in list(module.parametrizations):
        value = getattr(module, name).detach().clone()
        # What is free may be free for others too, so it is left as it is.
        parametrize.remove_parametrizations(module, name, leave_parametrized=False)
        delattr(module, name)
        if isinstance(module, Lif):
            module.register_buffer(name, value)
        else:
            module.register_parameter(name, nn.Parameter(value))
