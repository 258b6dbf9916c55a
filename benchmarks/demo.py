"""The demo's figures, as the README shows them.

    python benchmarks/demo.py [--out benchmarks/results/demo.json] [--folder FOLDER]

Runs `spikeport demo` (or takes a finished one in --folder) and keeps its figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from shared import file_to_write, with_sentences
from where import machine, versions

from spikeport import demo
from spikeport.sim.files import write_text

OUT = Path(__file__).parent / "results" / "demo.json"
PACKAGES = ("numpy", "torch", "snntorch", "nir", "lava-nc", "lava-dl")
RUNG = ("left", "right", "exact", "samples", "steps", "spikes", "differing", "state",
        "differing_state", "predictions", "seconds")  # fmt: skip


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """What is kept of the demo's own JSON: no folders, no per-image lists."""
    ladder = result["export"]["fidelity"]["rungs"] + result["simulate"]["rungs"]
    (radius,) = result["attack"]["radii"]
    evaluation = radius["evaluation"]
    models = {
        name: {key: found[key] for key in ("clean_accuracy", "worst_accuracy")}
        | {"attacks": {k: a["robust_accuracy"] for k, a in found["attacks"].items()}}
        for name, found in evaluation["models"].items()
    }
    return {
        "seconds": result["seconds"],
        "digest": result["export"]["digest"],
        "train": {k: v for k, v in result["train"].items() if k != "folder"},
        "accuracy": result["simulate"]["accuracy"],
        "rungs": [{key: rung[key] for key in RUNG} for rung in ladder],
        "attack": {
            "settings": result["attack"]["header"]["settings"],
            "samples": evaluation["samples"],
            "budget": evaluation["budget"],
            "models": models,
            "replay": radius["replay"],
        },
    }


@with_sentences()
def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=file_to_write, default=OUT)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "demo"
        stored = folder / "demo.json"
        if not stored.exists():
            demo.demo(folder, progress=print)
        result = json.loads(stored.read_text(encoding="utf-8"))
    kept = {
        "command": "python benchmarks/demo.py",
        "machine": machine(),
        "versions": versions(PACKAGES),
        **figures(result),
    }
    write_text(arguments.out, json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
