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
with `checkpoint`, and its seconds. --memory measures that alone and keeps the rest of the file.
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
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import replace  # noqa: E402
from math import isqrt  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from fused import CLASSES, PACKAGES, SEED, SHAPE, STEPS, Loop, fused_net, stepped_net  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402
from where import machine, versions  # noqa: E402

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
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(WARM_UP + REPETITIONS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if repetition >= WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    middle = {name: median(times) for name, times in seconds.items()}
    return {
        "seconds": middle,
        "ratios": {name: middle[name] / middle[BASE] for name in middle if name != BASE},
        "spikes_per_neuron_step": _rate(twin, x),
    }


def memory() -> dict[str, Any]:
    """MB and seconds of a gradient by steps, each in a process of its own."""
    found: dict[str, Any] = {"batch": IMAGES, "steps": {}}
    for steps in LONG:
        pair = {
            name: json.loads(subprocess.check_output([sys.executable, __file__, "--one", *said]))
            for name, said in {
                "whole": (str(steps), "0"), "checkpoint": (str(steps), str(isqrt(steps))),
            }.items()
        }  # fmt: skip
        seconds = pair["checkpoint"]["seconds"] / pair["whole"]["seconds"]
        found["steps"][str(steps)] = {**pair, "time_ratio": seconds}
    return found


def one(steps: int, every: int) -> dict[str, float]:
    """MB that a gradient through `steps` adds to this process, and least seconds of some more."""
    x, y = _images(IMAGES)
    net = compile(fused_net(norm=False).eval(), target="loihi").net
    surrogate = Surrogate("atan", 2.0)
    for length in (2, steps):  # a short life first, for what is loaded once
        checkpoint = min(every, length - 1) if every else None
        twin = Twin(replace(net, steps=length), surrogate=surrogate, checkpoint=checkpoint)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        _gradient(twin, x, y)
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    seconds = []
    for _ in range(AGAIN):
        start = time.perf_counter()
        _gradient(twin, x, y)
        seconds.append(time.perf_counter() - start)
    return {"mb": added / 1e3, "seconds": min(seconds)}


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


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--memory", action="store_true", help="measure memory alone")
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if arguments.one:
        print(json.dumps(one(*arguments.one)))
        return
    if arguments.memory:
        result = json.loads(arguments.out.read_text()) | {"memory": memory()}
    else:
        found = memory()
        kept = keep_freed()
        result = {
            "command": "python benchmarks/twin.py", "machine": machine(),
            "versions": versions(PACKAGES), "freed_memory_kept": kept, "threads": THREADS,
            "steps": STEPS, "batch": BATCH, "shape": SHAPE, **measure(), "memory": found,
        }  # fmt: skip
    print(json.dumps(result, indent=2))
    files.write_text(arguments.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
