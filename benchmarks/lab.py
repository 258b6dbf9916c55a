"""The lab: every training recipe on real images, attacked in floats and on the chip's integers.

    python benchmarks/lab.py --data FOLDER [--runs FOLDER] [--sets mnist fashion_mnist cifar10]
                             [--seeds 0 1 2] [--recipes plain mpd_sgr ...] [--jobs 2] [--full]

FOLDER holds the folders mnist, fashion_mnist and cifar10 with their files. Every run is trained,
exported and attacked by a process of its own (`lab_run.py`) with one thread and writes its figures
into its folder under --runs; after each the result is written anew, and beside it a line for every
run (`lab_rows.py`), so that a stop at any time leaves a table, and the same command goes on, on
another machine too; --again counts only what is in --runs. Scales: the default fits on two cores of
a small machine, with stated, fixed, stratified subsets; --full is the whole of the data on a GPU;
--paper is the reproduction of the MPD-SGR paper alone (VGG-11, 8 steps, its attacks); --tiny only
shows that the way is open. What each means stands in `lab_plan.py`, the recipes in `recipes.toml`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lab_rows
from lab_plan import PAPER_SETTINGS, RECIPES, SCALES, SETS, Job, jobs, recipes
from lab_rows import Row
from lab_summary import compared, described
from shared import existing_folder, file_to_write, in_threads, with_sentences
from where import command_line, machine, versions

from spikeport.sim import files

OUT = Path(__file__).parent / "results" / "lab.json"
PACKAGES = ("numpy", "torch", "snntorch", "nir")
PAPER_RECIPES = ("plain", "mpd_sgr", "at_mpd_sgr")


def run_in_process(job: Job) -> tuple[float, str]:
    """Seconds, and what went wrong, as a sentence; empty if nothing did."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "lab_run.py"), *job.arguments()],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [f"ended with code {done.returncode}", *done.stderr.strip().splitlines()]
    told = [line for line in lines if re.match(r"spikeport: |[\w.]+Error: ", line)]
    return time.perf_counter() - started, (told or lines)[-1] if done.returncode else ""


def summary(
    todo: Sequence[Job], runs: Sequence[Row], failed: dict[str, str], *, command: str
) -> dict[str, Any]:
    """The result of those `runs` of all to do that are finished."""
    scale = SCALES[todo[0].scale]
    known = recipes(todo[0].recipe_file)
    return {
        "command": command,
        "machine": machine(),
        "versions": versions(PACKAGES),
        "scale": todo[0].scale,
        "finished": len(runs),
        "wanted": len(todo),
        "failed": failed,
        "settings": {
            "attacks": {label: asdict(spec) for label, spec in scale.attacks.items()},
            "surrogates": [f"{s.name} {s.width:g}" for s in scale.surrogates],
            "paper": PAPER_SETTINGS,
            "attacked_images": scale.attacked or "all",
            "sets": {
                job.set: {
                    "eps": SETS[job.set].eps,
                    "config": job.config.model_dump(mode="json", exclude={"data": {"folder"}}),
                }
                for job in reversed(todo)
            },
            "recipes": {job.recipe: known[job.recipe] for job in todo},
        },
        **compared(runs),
    }


def work(
    todo: Sequence[Job], *, workers: int, out: Path, command: str, again: bool
) -> dict[str, Any]:
    """Run what is not finished, `workers` at a time, and write the result after each."""
    failed: dict[str, str] = {}
    kept = lab_rows.read(lab_rows.path_beside(out))
    counted = {} if again else kept  # what is kept stays until a new run takes its place

    def write() -> dict[str, Any]:
        runs = [row for job in todo if (row := lab_rows.of(job, counted))]
        kept.update({row["run"]: row for row in runs})
        lab_rows.write(lab_rows.path_beside(out), kept.values())
        found = summary(todo, runs, failed, command=command)
        files.write_text(out, json.dumps(found, indent=1) + "\n")
        return found

    missing = [job for job in todo if lab_rows.of(job, counted) is None]
    if not workers:
        return write()
    print(f"{len(todo) - len(missing)} of {len(todo)} runs are finished", flush=True)
    with in_threads(run_in_process, missing, workers=workers) as ended:
        for count, (job, done) in enumerate(ended, start=1):
            seconds, problem = done.result()
            name = str(job.folder.relative_to(job.runs))
            if problem:
                failed[name] = problem
            print(f"{count}/{len(missing)} {name} {seconds:.0f} s {problem}", flush=True)
            write()
    return write()


def arguments() -> argparse.Namespace:
    """The command line, defaults filled in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=existing_folder, required=True)
    parser.add_argument("--runs", type=Path, default=None)
    parser.add_argument("--out", type=file_to_write, default=OUT)
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=None)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", default=None)
    parser.add_argument("--recipe-file", type=Path, default=RECIPES)
    parser.add_argument("--again", action="store_true", help="count only runs in --runs")
    parser.add_argument("--jobs", type=int, default=2, help="0: only sum up what is finished")
    scales, others = parser.add_mutually_exclusive_group(), ("full", "paper", "tiny")
    for name in others:
        scales.add_argument(f"--{name}", action="store_true")
    found = parser.parse_args()
    found.command = command_line(parser, found, apart=("runs", "again", "jobs"))
    found.scale = next((name for name in others if getattr(found, name)), "lab")
    every = {"paper": ["cifar10"], "tiny": ["digits"]}
    found.sets = found.sets or every.get(found.scale, ["mnist", "fashion_mnist", "cifar10"])
    return found


@with_sentences()
def main() -> int:
    """Run all; 0 if every run is finished and no spike differs, 2 for a wrong command line."""
    given = arguments()
    known = recipes(given.recipe_file)
    names = given.recipes or (PAPER_RECIPES if given.scale == "paper" else tuple(known))
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"recipe is {unknown[0]!r}; known are {', '.join(known)}")
    with tempfile.TemporaryDirectory() as scratch:
        first = Job(
            data=given.data, runs=given.runs or Path(scratch), scale=given.scale, set="digits",
            recipe=names[0], seed=0, recipe_file=given.recipe_file,
        )  # fmt: skip
        todo = jobs(first, sets=given.sets, names=names, seeds=given.seeds)
        for job in todo:
            _ = job.config  # a recipe that does not fit is told before anything runs
        found = work(
            todo, workers=given.jobs, out=given.out, command=given.command, again=given.again
        )
    print(described(found))
    differing = sum(
        figures["differing_spikes_torch_chip"]
        for by_recipe in found["results"].values()
        for by_steps in by_recipe.values()
        for figures in by_steps.values()
    )
    print(f"{differing} spikes differ between the networks trained on integers and the chip's")
    return int(bool(found["failed"] or differing))


if __name__ == "__main__":
    sys.exit(main())
