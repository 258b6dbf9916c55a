"""What three networks cost on both chips, and what inputs that are never silent add to it.

    python benchmarks/cost.py [--out results/cost.json]

Weights are random and thresholds such that some neurons spike, so that figures stand for shapes and
rates, not for a task.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared import file_to_write, with_sentences
from where import machine, versions

from spikeport.hw.activity import activity
from spikeport.hw.constants import SCALED
from spikeport.hw.energy import band
from spikeport.hw.place import place
from spikeport.hw.runtime import runtime
from spikeport.hw.target import target
from spikeport.sim import engine, files
from spikeport.sim.arith import STATE_SHIFT, V_TH_MAX
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d, Synapse

RESULT = Path(__file__).parent / "results" / "cost.json"
COMMAND = "python benchmarks/cost.py"
STEPS, BATCH, SEED = 16, 8, 0
INPUT_RATE, ABOVE = 0.2, 0.1  # ABOVE: share of potentials over the threshold, were there no reset


def dense(*sizes: int) -> FixedNet:
    """Dense layers of these sizes, the first the input's."""
    rng = np.random.default_rng(SEED)
    synapses = [Dense(w=2 * rng.integers(-90, 110, (n, before))) for before, n in pairwise(sizes)]
    return network((sizes[0],), list(synapses))


def conv(side: int, *channels: int) -> FixedNet:
    """3 x 3 convolutions, a 2 x 2 pool behind each, and ten dense neurons."""
    rng = np.random.default_rng(SEED)
    same, whole = ConvGeometry(padding=(1, 1)), (side, side)
    synapses: list[Synapse] = []
    for before, n in pairwise(channels):
        synapses.append(Conv2d(w=rng.integers(-90, 110, (n, before, 3, 3)), geometry=same))
        synapses.append(SumPool2d(kernel=(2, 2), stride=(2, 2), w=64))
        side //= 2
    flat = channels[-1] * side**2
    synapses.append(Dense(w=2 * rng.integers(-90, 110, (10, flat))))
    return network((channels[0], *whole), synapses)


def network(shape: tuple[int, ...], synapses: list[Synapse]) -> FixedNet:
    """Layers one after the other, each with the threshold that ABOVE asks for."""
    populations: list[Population] = []
    projections: list[Projection] = []
    source, input_ = "input", Input(shape=shape)
    for i, synapse in enumerate(synapses):
        name = f"layer{i}"
        shape = synapse.output_shape(shape)
        populations.append(Population(name=name, shape=shape, v_th=V_TH_MAX, dv=1024))
        projections.append(Projection(source=source, target=name, synapse=synapse))
        source = name
        net = FixedNet(
            input=input_, populations=tuple(populations), projections=tuple(projections),
            readout=Readout(population=name), steps=STEPS,
        )  # fmt: skip
        v = np.asarray(engine.run(net, usual(net), record=True)[name].v)
        v_th = max(0, int(np.quantile(v, 1 - ABOVE)) >> STATE_SHIFT)
        populations[-1] = replace(populations[-1], v_th=v_th)
    return replace(net, populations=tuple(populations))


def usual(net: FixedNet) -> NDArray[np.int64]:
    """Random input spikes [T, B, *shape]."""
    rng = np.random.default_rng(SEED)
    return (rng.random((STEPS, BATCH, *net.input.shape)) < INPUT_RATE).astype(np.int64)


NETS = {
    "784-128-64-10": lambda: dense(784, 128, 64, 10),
    "2312-512-256-10": lambda: dense(2312, 512, 256, 10),
    "2x32x32, 16 and 32 channels": lambda: conv(32, 2, 16, 32),
}


def measured(net: FixedNet, name: str) -> dict[str, Any]:
    """Figures of usual input and of input that spikes everywhere in every step."""
    placement = place(net, target(name))
    found: dict[str, Any] = {"target": name, "cores": len(placement.cores)}
    for kind, x in (("usual", usual(net)), ("never_silent", np.ones_like(usual(net)))):
        trace = engine.run(net, x, record=True)
        begin = time.perf_counter()
        a = activity(net, x, trace, placement)
        counted = time.perf_counter() - begin
        between = band(a)
        found[kind] = {
            "rate": float(a.spikes.sum()) / (a.samples * STEPS * float(a.neurons.sum())),
            "synapses": float(a.synapses.sum()) / a.samples,
            "joules": between.joules, "seconds": between.seconds,
            "bound": runtime(a, SCALED).seconds if name == SCALED.chip else None,
            "counted_in_seconds": counted,
            "labels": [e.label for e in between.estimates],
        }  # fmt: skip
    return found


@with_sentences()
def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=file_to_write, default=RESULT)
    out = parser.parse_args().out
    rows = []
    for name, make in NETS.items():
        net = make()
        rows += [{"network": name, **measured(net, chip)} for chip in ("loihi1", "loihi2")]
    result = {
        "command": COMMAND, "steps": STEPS, "samples": BATCH, "input_rate": INPUT_RATE,
        "bound": SCALED.status, "rows": rows, "machine": machine(),
        "versions": versions(("numpy", "numba")),
    }  # fmt: skip
    files.write_text(out, json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(row["network"], row["target"], row["cores"], row["usual"], row["never_silent"])


if __name__ == "__main__":
    main()
