"""Copies of modules to run without leaving a trace in the original."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import snntorch
import torch
from torch import Tensor, nn

from spikeport.export.neurons import STATES, Unsupported
from spikeport.export.torch_calls import flattened


@contextmanager
def apart(layers: Mapping[str, nn.Module]) -> Iterator[None]:
    """Make float64 the type of new tensors, let a reset of all neurons reach those of `layers`
    only, and give torch its random state back.

    Raises ValueError when random numbers were drawn or a layer's parameters were changed inside.
    """
    instances = snntorch.SpikingNeuron.instances
    others, dtype = list(instances), torch.get_default_dtype()
    instances[:] = [layer for layer in layers.values() if type(layer) in STATES]
    torch.set_default_dtype(torch.float64)
    before = _settings(layers)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            state = torch.get_rng_state()
            yield
            drawn = not torch.equal(state, torch.get_rng_state())
    finally:
        torch.set_default_dtype(dtype)
        instances[:] = others
    if drawn:
        raise ValueError(
            "forward draws random numbers even in eval(), and chips draw none; encode the samples"
            " before they go into forward"
        )
    after = _settings(layers)
    for (name, key), (value, version, copied_value) in before.items():
        now = after.get((name, key))
        if now is None or now[:2] != (value, version) or not torch.equal(now[2], copied_value):
            raise Unsupported(
                name, layers[name],
                f"forward changes its {key!r}, but chips keep it; set it before forward",
            )  # fmt: skip


def _settings(layers: Mapping[str, nn.Module]) -> dict[tuple[str, str], tuple[int, int, Tensor]]:
    """Parameters and buffers by layer and key, states left out: identity, version and values."""
    return {
        (name, key): (id(tensor), tensor._version, tensor.detach().clone())
        for name, layer in layers.items()
        for key, tensor in {**layer._parameters, **layer._buffers}.items()
        if tensor is not None and key not in STATES.get(type(layer), ())
    }


def copied(module: nn.Module) -> nn.Module:
    """A copy in float64, in evaluation mode, whose neurons have no state yet.

    Raises ValueError where Python cannot copy it.
    """
    done: dict[int, Any] = {}
    for part in module.modules():  # tensors with a graph cannot be copied
        for tensor in flattened([list(vars(part).values()), dict(part._buffers)]):
            if isinstance(tensor, Tensor) and not tensor.is_leaf:
                done[id(tensor)] = tensor.detach().clone()
    try:
        own = copy.deepcopy(module, done).cpu().double().eval()
    except Exception as error:  # whatever a module of others holds
        raise ValueError(
            f"{type(module).__name__} cannot be copied, which running it on the sample needs:"
            f" {type(error).__name__}: {error}; keep what cannot be copied outside the module"
        ) from error
    for part in own.modules():
        for key in STATES.get(type(part), ()):
            setattr(part, key, torch.zeros(0))
    return own
