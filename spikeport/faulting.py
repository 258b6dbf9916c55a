"""The `faults` command: a campaign of hardware faults on a bundle's program."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spikeport.attack_settings import Settings, radius
from spikeport.attack_shares import Target
from spikeport.hw.place import place
from spikeport.hw.target import target as target_of
from spikeport.sim import apart
from spikeport.sim import bundle as bundles
from spikeport.sim.attack import Attack, Budget, Pgd
from spikeport.sim.attack.run import attack_views
from spikeport.sim.faults import KINDS, Campaign, Result, read, report, run, write
from spikeport.sim.faults.fault import SPIKE
from spikeport.sim.twin import Twin

Progress = Callable[[str], None]
PLACED = "core"  # needs to know which neurons share a core
CHUNK = 2000  # trials between two words of progress
ALONE = 500  # trials that are done before other processes have started
ATTACK = Pgd(steps=40)


def faults(
    folder: Path, kinds: Sequence[str], *, at_once: Sequence[int], trials: int, rate: float,
    samples: int, eps: str | None, seed: int, target: str | None = None, out: Path | None = None,
    jobs: int | None = None, progress: Progress = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Run `trials` of a campaign on the first `samples` (0: all) test vectors of the bundle in
    `folder`, with `eps` also on their worst images; a JSON-able result, with the "report" as text.

    kinds: texts such as "weight" or "weight=3", none for all. target: a chip or board as the
    `check` command takes it; a dead core then takes those neurons along that are placed on it. out:
    the campaign's file; what it holds is taken over. jobs: processes at a time (None: one a
    processor). Raises ValueError for bad settings, without labels, with `eps` for input that
    attacks do not take, and where `out` holds another campaign.
    """
    if samples < 0:
        raise ValueError(f"samples is {samples}; give 0 for all or a number from 1")
    processes = apart.processes(jobs, where="faults")
    drawn = kinds_of(kinds, placed=target is not None)
    bundle = bundles.read(folder)
    cores = None
    if PLACED in drawn and target is not None:
        cores = place(bundle.net, target_of(target)).neurons()
    campaign = Campaign(
        seed=seed, kinds=drawn, at_once=tuple(at_once),
        rate=rate if any(kind in SPIKE for kind in drawn) else None,
        cores=cores,
    )  # fmt: skip
    vectors, count = bundle.vectors, samples or bundle.vectors.samples
    if vectors.labels is None:
        raise ValueError(
            f"{bundle.folder}: its test vectors have no labels, so no decision is right or wrong;"
            " export a trained run"
        )
    labels, sets = vectors.labels[:count], {"clean": vectors.inputs[:, :count]}
    if eps is not None:
        progress(f"attack with PGD-{ATTACK.steps} for the worst images")
        shown = Target.of(folder, samples)
        sets["worst"] = worst_images(shown, Twin(bundle.net), eps=radius(eps), seed=seed)
    result = read(out) if out is not None and out.exists() else None
    for end in [*range(CHUNK, trials, CHUNK), trials]:
        few = 1 if end <= ALONE else processes
        result = run(
            bundle.net, sets, labels, campaign=campaign, trials=end, done=result, processes=few
        )
        if out is not None:
            write(out, result)
        progress(f"{len(result.trials)} of {trials} trials")
    assert isinstance(result, Result)
    return {**json.loads(result.to_json()), "report": report(result)}


def worst_images(
    target: Target, twin: Twin, *, eps: float, seed: int, spec: Attack = ATTACK
) -> Any:
    """The images within `eps`, pixel units, that `spec` finds worst for `twin`, which is of the
    target's integer network, as the integers [T, B, ...] that the chip is shown. Raises ValueError
    for input that changes from step to step."""
    net = target.bundle.net
    if target.of_events:
        raise ValueError(
            f"{target.bundle.folder}: its input changes from step to step, and a radius is one"
            " of still images; leave it out"
        )
    budget = Budget(eps=eps, levels=net.input.largest)
    views = list(Settings().views(twin).values())
    found = attack_views(views, target.x, target.y, spec, budget=budget, seed=seed)
    return target.shown(found.x_adv)


def kinds_of(texts: Sequence[str], *, placed: bool = False) -> dict[str, float]:
    """Chances by kind; every kind if there are no texts, dead cores only where cores are known,
    that is `placed`."""
    if not texts:
        return {kind: 1.0 for kind in KINDS if placed or kind != PLACED}
    found: dict[str, float] = {}
    for text in texts:
        kind, equals, chance = text.partition("=")
        if kind in found:
            raise ValueError(f"--kind {kind}: stands twice; give it one chance")
        try:
            found[kind] = float(chance) if equals else 1.0
        except ValueError:
            raise ValueError(f"--kind {text!r}: write a kind, or kind=chance") from None
        if kind == PLACED and not placed:
            raise ValueError(
                "--kind core: needs to know which neurons share a core; name the chip that they are"
                " placed on, --target loihi2"
            )
    if placed and PLACED not in found:
        raise ValueError(
            "--target says what a dead core takes, and no --kind core is asked for; add it, or"
            " leave --target"
        )
    return found


def describe_faults(result: dict[str, Any]) -> str:
    """The report."""
    text: str = result["report"]
    return text.rstrip()
