"""One run of the lab: train, export in memory, attack, write its figures.

    python benchmarks/lab_run.py --data FOLDER --runs FOLDER --set mnist --recipe plain --seed 0

What a finished run with the same settings has written is left as it is; a killed one goes on where
it was. `lab.py` runs many of these.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from lab_plan import (
    PAPER_EPS,
    RECIPES,
    SCALES,
    SETS,
    Job,
    paper_attacks,
    recipes,
)
from shared import existing_folder, with_sentences
from torch import Tensor
from where import machine

from spikeport import exporting
from spikeport.sim import files
from spikeport.sim.attack import Attack, Budget, Evaluation, evaluate
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.twin import Twin
from spikeport.sim.twin_float import FloatTwin
from spikeport.train.data import subset
from spikeport.train.journal import METRICS
from spikeport.train.loop import SUMMARY, fit

ATTACK_SEED = 0


def finished(job: Job) -> dict[str, Any] | None:
    """The figures of a job that was run with these settings, else None."""
    try:
        found: dict[str, Any] = json.loads(job.result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.get("settings") == job.settings else None


def trained(job: Job) -> Path:
    """The folder of the job's run, brought to its end where it has none."""
    if not (job.folder / SUMMARY).exists():
        job.folder.mkdir(parents=True, exist_ok=True)
        fit(job.config, job.folder, resume=True, progress=False)
    return job.folder


def bundle_of(job: Job, folder: Path, *, images: int) -> Path:
    """The network of `job`, trained if need be, as a bundle in `folder` with that many test
    images."""
    run, bundle = trained(job), folder / "bundle"
    folder.mkdir(parents=True, exist_ok=True)
    exporting.export(run, bundle, target="loihi", vectors=images)
    return bundle


def run(job: Job) -> dict[str, Any]:
    """Bring the run in `job.folder` to its end and write its figures, which are returned."""
    config, scale = job.config, SCALES[job.scale]
    started = time.perf_counter()
    folder = trained(job)
    trained_s = time.perf_counter() - started
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    exported, _, model = exporting.nets_of(folder, target=config.quantise.target)
    inputs, labels = exporting.run_inputs(exported, samples=len(exported.data.y_test))
    rung = exporting.integers_rung(exported, model, inputs)
    exported_s = time.perf_counter() - started - trained_s
    same = rung.differing == rung.predictions == 0
    result: dict[str, Any] = {
        "set": job.set, "recipe": job.recipe, "seed": job.seed, "steps": config.encode.steps,
        "settings": job.settings,
        "machine": machine(),
        "test_images": len(labels),
        "test_accuracy": {
            "float": summary["float_test_accuracy"],
            "quantised": summary["quantised_test_accuracy"],
            "integer": summary["quantised_test_accuracy"] if same else None,
        },
        "differing_spikes_torch_chip": rung.differing,
        "spikes_compared": rung.spikes,
        "training": last_epochs(folder / METRICS),
    }  # fmt: skip
    if job.steps is None:
        chosen = subset(labels, scale.attacked or None, where="lab: attacked images")
        pixels = torch.tensor(exported.data.x_test[chosen]).float() / 255
        result |= attacked(exported, pixels, torch.tensor(labels[chosen]), job=job)
    total_s = time.perf_counter() - started
    result["seconds"] = {
        "training": round(trained_s, 1), "export": round(exported_s, 1),
        "attack": round(total_s - trained_s - exported_s, 1),
    }  # fmt: skip
    files.write_text(job.result, json.dumps(result, indent=1) + "\n")
    return result


def last_epochs(path: Path) -> dict[str, Any]:
    """Per phase what its last epoch looked like on validation images, means over the layers."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        epoch = json.loads(line)
        found[epoch["phase"]] = {
            "epochs": epoch["epoch"],
            "val_accuracy": epoch["val_accuracy"],
            **{
                key: mean(epoch[key].values())
                for key in ("occupancy", "rate", "dead", "saturated")
                if epoch.get(key)
            },
        }
    return found


def attacked(exported: exporting.Exported, x: Tensor, y: Tensor, *, job: Job) -> dict[str, Any]:
    """Accuracy under the scale's attacks, and under the paper's alone, of both networks."""
    scale, eps = SCALES[job.scale], SETS[job.set].eps
    x, y = x.to(scale.device), y.to(scale.device)
    trained = Surrogate(exported.config.model.surrogate, exported.config.model.surrogate_width)

    def under(
        specs: Mapping[str, Attack], *, eps: float, surrogates: tuple[Surrogate, ...]
    ) -> Evaluation:
        models = {
            "float": tuple(FloatTwin(exported.float_net, surrogate=s) for s in surrogates),
            "integer": tuple(Twin(exported.net, surrogate=s) for s in surrogates),
        }
        for views in models.values():
            for view in views:
                view.to(scale.device)
        return evaluate(
            models, x, y, specs=specs, budget=Budget(eps=eps), seed=ATTACK_SEED, batch=scale.batch
        )

    found: dict[str, Any] = {"attacked_images": len(y)}
    # The paper's attacks at the paper's radius, and at ours, to be compared with our worst case.
    for key, radius in (("paper", PAPER_EPS), ("paper_attacks_at_eps", eps)):
        done = under(paper_attacks(radius), eps=radius, surrogates=(trained,))
        found[key] = figures(done, worst=False)
    if scale.attacks:
        evaluation = under(scale.attacks, eps=eps, surrogates=scale.surrogates)
        found["robust"] = figures(evaluation, worst=True)
        found["transfers"] = [asdict(t) for t in evaluation.transfers]
    return found


def figures(evaluation: Evaluation, *, worst: bool) -> dict[str, dict[str, float]]:
    """Per network its accuracies by attack, without attack first and, with `worst`, over all
    attacks on it and then over all images found on either network."""
    found = {}
    for name, model in evaluation.models.items():
        under = {label: a.robust_accuracy for label, a in model.attacks.items()}
        ends = {"own worst": model.own_accuracy, "worst case": model.worst_accuracy}
        found[name] = {"clean": model.clean_accuracy, **under, **(ends if worst else {})}
    return found


@with_sentences()
def main() -> None:
    """Run one job; one sentence on stderr and exit code 2 if it cannot be run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=existing_folder, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--scale", choices=tuple(SCALES), default="lab")
    parser.add_argument("--set", choices=tuple(SETS), required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--recipe-file", type=Path, default=RECIPES)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=None)
    job = Job(**vars(parser.parse_args()))
    torch.set_num_threads(1)
    known = recipes(job.recipe_file)
    if job.recipe not in known:
        raise ValueError(f"recipe is {job.recipe!r}; known are {', '.join(known)}")
    if finished(job) is None:
        run(job)


if __name__ == "__main__":
    main()
