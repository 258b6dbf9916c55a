"""How much faster a training step is than plain snnTorch loops, with the same gradients.

    python benchmarks/fused.py [--out benchmarks/results/fused.json]

The MNIST conv net (two 3x3 convolutions, 2x2 average pools, a linear readout), T = 8 steps of
direct coding, one thread. Three ways to train the same parameters, forward, backward and Adam:

    loop     as in snnTorch's tutorials: every layer is called once per step, neurons are
             `snntorch.Leaky` with reset to zero
    stepped  layers see all steps at once, only `snntorch.Leaky` is called once per step
    fused    layers see all steps at once, neurons live through theirs in one compiled pass

They take turns, so that a busy machine slows all alike, and freed memory is kept for all, as
`spikeport train` does it. Without batch norm all three are the same function and their gradients
are compared. With it the norm's statistics run over time, which a loop over whole networks cannot
do: its norm sees one step at a time, so that only times compare. Sums are added in another order,
so that in float32 a spike may fall the other way and move the gradients; in float64 none does.
"""

from __future__ import annotations

import os

THREADS = 1
# Read by the libraries when they are loaded, hence before they are.
os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(THREADS))
)

import argparse  # noqa: E402
import copy  # noqa: E402
import json  # noqa: E402
from collections import OrderedDict  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

import snntorch  # noqa: E402
import torch  # noqa: E402
from shared import file_to_write, with_sentences  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402
from turns import interleaved  # noqa: E402
from where import machine, versions  # noqa: E402

from spikeport.sim import files  # noqa: E402
from spikeport.sim.memory import keep_freed  # noqa: E402
from spikeport.train.config import ModelConfig  # noqa: E402
from spikeport.train.encode import direct, source  # noqa: E402
from spikeport.train.model import SpikingNet  # noqa: E402
from spikeport.train.networks.small import conv  # noqa: E402
from spikeport.train.neuron import Lif  # noqa: E402
from spikeport.train.surrogate import spike_function  # noqa: E402

STEPS, BATCH, SHAPE, CLASSES, SEED = 8, 64, (1, 28, 28), 10, 3
REPETITIONS, WARM_UP = 25, 3
OUT = Path(__file__).parent / "results" / "fused.json"
PACKAGES = ("numpy", "torch", "numba", "snntorch")


class Loop(nn.Module):
    """The layers of a SpikingNet, stepped one by one in plain snnTorch."""

    def __init__(self, net: SpikingNet) -> None:
        super().__init__()
        self.steps = net.steps
        self.parts = nn.ModuleList(_stepped(layer) for layer in copy.deepcopy(net.layers)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the images x [B, C, H, W]: the mean over time of the last layer's output."""
        states = {i: p.init_leaky() for i, p in enumerate(self.parts) if _is_leaky(p)}
        outputs = []
        for _ in range(self.steps):
            a = x
            for i, part in enumerate(self.parts):
                if i in states:
                    a, states[i] = part(a, states[i])
                else:
                    a = part(a)
            outputs.append(a)
        return torch.stack(outputs).mean(0)


def _is_leaky(layer: nn.Module) -> bool:
    return isinstance(layer, snntorch.Leaky)


def _stepped(layer: nn.Module) -> nn.Module:
    if isinstance(layer, Lif):
        surrogate = spike_function(layer.surrogate)
        threshold = float(layer.v_th)
        return snntorch.Leaky(
            beta=layer.keep_v, threshold=threshold, spike_grad=surrogate, reset_mechanism="zero"
        )
    if isinstance(layer, nn.BatchNorm2d):
        plain = nn.BatchNorm2d(layer.num_features)
        plain.load_state_dict(layer.state_dict())
        return plain
    return layer


def fused_net(*, norm: bool) -> SpikingNet:
    """The network as it is trained here."""
    torch.manual_seed(SEED)
    config = ModelConfig(name="conv", surrogate="atan", surrogate_width=2.0)
    net = conv(config, source("direct", SHAPE), steps=STEPS, classes=CLASSES)
    if norm:
        return net
    layers = {k: v for k, v in net.layers.named_children() if not k.startswith("norm")}
    for layer in layers.values():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data *= 4  # so that neurons fire without a norm, too
    return SpikingNet(
        nn.Sequential(OrderedDict(layers)), input=net.input, steps=STEPS, readout="last_v"
    )


def stepped_net(net: SpikingNet) -> SpikingNet:
    """The same with snnTorch's own neurons."""
    layers = {
        name: _stepped(layer) if isinstance(layer, Lif) else copy.deepcopy(layer)
        for name, layer in net.layers.named_children()
    }
    return SpikingNet(
        nn.Sequential(OrderedDict(layers)), input=net.input, steps=STEPS, readout="last_v"
    )


Models = dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]]
"""name -> module, and how logits come out of it for a window [T, B, ...] of one image."""


def models(*, norm: bool) -> Models:
    """The three."""
    net = fused_net(norm=norm)
    loop, stepped = Loop(net), stepped_net(net)
    return {
        "loop": (loop, lambda x: loop(x[0])),
        "stepped": (stepped, lambda x: stepped(x).logits),
        "fused": (net, lambda x: net(x).logits),
    }


def measure(*, norm: bool) -> dict[str, Any]:
    """Seconds of a training step of all, taking turns, and how far their gradients are apart."""
    generator = torch.Generator().manual_seed(SEED)
    x = direct(torch.rand(BATCH, *SHAPE, generator=generator), STEPS)
    y = torch.randint(CLASSES, (BATCH,), generator=generator)
    compared = {"float32": differences(norm, x, y), "float64": differences(norm, x.double(), y)}
    found = models(norm=norm)
    optimisers = {name: torch.optim.Adam(m.parameters()) for name, (m, _) in found.items()}

    def step(name: str) -> None:
        optimisers[name].zero_grad()
        cross_entropy(found[name][1](x), y).backward()
        optimisers[name].step()

    calls = {name: partial(step, name) for name in found}
    seconds = interleaved(calls, repetitions=REPETITIONS, warm_up=WARM_UP)
    middle = {name: median(times) for name, times in seconds.items()}
    return {
        "seconds": middle,
        "ratios": {name: middle[name] / middle["fused"] for name in ("loop", "stepped")},
        "spikes_per_neuron_step": _rate(found["fused"][0], x),
        "gradient_difference": compared,
    }


def differences(norm: bool, x: Tensor, y: Tensor) -> dict[str, float]:
    """How far the gradients of the others are from the fused ones, in the type of `x`."""
    gradients = {}
    for name, (model, logits) in models(norm=norm).items():
        model.to(x.dtype)
        cross_entropy(logits(x), y).backward()
        gradients[name] = [p.grad.clone() for p in model.parameters()]
    others = ("stepped",) if norm else ("loop", "stepped")
    return {name: max(map(_apart, gradients["fused"], gradients[name])) for name in others}


def _apart(a: Tensor, b: Tensor) -> float:
    """Largest difference of two gradients, as a share of the largest entry."""
    return float((a - b).abs().max() / b.abs().max())


@torch.no_grad()
def _rate(net: nn.Module, x: Tensor) -> float:
    spikes = net(x).spikes.values()
    return float(sum(s.sum() for s in spikes) / sum(s.numel() for s in spikes))


@with_sentences()
def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--out", type=file_to_write, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    kept = keep_freed()
    result = {
        "command": "python benchmarks/fused.py",
        "machine": machine(),
        "versions": versions(PACKAGES),
        "freed_memory_kept": kept,
        "threads": THREADS, "steps": STEPS, "batch": BATCH, "shape": SHAPE,
        "without_norm": measure(norm=False),
        "with_norm": measure(norm=True),
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    files.write_text(arguments.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
