"""How well placement predicts Intel's compiler, and what it costs.

    python benchmarks/place.py [--out results/place.json]

Public compile logs (`compile_logs.py`) against `spikeport.hw.place`, one rule for all of them,
layer by layer; then the time to place networks of ten thousand to ten million synapses.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from compile_logs import LOGS, Layer, Log, network
from shared import file_to_write, with_sentences
from where import machine, versions

from spikeport.hw.cost import Use
from spikeport.hw.place import WAYS, place
from spikeport.hw.target import target
from spikeport.sim.files import write_text

RESULT = Path(__file__).parent / "results" / "place.json"
COMMAND = "python benchmarks/place.py"
SYNAPSES = (10**4, 10**5, 10**6, 10**7)
REPEATS = 30


def against(log: Log) -> dict[str, Any]:
    """The log's rows with what placement says in their place, and the differences."""
    goal = target(log.target)
    placed = place(network(log.shape, log.layers, seed=0), goal)
    rows = []
    for layer, row in zip(log.layers, placed.rows(), strict=True):
        logged = {
            "in_axons": layer.axons_in, "neurons": layer.neurons, "synapse_words": layer.words,
            "out_axons": layer.axon_map,
        }  # fmt: skip
        found = {name: _printed(log, layer, row, name, goal.limits) for name in logged}
        logged, found = {"cores": layer.cores, **logged}, {"cores": row["cores"], **found}
        residual = {name: round(found[name] - logged[name], 2) for name in logged}
        rows.append({"logged": logged, "placed": found, "residual": residual})
    return {
        "network": log.name, "target": log.target, "bits_from": log.bits_from,
        "fitted": log.fitted,
        "unit": "per cent of a limit" if log.shares else "counts",
        "cores_logged": sum(layer.cores for layer in log.layers),
        "cores_placed": len(placed.cores), "layers": rows,
    }  # fmt: skip


def _printed(log: Log, layer: Layer, row: dict[str, Any], name: str, limits: Use) -> float:
    """A number of the placement in the way that the log prints it."""
    most, total = getattr(row["most"], name), getattr(row["total"], name)
    if log.shares:
        return round(100 * most / getattr(limits, name), 2)
    of_a_tile = name == "neurons" and (layer.kernel or not layer.bits)
    return float(most if of_a_tile else total // row["cores"])


def dense_net(synapses: int) -> Any:
    """One square dense layer."""
    n = round(synapses**0.5)
    return network((n,), (_layer(n, kernel=0),), seed=0)


def conv_net(synapses: int) -> Any:
    """Two layers of 16 channels of 3 x 3, on maps so large that they have so many synapses."""
    side = round((synapses / (2 * 16 * 16 * 9)) ** 0.5)
    return network((16, side, side), (_layer(16, kernel=3), _layer(16, kernel=3)), seed=0)


def _layer(out: int, *, kernel: int) -> Layer:
    """A layer of 8 bits that no log has a row of."""
    pad = (1, 1) if kernel else (0, 0)
    return Layer(
        out=out, bits=8, kernel=kernel, padding=pad, cores=0, axons_in=0, neurons=0, words=0,
        axon_map=0,
    )  # fmt: skip


def timed() -> list[dict[str, Any]]:
    """Least of some times in seconds for each kind and size of network and way to place it, and
    the exponent with which time grows over the last decade."""
    found = []
    for kind, make in {"dense": dense_net, "convolutions": conv_net}.items():
        nets = [make(synapses) for synapses in SYNAPSES]
        for way in WAYS:
            for name in ("loihi1", "loihi2"):
                goal = target(name)
                seconds, cores = [], []
                for net in nets:
                    times = []
                    for _ in range(REPEATS):
                        begin = time.perf_counter()
                        placed = place(net, goal, way=way)
                        times.append(time.perf_counter() - begin)
                    seconds.append(min(times))
                    cores.append(len(placed.cores))
                exponent = float(np.log10(seconds[-1] / seconds[-2]))
                found.append({
                    "kind": kind, "way": way, "target": name, "seconds": seconds, "cores": cores,
                    "exponent": exponent,
                })  # fmt: skip
    return found


@with_sentences()
def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=file_to_write, default=RESULT)
    out = parser.parse_args().out
    result = {
        "command": COMMAND,
        "logs": [against(log) for log in LOGS],
        "synapses": list(SYNAPSES),
        "times": timed(),
        "machine": machine(),
        "versions": versions(("numpy",)),
    }
    write_text(out, json.dumps(result, indent=1) + "\n")
    for log in result["logs"]:
        print(f"{log['network']}: {log['cores_placed']} cores, {log['cores_logged']} in the log")
        for i, row in enumerate(log["layers"]):
            print(" ", i, row["logged"], "residual", row["residual"])
    for t in result["times"]:
        print(t["kind"], t["way"], t["target"], t["cores"], [f"{s:.4f}" for s in t["seconds"]])


if __name__ == "__main__":
    main()
