"""How much accuracy do the chip's integers cost, with and without training on them?

    python benchmarks/quantisation.py --data FOLDER [--runs FOLDER] [--sets mnist fashion_mnist]

FOLDER holds the folders mnist and fashion_mnist with their IDX files. On each a small convolutional
net is trained in floats and compiled for Loihi as it is (post-training quantisation), and trained
on on the chip's integers (quantisation-aware training), at 8, 4 and 2 weight bits. Accuracy is of
the whole test set, on the integers by the engine; for quantisation-aware training the spikes of the
torch model and of the chip are compared on the whole test set too. Finished runs in --runs are
reused.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from where import machine, versions

from spikeport import exporting
from spikeport.export import bounds, compile
from spikeport.sim import engine, files
from spikeport.sim.fidelity import predict
from spikeport.train import config as configs
from spikeport.train.floating import CONFIG, FLOAT, load_float
from spikeport.train.loop import SUMMARY, fit

OUT = Path(__file__).parent / "results" / "quantisation.json"
PACKAGES = ("numpy", "torch", "snntorch", "nir")
BITS = (8, 4, 2)
BATCH = 500
SETTINGS = """
[data]
name = "{name}"
folder = "{folder}"

[encode]
name = "direct"
steps = 4

[model]
name = "conv"
channels = [12, 24]
keep_v = 0.5
readout = "last_v"

[train]
epochs = 2
batch = 128
lr = 0.01
seed = 0
device = "cpu"

[quantise]
target = "loihi2"
epochs = 1
lr = 1e-3
weight_bits = {bits}
"""


def settings(name: str, data: Path, *, bits: int) -> configs.Config:
    text = SETTINGS.format(name=name, folder=(data / name).resolve(), bits=bits)
    return configs.loads(text, "benchmark")


def trained(name: str, data: Path, runs: Path) -> dict[int, Path]:
    """Run folders by weight bits; all share one float phase."""
    found = {bits: runs / f"{name}-{bits}" for bits in BITS}
    for bits, folder in found.items():
        if (folder / SUMMARY).exists():
            continue
        config = settings(name, data, bits=bits)
        if bits != BITS[0]:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found[BITS[0]] / FLOAT, folder / FLOAT)
            files.write_text(folder / CONFIG, configs.to_toml(config))
        fit(config, folder, resume=folder.exists())
    return found


def accuracy(net: Any, run: exporting.Exported) -> float:
    """Share of test images that the integers get right."""
    samples, right = len(run.data.y_test), 0
    inputs, labels = exporting.run_inputs(run, samples=samples)
    machine_of_net = engine.Engine(net)
    for first in range(0, samples, BATCH):
        part = slice(first, first + BATCH)
        right += int(
            (predict(machine_of_net.run(inputs[:, part]), net.readout) == labels[part]).sum()
        )
    return right / samples


def measure(name: str, data: Path, runs: Path) -> dict[str, Any]:
    folders = trained(name, data, runs)
    summary = json.loads((folders[BITS[0]] / SUMMARY).read_text(encoding="utf-8"))
    floating = summary["float_test_accuracy"]
    result: dict[str, Any] = {"float": floating, "post-training": {}, "quantisation-aware": {}}
    for bits, folder in folders.items():
        run = exporting.run_to_net(folder, target="loihi2")
        torch_side = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        figure = accuracy(run.net, run)
        result["quantisation-aware"][bits] = {
            "accuracy": figure,
            "lost_points": 100 * (floating - figure),
            "torch_accuracy": torch_side["quantised_test_accuracy"],
            "differing_spikes_torch_chip": run.rungs[-1].differing,
            "spikes_compared": run.rungs[-1].spikes,
        }
        net, _ = load_float(folder)
        compiled = compile(net, target="loihi2", weight_bits=bits)
        figure = accuracy(compiled.net, run)
        result["post-training"][bits] = {
            "accuracy": figure,
            "lost_points": 100 * (floating - figure),
            "overflow_risks": len(bounds.prove(compiled.net)),
        }
        print(name, bits, json.dumps({k: v for k, v in result.items()}), flush=True)
    return result


def main() -> None:
    """Run all, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=None)
    parser.add_argument("--sets", nargs="+", default=["mnist", "fashion_mnist"])
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = arguments.runs or Path(scratch)
        if arguments.train_only:
            for name in arguments.sets:
                trained(name, arguments.data, runs)
            return
        torch.set_num_threads(os.cpu_count() or 1)
        results = {name: measure(name, arguments.data, runs) for name in arguments.sets}
    result = {
        "command": "python benchmarks/quantisation.py --data FOLDER",
        "machine": machine(),
        "versions": versions(PACKAGES),
        "settings": SETTINGS.strip(),
        "results": results,
    }
    arguments.out.parent.mkdir(exist_ok=True)
    files.write_text(arguments.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
