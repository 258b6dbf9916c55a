"""How many hardware faults a minute a campaign judges on a conv net, and what they cost.

    python benchmarks/faults.py [--data FOLDER --runs FOLDER] [--trials 10000] [--images 100]
        [--out benchmarks/results/faults.json] [--campaign FILE]

With --data and --runs it is the plain MNIST net of the lab, trained if its run is absent, on test
images of MNIST. Without them the net is drawn: 28x28 pixels sent directly, 8 and 16 maps of 3x3
convolutions with 2x2 sum pools behind each, and a dense readout of 10 potentials, T = 4; thresholds
are set so that about a tenth of each layer's neurons spike, images are sparse noise, and labels are
what the net decides without faults, so that the accuracy is the share of decisions that stay. Every
trial has one fault, kinds equally likely, on both processors; starting the processes and loading
compiled code count. --campaign also keeps the campaign's own file.
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
from collections import Counter  # noqa: E402
from dataclasses import asdict, replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from lab_plan import Job  # noqa: E402
from lab_run import bundle_of  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from shared import existing_folder, file_to_write, with_sentences  # noqa: E402
from where import command_line, machine, versions  # noqa: E402

from spikeport.sim import bundle, engine, reference  # noqa: E402
from spikeport.sim.arith import STATE_SHIFT, V_TH_MAX  # noqa: E402
from spikeport.sim.faults import (  # noqa: E402
    KINDS,
    Campaign,
    Result,
    accuracy,
    by_bit,
    by_kind,
    by_part,
    report,
    run,
    write,
)
from spikeport.sim.faults.campaign import decisions  # noqa: E402
from spikeport.sim.files import write_text  # noqa: E402
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout  # noqa: E402
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d  # noqa: E402

SEED, STEPS, SIDE, CLASSES = 7, 4, 28, 10
MAPS, RATE, DV = (8, 16), 0.1, 2048
BRIGHT, LOST = 0.2, 0.2  # share of bright pixels; of spikes that a lossy wire drops or doubles
PROCESSES, CRITICAL = 2, 20
OUT = Path(__file__).parent / "results" / "faults.json"
PACKAGES = ("numpy", "numba")

Task = tuple[FixedNet, NDArray[np.int64], NDArray[np.int64]]


def drawn(images: int) -> Task:
    """The net, input int64 [T, B, 1, 28, 28] and what it decides, int64 [B]."""
    rng = np.random.default_rng(SEED)
    shape = (images, 1, SIDE, SIDE)
    pixels = rng.integers(0, 256, shape) * (rng.random(shape) < BRIGHT)
    x = np.broadcast_to(pixels, (STEPS, *shape)).copy()
    populations: list[Population] = []
    projections: list[Projection] = []
    source, side, before = "input", SIDE, 1
    for i, maps in enumerate(MAPS, start=1):
        w = rng.normal(0, 40, (maps, before, 3, 3)).round().clip(-128, 127)
        conv = Conv2d(w=w, geometry=ConvGeometry(padding=(1, 1)))
        pool = SumPool2d(kernel=(2, 2), stride=(2, 2))
        populations += [
            Population(name=f"conv{i}", shape=(maps, side, side), v_th=V_TH_MAX, dv=DV),
            Population(name=f"pool{i}", shape=(maps, side // 2, side // 2), v_th=0, dv=DV),
        ]
        projections += [
            Projection(source=source, target=f"conv{i}", synapse=conv),
            Projection(source=f"conv{i}", target=f"pool{i}", synapse=pool),
        ]
        source, side, before = f"pool{i}", side // 2, maps
    w = 2 * rng.normal(0, 40, (CLASSES, before * side * side)).round().clip(-128, 127)
    populations.append(Population(name="out", shape=(CLASSES,), v_th=V_TH_MAX, dv=0))
    projections.append(Projection(source=source, target="out", synapse=Dense(w=w, w_exp=-1)))
    net = FixedNet(
        input=Input(shape=(1, SIDE, SIDE), kind="graded", payload_bits=8, scale=255.0),
        populations=tuple(populations), projections=tuple(projections),
        readout=Readout(population="out", kind="last_v"), steps=STEPS,
    )  # fmt: skip
    for name in ("conv1", "conv2"):
        net = settled(net, name, x[:, :10])
    return net, x, decisions(engine.run(net, x).logits(net.readout))


def settled(net: FixedNet, name: str, x: NDArray[np.int64]) -> FixedNet:
    """`net` with a threshold at which about RATE of the neurons of `name` spike in a step."""
    v = reference.run(net, x)[name].v
    assert v is not None
    v_th = int(np.quantile(v, 1 - RATE)) >> STATE_SHIFT
    return replace(
        net,
        populations=tuple(replace(p, v_th=v_th) if p.name == name else p for p in net.populations),
    )


def exported(data: Path, runs: Path, images: int) -> Task:
    """The lab's plain MNIST net, input and labels of that many test images."""
    job = Job(data=data, runs=runs, scale="lab", set="mnist", recipe="plain", seed=0)
    read = bundle.read(bundle_of(job, job.folder / "faults", images=images))
    assert read.vectors.labels is not None
    return read.net, read.vectors.inputs, read.vectors.labels


def figures(result: Result, seconds: float) -> dict[str, Any]:
    """What is kept of a campaign, ready for JSON."""
    (name,) = result.sets
    kinds = Counter(trial.faults[0].kind for trial in result.trials)
    rows = {"kinds": by_kind, "bits": by_bit, "parts": by_part}
    return {
        "trials": len(result.trials),
        "images": result.samples,
        "steps": result.header["steps"],
        "seconds": round(seconds, 1),
        "faults_per_second": round(len(result.trials) / seconds, 1),
        "shares": {kind: round(kinds[kind] / len(result.trials), 4) for kind in sorted(kinds)},
        "harmless": round(np.mean([t.changed[name] == 0 for t in result.trials]), 4),
        "accuracy": accuracy(result, name),
        "critical": {
            key: [
                {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(row).items()}
                for row in summary(result, name)[:CRITICAL]
            ]
            for key, summary in rows.items()
        },
    }


@with_sentences()
def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--data", type=existing_folder, default=None)
    parser.add_argument("--runs", type=Path, default=None)
    parser.add_argument("--campaign", type=file_to_write, default=None)
    parser.add_argument("--out", type=file_to_write, default=OUT)
    a = parser.parse_args()
    if (a.data is None) != (a.runs is None):
        parser.error("--data and --runs go together; without both the net is drawn")
    net, x, labels = exported(a.data, a.runs, a.images) if a.data else drawn(a.images)
    campaign = Campaign(
        seed=SEED, kinds={kind: 1 for kind in KINDS if kind != "core"}, at_once=(1,), rate=LOST
    )
    began = time.perf_counter()
    result = run(
        net, {"clean": x}, labels, campaign=campaign, trials=a.trials, processes=a.processes
    )
    seconds = time.perf_counter() - began
    if a.campaign:
        write(a.campaign, result)
    kept = {
        "command": command_line(parser, a, apart=("campaign",)),
        "net": "the lab's plain MNIST net" if a.data else "drawn net",
        "machine": machine(),
        "processes": a.processes,
        "versions": versions(PACKAGES),
        "neurons": sum(p.size for p in net.populations),
        "weights": sum(int(np.size(p.synapse.w)) for p in net.projections),
        "rates": {
            name: round(float(part.spikes.mean()), 4)
            for name, part in engine.run(net, x).populations.items()
        },
        **figures(result, seconds),
    }
    write_text(a.out, json.dumps(kept, indent=1) + "\n")
    print(report(result), f"{seconds:.1f} s", sep="\n")


if __name__ == "__main__":
    main()
