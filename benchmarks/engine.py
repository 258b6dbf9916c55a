"""How fast the engine is, as ratios measured in one run on one thread.

    python benchmarks/engine.py [--out benchmarks/results/engine.json]

Two networks, 784-512-10 and one of two convolutions, at three rates of input spikes. Base is the
time of the bare float32 products on the spikes that each layer really receives, by numpy or torch,
whichever is fastest. Candidates take turns, so that a busy machine slows all alike. `engine` lays
the weights out anew in every run, `engine_prepared` keeps them, `engine_floats` has neither sums by
events nor torch's products. Lava runs fewer samples; its time per sample-step is the slope between
two batch sizes, so that its start-up does not count. `engine_scaling.py` varies one size at a time.
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
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

import engine_nets as nets  # noqa: E402
import torch  # noqa: E402
from engine_scaling import scaling  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from shared import file_to_write, with_sentences  # noqa: E402
from turns import interleaved  # noqa: E402
from where import machine, versions  # noqa: E402

from spikeport.hw import lava_import  # noqa: E402
from spikeport.sim import engine, files, product  # noqa: E402
from spikeport.sim.net import FixedNet  # noqa: E402

REPETITIONS, LAVA_REPETITIONS = 9, 3
OUT = Path(__file__).parent / "results" / "engine.json"
PACKAGES = ("numpy", "torch", "numba", "snntorch", "lava-nc", "lava-dl")
Summary = dict[str, float]

# name: (network, samples, samples of the two runs of Lava)
NETS: dict[str, tuple[Callable[[], FixedNet], int, tuple[int, int]]] = {
    "784-512-10": (nets.dense_net, 256, (1, 129)),
    "conv": (nets.conv_net, 64, (1, 33)),
}


def summary(times: list[float], sample_steps: int) -> Summary:
    """Least and median seconds per sample-step."""
    return {
        "min": min(times) / sample_steps,
        "median": median(times) / sample_steps,
        "repetitions": len(times),
    }


def lava_slopes(
    net: FixedNet, x: NDArray[Any], batches: tuple[int, int]
) -> tuple[dict[str, Summary], str | None]:
    """Seconds per sample-step of Lava, in process and on its own runtime, without start-up; and
    why they are missing, where Lava is. LavaError where it is here and fails."""
    if missing := lava_import.available():
        return {}, missing
    from spikeport.hw import lava_inprocess, lava_run

    backends: dict[str, Callable[..., Any]] = {
        "lava_inprocess": lava_inprocess.run,
        "lava_runtime": lambda net, x, record: lava_run.run(net, x, timeout_s=300, record=record),
    }
    candidates = {
        (name, batch): lambda run=run, batch=batch: run(net, x[:, :batch], record=False)
        for name, run in backends.items()
        for batch in batches
    }
    seconds = interleaved(candidates, repetitions=LAVA_REPETITIONS, warm_up=0)
    few, many = batches
    span = (many - few) * net.steps
    slopes = {
        name: {
            kind: (of(seconds[name, many]) - of(seconds[name, few])) / span
            for kind, of in (("min", min), ("median", median))
        }
        | {"repetitions": LAVA_REPETITIONS}
        for name in backends
    }
    return slopes, None


def case(name: str, rate: float) -> dict[str, Any]:
    """All figures of one network at one rate of input spikes."""
    make, batch, lava_batches = NETS[name]
    net = make()
    x = nets.shown(net, batch, rate)
    prepared = engine.Engine(net)
    candidates = {
        **nets.products(net, x),
        "engine": lambda: engine.run(net, x),
        "engine_prepared": lambda: prepared.run(x),
        "engine_floats": lambda: floats_run(net, x),
        "snntorch": nets.snntorch_forward(net, x),
    }
    missing = None
    try:
        candidates["lava_dl"] = nets.lava_dl_forward(net, x)
    except ImportError as error:
        missing = f"{type(error).__name__}: {error}"
    seconds = interleaved(candidates, repetitions=REPETITIONS, warm_up=1)
    per_step = {key: summary(times, net.steps * batch) for key, times in seconds.items()}
    slopes, lava_missing = lava_slopes(net, x, lava_batches)
    per_step |= slopes
    return {
        "net": name,
        "rate": rate,
        "steps": net.steps,
        "batch": batch,
        "rates": rates(net, x),
        "ways": ways(prepared, x),
        "seconds_per_sample_step": per_step,
        "ratios": ratios(per_step),
        "lava_dl_missing": missing,
        "lava_missing": lava_missing,
    }


def rates(net: FixedNet, x: NDArray[Any]) -> dict[str, float]:
    """Spikes per neuron and step, of the input and every population."""
    trace = engine.run(net, x)
    spikes = {"input": x} | {name: part.spikes for name, part in trace.populations.items()}
    return {name: round(float(s.mean()), 4) for name, s in spikes.items()}


def ways(prepared: engine.Engine, x: NDArray[Any]) -> dict[str, str]:
    """How each product of a run on `x` is computed."""
    trace = prepared.run(x)
    products = [p for block in prepared.blocks for layer in block.layers for p in layer.products]
    return {p.source: p.way(x if p.source == "input" else trace[p.source].spikes) for p in products}


def floats_run(net: FixedNet, x: NDArray[Any]) -> None:
    """The engine with products of floats only."""
    before = product.DENSE_EVENTS_BELOW, product.CONV_EVENTS_BELOW, product.TORCH_FROM
    product.DENSE_EVENTS_BELOW = product.CONV_EVENTS_BELOW = (0.0, 0.0)
    product.TORCH_FROM = 1 << 62
    try:
        engine.run(net, x)
    finally:
        product.DENSE_EVENTS_BELOW, product.CONV_EVENTS_BELOW, product.TORCH_FROM = before


def ratios(per_step: dict[str, Summary]) -> dict[str, float | None]:
    """Ratios of the least times; None where a library is missing. The engine that others are
    compared with is prepared, as they are: their models are built before the clock starts."""
    best = {name: times["min"] for name, times in per_step.items()}
    base = min(seconds for name, seconds in best.items() if name.startswith("products_"))
    own = best["engine_prepared"]
    over_products = {
        f"{name}_over_products": round(best[name] / base, 3)
        for name in ("engine", "engine_prepared", "engine_floats")
    }
    over_engine = {
        f"{name}_over_engine_prepared": round(best[name] / own, 2) if name in best else None
        for name in ("snntorch", "lava_dl", "lava_inprocess", "lava_runtime")
    }
    return over_products | over_engine


@with_sentences()
def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=file_to_write, default=OUT)
    out = parser.parse_args().out
    torch.set_num_threads(THREADS)
    result = {
        "command": "python benchmarks/engine.py",
        "machine": machine(),
        "threads": THREADS,
        "seed": nets.SEED,
        "versions": versions(PACKAGES),
        "cases": [case(name, rate) for name in NETS for rate in nets.RATES],
        "scaling": scaling(),
    }
    files.write_text(out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
