"""The lab's networks under the strongest attack there is here: SA-PGD through ASSG.

    python benchmarks/harder.py --data FOLDER --runs FOLDER [--sets mnist fashion_mnist cifar10]
        [--seeds 0 1 2] [--recipes plain ...] [--jobs 2] [--out benchmarks/results/harder.json]

Every network of the lab that is attacked there is attacked here, on the same images and at the same
radius, integer network alone (run folders of the lab, trained if absent). Three sharpnesses of
ASSG, 100 moves each; what an image loses under one of them is lost. The result is written after
every network, and the same command goes on where it was stopped, or where a network failed, which
is told at the end. Rows of another attack, machine or version are neither counted nor overwritten:
the command then ends with a sentence.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lab_rows
import torch
from lab_plan import SCALES, SETS, Job, jobs, recipes
from lab_run import ATTACK_SEED, trained
from shared import existing_folder, file_to_write, in_threads, with_sentences
from where import command_line, goes_on, machine, versions

from spikeport import exporting
from spikeport.sim.attack import Budget, SaPgd
from spikeport.sim.attack.run import attack_views
from spikeport.sim.attack.standard import SHARPNESS
from spikeport.sim.files import write_text
from spikeport.sim.memory import keep_freed
from spikeport.sim.twin import Twin
from spikeport.sim.twin_rules import Assg
from spikeport.train.data import subset

OUT = Path(__file__).parent / "results" / "harder.json"
PACKAGES = ("numpy", "torch")
ATTACK = SaPgd(steps=100)
SETTINGS = {"attack": {"name": ATTACK.name, **asdict(ATTACK)}, "assg": list(SHARPNESS)}
THEN = " && "
Row = dict[str, Any]


def attacked(job: Job) -> Row:
    """The row of one network."""
    torch.set_num_threads(1)
    keep_freed()
    exported, _, _ = exporting.nets_of(trained(job), target=job.config.quantise.target)
    labels = exported.data.y_test
    chosen = subset(labels, SCALES[job.scale].attacked or None, where="harder: attacked images")
    x = torch.tensor(exported.data.x_test[chosen]).float() / 255
    twin = Twin(exported.net)
    views = [twin.through(Assg(area=area), detach_reset=True) for area in SHARPNESS]
    found = attack_views(
        views, x, torch.tensor(labels[chosen]), ATTACK, budget=Budget(eps=SETS[job.set].eps),
        seed=ATTACK_SEED, batch=SCALES[job.scale].batch,
    )  # fmt: skip
    return {
        "run": lab_rows.name(job), "digest": lab_rows.digest(job), "set": job.set,
        "recipe": job.recipe, "seed": job.seed, "images": len(chosen), "eps": SETS[job.set].eps,
        "clean": found.clean_accuracy, "left": found.robust_accuracy,
    }  # fmt: skip


def in_process(job: Job) -> Row:
    """The same in a process of its own, whose end is not that of the others."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(attacked, job).result()


def label() -> dict[str, Any]:
    """What all rows of a result have in common."""
    return {"machine": machine(), "versions": versions(PACKAGES), "settings": SETTINGS}


def known(path: Path) -> tuple[list[str], dict[str, Row]]:
    """Commands and rows, by run, of earlier calls here with the same attack; ValueError where the
    file holds anything else."""
    if not path.exists():
        return [], {}
    told = goes_on(path, label())
    try:
        return told["command"].split(THEN), {row["run"]: row for row in told["rows"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: holds no rows of harder.py ({error!r}); remove it") from error


def write(path: Path, rows: Iterable[Row], *, commands: Iterable[str]) -> None:
    """The result so far, and the commands that it takes."""
    kept = sorted(rows, key=lambda row: str(row["run"]))
    report = {"command": THEN.join(commands), **label(), "rows": kept}
    write_text(path, json.dumps(report, indent=1) + "\n")


@with_sentences()
def main() -> None:
    """Attack what is missing, `--jobs` networks at a time; exit code 1 if one fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=existing_folder, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=None)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", choices=tuple(recipes()), default=None)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=file_to_write, default=OUT)
    given = parser.parse_args()
    names = given.recipes or tuple(recipes())
    first = Job(data=given.data, runs=given.runs, scale="lab", set="digits", recipe="", seed=0)
    sets = given.sets or ["mnist", "fashion_mnist", "cifar10"]
    every = jobs(first, sets=sets, names=names, seeds=given.seeds)
    todo = [job for job in every if job.steps is None]
    commands, rows = known(given.out)
    commands = list(dict.fromkeys([*commands, command_line(parser, given, apart=("jobs",))]))
    missing = [
        job for job in todo
        if rows.get(lab_rows.name(job), {}).get("digest") != lab_rows.digest(job)
    ]  # fmt: skip
    print(f"{len(todo) - len(missing)} of {len(todo)} networks are done", flush=True)
    failed = []
    with in_threads(in_process, missing, workers=given.jobs) as ended:
        for job, done in ended:
            name, problem = lab_rows.name(job), done.exception()
            if problem is None:
                rows[name] = row = done.result()
                write(given.out, rows.values(), commands=commands)
                told = f"clean {row['clean']:.3f}, left {row['left']:.3f}"
            else:
                failed.append(name)
                told = f"{type(problem).__name__}: {problem}"
            print(f"{name}: {told}", flush=True)
    if failed:
        sys.exit(f"{len(failed)} of {len(missing)} networks failed: {', '.join(sorted(failed))}")


if __name__ == "__main__":
    main()
