"""snnTorch neurons as populations with loops, exactly or not at all.

Ours fire and reset within a step: u <- keep_u u + a; v <- keep_v v + u; s = v > v_th; reset. What
snnTorch 1.0.0 computes, and what of it is the same (each line measured in the tests):

    reset_mechanism  layer                              here
    zero             Leaky                              the same, reset_delay moves no spike
    zero             Synaptic, RLeaky, no reset_delay   the same
    zero             Synaptic, RLeaky, reset_delay;     loses the input of the step behind a spike
                     RSynaptic, Lapicque
    subtract         all, with reset_delay              leaks first, then subtracts: a loop gives
                                                        back what the leak took from the threshold
    subtract         all, without reset_delay           subtracts one step late while above v_th
    none             all                                a readout that only integrates

Recurrent layers are a population and a synapse from it to itself with delay 1.
"""

from __future__ import annotations

from dataclasses import dataclass
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
STATES = {
    snntorch.Leaky: ("mem",),
    snntorch.Lapicque: ("mem",),
    snntorch.Synaptic: ("syn", "mem"),
    snntorch.RLeaky: ("spk", "mem"),
    snntorch.RSynaptic: ("spk", "syn", "mem"),
}
"""The states that a snnTorch neuron takes and returns, in their order."""
NEURONS = (*STATES, Lif, Integrator)

OUT_OF_REACH = 1e6
"""A threshold from which on a layer counts as one that never fires, a readout."""


class Unsupported(ValueError):
    """A layer that cannot be exported exactly."""

    def __init__(self, name: str, layer: nn.Module | None, what: str) -> None:
        kind = f" ({type(layer).__name__})" if layer is not None else ""
        super().__init__(f"layer {name!r}{kind}: {what}")


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A synapse from a population to itself: a torch layer, or one gain a neuron."""

    name: str
    delay: int
    synapse: nn.Module | Floats


@dataclass(frozen=True, kw_only=True)
class Neurons:
    """A layer of neurons. gain: what its incoming current is multiplied with, () or [n]."""

    population: FloatPopulation
    gain: Floats
    loops: tuple[Loop, ...] = ()


def numbers(value: torch.Tensor) -> Floats:
    """A tensor's values as float64."""
    return np.array(value.detach().cpu().double().numpy())


def neurons(name: str, layer: Any, shape: Shape) -> Neurons:
    """`layer` (one of `NEURONS`) as neurons of `shape`; Unsupported when chips cannot repeat it."""
    if isinstance(layer, Integrator):
        silent = FloatPopulation(name=name, shape=shape, v_th=np.array(NEVER), scale=layer.scale)
        return Neurons(population=silent, gain=np.array(1.0))
    _refuse_extras(name, layer)
    _check_built(name, layer)
    keep_u = each(layer.alpha, shape).clip(0, 1) if hasattr(layer, "alpha") else np.array(0.0)
    keep_v, gain = _leak(name, layer, shape)
    v_th = each(layer.threshold, shape)
    loops = _recurrence(name, layer, shape)
    reset = layer.reset_mechanism
    if reset == "none" or bool((v_th >= OUT_OF_REACH).all()):
        reset, v_th = "zero", np.array(NEVER)
    else:
        _check_reset(name, layer)
    if reset == "subtract":
        loops += _given_back(name, (1 - keep_v) * v_th, keep_u)
    population = FloatPopulation(
        name=name, shape=shape, v_th=v_th, keep_u=keep_u, keep_v=keep_v, reset=reset,
        v_init=each(getattr(layer, "v_init", torch.tensor(0.0)), shape),
        scale=getattr(layer, "scale", None),
    )  # fmt: skip
    return Neurons(population=population, gain=gain, loops=loops)


def _leak(name: str, layer: Any, shape: Shape) -> tuple[Floats, Floats]:
    """Share of the potential kept per step, and gain of the current."""
    if not isinstance(layer, snntorch.Lapicque):
        return each(layer.beta, shape).clip(0, 1), np.array(1.0)
    r, c, step = (each(getattr(layer, key), shape) for key in ("R", "C", "time_step"))
    keep = 1 - step / (r * c)
    if (keep < 0).any() or (keep > 1).any():
        raise Unsupported(
            name, layer,
            f"a step of {step.max():g} is longer than R * C = {(r * c).min():g}, so that the"
            " potential would swing; use a smaller time_step or a beta above 0.37",
        )  # fmt: skip
    return np.asarray(keep, np.float64), np.asarray(step / c, np.float64)


def _recurrence(name: str, layer: Any, shape: Shape) -> tuple[Loop, ...]:
    if not isinstance(layer, (snntorch.RLeaky, snntorch.RSynaptic)):
        return ()
    if layer.reset_mechanism == "none":
        raise Unsupported(
            name, layer,
            f'reset_mechanism is "none", but its spikes are fed back and chips reset; {RETRAIN}',
        )  # fmt: skip
    if (numbers(layer.graded_spikes_factor) != 1).any():
        raise Unsupported(
            name, layer, "its graded_spikes_factor would scale the recurrence too; set it to 1"
        )
    inner = layer.recurrent
    synapse = inner if layer.all_to_all else each(inner.V, shape)
    return (Loop(name=f"{name}.recurrent", delay=1, synapse=synapse),)


def _check_built(name: str, layer: Any) -> None:
    reset = layer.reset_mechanism
    chosen = {"subtract": "_base_sub", "zero": "_base_zero", "none": "_base_int"}[reset]
    stored = snntorch.SpikingNeuron.reset_dict[reset]
    if layer.state_function.__name__ != chosen or int(layer.reset_mechanism_val) != stored:
        raise Unsupported(
            name, layer,
            f"its reset_mechanism was changed to {reset!r} after it was built, which snnTorch"
            " follows in part only; build the layer with it",
        )  # fmt: skip


def _check_reset(name: str, layer: Any) -> None:
    reset, delayed = layer.reset_mechanism, getattr(layer, "reset_delay", True)
    if isinstance(layer, snntorch.RSynaptic) and not delayed:
        raise Unsupported(
            name, layer,
            "reset_delay=False has no effect in snnTorch 1.0.0; set reset_delay=True",
        )  # fmt: skip
    if reset == "subtract" and not delayed:
        raise Unsupported(
            name, layer,
            "with reset_delay=False snnTorch subtracts a second time where a spike left the"
            ' potential above the threshold; use reset_delay=True or reset_mechanism="zero", and'
            " retrain",
        )  # fmt: skip
    if reset == "zero" and delayed and not isinstance(layer, snntorch.Leaky):
        raise Unsupported(name, layer, f"{_LOSES[type(layer)]}, and retrain")


_LOST = "with reset to zero snnTorch loses the input of the step after a spike; "
_BY_HAND = "feed the spikes of a {} back through a Linear in forward"
_LOSES = {
    snntorch.Synaptic: f"{_LOST}use reset_delay=False",
    snntorch.RLeaky: f"{_LOST}use reset_delay=False",
    snntorch.RSynaptic: f"{_LOST}{_BY_HAND.format('Synaptic(reset_delay=False)')}",
    snntorch.Lapicque: f"{_LOST}use Leaky with beta = 1 - time_step / (R * C)",
}


def _given_back(name: str, lost: Floats, keep_u: Floats) -> tuple[Loop, ...]:
    """Loops that make a chip's reset by subtraction snnTorch's.

    A chip subtracts v_th and then leaks, snnTorch leaks and then subtracts v_th: `lost`, which is
    (1 - keep_v) v_th, must still go in the step after a spike. Current with memory takes back what
    it remembers of it in the step after that.
    """
    if not lost.any():
        return ()
    once = Loop(name=f"{name}.reset", delay=1, synapse=-lost)
    if not keep_u.any():
        return (once,)
    return once, Loop(name=f"{name}.reset2", delay=2, synapse=keep_u * lost)


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


def each(value: Any, shape: Shape) -> Floats:
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
    if factor.size != 1 or factor[0] == 0:
        raise Unsupported(
            name, layer,
            "graded_spikes_factor is 0 or differs between neurons; use one value a layer",
        )  # fmt: skip
    return float(factor[0])
