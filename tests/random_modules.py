"""Random snnTorch modules of every kind that can be compiled, written as users write them.

`random_module(seed)` draws a chain (nn.Sequential, `init_hidden`) or a module whose forward loops
over time: static or changing input, dense or convolutional, all neurons in all settings that are
exact, recurrence in the layer or by hand, skips, feedback, every form of readout.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import snntorch
import torch
from torch import Tensor, nn

Rng = np.random.Generator


@dataclass(frozen=True)
class Case:
    """A module and what to call it with. kind: "chain", "static" or "timed"; x: [T, B, ...] for a
    chain, else what forward takes; steps: of the window; what: what it is made of."""

    kind: str
    module: nn.Module
    x: Tensor
    steps: int
    what: tuple[str, ...]


def random_module(seed: int) -> Case:
    """The case of `seed`, float32, in evaluation mode."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(["chain", "static", "timed"]))
    steps, batch = int(rng.integers(4, 14)), 3
    shape = (int(rng.integers(1, 3)), 6, 6) if rng.random() < 0.4 else (int(rng.integers(4, 12)),)
    many = (batch, *shape) if kind == "static" else (steps, batch, *shape)
    x = (torch.rand(many) < 0.3).float() if rng.random() < 0.5 else torch.rand(many)
    module: nn.Module
    if kind == "chain":
        module, what = _chain(rng, shape)
    else:
        module = LoopNet(rng, shape, steps=steps, timed=kind == "timed")
        what = module.what
    _settle(module, rng)
    return Case(kind, module.eval(), x, steps, (kind, *what))


def neurons(rng: Rng, shape: tuple[int, ...], **options: Any) -> Any:
    """A layer of neurons with settings that a chip can repeat exactly."""
    kinds = ["Leaky", "Synaptic", "RLeaky", "RSynaptic", "Lapicque"]
    kind = str(rng.choice(kinds, p=[0.35, 0.2, 0.2, 0.15, 0.1]))
    reset = str(rng.choice(["zero", "subtract"]))
    if kind in ("RSynaptic", "Lapicque"):
        reset = "subtract"  # none of their resets to zero is exact
    delayed = reset == "subtract" or (kind == "Leaky" and rng.random() < 0.5)
    options |= {"threshold": _each(rng, shape, 0.2, 0.8), "reset_mechanism": reset}
    beta = _each(rng, shape, 0.3, 1.0) if rng.random() < 0.8 else 1.0
    if kind == "Lapicque":
        return snntorch.Lapicque(
            R=float(rng.uniform(1, 4)), C=float(rng.uniform(1, 3)), time_step=0.9, **options
        )
    options["reset_delay"] = delayed
    if kind == "Leaky":
        factor = 0.5 if rng.random() < 0.2 else 1.0
        return snntorch.Leaky(beta, graded_spikes_factor=factor, **options)
    alpha = _each(rng, shape, 0.1, 0.9)
    if kind == "Synaptic":
        return snntorch.Synaptic(alpha, beta, **options)
    options |= _recurrence(rng, shape)
    if kind == "RLeaky":
        return snntorch.RLeaky(beta, **options)
    return snntorch.RSynaptic(alpha, beta, **options)


def _recurrence(rng: Rng, shape: tuple[int, ...]) -> dict[str, Any]:
    if rng.random() < 0.3:
        return {"all_to_all": False, "V": _each(rng, shape, -0.5, 0.5)}
    if len(shape) == 1:
        return {"linear_features": shape[0]}
    return {"conv2d_channels": shape[0], "kernel_size": int(rng.choice([1, 3]))}


def _each(rng: Rng, shape: tuple[int, ...], low: float, high: float) -> Any:
    """One value for all neurons or one for each."""
    if rng.random() < 0.5:
        return float(np.float32(rng.uniform(low, high)))
    return torch.empty(shape).uniform_(low, high)


def _settle(module: nn.Module, rng: Rng) -> None:
    """Norms with statistics of their own, and weights large enough to make spikes."""
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.3, 1.5)
            nn.init.normal_(part.bias, 0.1, 0.1)
        elif isinstance(part, (nn.Linear, nn.Conv2d)):
            part.weight.data *= float(rng.uniform(1.0, 2.5))


def _stateless(rng: Rng, shape: tuple[int, ...]) -> tuple[list[nn.Module], tuple[int, ...]]:
    """Layers from a source of `shape` to the next neurons, and the shape of those."""
    layers: list[nn.Module] = []
    if len(shape) == 3 and rng.random() < 0.6:
        channels = int(rng.integers(1, 4))
        layers.append(nn.Conv2d(shape[0], channels, 3, padding=1, bias=bool(rng.random() < 0.5)))
        if rng.random() < 0.5:
            layers.append(nn.BatchNorm2d(channels))
        shape = (channels, *shape[1:])
        if shape[1] % 2 == 0 and rng.random() < 0.5:
            layers.append(nn.AvgPool2d(2))
            shape = (channels, shape[1] // 2, shape[2] // 2)
        return layers, shape
    if len(shape) == 3:
        layers.append(nn.Flatten())
    width = int(rng.integers(3, 12))
    layers.append(nn.Linear(int(np.prod(shape)), width, bias=bool(rng.random() < 0.6)))
    if rng.random() < 0.4:
        layers.append(nn.BatchNorm1d(width))
    if rng.random() < 0.3:
        layers.append(nn.Dropout(0.5))
    return layers, (width,)


def _chain(rng: Rng, shape: tuple[int, ...]) -> tuple[nn.Sequential, tuple[str, ...]]:
    layers: list[nn.Module] = []
    depth = int(rng.integers(1, 4))
    for _ in range(depth):
        more, shape = _stateless(rng, shape)
        layers += [*more, neurons(rng, shape, init_hidden=True)]
    last: Any = layers[-1]
    last.graded_spikes_factor = torch.tensor(1.0)
    named = OrderedDict((f"l{i}", layer) for i, layer in enumerate(layers))
    return nn.Sequential(named), tuple(type(layer).__name__ for layer in layers)


class LoopNet(nn.Module):
    """A network whose forward loops over time, with all that users write into such a loop."""

    def __init__(self, rng: Rng, shape: tuple[int, ...], *, steps: int, timed: bool) -> None:
        super().__init__()
        self.steps, self.timed = steps, timed
        self.flatten_by = int(rng.integers(3))
        self.depth = int(rng.integers(1, 4))
        self.hidden = bool(rng.random() < 0.3)
        self.output = str(rng.choice(["stack", "sum", "pair", "last_v", "sum_v"]))
        self.what: tuple[str, ...] = (self.output, "hidden" if self.hidden else "states")
        self.plain: tuple[bool, ...] = ()
        shapes: list[tuple[int, ...]] = []
        first = shape
        for i in range(self.depth):
            before, (layers, shape) = shape, _stateless(rng, shape)
            self.add_module(f"in{i}", nn.Sequential(*layers))
            last = i == self.depth - 1
            lif = neurons(rng, shape, init_hidden=self.hidden)
            if last and self.output.endswith("_v"):
                lif = snntorch.Leaky(0.9, reset_mechanism="none", init_hidden=self.hidden)
            if last and self.output.startswith(("stack", "sum", "pair")):
                lif.graded_spikes_factor = torch.tensor(1.0)
            self.add_module(f"lif{i}", lif)
            self.what += (*(type(layer).__name__ for layer in layers), type(lif).__name__)
            self._branches(rng, i, first, before=before, after=shape, shapes=shapes)
            shapes.append(shape)

    def _branches(
        self, rng: Rng, i: int, first: tuple[int, ...], *, before: tuple[int, ...],
        after: tuple[int, ...], shapes: list[tuple[int, ...]],
    ) -> None:  # fmt: skip
        """Recurrence by hand, a skip from the input, a plain skip, feedback to the layer before."""
        size = int(np.prod(after))
        readout = i == self.depth - 1 and self.output.endswith("_v")
        if len(after) == 1 and rng.random() < 0.3 and not readout:
            self.add_module(f"rec{i}", nn.Linear(size, size, bias=bool(rng.random() < 0.5)))
        if len(first) == 1 and len(after) == 1 and i and rng.random() < 0.3:
            self.add_module(f"skip{i}", nn.Linear(first[0], size, bias=False))
        self.plain = (*self.plain, before == after and bool(rng.random() < 0.5))
        if i and len(after) == 1 and len(shapes[-1]) == 1 and rng.random() < 0.3 and not readout:
            self.add_module(f"back{i}", nn.Linear(size, shapes[-1][0]))
        self.what += tuple(n for n in ("rec", "skip", "back") if hasattr(self, f"{n}{i}"))

    def forward(self, x: Tensor) -> Any:
        """Spikes, potentials or both, of the last layer."""
        lifs: list[Any] = [getattr(self, f"lif{i}") for i in range(self.depth)]
        states = [lif.reset_mem() for lif in lifs]
        batch = x.shape[1] if self.timed else x.shape[0]
        spikes: list[Any] = [None] * self.depth
        potentials: list[Tensor] = []
        recorded: list[Tensor] = []
        for step in range(self.steps):
            now = x[step] if self.timed else x
            before, spikes = spikes, list(spikes)
            for i, lif in enumerate(lifs):
                current = self._current(i, now, x=x[step] if self.timed else x, before=before)
                if self.hidden:
                    now = lif(current)
                else:
                    given = states[i] if isinstance(states[i], tuple) else (states[i],)
                    now, *rest = lif(current, *given)
                    recurrent = isinstance(lif, (snntorch.RLeaky, snntorch.RSynaptic))
                    states[i] = (now, *rest) if recurrent else tuple(rest)
                spikes[i] = now
            recorded.append(now)
            potentials.append(lifs[-1].mem)
        assert batch == now.size(0)
        return self._read(recorded, potentials)

    def _current(self, i: int, now: Tensor, *, x: Tensor, before: list[Any]) -> Tensor:
        current = now
        for layer in getattr(self, f"in{i}"):
            if not isinstance(layer, nn.Flatten):
                current = layer(current)
            elif self.flatten_by == 0:
                current = layer(current)
            elif self.flatten_by == 1:
                current = current.view(current.size(0), -1)
            else:
                current = torch.flatten(current, start_dim=1)
        if hasattr(self, f"skip{i}"):
            current = current + getattr(self, f"skip{i}")(x)
        if self.plain[i]:
            current = now * 0.25 + current
        if hasattr(self, f"rec{i}"):
            silent = torch.zeros_like(current)
            current = current + getattr(self, f"rec{i}")(silent if before[i] is None else before[i])
        if hasattr(self, f"back{i + 1}"):
            silent = current.new_zeros(len(current), getattr(self, f"back{i + 1}").in_features)
            later = silent if before[i + 1] is None else before[i + 1]
            current = current - getattr(self, f"back{i + 1}")(later)
        return current

    def _read(self, recorded: list[Tensor], potentials: list[Tensor]) -> Any:
        if self.output == "stack":
            return torch.stack(recorded)
        if self.output == "sum":
            return sum(recorded)
        if self.output == "pair":
            return torch.stack(recorded, dim=0), torch.stack(potentials, dim=0)
        return potentials[-1] if self.output == "last_v" else torch.stack(potentials).sum(dim=0)


def fires(distance: Tensor) -> Tensor:
    """The step function, in the type of its argument, where surrogates make float32."""
    return (distance > 0).to(distance.dtype)


@torch.no_grad()
def spikes_of(case: Case, module: nn.Module, x: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a module of `case` as it is: spikes (0 or 1) and potentials [T, B, n] by layer."""
    spikes: dict[str, list[Any]] = {}
    potentials: dict[str, list[Any]] = {}

    def note(name: str) -> Any:
        def hook(layer: Any, _: Any, output: Any) -> None:
            s = output[0] if isinstance(output, tuple) else output
            spikes.setdefault(name, []).append((s != 0).flatten(1).double().numpy())
            potentials.setdefault(name, []).append(layer.mem.flatten(1).double().numpy())

        return hook

    layers = [(n, m) for n, m in module.named_modules() if isinstance(m, snntorch.SpikingNeuron)]
    handles = [layer.register_forward_hook(note(name)) for name, layer in layers]
    if case.kind == "chain":
        for _, layer in layers:
            layer.reset_mem()
        for now in x:
            module(now)
    else:
        module(x)
    for handle in handles:
        handle.remove()
    return (
        {name: np.stack(s) for name, s in spikes.items()},
        {name: np.stack(v) for name, v in potentials.items()},
    )
