"""The commands that ask how robust a deployed network is: `attack` and `faults`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spikeport.console import AsJson, BundlePath, Timeout, leave, sentences, show, status

Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Jobs = Annotated[int | None, typer.Option(help="Processes at a time; one a processor if none.")]


Attacks = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        help="On images: noise, fgsm, bim, pgd, apgd, square, rfgsm, mi-fgsm, sa-pgd, apgd-t,"
        " sparse-rs. On events: random-flips, flips, sda, spikefool, frame, corner, dash,"
        " random-retiming, retiming. Repeatable. All that search the norm if none.",
    ),
]
Radii = Annotated[
    list[str] | None,
    typer.Option(
        help="Radius: linf and l2 in pixels of [0, 1], 0.03 or 8/255 (default); l0 a number of"
        " pixels. Repeatable."
    ),
]
Norm = Annotated[str | None, typer.Option(help="Of changed images: linf (default), l2 or l0.")]
Flips = Annotated[
    list[int] | None,
    typer.Option(help="Of events: how many cells may gain or lose theirs. Repeatable."),
]
PerStep = Annotated[
    int | None, typer.Option(help="Flips in any one time step at most; no limit if none.")
]
Retime = Annotated[
    list[str] | None,
    typer.Option(
        help="Of events: how far they may move in time, shift=2 (each, steps), total_shift=9"
        " (together, steps) or moves=5 (how many may move). Repeatable."
    ),
]
Standard = Annotated[
    bool, typer.Option("--standard", help="The minimum that a published figure withstands.")
]
Steps = Annotated[
    int | None,
    typer.Option(help="Steps of the iterative attacks; 40 if none, 100 with --standard."),
]
Restarts = Annotated[int, typer.Option(help="Random starts of those that have any.")]
Queries = Annotated[
    int | None,
    typer.Option(
        help="Queries of the searches without gradients; 500 if none, 1000 with --standard."
    ),
]
Replay = Annotated[
    str, typer.Option(help="Where adversarial images are replayed: lava-inprocess, lava, none.")
]
ResultFile = Annotated[
    Path | None, typer.Option("--out", help="File for the result; a stopped attack goes on.")
]
Again = Annotated[Path | None, typer.Option(help="Make the result in this file again and compare.")]
Cluster = Annotated[
    str | None, typer.Option(help="Dask scheduler that attacks instead, tcp://host:port.")
]


BESIDE_AGAIN = {"bundle", "again", "jobs", "timeout", "as_json"}
"""Parameters of `attack` that do not change what is made again."""


def _refuse_beside_again(context: typer.Context) -> None:
    """Raise ValueError where options stand beside --again that it cannot heed."""
    told = [p for p in context.command.params if p.name and p.name not in BESIDE_AGAIN]
    sources = {p.opts[0]: context.get_parameter_source(p.name or "") for p in told}
    if more := [name for name, source in sources.items() if source and source.name != "DEFAULT"]:
        raise ValueError(
            f"--again makes a result from the settings in its file; leave {', '.join(more)}"
        )


def attack(
    context: typer.Context,
    bundle: BundlePath,
    attacks: Attacks = None,
    eps: Radii = None,
    norm: Norm = None,
    flips: Flips = None,
    flips_per_step: PerStep = None,
    retime: Retime = None,
    standard: Standard = False,
    steps: Steps = None,
    restarts: Restarts = 1,
    queries: Queries = None,
    samples: Annotated[int, typer.Option(help="Test images to attack; 0 attacks all.")] = 128,
    replay: Replay = "lava-inprocess",
    seed: Seed = 0,
    checks: Annotated[bool, typer.Option(help="Also run the gradient-masking checks.")] = True,
    out_file: ResultFile = None,
    again: Again = None,
    jobs: Jobs = None,
    cluster: Cluster = None,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
) -> None:
    """Attack float, quantised and integer network side by side; replay the worst on Lava."""
    with sentences():
        from spikeport import attack_report, attack_settings, attacking

        progress = status(as_json)
        if again is not None:
            _refuse_beside_again(context)
            result = attacking.again(bundle, again, jobs=jobs, timeout_s=timeout, progress=progress)
        else:
            settings = attack_settings.Settings(
                **attack_settings.measured(eps or (), norm, flips or (), retime or ()),
                per_step=flips_per_step, attacks=tuple(attacks or ()), steps=steps,
                restarts=restarts, queries=queries, standard=standard, samples=samples,
                replay=replay, seed=seed, checks=checks,
            )  # fmt: skip
            result = attacking.attack(
                bundle, settings, out=out_file, jobs=jobs, cluster=cluster, timeout_s=timeout,
                progress=progress,
            )  # fmt: skip
        show(result, as_json, attack_report.describe_attack)
    leave(result["passed"])


def faults(
    bundle: BundlePath,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            help="weight, threshold, u, v, stuck, dead, dropped, duplicated, core, each with its"
            " chance if not 1: weight=3. Repeatable. All if none, core only with --target.",
        ),
    ] = None,
    at_once: Annotated[
        list[int] | None, typer.Option("--at-once", help="Faults of a trial; repeatable.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Trials, over all numbers of faults.")] = 1000,
    rate: Annotated[
        float, typer.Option(help="Share of spikes that a lossy wire drops or doubles.")
    ] = 0.2,
    target: Annotated[
        str | None,
        typer.Option(help="Chip, board or TOML file: its placement says what a dead core takes."),
    ] = None,
    samples: Annotated[int, typer.Option(help="Test images; 0 takes all.")] = 128,
    eps: Annotated[
        str | None, typer.Option(help="Also on the worst images of PGD-40 with this radius.")
    ] = None,
    seed: Seed = 0,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="File for all trials; more trials extend it.")
    ] = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Break the deployed program: flipped bits, dead neurons, lost spikes; what each costs."""
    with sentences():
        from spikeport import faulting

        result: Any = faulting.faults(
            bundle, kinds or [], at_once=at_once or [1], trials=trials, rate=rate,
            samples=samples, eps=eps, seed=seed, target=target, out=out_file, jobs=jobs,
            progress=status(as_json),
        )  # fmt: skip
        show(result, as_json, faulting.describe_faults)
