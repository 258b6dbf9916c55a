"""`spikeport demo`: the whole way on scikit-learn's digits, told as one table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikeport import attack_report, attacking, exporting, simulating, tables, training
from spikeport.attack_settings import Settings
from spikeport.sim.files import write_text
from spikeport.sim.text import aligned
from spikeport.train import loop

EPS = 16 / 255  # 1 of the 16 grey levels that a digit's pixel has
PGD_STEPS = 40
ATTACKED = 128


def demo(
    folder: Path, *, progress: Callable[[str], None] = lambda _: None, bars: bool = True
) -> dict[str, Any]:
    """Train (or go on with the run in `folder`), export, prove on Lava, attack; a JSON summary,
    also written to `folder`/demo.json."""
    started = time.perf_counter()
    run, bundle = folder / "run", folder / "bundle"
    loop.make(folder)
    progress("train: snnTorch with MPD-SGR, then on the chip's integers")
    trained = training.train(None, run, resume=run.exists(), progress=bars)
    progress("export: NIR, integers for loihi, overflow proof")
    exported = exporting.export(run, bundle, target="loihi", vectors=0)
    progress("simulate: every backend on the whole test set, multi-process Lava on 64 images")
    ladder = simulating.simulate(bundle, progress=progress)
    progress(f"attack: PGD-{PGD_STEPS} on {ATTACKED} images")
    settings = Settings(
        attacks=("pgd",), eps=(EPS,), steps=PGD_STEPS, samples=ATTACKED, checks=False
    )
    attacked = attacking.attack(bundle, settings, jobs=1, progress=progress)
    result = {
        "passed": exported["passed"] and ladder["passed"] and attacked["passed"],
        "seconds": round(time.perf_counter() - started, 1),
        "train": trained,
        "export": exported,
        "simulate": ladder,
        "attack": attacked,
    }
    write_text(folder / "demo.json", json.dumps(result, indent=1) + "\n")
    return result


def describe_demo(result: dict[str, Any]) -> str:
    """The one table: accuracy along the way to the chip, clean and attacked, and the proof."""
    simulated, attacked = result["simulate"], result["attack"]["radii"][0]
    accuracy, models = simulated["accuracy"], attacked["evaluation"]["models"]
    replayed = attacked["replay"]
    samples = attacked["evaluation"]["samples"]
    rows = [["", "float", "quantised", "integer", "Lava"]]
    names = ("float", "quantised", "integer")
    clean = [accuracy.get(n) for n in ("float", "quantised", "reference", "lava-inprocess")]
    few = [models[n]["clean_accuracy"] for n in names] + [replayed["clean_accuracy"]]
    robust = [models[n]["worst_accuracy"] for n in names]
    ladder = result["export"]["fidelity"]["rungs"] + simulated["rungs"]
    rungs = [r for r in ladder if r["exact"]]
    images = max(r["samples"] for r in rungs)
    grey = round(EPS * 255)
    title = f"the same under PGD-{PGD_STEPS}, eps {grey}/255, worst case"
    for name, shares in (
        (f"clean, all {images} test images", clean),
        (f"clean, the {samples} attacked ones", few),
        (title, [*robust, replayed["worst_accuracy"]]),
    ):
        rows.append([name, *map(tables.percent, shares)])
    lines = [aligned(rows), ""]
    lines += [tables.describe_rung(rung) for rung in rungs]
    lines += [f"{m['rung']}: not run: {m['reason']}" for m in simulated["missing"]]
    compared, differing = (sum(r[k] for r in rungs) for k in ("spikes", "differing"))
    lines.append(attack_report.describe_replay(replayed))
    lines.append(
        f"spikes compared: {compared + replayed['spikes']:,}, spikes differing:"
        f" {differing + replayed['differing']:,}; {result['seconds']:.0f} s in all"
    )
    return "\n".join(lines)
