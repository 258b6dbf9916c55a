"""Random snnTorch modules through NIR and back: do they still fire as they did?

    python benchmarks/roundtrip.py [--modules 5000] [--out benchmarks/results/roundtrip.json]

Every module that `tests/random_modules.py` draws is compiled to a NIR file, read back as a float
network and run on the module's own input; its spikes are compared with those that the module itself
gives in float64 and in float32. A spike may differ where the potential is within 1e-5 of the
threshold, because rounding decides there; what follows in that sample counts for nothing. "off" is
the largest difference of a readout's potential, in membrane units.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import snntorch
import torch
from shared import file_to_write, of_tests, with_sentences
from where import machine, versions

from spikeport.export import compile as compile_net
from spikeport.export.agreement import TIE, Agreement, agreement
from spikeport.sim import files
from spikeport.sim.floating import NEVER

OUT = Path(__file__).parent / "results" / "roundtrip.json"
MODULES = "random_modules.py"
PACKAGES = ("numpy", "torch", "snntorch", "nir")
TYPES = (torch.float32, torch.float64)


def round_trip(drawn: Any, case: Any) -> Iterator[tuple[torch.dtype, Agreement]]:
    """How the module of `case` and its file agree, for each type of number."""
    sample = case.x[0, 0] if case.kind == "chain" else case.x
    steps = case.steps if case.kind == "chain" else None
    net = compile_net(case.module, sample, target="nir", steps=steps).float_net
    x = case.x.double()
    x = x.expand(case.steps, *x.shape) if case.kind == "static" else x
    x = x.reshape(*x.shape[:2], *net.input.shape)
    for kind in TYPES:
        module = copy.deepcopy(case.module).to(kind)
        for layer in module.modules():
            if isinstance(layer, snntorch.SpikingNeuron):
                layer.spike_grad = drawn.fires
        spikes, potentials = drawn.spikes_of(case, module, case.x.to(kind))
        silent = {p.name for p in net.populations if (p.v_th >= NEVER).all()}
        yield kind, agreement(
            net, np.asarray(x), {name: s for name, s in spikes.items() if name not in silent},
            potentials={name: potentials[name] for name in silent},
        )  # fmt: skip


def measure(modules: int) -> dict[str, Any]:
    """All figures, ready for JSON."""
    drawn = of_tests(MODULES)
    counts: Counter[str] = Counter()
    figures: dict[str, dict[str, float]] = {
        str(kind): {"spikes": 0, "ties": 0, "differences": 0, "off": 0.0} for kind in TYPES
    }
    failed: list[int] = []
    start = time.perf_counter()
    for seed in range(modules):
        case = drawn.random_module(seed)
        counts.update(set(case.what))
        for kind, found in round_trip(drawn, case):
            row = figures[str(kind)]
            row["spikes"] += found.compared
            row["ties"] += found.ties
            row["differences"] += len(found.differences)
            row["off"] = max(row["off"], found.off)
            if found.differences:
                failed.append(seed)
    return {
        "modules": modules,
        "of_each_kind": dict(sorted(counts.items())),
        "tie": TIE,
        "agreement": figures,
        "seeds_that_differ": sorted(set(failed)),
        "seconds": round(time.perf_counter() - start, 1),
    }


@with_sentences()
def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--modules", type=int, default=5000)
    parser.add_argument("--out", type=file_to_write, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "command": f"python benchmarks/roundtrip.py --modules {arguments.modules}",
        "machine": machine(),
        "versions": versions(PACKAGES),
        **measure(arguments.modules),
    }
    files.write_text(arguments.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
