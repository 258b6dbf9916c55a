"""Networks as we train them: any `nn.Sequential`, run over a window of steps with a record.

Stateless layers (convolution, linear, pooling, norm, flatten, dropout) act on the merged T * B
axis; spiking layers see [T, B, ...] and start every window from zero. Within the sequential there
may be residual blocks and recurrent populations, see `blocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import snntorch
import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikeport.sim.net import Input
from spikeport.train.blocks import Recurrent, Residual, named_layers, through
from spikeport.train.fused import Population
from spikeport.train.neuron import Integrator, Lif, hooked
from spikeport.train.regularisers import Drive

STEPPED = (snntorch.Leaky, snntorch.Synaptic)
"""snnTorch neurons that a user's net may hold; `Lif` is one of the first kind."""
READOUTS = ("count", "last_v")


@dataclass(frozen=True, eq=False)
class Record:
    """One forward pass. outputs [T, B, K]: what the readout takes in at every step, its current
    (last_v) or the output spikes (count); logits [B, K]: their mean or sum over time. Per spiking
    layer, by name: spikes [T, B, ...] (0 or 1) and membranes U [T, B, ...], the potential before
    the reset, in membrane units."""

    logits: Tensor
    outputs: Tensor
    spikes: Mapping[str, Tensor]
    membranes: Mapping[str, Tensor]


class SpikingNet(nn.Module):
    """A spiking network: `layers` over `steps` steps of `input`.

    layers: torch layers, our `Lif` and `Integrator`, snnTorch's Leaky and Synaptic with any
    arguments, our `Residual` and `Recurrent`. readout "last_v": an `Integrator` comes last, logits
    are its potential / steps.
    readout "count": spiking neurons come last, logits are their spike counts, 0..steps, a range
    wide enough for softmax and the chip's own decision. Raises ValueError for anything else.
    """

    def __init__(self, layers: nn.Sequential, *, input: Input, steps: int, readout: str) -> None:
        super().__init__()
        if readout not in READOUTS:
            raise ValueError(f"SpikingNet: readout is {readout!r}; allowed are 'count', 'last_v'")
        if steps < 1:
            raise ValueError(f"SpikingNet: steps is {steps}; it must be at least 1")
        self.layers, self.input, self.steps, self.readout = layers, input, steps, readout
        self._check()

    def _check(self) -> None:
        named = list(self.named_layers())
        for position, (name, layer) in enumerate(named, start=1):
            if isinstance(layer, (SpikingNeuron, nn.RNNBase)) and not isinstance(layer, STEPPED):
                raise ValueError(
                    f"layer {name!r} is a {type(layer).__name__}, which keeps a state we cannot "
                    "step; allowed are Lif, Leaky, Synaptic and layers without state"
                )
            if isinstance(layer, Integrator) and position < len(named):
                raise ValueError(f"layer {name!r} is an Integrator; it can only come last")
        last = through(self.layers._modules, None, visit=_itself, add=lambda *_: Residual({}))
        wanted = Integrator if self.readout == "last_v" else STEPPED
        if not isinstance(last, wanted):
            need = "an Integrator" if self.readout == "last_v" else "spiking neurons"
            raise ValueError(
                f"SpikingNet: readout {self.readout!r} needs {need} as the last layer, which is "
                f"{type(last).__name__}"
            )

    def named_layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Name and layer in order, blocks opened ("block.lif")."""
        return named_layers(self.layers._modules)

    def thresholds(self) -> dict[str, Tensor]:
        """Per spiking layer v_th, membrane units, as the neurons use it (graph attached)."""
        return {
            n: layer.threshold for n, layer in self.named_layers() if isinstance(layer, STEPPED)
        }

    def drives(self) -> dict[str, Drive]:
        """Per spiking layer right behind a norm, what the norm says about its current."""
        found: dict[str, Drive] = {}

        def note(name: str, layer: nn.Module, before: nn.Module | None) -> nn.Module:
            if (
                isinstance(layer, snntorch.Leaky)
                and isinstance(before, _BatchNorm)
                and before.affine
            ):
                found[name] = Drive(
                    before.bias, before.weight, float(layer.beta.detach()),
                    float(getattr(layer, "v_init", 0.0)),
                )  # fmt: skip
            return layer

        through(self.layers._modules, None, visit=note, add=lambda a, b: None)
        return found

    def forward(self, x: Tensor) -> Record:
        """Run the window x [T, B, *input.shape], float, from a zero state.

        Of a window that is one image, expanded, the layers in front of the first neurons see one
        step: the same values, but for the running variance of a norm (its n / (n - 1) counts n
        images instead of n T) and for dropout, which then drops the same in every step.
        """
        if x.shape[:1] + x.shape[2:] != (self.steps, *self.input.shape):
            raise ValueError(
                f"SpikingNet: input has shape {tuple(x.shape)}; needed is "
                f"[{self.steps}, B, {', '.join(map(str, self.input.shape))}]"
            )
        run = _Run(self.steps)
        start: Flow = still(x)
        last = made(through(self.layers._modules, start, visit=run, add=_added))
        if self.readout == "last_v":
            return Record(last / self.steps, run.outputs, run.spikes, run.membranes)
        return Record(last.sum(0), last, run.spikes, run.membranes)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Classes int64 [B] of the window x [T, B, *input.shape], in evaluation mode."""
        training = self.training
        try:
            logits: Tensor = self.eval()(x).logits
        finally:
            self.train(training)
        return logits.argmax(1)


def _itself(_: str, layer: nn.Module, __: nn.Module | None) -> nn.Module | None:
    return layer.lif if isinstance(layer, Recurrent) else layer


class Later(Mapping[str, Tensor]):
    """Tensors by name, each made when it is first asked for: most steps of training never do. They
    have a graph if, and only if, the pass had one, whoever looks first."""

    def __init__(self) -> None:
        self._makers: dict[str, Callable[[], Tensor]] = {}
        self._made: dict[str, Tensor] = {}
        self._graph = torch.is_grad_enabled()

    def add(self, name: str, make: Callable[[], Tensor]) -> None:
        """One more, which `make` makes."""
        self._makers[name] = make

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._made:
            with torch.set_grad_enabled(self._graph):
                self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(frozen=True, eq=False)
class _Firing:
    """Neurons that have met a current, and whose spikes nobody has asked for yet."""

    population: Population
    current: Tensor
    spikes: Callable[[], Tensor]

    def pooled(self, pool: nn.Module) -> Tensor | None:
        """What `pool` makes of the spikes, if that can be had in one pass with them."""
        if type(pool) is not nn.AvgPool2d or hooked(pool) or pool.padding not in (0, (0, 0)):
            return None
        side, *others = {*pair(pool.kernel_size), *pair(pool.stride)}
        uneven = any(length % side for length in self.current.shape[-2:])
        if others or uneven or pool.divisor_override:
            return None
        return self.population.spikes(self.current, pool=side)


Flow = Tensor | _Firing


class _Run:
    """One window on its way through the layers, [T, B, ...], or [1, B, ...] of one that is the
    same in every step."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.outputs = torch.zeros(0)
        self.spikes, self.membranes = Later(), Later()

    def __call__(self, name: str, layer: nn.Module, x: Flow) -> Flow:
        """What `layer` makes of x."""
        if isinstance(x, _Firing) and (pooled := x.pooled(layer)) is not None:
            return pooled
        x = made(x)
        if isinstance(layer, Lif):
            return self._fire(name, layer, x)
        if not isinstance(layer, (*STEPPED, Recurrent, Integrator)):
            return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # type: ignore[no-any-return]
        x = x.expand(self.steps, *x.shape[1:])
        if isinstance(layer, Integrator):
            self.outputs = x
            return layer(x)  # type: ignore[no-any-return]
        return self._step(name, layer, x)

    def _fire(self, name: str, lif: Lif, current: Tensor) -> Flow:
        if not lif.only_spikes:
            out: Tensor = lif(current, self.steps)
            self.spikes.add(name, lambda: out)
            self.membranes.add(name, lif.recall())
            return out
        population = lif.meet(current, self.steps)
        self.spikes.add(name, partial(population.spikes, current))
        self.membranes.add(name, partial(population.membrane, current))
        return _Firing(population, current, partial(self.spikes.__getitem__, name))

    def _step(self, name: str, layer: nn.Module, current: Tensor) -> Tensor:
        if isinstance(layer, Recurrent):
            name = f"{name}.lif"
            spikes: Tensor = layer(current)
            potential = layer.membrane
        else:
            spikes, potential = _stepped(layer, current)
        self.spikes.add(name, lambda: spikes)
        if isinstance(layer, Recurrent) or layer.reset_delay:
            # snnTorch's others only show the potential after the reset.
            self.membranes.add(name, lambda: potential)
        return spikes


def made(x: Flow) -> Tensor:
    """The tensor that flows on."""
    return x.spikes() if isinstance(x, _Firing) else x


def _added(a: Flow, b: Flow) -> Tensor:
    return made(a) + made(b)


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(y, x) of a size that torch takes for both where it is one number."""
    return (size, size) if isinstance(size, int) else size


def still(x: Tensor) -> Tensor:
    """[1, ...] of a window [T, ...] that is one step, expanded; any other as it is, as is one whose
    gradient is to be that of every step."""
    every = x.is_leaf and x.requires_grad
    return x[:1] if x.stride(0) == 0 and not every else x


def _stepped(layer: nn.Module, current: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and potentials [T, B, ...] of a snnTorch neuron, left without state afterwards.

    Called without states it goes on from its own, with or without `init_hidden`.
    """
    layer.reset_mem()
    spikes, potentials = [], []
    for a in current:
        out = layer(a)
        spikes.append(out[0] if isinstance(out, tuple) else out)
        potentials.append(layer.mem)
    layer.reset_mem()
    return torch.stack(spikes), torch.stack(potentials)
