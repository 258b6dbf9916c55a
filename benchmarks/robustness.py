"""How robust are the lab's networks on the chip, under the standard and replayed on Lava?

    python benchmarks/robustness.py --data FOLDER --runs FOLDER [--sets mnist fashion_mnist]
        [--images 500] [--compare 128] [--timed 1000] [--out benchmarks/results/robustness.json]

Three small convolutional networks of the lab a set (its run folders, trained if absent) are
exported for Loihi and attacked with `--standard` at three radii: float, quantised, integer; every
image that hurt the integer network most is replayed on Lava. Then every white-box attack in linf,
through every rule of the gradient, is run on the integer network alone, on --compare images, to see
which of them leaves the least standing. Last, the time of the whole `--standard` with all checks
and replays, on --timed images of the first set at one radius, for two of the networks with twice
the steps, for the second on a quarter of them. What is done is kept in --runs, under a digest of
all that it depends on, machine and versions too, but the code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lab_rows
from lab_plan import SETS, Job
from lab_run import bundle_of
from shared import existing_folder, file_to_write, with_sentences
from where import command_line, machine, versions

from spikeport import attacking
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
from spikeport.sim.attack.standard import SHARPNESS, WINDOWS
from spikeport.sim.files import write_text
from spikeport.sim.twin import Twin
from spikeport.sim.twin_rules import Assg, Bptr, Hart, Pdsg, Rga

OUT = Path(__file__).parent / "results" / "robustness.json"
PACKAGES = ("numpy", "torch", "lava-nc")
RECIPES = ("plain", "mpd_sgr_hinge", "at_mpd_sgr")
TIMED = {"plain": 1, "at_mpd_sgr": 4}
"""The network that withstands least, and the one that withstands most and takes so long that one in
four images must do."""
SEED, CLASSES = 0, 10
RADII = (0.5, 1.0, 2.0)
"""Radii in units of the lab's for that set."""
VIEWS = {
    **WINDOWS,
    "bptr": Bptr(),
    "rga": Rga(),
    "hart-0.5": Hart(width=0.5),
    "hart-1": Hart(width=1.0),
    "pdsg": Pdsg(),
    **{f"assg-{area}": Assg(area=area) for area in sorted(SHARPNESS)},
}
SHARPENED = tuple(name for name in VIEWS if name.startswith("assg"))
OTHERS = tuple(name for name in VIEWS if name not in SHARPENED)
TRAINED = "triangle-1"
PAPERS = "sa-pgd-100 assg"


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
    return found | {PAPERS: Aimed(attack=SaPgd(steps=100), views=SHARPENED)}


def minimum(eps: Sequence[float], *, images: int) -> Settings:
    """The standard at those radii."""
    return Settings(standard=True, eps=tuple(eps), samples=images, seed=SEED)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` does: `samples` images, each attack of `specs` alone, within `eps`."""

    samples: int
    eps: float
    seed: int
    specs: dict[str, Spec]
    views: dict[str, Any]


Asked = Settings | Comparison


def standard(job: Job, folder: Path, settings: Settings) -> dict[str, Any]:
    """One network under the standard at all radii, replayed on Lava."""
    started = time.perf_counter()
    bundle = bundle_of(job, folder, images=settings.samples)
    result = attacking.attack(bundle, settings, out=folder / "standard.json")
    return {
        "settings": result["header"]["settings"],
        "radii": [_radius(radius) for radius in result["radii"]],
        "failed_checks": [c["name"] for c in result["checks"] if not c["passed"]],
        "seconds": round(time.perf_counter() - started, 1),
    }


def compare(job: Job, folder: Path, asked: Comparison) -> dict[str, float]:
    """Accuracy that each white-box attack leaves the integer network of `job`."""
    target = Target.of(bundle_of(job, folder, images=asked.samples), asked.samples)
    twin = Twin(target.bundle.net)
    views = {name: twin.through(rule, detach_reset=True) for name, rule in asked.views.items()}
    budget = Budget(eps=asked.eps, levels=target.bundle.net.input.largest)
    made = evaluate(
        {INTEGER: views}, target.x, target.y, specs=asked.specs, budget=budget, seed=asked.seed
    )
    return {k: a.robust_accuracy for k, a in made.models[INTEGER].attacks.items()}


def timed(job: Job, folder: Path, settings: Settings) -> dict[str, Any]:
    """How long the command takes for one network, with its figures."""
    bundle = bundle_of(job, folder, images=settings.samples)
    started = time.perf_counter()
    result = attacking.attack(bundle, settings)
    seconds = time.perf_counter() - started
    return {
        "steps": job.config.encode.steps, "processes": os.cpu_count(),
        "seconds": round(seconds, 1), **_radius(result["radii"][0]),
    }  # fmt: skip


def done(job: Job, wanted: dict[Callable[..., dict[str, Any]], Asked]) -> dict[str, Any]:
    """What each function of `wanted` finds of a job, asked so, kept in a folder of its own within
    the job's; what is asked of no images is left out."""
    row = {}
    for what, asked in wanted.items():
        if not asked.samples:
            continue
        folder = job.folder / "robustness" / f"{what.__name__}-{digest(job, asked)[:16]}"
        kept = folder / "found.json"
        if not kept.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_text(kept, json.dumps(what(job, folder, asked), indent=1) + "\n")
        told = json.loads(kept.read_text(encoding="utf-8"))
        row[what.__name__] = {"images": asked.samples, "found": told}
    return row


def digest(job: Job, asked: Asked) -> str:
    """SHA-256 of what figures depend on: the run, what is asked of it, what the standard is, the
    machine, whose times are kept too, and the versions."""
    least = (asked.specs(CLASSES), WINDOWS, SHARPNESS) if isinstance(asked, Settings) else ()
    known = (lab_rows.digest(job), asked, least, machine(), versions(PACKAGES))
    return hashlib.sha256(repr(known).encode()).hexdigest()


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


@with_sentences()
def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=existing_folder, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument(
        "--sets", nargs="+", choices=tuple(SETS), default=["mnist", "fashion_mnist"]
    )
    parser.add_argument("--images", type=int, default=500, help="0: leave the standard out")
    parser.add_argument("--compare", type=int, default=128, help="0: leave the comparison out")
    parser.add_argument("--timed", type=int, default=1000, help="0: leave the time out")
    parser.add_argument("--out", type=file_to_write, default=OUT)
    asked = parser.parse_args()
    wanted = [
        Job(data=asked.data, runs=asked.runs, scale="lab", set=name, recipe=recipe, seed=SEED)
        for name in asked.sets
        for recipe in RECIPES
    ]
    rows = []
    for job in wanted:
        eps = SETS[job.set].eps
        row = {"set": job.set, "recipe": job.recipe, "eps": eps}
        row |= done(job, {
            standard: minimum([share * eps for share in RADII], images=asked.images),
            compare: Comparison(
                samples=asked.compare, eps=eps, seed=SEED, specs=compared(), views=VIEWS
            ),
        })  # fmt: skip
        rows.append(row)
        print(json.dumps(row.get("compare")), flush=True)
    longer = []
    for recipe, part in TIMED.items():
        job = replace(wanted[0], recipe=recipe)
        twice = replace(job, steps=2 * job.config.encode.steps)
        found = done(twice, {timed: minimum([SETS[job.set].eps], images=asked.timed // part)})
        longer.append({"set": job.set, "recipe": job.recipe, **found})
    left = [r["compare"]["found"] for r in rows if "compare" in r]
    best = [found[PAPERS] <= min(found.values()) for found in left]
    report = {
        "command": command_line(parser, asked),
        "machine": machine(), "versions": versions(PACKAGES), "networks": rows, "timed": longer,
        "sa_pgd_with_assg_is_strongest": {"networks": len(best), "on": sum(best)},
    }  # fmt: skip
    write_text(asked.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
