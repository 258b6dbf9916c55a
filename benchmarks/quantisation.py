"""How much accuracy do the chip's integers cost, with and without training on them?

    python benchmarks/quantisation.py --data FOLDER [--runs FOLDER] [--sets mnist fashion_mnist]

FOLDER holds the folders mnist and fashion_mnist with their IDX files. On each a small convolutional
net is trained in floats and compiled for Loihi as it is (post-training quantisation, by rounding
alone and with 32 training images for calibration), and trained on on the chip's integers
(quantisation-aware training), at 8, 4 and 2 weight bits. Accuracy is of the whole test set, on the
integers by the engine; for quantisation-aware training the spikes of the torch model and of the
chip are compared on the whole test set too. Finished runs in --runs are reused.
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
from shared import existing_folder, file_to_write, with_sentences
from where import command_line, machine, versions

from spikeport import exporting
from spikeport.backends import in_every_step
from spikeport.export import bounds, compile
from spikeport.sim import engine, files
from spikeport.sim.fidelity import predict
from spikeport.sim.net import FixedNet
from spikeport.train import config as configs
from spikeport.train.floating import CONFIG, FLOAT
from spikeport.train.loop import SUMMARY, fit

OUT = Path(__file__).parent / "results" / "quantisation.json"
PACKAGES = ("numpy", "torch", "snntorch", "nir")
BITS = {8: 1, 4: 1, 2: 4}  # weight bits: epochs on the chip's integers
FIRST = 8  # whose float phase the others share
BATCH = 500
CALIBRATION = 32  # training images
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
epochs = {epochs}
lr = 1e-3
weight_bits = {bits}
"""


def settings(name: str, data: Path, *, bits: int) -> configs.Config:
    """The configuration of one network."""
    text = SETTINGS.format(name=name, folder=(data / name).resolve(), bits=bits, epochs=BITS[bits])
    return configs.loads(text, "benchmark")


def trained(name: str, data: Path, runs: Path) -> dict[int, Path]:
    """Run folders by weight bits; all share one float phase."""
    found = {bits: runs / f"{name}-{bits}" for bits in BITS}
    for bits, folder in found.items():
        if (folder / SUMMARY).exists():
            continue
        config = settings(name, data, bits=bits)
        if bits != FIRST:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found[FIRST] / FLOAT, folder / FLOAT)
            files.write_text(folder / CONFIG, configs.to_toml(config))
        fit(config, folder, resume=folder.exists())
    return found


def accuracy(net: FixedNet, inputs: Any, labels: Any) -> float:
    """Share of inputs [T, B, *shape] that the integers get right."""
    right, fast = 0, engine.Engine(net)
    for first in range(0, len(labels), BATCH):
        part = slice(first, first + BATCH)
        right += int((predict(fast.run(inputs[:, part]), net.readout) == labels[part]).sum())
    return right / len(labels)


def measure(name: str, data: Path, runs: Path) -> dict[str, Any]:
    """Float, post-training and quantisation-aware figures of one data set."""
    folders = trained(name, data, runs)
    summary = json.loads((folders[FIRST] / SUMMARY).read_text(encoding="utf-8"))
    floating = summary["float_test_accuracy"]
    result: dict[str, Any] = {"float": floating}
    for bits, folder in folders.items():
        run, net, model = exporting.nets_of(folder, target="loihi2")
        inputs, labels = exporting.run_inputs(run, samples=len(run.data.y_test))
        shown = in_every_step(run.data.x_train[:CALIBRATION], run.net.steps)
        for key, options in (("rounding", {}), ("spikes", {"calibration": shown})):
            compiled = compile(net, target="loihi2", weight_bits=bits, objective=key, **options)
            assert not bounds.prove(compiled.net)
            figure = accuracy(compiled.net, inputs, labels)
            found = {"accuracy": figure, "lost_points": 100 * (floating - figure)}
            result.setdefault(f"post-training, {key}", {})[bits] = found
        rung = exporting.integers_rung(run, model, inputs)
        figure = accuracy(run.net, inputs, labels)
        result.setdefault("quantisation-aware", {})[bits] = {
            "accuracy": figure,
            "lost_points": 100 * (floating - figure),
            "differing_spikes_torch_chip": rung.differing,
            "spikes_compared": rung.spikes,
        }
        print(name, bits, json.dumps(result), flush=True)
    return result


@with_sentences()
def main() -> None:
    """Run all, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=existing_folder, required=True)
    parser.add_argument("--runs", type=Path, default=None)
    parser.add_argument("--sets", nargs="+", default=["mnist", "fashion_mnist"])
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--out", type=file_to_write, default=OUT)
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
        "command": command_line(parser, arguments, apart=("runs",)),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "settings": SETTINGS.strip(),
        "results": results,
    }
    files.write_text(arguments.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
