"""What a SpikingNet is made of beside chains: residual blocks and recurrent populations.

`through` is the one place that says how layers are wired. Whoever has to know asks it, with values
of its own: the forward pass sends tensors, the exporter expressions, training on integers wires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spikeport.train.neuron import Lif

V = TypeVar("V")


class Residual(nn.Module):
    """What a `branch` of layers gives plus what a `shortcut` past it gives (SEW-ADD; Fang et al.
    2021, arXiv 2102.04159).

    Both end with spiking neurons, so that spikes add up to 0, 1, 2, ...; an empty shortcut passes
    on what the block is given. Or both end with a norm or linear layer, and their currents add up
    for the neurons behind the block. The layers of the branch are the block's own ("block.lif1"),
    those of the shortcut lie in "block.shortcut".
    """

    def __init__(
        self, branch: Mapping[str, nn.Module], shortcut: nn.Sequential | None = None
    ) -> None:
        super().__init__()
        for name, layer in branch.items():
            self.add_module(name, layer)
        self.shortcut = nn.Sequential() if shortcut is None else shortcut

    @property
    def branch(self) -> dict[str, nn.Module]:
        """The layers of the branch by name, in order."""
        return {name: layer for name, layer in self._modules.items() if name != "shortcut"}  # type: ignore[misc]


class Recurrent(nn.Module):
    """Neurons `lif` that also receive what the linear layer `loop` makes of their own spikes of
    the step before. `membrane` is as that of a `Lif`."""

    loop: nn.Linear
    lif: Lif
    membrane: Tensor

    def __init__(self, loop: nn.Linear, lif: Lif) -> None:
        super().__init__()
        if loop.in_features != loop.out_features:
            raise ValueError(
                f"Recurrent: the loop leads from {loop.in_features} neurons to"
                f" {loop.out_features}; it leads back to the same ones, so both must be equal"
            )
        if loop.bias is not None:
            raise ValueError(
                "Recurrent: the loop has a bias beside that of the layer in front; use bias=False"
            )
        self.loop, self.lif = loop, lif
        self.membrane = torch.zeros(0)

    def forward(self, current: Tensor) -> Tensor:
        """Spikes [T, B, n] of the input current [T, B, n]."""
        lif, keep_v = self.lif, self.lif.beta.clamp(0, 1)
        spikes: list[Tensor] = []
        membranes: list[Tensor] = []
        for a in current:
            if spikes:
                # A window of one step starts from v_init, which is to be what the last step left.
                left = _left(lif, membranes[-1], spikes[-1])
                a = a + self.loop(spikes[-1]) + keep_v * (left - lif.v_init)
            spikes.append(lif(a[None])[0])
            membranes.append(lif.membrane[0])
        self.membrane = torch.stack(membranes)
        return torch.stack(spikes)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "membrane": torch.zeros(0)}


def _left(lif: Lif, u: Tensor, spikes: Tensor) -> Tensor:
    """What a step leaves of the potential u when `spikes` reset it."""
    fired = spikes.detach() if lif.detach_reset else spikes
    v = u - fired * lif.v_th if lif.reset_mechanism == "subtract" else u * (1 - fired)
    return v.detach() if lif.detach_time else v


def through(
    layers: Mapping[str, nn.Module | None],
    x: V,
    *,
    visit: Callable[[str, nn.Module, V], V],
    add: Callable[[V, V], V],
    prefix: str = "",
) -> V:
    """What `layers` make of the value x, of any kind: `visit(name, layer, x)` says what one layer,
    or a `Recurrent`, makes of it, `add` adds up two. Sequentials are opened ("block.lif")."""
    for name, layer in layers.items():
        path = f"{prefix}{name}"
        if isinstance(layer, nn.Sequential):
            x = through(layer._modules, x, visit=visit, add=add, prefix=f"{path}.")
        elif isinstance(layer, Residual):
            within = layer.shortcut._modules
            x = add(
                through(layer.branch, x, visit=visit, add=add, prefix=f"{path}."),
                through(within, x, visit=visit, add=add, prefix=f"{path}.shortcut."),
            )
        elif layer is not None:
            x = visit(path, layer, x)
    return x


def named_layers(layers: Mapping[str, nn.Module | None]) -> Iterator[tuple[str, nn.Module]]:
    """Name and layer in the order of `through`; a recurrent population as its loop and its
    neurons."""
    found: list[tuple[str, nn.Module]] = []

    def note(name: str, layer: nn.Module, _: None) -> None:
        if isinstance(layer, Recurrent):
            found.extend([(f"{name}.loop", layer.loop), (f"{name}.lif", layer.lif)])
        else:
            found.append((name, layer))

    through(layers, None, visit=note, add=lambda a, b: None)
    return iter(found)
