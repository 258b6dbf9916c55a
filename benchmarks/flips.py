"""Does MPD-SGR lower the number of spikes that rounding flips?

    python benchmarks/flips.py --data FOLDER [--runs FOLDER] [--sets mnist fashion_mnist]

A spike flips when its membrane lies closer to the threshold than the error that rounding causes, so
that the share of flips should grow with the density of membranes at the threshold, which MPD-SGR
lowers. Float networks trained with and without it (the lab's run folders, trained if absent) are
compiled for Loihi 2 without training on integers, and shown the same test images in floats and in
integers. Per layer: share of neuron-steps whose spikes differ, density at the threshold and exact
occupancy of the float membranes, all in thresholds. Differences travel on, as they do on a chip.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import correlation, mean
from typing import Any

import torch
from lab_plan import SETS, Job, jobs, recipes
from lab_run import trained
from lab_summary import over_runs
from shared import existing_folder, file_to_write, with_sentences
from spreads import over
from where import command_line, machine, versions

from spikeport.backends import in_every_step
from spikeport.export import compile
from spikeport.sim import engine, files, floating
from spikeport.train.data import load_for, subset
from spikeport.train.floating import load_float
from spikeport.train.regularisers import occupancy

OUT = Path(__file__).parent / "results" / "flips.json"
PACKAGES = ("numpy", "torch", "snntorch", "nir")
RECIPES = ("plain", "mpd_sgr", "mpd_sgr_hinge")
BITS = (8, 6, 4)
IMAGES = 500
NARROW = 0.05
"""Half width of the window, in thresholds, in which the density at the threshold is counted."""


def measure(job: Job, *, images: int = IMAGES, bits: Sequence[int] = BITS) -> dict[str, Any]:
    """Train (unless `job.folder` holds the finished run) and measure one network, layer by layer:
    flips by weight bits, density, occupancy, spikes per neuron and step."""
    net, config = load_float(trained(job))
    data = load_for(config)
    chosen = subset(data.y_test, min(images, len(data.y_test)), where="flips: images")
    inputs = in_every_step(data.x_test[chosen], config.encode.steps)
    with torch.no_grad():
        record = net(torch.tensor(inputs).float() / 255)

    def within(thresholds: float) -> dict[str, float]:
        return occupancy(record.membranes, net.thresholds(), thresholds)

    before = compile(net, target="nir").float_net
    reference = floating.run(before, inputs / before.input.scale, record=False)
    flips = {}
    for count in bits:
        rounded = engine.run(compile(net, target="loihi2", weight_bits=count).net, inputs)
        flips[str(count)] = {
            name: float((part.spikes != rounded.populations[name].spikes).mean())
            for name, part in reference.populations.items()
            if name in record.spikes
        }
    return {
        "set": job.set,
        "recipe": job.recipe,
        "seed": job.seed,
        "images": len(chosen),
        "flips": flips,
        "density": {name: share / (2 * NARROW) for name, share in within(NARROW).items()},
        "occupancy": within(1.0),
        "rate": {name: float(s.mean()) for name, s in record.spikes.items()},
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """set -> recipe -> means and spreads over seeds, and the verdicts."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(row["set"] for row in rows):
        mine = [row for row in rows if row["set"] == name]
        found[name] = {
            "recipes": {
                recipe: over_runs([
                    {key: row[key] for key in ("flips", "density", "occupancy", "rate")}
                    for row in mine
                    if row["recipe"] == recipe
                ])
                for recipe in dict.fromkeys(row["recipe"] for row in mine)
            },
            "verdict": {
                recipe: verdict(mine, recipe)
                for recipe in dict.fromkeys(row["recipe"] for row in mine)
                if recipe != "plain" and any(row["recipe"] == "plain" for row in mine)
            },
            "correlation": {bits: related(mine, bits) for bits in mine[0]["flips"]},
        }  # fmt: skip
    return found


def verdict(rows: Sequence[dict[str, Any]], recipe: str) -> dict[str, Any]:
    """Against plain, seed by seed, means over the layers: ratios of density and of flips, and
    whether each falls for every seed."""
    with_it = {row["seed"]: row for row in rows if row["recipe"] == recipe}
    without = {row["seed"]: row for row in rows if row["recipe"] == "plain"}
    seeds = sorted(with_it.keys() & without.keys())

    def judged(*keys: str) -> dict[str, Any]:
        pairs = [(_layer_mean(with_it[s], keys), _layer_mean(without[s], keys)) for s in seeds]
        ratios = [new / old for new, old in pairs if old > 0]
        return {
            "ratio": over(ratios) if ratios else None,
            "falls": all(new < old for new, old in pairs),
        }

    return {
        "seeds": seeds,
        "density": judged("density"),
        "occupancy": judged("occupancy"),
        "flips": {bits: judged("flips", bits) for bits in with_it[seeds[0]]["flips"]},
    }


def related(rows: Sequence[dict[str, Any]], bits: str) -> dict[str, float | None]:
    """Per layer the correlation of density and flips over recipes and seeds; None where either
    does not vary."""
    found: dict[str, float | None] = {}
    for layer in rows[0]["density"]:
        densities = [row["density"][layer] for row in rows]
        flips = [row["flips"][bits][layer] for row in rows]
        varied = len(set(densities)) > 1 and len(set(flips)) > 1
        found[layer] = correlation(densities, flips) if varied else None
    return found


def sentences(found: dict[str, Any]) -> list[str]:
    """What the verdicts come to, a sentence a set and recipe."""
    told = []
    for name, figures in found.items():
        for recipe, judged in figures["verdict"].items():
            flips = ", ".join(f"{_times(f)} at {bits} bits" for bits, f in judged["flips"].items())
            falls = [f["falls"] for f in judged["flips"].values()]
            answer = "holds" if all(falls) else "holds in part" if any(falls) else "does not hold"
            told.append(
                f"{name}: {recipe} over plain: density at the threshold times"
                f" {_times(judged['density'])}, flipped spikes times {flips}; that"
                f" flips fall for every seed {answer}."
            )
    return told


def _times(judged: dict[str, Any]) -> str:
    return "unknown" if judged["ratio"] is None else f"{judged['ratio']['mean']:.2f}"


def _layer_mean(row: dict[str, Any], keys: Sequence[str]) -> float:
    layers: dict[str, Any] = row
    for key in keys:
        layers = layers[key]
    return float(mean(layers.values()))


@with_sentences()
def main() -> None:
    """Run all, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=existing_folder, required=True)
    parser.add_argument("--runs", type=Path, default=None)
    parser.add_argument(
        "--sets", nargs="+", choices=tuple(SETS), default=["mnist", "fashion_mnist"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", choices=tuple(recipes()), default=RECIPES)
    parser.add_argument("--tiny", action="store_true", help="the smallest networks")
    parser.add_argument("--out", type=file_to_write, default=OUT)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        first = Job(
            data=given.data, runs=given.runs or Path(scratch),
            scale="tiny" if given.tiny else "lab", set="digits", recipe="plain", seed=0,
        )  # fmt: skip
        todo = jobs(first, sets=given.sets, names=given.recipes, seeds=given.seeds)
        rows = []
        for job in (job for job in todo if job.steps is None):
            rows.append(measure(job))
            print(json.dumps(rows[-1]), flush=True)
    found = summary(rows)
    result: dict[str, Any] = {
        "command": command_line(parser, given, apart=("runs",)),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "settings": {"images": IMAGES, "narrow": NARROW, "bits": BITS, "target": "loihi2"},
        "sentences": sentences(found),
        "summary": found,
        "runs": rows,
    }
    files.write_text(given.out, json.dumps(result, indent=1) + "\n")
    print("\n".join(result["sentences"]))


if __name__ == "__main__":
    main()
