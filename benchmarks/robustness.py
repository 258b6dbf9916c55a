"""How robust are the lab's networks on the chip, under the standard and replayed on Lava?

    python benchmarks/robustness.py --data FOLDER --runs FOLDER [--sets mnist fashion_mnist]
        [--images 500] [--compare 200] [--out benchmarks/results/robustness.json]

Three small convolutional networks of the lab a set (its run folders, trained if absent) are
exported for Loihi and attacked with `--standard` at three radii: float, quantised, integer; every
image that hurt the integer network most is replayed on Lava. Then every white-box attack in linf,
through every rule of the gradient, is run on the integer network alone, on --compare images, to see
which of them leaves the least standing. Networks that are done are kept in --runs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from lab_plan import SETS, Job
from where import machine, versions

from spikeport import attacking, exporting
from spikeport.attack_settings import Settings
from spikeport.attack_shares import INTEGER, Target
from spikeport.sim.attack import (
    Apgd,
    ApgdTargeted,
    Bim,
    Budget,
    Fgsm,
    MiFgsm,
    Pgd,
    SaPgd,
    evaluate,
)
from spikeport.sim.attack.search import Aimed, Spec
from spikeport.sim.files import write_text
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.twin import Twin
from spikeport.sim.twin_rules import Assg, Bptr, Hart, Pdsg, Rga
from spikeport.train.loop import SUMMARY, fit

OUT = Path(__file__).parent / "results" / "robustness.json"
PACKAGES = ("numpy", "torch", "lava-nc")
RECIPES = ("plain", "mpd_sgr_hinge", "at_mpd_sgr")
SEED = 0
RADII = (0.5, 1.0, 2.0)
"""Radii in units of the lab's for that set."""
VIEWS = {
    "triangle-1": Surrogate("triangle", 1.0),
    "atan-2": Surrogate("atan", 2.0),
    "bptr": Bptr(),
    "rga": Rga(),
    "hart-0.5": Hart(width=0.5),
    "hart-1": Hart(width=1.0),
    "pdsg": Pdsg(),
    "assg-0.35": Assg(area=0.35),
    "assg-0.425": Assg(area=0.425),
    "assg-0.475": Assg(area=0.475),
}
SHARPENED = tuple(name for name in VIEWS if name.startswith("assg"))
OTHERS = tuple(name for name in VIEWS if name not in SHARPENED)
TRAINED = "triangle-1"


def compared() -> dict[str, Spec]:
    """Every white-box attack through the window it was trained with, PGD and APGD through every
    other rule, and SA-PGD through ASSG at every sharpness, whose worst case is the paper's."""
    plain = {
        "fgsm": Fgsm(), "bim-40": Bim(steps=40), "mi-fgsm-40": MiFgsm(steps=40),
        "pgd-40": Pgd(steps=40), "apgd-ce-100": Apgd(steps=100),
        "apgd-dlr-100": Apgd(steps=100, loss="dlr"), "apgd-t-100": ApgdTargeted(steps=100),
    }  # fmt: skip
    found: dict[str, Spec] = {
        label: Aimed(attack=spec, views=(TRAINED,)) for label, spec in plain.items()
    }
    for name in OTHERS[1:]:
        found[f"apgd-ce-100 {name}"] = Aimed(attack=Apgd(steps=100), views=(name,))
    return found | {"sa-pgd-100 assg": Aimed(attack=SaPgd(steps=100), views=SHARPENED)}


def measure(job: Job, folder: Path, *, images: int, few: int) -> dict[str, Any]:
    """One network: trained if need be, exported, attacked, replayed, and compared."""
    if not (job.folder / SUMMARY).exists():
        job.folder.mkdir(parents=True, exist_ok=True)
        fit(job.config, job.folder, resume=True, progress=False)
    bundle = folder / "bundle"
    exporting.export(job.folder, bundle, target="loihi", vectors=images)
    eps = SETS[job.set].eps
    started = time.perf_counter()
    settings = Settings(
        standard=True, eps=tuple(share * eps for share in RADII), samples=images, seed=SEED
    )
    result = attacking.attack(bundle, settings, out=folder / "standard.json")
    standard_s = time.perf_counter() - started
    target = Target.of(bundle, few)
    twin = Twin(target.bundle.net)
    views = {name: twin.through(rule, detach_reset=True) for name, rule in VIEWS.items()}
    made = evaluate(
        {INTEGER: views}, target.x, target.y, specs=compared(),
        budget=Budget(eps=eps, levels=target.bundle.net.input.largest), seed=SEED,
    )  # fmt: skip
    left = {k: a.robust_accuracy for k, a in made.models[INTEGER].attacks.items()}
    return {
        "set": job.set, "recipe": job.recipe, "images": images, "eps": eps,
        "settings": result["header"]["settings"],
        "radii": [_radius(radius) for radius in result["radii"]],
        "failed_checks": [c["name"] for c in result["checks"] if not c["passed"]],
        "standard_seconds": round(standard_s, 1),
        "compared_images": few,
        "compared": left,
    }  # fmt: skip


def _radius(radius: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one radius: no per-image lists."""
    evaluation = radius["evaluation"]
    return {
        "eps": evaluation["budget"]["eps"],
        "models": {
            name: {
                "clean": model["clean_accuracy"],
                "attacks": {k: a["robust_accuracy"] for k, a in model["attacks"].items()},
                "own": model["own_accuracy"],
                "worst": model["worst_accuracy"],
                "margins": model["margins"],
            }
            for name, model in evaluation["models"].items()
        },
        "transfers": evaluation["transfers"],
        "fidelity": radius["fidelity"],
        "replay": radius["replay"],
    }


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["mnist", "fashion_mnist"])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--compare", type=int, default=200)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    wanted = [
        Job(data=asked.data, runs=asked.runs, scale="lab", set=name, recipe=recipe, seed=SEED)
        for name in asked.sets
        for recipe in RECIPES
    ]
    rows = []
    for job in wanted:
        folder = job.folder / "robustness"
        folder.mkdir(parents=True, exist_ok=True)
        done = folder / f"{asked.images}-{asked.compare}.json"
        if not done.exists():
            row = measure(job, folder, images=asked.images, few=asked.compare)
            write_text(done, json.dumps(row, indent=1) + "\n")
        rows.append(json.loads(done.read_text(encoding="utf-8")))
        print(job.set, job.recipe, rows[-1]["compared"], flush=True)
    best = [r["compared"]["sa-pgd-100 assg"] <= min(r["compared"].values()) for r in rows]
    report = {
        "machine": machine(), "versions": versions(PACKAGES), "networks": rows,
        "strongest_is_sa_pgd_assg": f"{sum(best)} of {len(best)}",
    }  # fmt: skip
    write_text(asked.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
