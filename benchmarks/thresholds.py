"""Do learned scales beat fixed ones on the chip's grids, and does it matter where they start?

    python benchmarks/thresholds.py --data FOLDER [--runs FOLDER] [--sets mnist fashion_mnist]

FOLDER holds the folders mnist and fashion_mnist with their IDX files. A small convolutional net is
trained in floats on 10,000 images and goes on from there on the chip's integers, at 8, 4 and 3
weight bits, in as many epochs whatever is learned beside weights and biases:

    fixed      nothing, from the largest scale that holds every weight
    started    nothing, from the scales at which the fewest spikes differ on 64 training images
    learned    the scale of every layer, from the started ones
    margin     the same, with a penalty on membranes within a few LSBs of the threshold

and is rounded without training, by its weights alone and with 32 training images. Accuracy is of
the exported integers on 5,000 test images. Flips: share of neuron-steps whose spike is another when
uniform noise of one LSB is added to the membrane. The learning rate was chosen by validation
accuracy. Finished runs in --runs are reused, unfinished ones go on.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from quantisation import accuracy
from shared import existing_folder, file_to_write, with_sentences
from spreads import over
from where import command_line, machine, versions

from spikeport.backends import in_every_step
from spikeport.export import bounds, compile
from spikeport.sim import engine, files
from spikeport.train import config as configs
from spikeport.train.data import Dataset, load_for
from spikeport.train.epochs import evaluate
from spikeport.train.floating import CONFIG, FLOAT, fit_float, load_float
from spikeport.train.methods.base import Step
from spikeport.train.methods.chip_margin import ChipMargin
from spikeport.train.model import SpikingNet
from spikeport.train.quant import QuantNet
from spikeport.train.quantised import fit_quantised

OUT = Path(__file__).parent / "results" / "thresholds.json"
PACKAGES = ("numpy", "torch", "snntorch", "nir")
BITS = (8, 4, 3)
SEEDS = (0, 1, 2)
CALIBRATION = 32  # training images that rounding may look at
COMPARED = 250  # test images on which torch and chip are compared spike by spike
TRAINED = {
    "fixed": ["quantise.learn=none", "quantise.start_images=0"],
    "started": ["quantise.learn=none"],
    "learned": [],
    "margin": ["methods.chip_margin.weight=0.1", "methods.chip_margin.lsb=4.0"],
}
ROUNDED = {"rounded": "rounding", "rounded, calibrated": "spikes"}
BASELINE = "fixed"
SETTINGS = """
[data]
name = "{name}"
folder = "{folder}"
train_images = 10000
test_images = 5000

[encode]
name = "direct"
steps = 4

[model]
name = "conv"
channels = [12, 24]
keep_v = 0.5
readout = "last_v"

[train]
epochs = 4
batch = 128
lr = 0.01
seed = {seed}
device = "cpu"

[quantise]
target = "loihi2"
epochs = 1
lr = 1e-3
"""


@dataclass(frozen=True, eq=False)
class Start:
    """A float network that all variants of one set and seed begin with."""

    config: configs.Config
    data: Dataset
    net: SpikingNet
    inputs: np.ndarray[Any, Any]
    folder: Path


def started(name: str, folder: Path, runs: Path, *, seed: int) -> Start:
    """The float network, trained unless its run is finished."""
    text = SETTINGS.format(name=name, folder=(folder / name).resolve().as_posix(), seed=seed)
    config, run = configs.loads(text, "benchmark"), runs / f"{name}-{seed}"
    data = load_for(config)
    run.mkdir(parents=True, exist_ok=True)
    files.write_text(run / CONFIG, configs.to_toml(config))
    fit_float(config, data, run, resume=(run / FLOAT).exists(), progress=False)
    net, _ = load_float(run)
    inputs = in_every_step(data.x_test, config.encode.steps)
    return Start(config=config, data=data, net=net, inputs=inputs, folder=run)


def kept(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The figures in `path` if they are of these settings."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found["settings"] == settings else None


def trained(start: Start, *, bits: int, variant: str) -> dict[str, Any]:
    """Figures of one network trained on integers."""
    config = configs.override(start.config, [f"quantise.weight_bits={bits}", *TRAINED[variant]])
    folder, settings = start.folder / f"{bits}-{variant}", config.model_dump(mode="json")
    if (found := kept(folder / "figures.json", settings)) is not None:
        return found
    begun = time.process_time()
    folder.mkdir(exist_ok=True)
    model = fit_quantised(config, start.data, folder, net=start.net, resume=True, progress=False)
    net = compile(model.spiking_net().eval(), target="loihi2", weight_bits=bits).net
    assert net is not None
    assert not bounds.prove(net)
    last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    result = {
        "settings": settings,
        "accuracy": accuracy(net, start.inputs, start.data.y_test),
        "val_accuracy": last["val_accuracy"],
        "seconds": round(time.process_time() - begun, 1),
        **compared(model, net, start),
    }
    files.write_text(folder / "figures.json", json.dumps(result, indent=1) + "\n")
    return result


@torch.no_grad()
def compared(model: QuantNet, net: Any, start: Start) -> dict[str, Any]:
    """Spikes of the model and of the chip on the first test images, and what noise would flip."""
    x = start.inputs[:, :COMPARED]
    record, trace = model.eval()(torch.tensor(x).float() / 255), engine.run(net, x)
    differing = sum(
        int((s.flatten(2).numpy() != trace[name].spikes).sum()) for name, s in record.spikes.items()
    )
    step = Step(
        model=model, x=torch.zeros(0), y=torch.zeros(0), encode=lambda x: x, progress=1.0,
        phase="quantised", generator=torch.Generator(), made=record,
    )  # fmt: skip
    # Noise in -LSB..LSB crosses a distance d with the chance (1 - |d| / LSB) / 2: half the hinge.
    flips = ChipMargin(weight=0.5, lsb=1.0).penalty(step)
    return {"differing_spikes_torch_chip": differing, "flips": float(flips)}  # type: ignore[arg-type]


def rounded(start: Start, *, bits: int, variant: str) -> dict[str, Any]:
    """Figures of the float network, rounded."""
    settings = {"bits": bits, "config": start.config.model_dump(mode="json")}
    path = start.folder / f"{bits}-{ROUNDED[variant]}.json"
    if (found := kept(path, settings)) is not None:
        return found
    shown = in_every_step(start.data.x_train[:CALIBRATION], start.config.encode.steps)
    objective = ROUNDED[variant]
    options = {"calibration": shown} if objective == "spikes" else {}
    begun = time.process_time()
    net = compile(
        start.net, target="loihi2", weight_bits=bits, objective=objective, **options  # type: ignore[arg-type]
    ).net  # fmt: skip
    assert net is not None
    assert not bounds.prove(net)
    result = {
        "settings": settings,
        "accuracy": accuracy(net, start.inputs, start.data.y_test),
        "seconds": round(time.process_time() - begun, 1),
    }
    files.write_text(path, json.dumps(result, indent=1) + "\n")
    return result


def measure(name: str, folder: Path, runs: Path) -> dict[Any, Any]:
    """All figures of one data set, by seed, bits and variant."""
    rows: dict[Any, Any] = {"float": [], **{bits: {} for bits in BITS}}
    for seed in SEEDS:
        start = started(name, folder, runs, seed=seed)
        floats = evaluate(start.net, start.data.x_test, start.data.y_test, encoder="direct", seed=0)
        rows["float"].append(floats)
        for bits in BITS:
            for variant in (*ROUNDED, *TRAINED):
                make = rounded if variant in ROUNDED else trained
                found = make(start, bits=bits, variant=variant)
                rows[bits].setdefault(variant, []).append(
                    {k: v for k, v in found.items() if k != "settings"}
                )
                print(name, seed, bits, variant, rows[bits][variant][-1], flush=True)
    return rows


def summary(rows: dict[Any, Any]) -> dict[str, Any]:
    """Mean and spread over seeds, and against the baseline seed by seed."""
    result: dict[str, Any] = {"float": over(rows["float"])}
    for bits in BITS:
        base = [run["accuracy"] for run in rows[bits][BASELINE]]
        result[str(bits)] = {}
        for variant, found in rows[bits].items():
            figures = [run["accuracy"] for run in found]
            gains = [100 * (a - b) for a, b in zip(figures, base, strict=True)]
            result[str(bits)][variant] = {
                "accuracy": over(figures),
                "gained_points": over(gains),
                "verdict": verdict(gains),
                **({"flips": over([run["flips"] for run in found])} if "flips" in found[0] else {}),
            }
    return result


def verdict(gains: list[float]) -> str:
    """Better or worse if every seed says so and the mean exceeds the spread, else a tie."""
    sure = abs(mean(gains)) > stdev(gains)
    if sure and min(gains) > 0:
        return "better"
    return "worse" if sure and max(gains) < 0 else "tie"


@with_sentences()
def main() -> None:
    """Run all, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=existing_folder, required=True)
    parser.add_argument("--runs", type=Path, default=None)
    parser.add_argument("--sets", nargs="+", default=["mnist", "fashion_mnist"])
    parser.add_argument("--out", type=file_to_write, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    with tempfile.TemporaryDirectory() as scratch:
        runs = arguments.runs or Path(scratch)
        rows = {name: measure(name, arguments.data, runs) for name in arguments.sets}
    result = {
        "command": command_line(parser, arguments, apart=("runs",)),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "settings": SETTINGS.strip(),
        "variants": TRAINED,
        "baseline": BASELINE,
        "seeds": list(SEEDS),
        "summary": {name: summary(found) for name, found in rows.items()},
        "runs": rows,
    }
    files.write_text(arguments.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
