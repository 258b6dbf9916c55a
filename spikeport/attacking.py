"""The `attack` command: float, rounded and integer network side by side, the worst replayed.

Attacks climb the gradients of each network; images stay on the grid that the chip is shown. The
images that hurt the integer network most are then played on Lava, which must decide alike. A result
holds no times and no places: with the header it was made from, it comes out the same, bit for bit.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeport import backends
from spikeport.attack_settings import Settings
from spikeport.attack_shares import INTEGER, Target, header, remove, search
from spikeport.hw.lava_guard import check_timeout
from spikeport.sim import apart, engine, floating
from spikeport.sim.attack import Budget, Check, Effort, Evaluation, Pgd, Square, events, run_checks
from spikeport.sim.attack.evaluate import evaluation
from spikeport.sim.attack.losses import margin
from spikeport.sim.attack.masking import transferred
from spikeport.sim.files import write_text
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
    check_timeout(timeout_s)
    if cluster is not None and out is None:
        raise ValueError(
            "attack: a cluster needs --out, a file where its workers see it too; they leave their"
            " shares beside it"
        )
    if out is not None:
        _check_place(out)
    target = Target.of(folder, settings.samples)
    searches = target.searches(settings)  # refuses settings before any work
    with _workshop(out) as parts:
        found = search(
            target, settings, folder=parts, jobs=jobs, cluster=cluster, progress=progress
        )
        made = [
            evaluation(each, findings, target.y)
            for each, findings in zip(searches, found, strict=True)
        ]
        result = judged(target, made, settings, jobs=jobs, timeout_s=timeout_s, progress=progress)
        if out is not None:
            write_text(out, json.dumps(result, indent=1) + "\n")
    return result


def judged(
    target: Target, made: Sequence[Evaluation], settings: Settings, *, jobs: int,
    timeout_s: float, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """The result of `attack`: what was `made` at each radius, replayed, compared and checked."""
    replayed = replay(
        target, made, backend=settings.replay, timeout_s=timeout_s, jobs=jobs, progress=progress
    )
    radii = [
        {**found, "replay": played}
        for found, played in zip(figures(target, made), replayed, strict=True)
    ]
    checks = None
    if settings.checks and settings.norm == "linf":
        progress("gradient-masking checks on the integer network")
        found_out = masking(target, made[-1], settings=settings)
        checks = [{**asdict(check), "cause": check.cause} for check in found_out]
    return {
        "header": header(target, settings),
        "radii": radii,
        "checks": checks,
        "passed": not any(radius["disagreeing"] for radius in replayed),
    }


def again(
    folder: Path, file: Path, *, jobs: int | None = None, timeout_s: float = 600.0,
    progress: Progress = lambda _: None,
) -> Any:  # fmt: skip
    """Make the result in `file` once more from its own header; `passed` says that it came out
    the same. Raises ValueError for a file that is none, or about another bundle."""
    before, settings, digest = _result_in(file)
    found = Target.of(folder, settings.samples).bundle.net.digest()
    if found != digest:
        raise ValueError(
            f"{file}: is about the network {digest[:12]}, {folder} holds {found[:12]}; name the"
            " bundle that was attacked"
        )
    result = attack(folder, settings, jobs=jobs, timeout_s=timeout_s, progress=progress)
    now = json.loads(json.dumps(result))
    differing = [k for k in ("header", "radii", "checks") if now[k] != before.get(k)]
    return {**result, "passed": not differing, "differing": differing}


def _result_in(file: Path) -> tuple[dict[str, Any], Settings, str]:
    """The result in `file`, its settings and its network's digest; ValueError if it is none."""
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        of = before["header"]
        return before, Settings.of(of["settings"]), str(of["digest"])
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ValueError(f"{file}: is no result of an attack ({problem})") from None


def _check_place(out: Path) -> None:
    """Raise ValueError, before any work, where a result would replace what is none."""
    if out.is_dir():
        raise ValueError(f"{out}: is a folder; name a file for the result")
    if out.exists():
        try:
            _result_in(out)
        except ValueError:
            raise ValueError(
                f"{out}: exists and is no result of an attack; name another file"
            ) from None


@contextmanager
def _workshop(out: Path | None) -> Iterator[Path]:
    """A folder for parts: beside `out`, where it stays if we are stopped, or one for now."""
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    parts = out.with_name(out.name + ".parts")
    yield parts
    remove(parts)


def figures(target: Target, made: Sequence[Evaluation]) -> Iterator[dict[str, Any]]:
    """What each radius came to, but for the replay; "changes" are those of trains only."""
    clean = fidelity(target, target.x, "clean")
    for each in made:
        attacked = fidelity(target, each.worst_images[INTEGER], "attacked")
        changes = {"changes": changed(target, each)} if target.of_events else {}
        evaluated = json.loads(each.to_json())
        yield {"evaluation": evaluated, "fidelity": {**clean, **attacked}, **changes}


def fidelity(target: Target, x: Tensor, which: str) -> dict[str, Any]:
    """How far each float network and the integer one part on samples x, which are `which`: spikes
    compared and differing, samples decided otherwise."""
    net, ints, found = target.bundle.net, target.shown(x), {}
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
    target: Target, made: Sequence[Evaluation], *, backend: str, timeout_s: float, jobs: int,
    progress: Progress,
) -> list[dict[str, Any]]:  # fmt: skip
    """Show Lava the clean samples, once, and the worst ones found on the integer network at each
    radius of `made`, and compare every decision with the twin's.

    Returns for each radius how many samples were replayed, each clean and attacked; of both
    together how many decisions and spikes differ; and Lava's accuracy on each (ties are wrong).
    """
    from spikeport.hw import lava_run

    absent = "replay none was asked for" if backend == "none" else lava_run.available()
    if absent:
        nothing = dict.fromkeys(("images", "disagreeing", "spikes", "differing"), 0)
        unknown = dict.fromkeys(("clean_accuracy", "worst_accuracy"))
        return [{"backend": backend, "reason": absent, **nothing, **unknown} for _ in made]

    def played(x: Tensor, which: str) -> Played:
        progress(f"replay of {len(x)} {which} samples on {backend}")
        return _played(target, x, backend=backend, timeout_s=timeout_s, jobs=jobs)

    clean = played(target.x, "clean")
    worst = [played(each.worst_images[INTEGER], "attacked") for each in made]
    return [
        {
            "backend": backend,
            "reason": None,
            "images": len(target.x),
            "disagreeing": clean.disagreeing + each.disagreeing,
            "spikes": clean.spikes + each.spikes,
            "differing": clean.differing + each.differing,
            "clean_accuracy": clean.accuracy,
            "worst_accuracy": each.accuracy,
        }
        for each in worst
    ]


@dataclass(frozen=True, kw_only=True)
class Played:
    """Samples on Lava: its accuracy, and what differs from the twin."""

    accuracy: float
    disagreeing: int
    spikes: int
    differing: int


def _played(target: Target, x: Tensor, *, backend: str, timeout_s: float, jobs: int) -> Played:
    net, ints = target.bundle.net, target.shown(x)
    lava = backends.run(net, ints, backend=backend, timeout_s=timeout_s, jobs=jobs)
    twin = backends.run(net, ints, backend="twin")
    logits = torch.tensor(lava.logits(net.readout)).double()
    decided = logits.argmax(1) != torch.tensor(twin.logits(net.readout)).argmax(1)
    return Played(
        accuracy=float((margin(logits, target.y) > 0).double().mean()),
        disagreeing=int(decided.sum()),
        spikes=compared(twin, lava),
        differing=differing_spikes(twin, lava),
    )


def masking(target: Target, made: Evaluation, *, settings: Settings) -> list[Check]:
    """The gradient-masking checks on some images, at the largest radius, and on what the others'
    images have done there, as `made` tells."""
    budget = Budget(eps=settings.eps[-1], levels=target.bundle.net.input.largest)
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
