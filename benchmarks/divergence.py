"""How often the first-divergence report names the cause of a planted fault.

    python benchmarks/divergence.py [--plants 120] [--out benchmarks/results/divergence.json]

`--plants` nets of every class of cause are drawn (tests/sim/planted_faults.py: dense, convolutional
and recurrent, 1 to 4 populations, a fault in a random one that changes at least one spike), run by
the tests' own simulator, and diagnosed twice: from the spikes alone, and from spikes, u and v. A
plant counts as found when population and class are named. The table's rows are planted classes,
its columns named ones; "elsewhere" is another population. The costs of the guesses were settled on
other seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
from shared import HERE, file_to_write, of_tests, with_sentences
from where import machine, versions

from spikeport.sim import files
from spikeport.sim.divergence.diagnose import diagnose

FIRST_SEED = 10_000
PLANTS = 120
OUT = HERE / "results" / "divergence.json"
RECORDS = ("spikes", "spikes, u and v")
OTHERS = ("start", "unknown", "elsewhere", "none")


def measure(plants: int) -> dict[str, Any]:
    """Rates, confusion tables and times of `plants` faults of each class."""
    planted = of_tests("sim/planted_faults.py")
    tables: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in RECORDS}
    seconds, differing = [], []
    for cause in planted.CAUSES:
        for i in range(plants):
            plant = planted.plant(FIRST_SEED + i, cause=cause, kind=planted.KINDS[i % 3])
            for name, trace in zip(RECORDS, (plant.spikes_only, plant.trace), strict=True):
                start = time.perf_counter()
                found = diagnose(plant.net, plant.x, trace)
                seconds.append(time.perf_counter() - start)
                tables[name][cause, named(plant, found)] += 1
                if found is not None and name == "spikes":
                    differing.append(found.spikes)
    return {
        "plants": plants * len(planted.CAUSES),
        "differing_spikes": {"median": float(np.median(differing)), "min": min(differing)},
        "seconds_per_diagnosis": {
            "median": round(float(np.median(seconds)), 3), "max": round(max(seconds), 3),
        },
        "records": {name: rates(table, planted.CAUSES, plants) for name, table in tables.items()},
    }  # fmt: skip


def named(plant: Any, found: Any) -> str:
    """The class that was named, or why none counts."""
    if found is None:
        return "none"
    return str(found.cause) if found.population == plant.fault.population else "elsewhere"


def rates(table: Counter[tuple[str, str]], causes: Any, plants: int) -> dict[str, Any]:
    """Share found over all and of each class, and the confusion table by planted class."""
    per_class = {cause: round(table[cause, cause] / plants, 4) for cause in causes}
    return {
        "found": round(sum(table[c, c] for c in causes) / (plants * len(causes)), 4),
        "found_by_class": per_class,
        "confusion": {
            cause: {k: table[cause, k] for k in (*causes, *OTHERS) if table[cause, k]}
            for cause in causes
        },
    }


def describe(result: dict[str, Any]) -> str:
    """The confusion tables for people."""
    lines = []
    for name, part in result["records"].items():
        columns = [*part["confusion"], *OTHERS]
        lines.append(f"from {name}: {part['found']:.1%} of {result['plants']} found")
        lines.append(" " * 10 + "".join(f"{c[:9]:>10}" for c in columns))
        for cause, row in part["confusion"].items():
            cells = "".join(f"{row.get(c, 0) or '.':>10}" for c in columns)
            lines.append(f"{cause:10}{cells}")
    return "\n".join(lines)


@with_sentences()
def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plants", type=int, default=PLANTS, help="of each class of cause")
    parser.add_argument("--out", type=file_to_write, default=OUT)
    args = parser.parse_args()
    result = {
        "command": f"python benchmarks/divergence.py --plants {args.plants}",
        "machine": machine(),
        "versions": versions(("numpy",)),
        **measure(args.plants),
    }
    files.write_text(args.out, json.dumps(result, indent=2) + "\n")
    sys.stdout.write(describe(result) + "\n")


if __name__ == "__main__":
    main()
