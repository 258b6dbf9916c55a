"""Make the NIR files of this folder with the frameworks' own exporters, and record their spikes.

    python make_foreign.py FOLDER

needs norse, sinabs, rockpool, snntorch and nirtorch beside nir (see VERSIONS for those that made
the files here) and is run by hand. Each network `name` gives `name.nir`, written as the framework
exports it, and `name.npz`: x [T, 1, *shape], and what the framework itself computes for x, the
spikes of its neuron layers in order, [T, n] each. All steps are explicit calls; weights are drawn
so that most neurons spike.
"""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import nirtorch
import norse.torch as norse
import numpy as np
import rockpool.nn.modules as rockpool
import sinabs.activation as activation
import sinabs.layers as sinabs
import snntorch
import torch
from norse.torch import to_nir as norse_to_nir
from rockpool.nn.combinators import Sequential as RockpoolSequential
from sinabs.nir import to_nir as sinabs_to_nir
from snntorch.export_nir import export_to_nir
from torch import Tensor, nn

VERSIONS = {
    "nir": "1.0.8",
    "nirtorch": "2.6",
    "norse": "1.1.0",
    "rockpool": "3.1.0",
    "sinabs": "3.1.3",
    "snntorch": "1.0.0",
    "torch": "2.3.1",
}

STEPS = 40


def spikes(*shape: int, seed: int) -> Tensor:
    """x [T, 1, *shape] of 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(STEPS, 1, *shape, generator=generator) < 0.4).float()


def strong(layer: Any, factor: float) -> Any:
    """`layer` with its weights multiplied, so that neurons behind it spike."""
    with torch.no_grad():
        layer.weight.mul_(factor)
    return layer


def norse_lif() -> tuple[Any, Tensor, list[Tensor]]:
    """Leaky neurons with a leak potential, and leaky integrators as readout.

    Norse's exporter writes dt * tau for tau; with dt=1 the file holds seconds.
    """
    lif = norse.LIFBoxParameters(
        tau_mem_inv=torch.linspace(50.0, 200.0, 8),
        v_th=torch.linspace(0.1, 0.3, 8),
        v_leak=torch.full((8,), 0.05),
    )
    readout = norse.LIBoxParameters(tau_mem_inv=torch.full((3,), 50.0), v_leak=torch.zeros(3))
    first, cell = strong(nn.Linear(5, 8), 6.0), norse.LIFBoxCell(lif)
    second, last = nn.Linear(8, 3, bias=False), norse.LIBoxCell(readout)
    x = spikes(5, seed=1)
    state, out, fired, potential = None, None, [], []
    for now in x:
        z, state = cell(first(now), state)
        v, out = last(second(z), out)
        fired.append(z[0])
        potential.append(v[0])
    module = norse.SequentialState(first, cell, second, last)
    graph = norse_to_nir(module, torch.rand(5), dt=1.0)
    return graph, x, [torch.stack(fired), torch.stack(potential)]


def norse_iaf() -> tuple[Any, Tensor, list[Tensor]]:
    """Integrate-and-fire neurons behind a convolution."""
    conv = strong(nn.Conv2d(2, 3, 3, stride=2), 2.0)
    cell = norse.IAFCell(norse.IAFParameters(v_th=torch.full((3, 3, 3), 0.8)))
    x = spikes(2, 7, 7, seed=2)
    state, fired = None, []
    for now in x:
        z, state = cell(conv(now), state)
        fired.append(z.flatten())
    graph = norse_to_nir(norse.SequentialState(conv, cell), torch.rand(2, 7, 7))
    graph.infer_types()  # without it nir cannot write a convolution
    return graph, x, [torch.stack(fired)]


class SinabsNet(nn.Module):
    """Convolution, integrate-and-fire, sum pool, flattening, leaky neurons."""

    def __init__(self, reset: Any) -> None:
        super().__init__()
        options = {"batch_size": 1, "spike_fn": activation.SingleSpike, "reset_fn": reset}
        self.conv = strong(nn.Conv2d(2, 4, 3, padding=1), 2.0)
        self.iaf = sinabs.IAFSqueeze(spike_threshold=torch.tensor(0.7), **options)
        self.pool = sinabs.SumPool2d(2)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(4 * 3 * 3, 5)
        self.lif = sinabs.LIFSqueeze(
            tau_mem=torch.linspace(5.0, 30.0, 5), spike_threshold=torch.full((5,), 0.05), **options
        )

    def forward(self, x: Tensor) -> Tensor:
        self.fired = self.iaf(self.conv(x))
        return self.lif(self.linear(self.flatten(self.pool(self.fired))))  # type: ignore[no-any-return]


def sinabs_net(reset: Any) -> tuple[Any, Tensor, list[Tensor]]:
    module = SinabsNet(reset)
    x = spikes(2, 6, 6, seed=3)
    out = module(x[:, 0])
    fired = module.fired
    graph = sinabs_to_nir(module, x[:, 0])
    graph.infer_types()  # without it nir cannot write a convolution
    return graph, x, [fired.flatten(1), out]


def rockpool_lif() -> tuple[Any, Tensor, list[Tensor]]:
    """Leaky neurons, reset by subtraction, at most one spike in a step."""
    module = RockpoolSequential(
        rockpool.LinearTorch((6, 9), has_bias=False),
        rockpool.LIFNeuronTorch(9, tau_mem=0.02, max_spikes_per_dt=1.0, dt=1e-3),
    )
    x = spikes(6, seed=4)
    out, _, _ = module(x.transpose(0, 1))
    return rockpool.to_nir(module), x, [out[0]]


class SnnTorchNet(nn.Module):
    """Two layers, the first recurrent, for snnTorch's exporter, which traces one step."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.fc1 = strong(nn.Linear(6, 10), 2.0)
        options: dict[str, Any] = {"reset_mechanism": "zero", "linear_features": 10}
        if kind == "RLeaky":
            beta = torch.full((10,), 0.8)
            self.lif1 = snntorch.RLeaky(beta=beta, reset_delay=False, **options)
        else:
            decays = {"alpha": torch.full((10,), 0.5), "beta": torch.full((10,), 0.8)}
            self.lif1 = snntorch.RSynaptic(**decays, **options)
        self.fc2 = strong(nn.Linear(10, 4), 3.0)
        self.lif2 = snntorch.Leaky(
            beta=torch.full((4,), 0.9), threshold=torch.ones(4), reset_mechanism="zero"
        )

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if state is None:
            first = self.lif1.reset_mem()
            state = (first if isinstance(first, tuple) else (first,), self.lif2.reset_mem())
        hidden, out = state
        s1, *rest = self.lif1(self.fc1(x), *hidden)
        s2, v2 = self.lif2(self.fc2(s1), out)
        self.fired = s1
        return s2, ((s1, *rest), v2)


def snntorch_net(kind: str) -> tuple[Any, Tensor, list[Tensor]]:
    module = SnnTorchNet(kind)
    x = spikes(6, seed=5)
    state, hidden, out = None, [], []
    for now in x:
        z, state = module(now[0], state)
        hidden.append(module.fired)
        out.append(z)
    graph = export_to_nir(module, torch.rand(6), model_fwd_args=[None])
    return graph, x, [torch.stack(hidden), torch.stack(out)]


def nirtorch_net() -> tuple[Any, Tensor, list[Tensor]]:
    """A skip connection, traced by nirtorch's own tracer with a mapping of ours for the neurons."""

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = strong(nn.Linear(4, 4), 3.0)
            self.a = snntorch.Leaky(0.75, reset_mechanism="zero")
            self.second = strong(nn.Linear(4, 4), 3.0)
            self.b = snntorch.Leaky(0.5, reset_mechanism="zero")

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.a(self.first(x))
            return self.b(self.second(hidden) + hidden)  # type: ignore[no-any-return]

    module = Skip()
    x = spikes(4, seed=6)
    v_a, v_b, first, last = module.a.reset_mem(), module.b.reset_mem(), [], []
    for now in x:
        s_a, v_a = module.a(module.first(now[0]), v_a)
        s_b, v_b = module.b(module.second(s_a) + s_a, v_b)
        first.append(s_a)
        last.append(s_b)

    def neurons(layer: Any) -> nir.LIF:
        keep, ones = float(layer.beta), np.ones(4)
        return nir.LIF(
            tau=1e-3 / (1 - keep) * ones, r=1 / (1 - keep) * ones, v_leak=0 * ones, v_threshold=ones
        )

    def linear(layer: Any) -> nir.Affine:
        return nir.Affine(weight=layer.weight.detach().numpy(), bias=layer.bias.detach().numpy())

    graph = nirtorch.torch_to_nir(module, {snntorch.Leaky: neurons, nn.Linear: linear})
    return graph, x, [torch.stack(first), torch.stack(last)]


NETWORKS: dict[str, Callable[[], tuple[Any, Tensor, list[Tensor]]]] = {
    "norse_lif": norse_lif,
    "norse_iaf": norse_iaf,
    "sinabs_zero": lambda: sinabs_net(activation.MembraneReset()),
    "sinabs_subtract": lambda: sinabs_net(activation.MembraneSubtract()),
    "rockpool_lif": rockpool_lif,
    "snntorch_rleaky": lambda: snntorch_net("RLeaky"),
    "snntorch_rsynaptic": lambda: snntorch_net("RSynaptic"),
    "nirtorch_skip": nirtorch_net,
}


@torch.no_grad()
def main(folder: Path) -> None:
    """Write every network into `folder`."""
    for name, network in NETWORKS.items():
        torch.manual_seed(sorted(NETWORKS).index(name))
        graph, x, layers = network()
        nir.write(folder / f"{name}.nir", graph, compression=None)  # small arrays, smaller files
        arrays = {f"layer{i}": layer.numpy() for i, layer in enumerate(layers)}
        np.savez_compressed(folder / f"{name}.npz", x=x.numpy(), **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
