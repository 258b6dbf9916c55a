"""OTTT: the gradients of online training, which never look back through time.

Source: arXiv 2210.04195 (NeurIPS 2022) and its code. With the error taken through the layers at one
step only, a layer of weights learns from a trace of what came in,

    a(t) = keep_v a(t-1) + s(t),   dL/dW = sum_t dL(t)/dI(t) a(t)^T,

keep_v that of the neurons it leads to. Here the window is still run as a whole (OTTT_A: one step of
the optimiser per window), so these are its gradients and not its savings of memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from snntorch import SpikingNeuron
from torch import Tensor, nn
from torch.nn import functional

from spikeport.train.blocks import Recurrent, through
from spikeport.train.methods.base import Method, Step
from spikeport.train.neuron import Integrator, Lif

if TYPE_CHECKING:
    from spikeport.train.model import SpikingNet


class Ottt(Method):
    """(1/T) sum_t [(1 - a) CE(z(t), y) + a MSE(z(t), onehot y)], with the gradients above.

    a: 0.05 as published. Differs from the paper's networks, which reset by subtraction and
    standardise their weights: ours reset to zero, as the chip does, and keep their batch norms,
    which mix the steps of a window. The first layer learns from a trace too, and the last one into
    a readout without memory from what comes in, as the equations say; in the code it is the other
    way round. In the float phase only: the integers are trained as ever.
    """

    phases: ClassVar[tuple[str, ...]] = ("float",)
    claims: ClassVar[frozenset[str]] = frozenset({"task loss"})

    a: float = Field(default=0.05, ge=0, le=1)

    def prepare(self, net: SpikingNet) -> None:
        """Cut the neurons' gradient through time and give every layer of weights its trace."""
        for layer, neurons in _targets(net).items():
            layer.register_forward_hook(_Traced(neurons, net.steps))
        net.register_forward_pre_hook(_every_step)
        _set_detached(net, True)

    def task_loss(self, step: Step) -> Tensor:
        """The loss above, a scalar."""
        z = step.record.outputs
        y = step.y.repeat(len(z))
        flat = z.flatten(0, 1)
        target = functional.one_hot(y, z.shape[2]).to(z)
        squares = functional.mse_loss(flat, target)
        return (1 - self.a) * functional.cross_entropy(flat, y) + self.a * squares

    def settle(self, net: SpikingNet) -> None:
        """Take everything back."""
        _set_detached(net, False)
        for module in net.modules():
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                ours = [k for k, h in hooks.items() if h is _every_step or isinstance(h, _Traced)]
                for key in ours:
                    del hooks[key]


def _set_detached(net: SpikingNet, detached: bool) -> None:
    for _, layer in net.named_layers():
        if isinstance(layer, Lif):
            layer.detach_time = detached


def _targets(net: SpikingNet) -> dict[nn.Module, Lif]:
    """The neurons that each layer of weights leads to; none for those that lead to a readout."""
    found: dict[nn.Module, Lif] = {}

    def visit(name: str, layer: nn.Module, weights: tuple[nn.Module, ...]) -> tuple[nn.Module, ...]:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            return (*weights, layer)
        if isinstance(layer, Recurrent) or (
            isinstance(layer, SpikingNeuron) and not isinstance(layer, Lif)
        ):
            raise ValueError(
                f"methods.ottt: layer {name!r} is a {type(layer).__name__}; it trains chains and "
                "residual blocks of Lif neurons, so leave the method out"
            )
        if isinstance(layer, Lif):
            for each in weights:
                found.setdefault(each, layer)
        return () if isinstance(layer, (Lif, Integrator)) else weights

    none: tuple[nn.Module, ...] = ()
    through(net.layers._modules, none, visit=visit, add=lambda a, b: a + b)
    return found


class _Traced:
    """A forward hook of a layer in training: its output as it is, its weight's gradient by traces.

    The layer is linear, so adding what it makes of (trace - input), but for the value, exchanges
    the one for the other.
    """

    def __init__(self, neurons: Lif, steps: int) -> None:
        self.neurons, self.steps = neurons, steps

    def __call__(
        self, layer: nn.Linear | nn.Conv2d, args: tuple[Tensor], output: Tensor
    ) -> Tensor | None:
        if not layer.training:
            return None
        s = args[0].detach().unflatten(0, (self.steps, -1))
        past, keep_v = torch.zeros_like(s), self.neurons.beta.detach().clamp(0, 1)
        for t in range(1, self.steps):
            past[t] = keep_v * (past[t - 1] + s[t - 1])
        extra = _product(layer, past.flatten(0, 1))
        return output + (extra - extra.detach())


def _product(layer: nn.Linear | nn.Conv2d, x: Tensor) -> Tensor:
    """What `layer` makes of x without its bias."""
    if isinstance(layer, nn.Linear):
        return functional.linear(x, layer.weight)
    return functional.conv2d(
        x, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups
    )


def _every_step(net: SpikingNet, args: tuple[Tensor]) -> tuple[Tensor] | None:
    """A forward pre-hook of a network in training: all steps of an image, since traces differ."""
    return (args[0].contiguous(),) if net.training else None
