"""What an attacker's gradient through the chip's integers costs, beside that of plain snnTorch.

    python benchmarks/twin.py [--out benchmarks/results/twin.json] [--memory]

The MNIST conv net, T = 8 steps of direct coding, one thread: logits and the gradient of the
cross-entropy at the images, as every attack asks for it.

    snntorch  the float network stepped as in snnTorch's tutorials, every layer once per step
    stepped   the same with layers that see all steps at once, only `snntorch.Leaky` stepped
    float     spikeport's float twin
    twin      spikeport's integer twin: the chip's arithmetic bit for bit
    assg      the twin through adaptively sharpened surrogate gradients, which remember
    forward   the integer twin without gradients, as Square asks it

They take turns, so that a busy machine slows all alike, and freed memory is kept for all.

Memory: what a gradient through T steps adds to the largest size of a fresh process, without and
with `checkpoint`; and its seconds, by turns too. --memory measures that alone and keeps the rest of
the file, which must come from the same machine and versions.
"""

from __future__ import annotations

import os

THREADS = 1
# Read by the libraries when they are loaded, hence before they are.
os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(THREADS))
)

import argparse  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import replace  # noqa: E402
from functools import partial  # noqa: E402
from math import isqrt  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from fused import CLASSES, PACKAGES, SEED, SHAPE, STEPS, Loop, fused_net, stepped_net  # noqa: E402
from shared import file_to_write, with_sentences  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402
from turns import interleaved  # noqa: E402
from where import goes_on, machine, versions  # noqa: E402

from spikeport.export import compile  # noqa: E402
from spikeport.sim import files  # noqa: E402
from spikeport.sim.memory import keep_freed  # noqa: E402
from spikeport.sim.surrogate import Surrogate  # noqa: E402
from spikeport.sim.twin import Twin  # noqa: E402
from spikeport.sim.twin_float import FloatTwin  # noqa: E402
from spikeport.sim.twin_rules import Assg  # noqa: E402
from spikeport.train.encode import direct  # noqa: E402

BATCH, REPETITIONS, WARM_UP = 128, 25, 3
LONG, IMAGES, AGAIN = (16, 64, 256), 32, 5
OUT = Path(__file__).parent / "results" / "twin.json"
BASE = "snntorch"
RSS_BYTES = 1 if sys.platform == "darwin" else 1024
"""Unit of `ru_maxrss`: bytes on macOS, kibibytes on Linux (getrusage(2))."""


def measure() -> dict[str, Any]:
    """Seconds of each, taking turns, and ratios to plain snnTorch."""
    net = fused_net(norm=False).eval()
    compiled = compile(net, target="loihi")
    twin = Twin(compiled.net, surrogate=Surrogate("atan", 2.0))
    sharp = twin.through(Assg(), detach_reset=True)
    loop, stepped = Loop(net).eval(), stepped_net(net).eval()
    for model in (loop, stepped):
        model.requires_grad_(False)
    x, y = _images(BATCH)
    everyone = torch.arange(BATCH)

    def remembering(images: Tensor) -> Tensor:
        sharp.attend(everyone, samples=BATCH)
        logits: Tensor = sharp(images)
        return logits

    models: dict[str, Callable[[Tensor], Tensor]] = {
        "snntorch": loop,
        "stepped": lambda images: stepped(direct(images, STEPS)).logits,
        "float": FloatTwin(compiled.float_net, surrogate=Surrogate("atan", 2.0)),
        "twin": twin,
        "assg": remembering,
    }

    calls: dict[str, Callable[[], Any]] = {
        name: (lambda model=model: _gradient(model, x, y)) for name, model in models.items()
    }
    calls["forward"] = torch.no_grad()(lambda: twin(x))
    seconds = interleaved(calls, repetitions=REPETITIONS, warm_up=WARM_UP)
    middle = {name: median(times) for name, times in seconds.items()}
    return {
        "seconds": middle,
        "ratios": {name: middle[name] / middle[BASE] for name in middle if name != BASE},
        "spikes_per_neuron_step": _rate(twin, x),
    }


def memory() -> dict[str, Any]:
    """MB of a gradient by steps, each in a process of its own, and least seconds of it here, where
    freed memory should be kept. To be called before this process has grown: on Linux the largest
    size of a child begins at its parent's."""
    ways = {steps: {"whole": 0, "checkpoint": isqrt(steps)} for steps in LONG}
    added = {
        (steps, name): json.loads(
            subprocess.check_output([sys.executable, __file__, "--one", str(steps), str(every)])
        )
        for steps, both in ways.items()
        for name, every in both.items()
    }
    found: dict[str, Any] = {"batch": IMAGES, "steps": {}}
    x, y = _images(IMAGES)
    for steps, both in ways.items():
        twins = {name: long_twin(steps, every) for name, every in both.items()}
        calls = {name: partial(_gradient, twin, x, y) for name, twin in twins.items()}
        seconds = interleaved(calls, repetitions=AGAIN, warm_up=1)
        least = {name: min(times) for name, times in seconds.items()}
        pair = {name: {"mb": added[steps, name], "seconds": least[name]} for name in both}
        ratio = least["checkpoint"] / least["whole"]
        found["steps"][str(steps)] = {**pair, "time_ratio": ratio}
    return found


def long_twin(steps: int, every: int) -> Twin:
    """The net's twin with so many steps; every: steps between kept states, 0 for no checkpoint."""
    net = compile(fused_net(norm=False).eval(), target="loihi").net
    checkpoint = min(every, steps - 1) if every else None
    return Twin(replace(net, steps=steps), surrogate=Surrogate("atan", 2.0), checkpoint=checkpoint)


def added_mb(steps: int, every: int) -> float:
    """MB that a gradient through `steps` adds to the largest size of this process."""
    x, y = _images(IMAGES)
    _gradient(long_twin(2, every), x, y)  # a short life first, for what is loaded once
    twin = long_twin(steps, every)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _gradient(twin, x, y)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * RSS_BYTES / 1e6


def _images(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randint(0, 256, (count, *SHAPE), generator=generator) / 255
    return x, torch.randint(CLASSES, (count,), generator=generator)


def _gradient(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> None:
    images = x.clone().requires_grad_()
    cross_entropy(model(images), y).backward()


def _rate(twin: Twin, x: Tensor) -> float:
    trace = twin.run((x * 255).round().numpy().astype("int64")[None].repeat(STEPS, 0))
    spikes = [part.spikes for part in trace.populations.values()]
    return sum(int(s.sum()) for s in spikes) / sum(s.size for s in spikes)


@with_sentences()
def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--out", type=file_to_write, default=OUT)
    parser.add_argument("--memory", action="store_true", help="measure memory alone")
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if arguments.one:
        print(json.dumps(added_mb(*arguments.one)))
        return
    label = {
        "machine": machine(), "versions": versions(PACKAGES), "freed_memory_kept": keep_freed(),
        "threads": THREADS,
    }  # fmt: skip
    if arguments.memory:
        result = goes_on(arguments.out, label) | {"memory": memory()}
    else:
        found = memory()
        result = {
            "command": "python benchmarks/twin.py", **label,
            "steps": STEPS, "batch": BATCH, "shape": SHAPE, **measure(), "memory": found,
        }  # fmt: skip
    print(json.dumps(result, indent=2))
    files.write_text(arguments.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
