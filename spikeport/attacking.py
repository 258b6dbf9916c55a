"""The `attack` command: float, rounded and integer network side by side, the worst replayed.

Attacks climb the gradients of each network; images stay on the grid that the chip is shown. The
images that hurt the integer network most are then played on Lava, which must decide alike. A result
holds no times and no places: with the header it was made from, it comes out the same, bit for bit.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from spikeport import backends
from spikeport.attack_settings import Settings
from spikeport.attack_shares import INTEGER, Target, header, search
from spikeport.sim import apart, engine, floating
from spikeport.sim.attack import Budget, Check, Effort, Evaluation, Pgd, Square, events, run_checks
from spikeport.sim.attack.evaluate import evaluation
from spikeport.sim.attack.losses import margin
from spikeport.sim.attack.masking import transferred
from spikeport.sim.files import write_text
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import compared, differing_spikes
from spikeport.sim.twin import Twin
from spikeport.simulating import float_nets

Progress = Callable[[str], None]
CHECKED = 64  # images for the masking checks
CHECKED_VIEW = "atan-2"


def attack(
    folder: Path,
    settings: Settings,
    *,
    out: Path | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    timeout_s: float = 600.0,
    progress: Progress = lambda _: None,
) -> Any:
    """Attack the bundle in `folder`; a JSON-able result, whose `passed` says that every replayed
    image was decided alike.

    out: file for the result; what is done lies beside it until all is, so a stopped attack goes on.
    jobs: processes at a time (None: one a processor); cluster: address of a Dask scheduler, whose
    workers see the folder of `out`; timeout_s: of a multi-process Lava run. None of these changes
    the result. Raises ValueError where a bundle cannot be attacked.
    """
    jobs = apart.processes(jobs, where="attack")
    backends.check_timeout(timeout_s)
    if cluster is not None and out is None:
        raise ValueError(
            "attack: a cluster needs --out, a file where its workers see it too; they leave their"
            " shares beside it"
        )
    target = Target.of(folder, settings.samples)
    searches = target.searches(settings)  # refuses settings before any work
    with _workshop(out) as parts:
        found = search(
            target, settings, folder=parts, jobs=jobs, cluster=cluster, progress=progress
        )
        radii = []
        for each, findings in zip(searches, found, strict=True):
            made = evaluation(each, findings, target.y)
            replayed = replay(
                target.bundle.net, made, target, backend=settings.replay, timeout_s=timeout_s,
                jobs=jobs, progress=progress,
            )  # fmt: skip
            radii.append({**figures(target, made), "replay": replayed})
        result: dict[str, Any] = {"header": header(target, settings), "radii": radii}
        result["checks"] = None
        if settings.checks and settings.norm == "linf":
            progress("gradient-masking checks on the integer network")
            budget = Budget(eps=settings.eps[-1], levels=target.bundle.net.input.largest)
            result["checks"] = [
                {**asdict(check), "cause": check.cause}
                for check in masking(target, budget, made, settings=settings)
            ]
        result["passed"] = not any(r["replay"]["disagreeing"] for r in radii)
        if out is not None:
            write_text(out, json.dumps(result, indent=1) + "\n")
    return result


def again(
    folder: Path, told: Path, *, jobs: int | None = None, timeout_s: float = 600.0,
    progress: Progress = lambda _: None,
) -> Any:  # fmt: skip
    """Make the result in file `told` once more from its own header; `passed` says that it came out
    the same. Raises ValueError for a file that is none, or about another bundle."""
    try:
        before = json.loads(told.read_text(encoding="utf-8"))
        of = before["header"]
        settings = Settings.of(of["settings"])
        digest = of["digest"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ValueError(f"{told}: is no result of an attack ({problem})") from None
    found = Target.of(folder, settings.samples).bundle.net.digest()
    if found != digest:
        raise ValueError(
            f"{told}: is about the network {digest[:12]}, {folder} holds {found[:12]}; name the"
            " bundle that was attacked"
        )
    result = attack(folder, settings, jobs=jobs, timeout_s=timeout_s, progress=progress)
    now = json.loads(json.dumps(result))
    differing = [k for k in ("header", "radii", "checks") if now[k] != before.get(k)]
    return {**result, "passed": not differing, "differing": differing}


@contextmanager
def _workshop(out: Path | None) -> Iterator[Path]:
    """A folder for parts: beside `out`, where it stays if we are stopped, or one for now."""
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    parts = out.with_name(out.name + ".parts")
    yield parts
    for file in parts.iterdir():
        file.unlink()
    parts.rmdir()


def figures(target: Target, made: Evaluation) -> dict[str, Any]:
    """What one radius came to, but for the replay; "changes" are those of trains only."""
    changes = {"changes": changed(target, made)} if target.of_events else {}
    evaluated = json.loads(made.to_json())
    return {"evaluation": evaluated, "fidelity": fidelity(target, made), **changes}


def fidelity(target: Target, made: Evaluation) -> dict[str, Any]:
    """How far each float network and the integer one part on the images that hurt the integer one
    most, and on the clean ones: spikes compared and differing, samples decided otherwise."""
    net, found = target.bundle.net, {}
    for which, x in (("clean", target.x), ("attacked", made.worst_images[INTEGER])):
        ints = target.shown(x)
        chip = engine.run(net, ints)
        for name, float_net in float_nets(target.bundle):
            trace = floating.run(float_net, ints / net.input.scale, record=False)
            classes = [t.logits(net.readout).argmax(1) for t in (trace, chip)]
            found[f"{name} against {INTEGER}, {which}"] = {
                "spikes": compared(trace, chip),
                "differing": differing_spikes(trace, chip),
                "decided_otherwise": int((classes[0] != classes[1]).sum()),
            }
    return found


def changed(target: Target, made: Evaluation) -> dict[str, float]:
    """Events moved in time, added and deleted in the trains that hurt the integer network most: the
    fewest that explain them, in the mean over all samples."""
    found = events.changes(made.worst_images[INTEGER], target.x)
    each = {"moved": found.moved, "added": found.added, "deleted": found.deleted}
    return {how: float(count.double().mean()) for how, count in each.items()}


def replay(
    net: FixedNet, made: Evaluation, target: Target, *, backend: str, timeout_s: float, jobs: int,
    progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Show the clean images and the worst ones found on the integer network to Lava and compare
    every decision with the twin's.

    Returns how many images were replayed (each clean and attacked), how many decisions and spikes
    differ, and Lava's accuracy on both sets (ties count as wrong).
    """
    from spikeport.hw import lava_run

    absent = "replay none was asked for" if backend == "none" else lava_run.available()
    if absent:
        nothing = dict.fromkeys(("images", "disagreeing", "spikes", "differing"), 0)
        unknown = dict.fromkeys(("clean_accuracy", "worst_accuracy"))
        return {"backend": backend, "reason": absent, **nothing, **unknown}
    count, y = len(target.x), torch.cat([target.y, target.y])
    x = target.shown(torch.cat([target.x, made.worst_images[INTEGER]]))
    progress(f"replay of {count} clean samples and the {count} worst on {backend}")
    lava = backends.run(net, x, backend=backend, timeout_s=timeout_s, jobs=jobs)
    twin = backends.run(net, x, backend="twin")
    logits = torch.tensor(lava.logits(net.readout)).double()
    decided = logits.argmax(1) != torch.tensor(twin.logits(net.readout)).argmax(1)
    right = (margin(logits, y) > 0).double()
    return {
        "backend": backend,
        "reason": None,
        "images": count,
        "disagreeing": int(decided.sum()),
        "spikes": compared(twin, lava),
        "differing": differing_spikes(twin, lava),
        "clean_accuracy": float(right[:count].mean()),
        "worst_accuracy": float(right[count:].mean()),
    }


def masking(target: Target, budget: Budget, made: Evaluation, *, settings: Settings) -> list[Check]:
    """The gradient-masking checks on some images, and on what the others' images have done."""
    effort = Effort(
        pgd=Pgd(steps=settings.steps, restarts=settings.restarts),
        square=Square(queries=settings.queries),
    )
    integer = settings.views(Twin(target.bundle.net))[CHECKED_VIEW]
    found = run_checks(
        integer, target.x[:CHECKED], target.y[:CHECKED], budget=budget, seed=settings.seed,
        effort=effort,
    )  # fmt: skip
    own = made.models[INTEGER].own_accuracy
    return found + [
        transferred(own=own, transfer=t.robust_accuracy, source=t.source)
        for t in made.transfers
        if t.target == INTEGER
    ]
