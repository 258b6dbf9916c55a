"""Does MPD-SGR lower occupancy, and does that make the network on the chip more robust?

    python benchmarks/mpd_sgr.py [--out benchmarks/results/mpd_sgr.json] [--runs FOLDER]

The packaged digits configuration with eta = 0 and eta > 0 on the same seeds, both phases, same
epochs. Of each run: exact occupancy of the quantised membranes on the test set (share of neuron
steps within one threshold of firing), test accuracy along the way to the chip, and accuracy of the
integer twin on its first test images without attack and under noise, FGSM, PGD-40 and Square, each
gradient attack through two surrogates; the worst case is per sample. Ties count as errors. Finished
runs in --runs are reused.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from where import machine, versions

from spikeport import attacking, exporting
from spikeport.sim import engine, files
from spikeport.sim.attack import Budget, evaluate
from spikeport.sim.fidelity import predict
from spikeport.sim.twin import Twin
from spikeport.train import config as configs
from spikeport.train.epochs import evaluate as accuracy_of
from spikeport.train.floating import load_float
from spikeport.train.loop import SUMMARY, fit
from spikeport.train.quantised import load_quantised
from spikeport.train.regularisers import occupancy

ETAS = (0.0, 0.3, 1.0)
SEEDS = (0, 1, 2)
EPS = 16 / 255
ATTACKED = 256
SETTINGS = attacking.Settings(
    attacks=("noise", "fgsm", "pgd", "square"), eps=EPS, restarts=3, queries=1000, samples=ATTACKED
)
OUT = Path(__file__).parent / "results" / "mpd_sgr.json"
PACKAGES = ("numpy", "torch", "snntorch", "nir")


def measure(folder: Path, *, eta: float, seed: int) -> dict[str, Any]:
    """Train (unless `folder` holds the finished run) and measure one network."""
    config = configs.override(
        configs.load(configs.DIGITS), [f"methods.mpd_sgr.eta={eta}", f"train.seed={seed}"]
    )
    if not (folder / SUMMARY).exists():
        fit(config, folder, resume=folder.exists(), progress=False)
    net, _ = load_float(folder)
    model, _ = load_quantised(folder)
    run = exporting.run_to_net(folder, target=config.quantise.target)
    inputs, labels = exporting.run_inputs(run, samples=len(run.data.y_test))
    pixels = torch.tensor(run.data.x_test).float() / 255
    with torch.no_grad():
        record = model(pixels.expand(model.steps, *pixels.shape))
    tested = {"x": run.data.x_test, "y": run.data.y_test, "encoder": "direct", "seed": seed}
    chip = predict(engine.run(run.net, inputs), run.net.readout)
    return {
        "eta": eta,
        "seed": seed,
        "occupancy": occupancy(record.membranes, model.thresholds(), 1.0),
        "rate": {name: float(s.mean()) for name, s in record.spikes.items()},
        "test_accuracy": {
            "float": accuracy_of(net, **tested),
            "quantised": accuracy_of(model, **tested),
            "integer": float((chip == labels).mean()),
        },
        "differing_spikes_torch_chip": run.rungs[-1].differing,
        **robustness(run.net, pixels[:ATTACKED], torch.tensor(labels[:ATTACKED]), seed=seed),
    }


def robustness(net: Any, x: Any, y: Any, *, seed: int) -> dict[str, Any]:
    """Accuracy of the integer twin, clean and attacked."""
    twins = tuple(Twin(net, surrogate=s) for s in attacking.SURROGATES)
    found = evaluate(
        {"integer": twins}, x, y, specs=SETTINGS.specs(10), budget=Budget(eps=EPS), seed=seed
    ).models["integer"]
    attacked = {label: figures.robust_accuracy for label, figures in found.attacks.items()}
    return {
        "robust_accuracy": {
            "clean": found.clean_accuracy, **attacked, "worst case": found.worst_accuracy
        }
    }  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds."""

    def over(values: list[float]) -> dict[str, float]:
        return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0}

    layers = rows[0]["occupancy"]
    return {
        "occupancy": {name: over([r["occupancy"][name] for r in rows]) for name in layers},
        "occupancy_mean": over([mean(r["occupancy"].values()) for r in rows]),
        **{
            key: {name: over([r[key][name] for r in rows]) for name in rows[0][key]}
            for key in ("test_accuracy", "robust_accuracy")
        },
    }


def main() -> None:
    """Run all, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--runs", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as scratch:
        runs = arguments.runs or Path(scratch)
        rows = []
        for eta in ETAS:
            for seed in SEEDS:
                started = time.perf_counter()
                rows.append(measure(runs / f"eta{eta}-seed{seed}", eta=eta, seed=seed))
                print(f"{time.perf_counter() - started:.0f} s", json.dumps(rows[-1]), flush=True)
    result = {
        "command": "python benchmarks/mpd_sgr.py",
        "machine": machine(),
        "versions": versions(PACKAGES),
        "config": configs.load(configs.DIGITS).model_dump(mode="json"),
        "eps": EPS,
        "attacked_images": ATTACKED,
        "surrogates": [f"{s.name} {s.width}" for s in attacking.SURROGATES],
        "attacks": {label: asdict(spec) for label, spec in SETTINGS.specs(10).items()},
        "summary": {
            str(eta): summary([r for r in rows if r["eta"] == eta]) for eta in ETAS
        },
        "runs": rows,
    }  # fmt: skip
    arguments.out.parent.mkdir(exist_ok=True)
    files.write_text(arguments.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
