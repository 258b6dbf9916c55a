"""snnTorch neurons as populations, exactly or not at all.

What snnTorch computes and a chip can repeat: Leaky with reset to zero (with or without
reset_delay, which moves the moment of the reset but no spike), Leaky without leak and reset by
subtraction, and Synaptic with reset to zero and reset_delay=False.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import snntorch
import torch
from numpy.typing import NDArray
from torch import nn

from spikeport.sim.floating import NEVER
from spikeport.sim.net import FloatPopulation
from spikeport.sim.synapse import Shape
from spikeport.train.neuron import Integrator, Lif

Floats = NDArray[np.float64]

RETRAIN = 'set reset_mechanism="zero" and retrain (a few epochs from the present weights do)'
NEURONS = (snntorch.Leaky, snntorch.Synaptic, Lif, Integrator)


class Unsupported(ValueError):
    """A layer that cannot be exported exactly."""

    def __init__(self, name: str, layer: nn.Module | None, what: str) -> None:
        kind = f" ({type(layer).__name__})" if layer is not None else ""
        super().__init__(f"layer {name!r}{kind}: {what}")


def numbers(value: torch.Tensor) -> Floats:
    """A tensor's values as float64."""
    return np.array(value.detach().cpu().numpy(), dtype=np.float64)


def population(name: str, layer: Any, shape: Shape) -> FloatPopulation:
    """`layer` (one of `NEURONS`) as neurons of `shape`; Unsupported when chips cannot repeat it."""
    if isinstance(layer, Integrator):
        return FloatPopulation(name=name, shape=shape, v_th=np.array(NEVER), scale=layer.scale)
    _refuse_extras(name, layer)
    synaptic = isinstance(layer, snntorch.Synaptic)
    keep_u = _each(layer.alpha, shape).clip(0, 1) if synaptic else np.array(0.0)
    keep_v = _each(layer.beta, shape).clip(0, 1)
    reset = layer.reset_mechanism
    if reset == "none":
        raise Unsupported(name, layer, f'reset_mechanism is "none", chips reset; {RETRAIN}')
    if synaptic and layer.reset_delay:
        raise Unsupported(
            name, layer,
            "with reset_delay=True snnTorch loses the input of the step after a spike; use"
            f" reset_delay=False, and if need be {RETRAIN}",
        )  # fmt: skip
    if reset == "subtract" and (synaptic or not layer.reset_delay or (keep_v != 1).any()):
        raise Unsupported(
            name, layer,
            'reset_mechanism is "subtract", and with a leak snnTorch subtracts after it, which'
            f" chips and NIR cannot say; {RETRAIN}",
        )  # fmt: skip
    return FloatPopulation(
        name=name, shape=shape, v_th=_each(layer.threshold, shape), keep_u=keep_u, keep_v=keep_v,
        reset=reset, scale=getattr(layer, "scale", None),
    )  # fmt: skip


def _refuse_extras(name: str, layer: Any) -> None:
    if layer.inhibition:
        raise Unsupported(
            name, layer, "inhibition lets one neuron silence the others; set inhibition=False"
        )
    if layer.state_quant:
        raise Unsupported(
            name, layer,
            "state_quant rounds the membrane in a way of its own; set state_quant=False and let"
            " the quantisation-aware phase do it",
        )  # fmt: skip
    probe = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0])
    with torch.no_grad():
        fires = layer.spike_grad(probe)
    if not torch.equal(fires, (probe > 0).to(fires.dtype)):
        raise Unsupported(
            name, layer,
            "its spike_grad does not fire exactly when the membrane exceeds the threshold; use a"
            " surrogate with a hard forward step",
        )  # fmt: skip


def _each(value: Any, shape: Shape) -> Floats:
    """A parameter as () when it is one number, as [n] when it broadcasts to the neurons."""
    array = numbers(value)
    if array.size == 1:
        return array.reshape(())
    try:
        return np.broadcast_to(array, shape).reshape(-1)
    except ValueError:
        raise ValueError(
            f"a parameter of shape {array.shape} does not fit neurons of shape {shape}"
        ) from None


def amplitude(name: str, layer: nn.Module) -> float:
    """What the spikes of `layer` are multiplied with."""
    factor = np.unique(numbers(getattr(layer, "graded_spikes_factor", torch.tensor(1.0))))
    if factor.size != 1:
        raise Unsupported(
            name, layer, "graded_spikes_factor differs between neurons; use one value a layer"
        )
    return float(factor[0])
