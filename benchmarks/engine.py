"""How fast the engine is, as ratios measured in one run on one thread.

    python benchmarks/engine.py [--out benchmarks/results/engine.json]

A 784-512-10 network, T = 16 steps, B = 256 samples, about 12 % input and 20 % hidden spikes. Base
is the time of the two bare float32 matrix products, by numpy or torch, whichever is faster. Fast
candidates take turns, so that a busy machine slows all alike; `engine_dense` is the engine with
its sums by events switched off. Lava runs fewer samples; its time per sample-step is the slope
between two batch sizes, so that its start-up does not count.
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
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any, TypeVar  # noqa: E402

import numpy as np  # noqa: E402
import snntorch  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from where import machine, versions  # noqa: E402

from spikeport.sim import engine, files, product  # noqa: E402
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout  # noqa: E402
from spikeport.sim.synapse import Dense  # noqa: E402

SEED, STEPS, BATCH, RATE = 7, 16, 256, 0.12
SIZES = (784, 512, 10)
THRESHOLDS, DV = (100, 330), 400
REPETITIONS, LAVA_REPETITIONS = 15, 3
LAVA_BATCHES = (1, 129)
OUT = Path(__file__).parent / "results" / "engine.json"
Key = TypeVar("Key")
Summary = dict[str, float]
PACKAGES = ("numpy", "torch", "numba", "snntorch", "lava-nc")


def network() -> tuple[FixedNet, NDArray[np.uint8]]:
    """The network and its input uint8 [T, B, 784]."""
    rng = np.random.default_rng(SEED)
    names, populations, projections = ("input", "hidden", "out"), [], []
    for i, v_th in enumerate(THRESHOLDS):
        w = rng.integers(-60, 61, (SIZES[i + 1], SIZES[i]))
        populations.append(Population(name=names[i + 1], shape=(len(w),), v_th=v_th, dv=DV))
        projections.append(Projection(source=names[i], target=names[i + 1], synapse=Dense(w=w)))
    net = FixedNet(
        input=Input(shape=(SIZES[0],)),
        populations=tuple(populations),
        projections=tuple(projections),
        readout=Readout(population="out"),
        steps=STEPS,
    )
    return net, (rng.random((STEPS, BATCH, SIZES[0])) < RATE).astype(np.uint8)


def products(net: FixedNet, x: NDArray[Any]) -> dict[str, Callable[[], Any]]:
    """The bare float32 products on the sources that the network really sees."""
    hidden = engine.run(net, x)["hidden"].spikes
    sources = [s.reshape(-1, s.shape[-1]).astype(np.float32) for s in (x, hidden)]
    weights = [p.synapse.w_chip.T.astype(np.float32) for p in net.projections]
    tensors = [
        (torch.from_numpy(s), torch.from_numpy(w)) for s, w in zip(sources, weights, strict=True)
    ]
    return {
        "products_numpy": lambda: [s @ w for s, w in zip(sources, weights, strict=True)],
        "products_torch": lambda: [torch.mm(s, w) for s, w in tensors],
    }


def snntorch_forward(net: FixedNet, x: NDArray[Any]) -> Callable[[], Any]:
    """The same network in float: Linear and Leaky in a loop over the steps, without gradients."""
    linears, leakies = [], []
    for population, projection in zip(net.populations, net.projections, strict=True):
        linear = torch.nn.Linear(*projection.synapse.w.shape[::-1], bias=False)
        linear.weight.data = torch.from_numpy(projection.synapse.w_chip.astype(np.float32))
        linears.append(linear)
        leakies.append(
            snntorch.Leaky(
                beta=1 - DV / 4096, threshold=float(population.v_th), reset_mechanism="zero"
            )
        )
    spikes = torch.from_numpy(x.astype(np.float32))

    @torch.no_grad()
    def forward() -> Any:
        states = [leaky.reset_mem() for leaky in leakies]
        counts: Any = 0
        for s in spikes:
            for i, (linear, leaky) in enumerate(zip(linears, leakies, strict=True)):
                s, states[i] = leaky(linear(s), states[i])
            counts = counts + s
        return counts

    return forward


def interleaved(
    candidates: dict[Key, Callable[[], Any]], *, repetitions: int
) -> dict[Key, list[float]]:
    """Seconds of each candidate, taken in turns; one round before the first counts for nothing."""
    seconds: dict[Key, list[float]] = {name: [] for name in candidates}
    for repetition in range(repetitions + 1):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            candidate()
            if repetition:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def lava_slopes(net: FixedNet, x: NDArray[Any]) -> dict[str, Summary]:
    """Seconds per sample-step of Lava, in process and on its own runtime, without start-up."""
    from spikeport.hw import lava_inprocess, lava_run

    few, many = LAVA_BATCHES
    backends: dict[str, Callable[..., Any]] = {
        "lava_inprocess": lava_inprocess.run,
        "lava_runtime": lambda net, x, record: lava_run.run(net, x, timeout_s=300, record=record),
    }
    candidates = {
        (name, batch): lambda run=run, batch=batch: run(net, x[:, :batch], record=False)
        for name, run in backends.items()
        for batch in LAVA_BATCHES
    }
    seconds = interleaved(candidates, repetitions=LAVA_REPETITIONS)
    span = (many - few) * STEPS
    return {
        name: {
            "min": (min(seconds[name, many]) - min(seconds[name, few])) / span,
            "median": (median(seconds[name, many]) - median(seconds[name, few])) / span,
            "repetitions": LAVA_REPETITIONS,
        }
        for name in backends
    }


def measure() -> dict[str, Any]:
    """All figures, ready for JSON."""
    torch.set_num_threads(THREADS)
    net, x = network()
    prepared = engine.Engine(net)
    seconds = interleaved(
        {
            **products(net, x),
            "engine": lambda: engine.run(net, x),
            "engine_prepared": lambda: prepared.run(x),
            "engine_dense": lambda: dense_run(net, x),
            "snntorch": snntorch_forward(net, x),
        },
        repetitions=REPETITIONS,
    )
    per_step: dict[str, Summary] = {
        name: {
            "min": min(times) / (STEPS * BATCH),
            "median": median(times) / (STEPS * BATCH),
            "repetitions": REPETITIONS,
        }
        for name, times in seconds.items()
    }
    reason = None
    try:
        per_step |= lava_slopes(net, x)
    except (ImportError, RuntimeError) as error:  # Lava needs Python 3.10; the rest does not
        reason = f"{type(error).__name__}: {error}"
    hidden = engine.run(net, x)["hidden"].spikes.mean()
    return {
        "network": {"sizes": SIZES, "steps": STEPS, "batch": BATCH, "seed": SEED},
        "rates": {"input": round(float(x.mean()), 4), "hidden": round(float(hidden), 4)},
        "seconds_per_sample_step": per_step,
        "ratios": ratios(per_step),
        "lava_missing": reason,
    }


def dense_run(net: FixedNet, x: NDArray[Any]) -> None:
    """The engine with matrix products only."""
    below, product.EVENTS_BELOW = product.EVENTS_BELOW, 0.0
    engine.run(net, x)
    product.EVENTS_BELOW = below


def ratios(per_step: dict[str, Summary]) -> dict[str, float | None]:
    """Ratios of the least times; None where Lava did not run."""
    best = {name: summary["min"] for name, summary in per_step.items()}
    base = min(best["products_numpy"], best["products_torch"])

    def over_engine(name: str) -> float | None:
        return round(best[name] / best["engine"], 2) if name in best else None

    return {
        "engine_over_products": round(best["engine"] / base, 3),
        "prepared_engine_over_products": round(best["engine_prepared"] / base, 3),
        "dense_engine_over_products": round(best["engine_dense"] / base, 3),
        "snntorch_over_engine": over_engine("snntorch"),
        "lava_inprocess_over_engine": over_engine("lava_inprocess"),
        "lava_runtime_over_engine": over_engine("lava_runtime"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    result = {
        "command": "python benchmarks/engine.py",
        "machine": machine(),
        "threads": THREADS,
        "versions": versions(PACKAGES),
        **measure(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
