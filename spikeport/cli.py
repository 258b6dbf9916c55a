"""The commands: parse, call, print. Results come from the functions they call.

Exit codes: 0 done, 1 a check failed, 2 bad input (one sentence on standard error). Nothing heavy is
imported before a command needs it, so `spikeport --help` answers at once.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train spiking networks, export them to Loihi-class chips, prove the export on Lava, and"
    " attack the chip's own arithmetic.",
)
# No emoji: a colon in a path is a colon.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

# What any read or write may meet: a place that cannot be used, never a defect of ours.
DISK = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO,
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP,
})  # fmt: skip

BundlePath = Annotated[Path, typer.Argument(help="Folder that `spikeport export` wrote.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
Timeout = Annotated[float, typer.Option(help="Hard limit of a multi-process Lava run, seconds.")]


def _other(text: str, *flags: str) -> Any:
    """An option that says what a file of others does not say about itself."""
    return typer.Option(*flags, help=text, rich_help_panel="For .nir and .net files of others")


@app.command()
def train(
    config: Annotated[
        Path | None, typer.Argument(help="TOML file; the packaged digits if none.")
    ] = None,
    out_folder: Annotated[
        Path, typer.Option("--out", help="Folder for weights, config and metrics.")
    ] = Path("run"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override, for example train.epochs=3.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run in --out.")] = False,
    axes: Annotated[
        list[str] | None,
        typer.Option("--sweep", help="Values to try, for example train.seed=0,1,2; repeatable."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs of a sweep at a time.")] = 1,
    cluster: Annotated[
        str | None, typer.Option(help="Dask scheduler that sweeps instead, tcp://host:port.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a network: float phase, then the quantisation-aware phase on the chip's integers.

    With --sweep every combination of values is a run of its own in --out, and runs that are there
    are kept.
    """
    with sentences():
        from spikeport import training

        if axes or cluster or jobs != 1:
            report = training.sweep(
                config, out_folder, axes or [], overrides=set_ or [], jobs=jobs, cluster=cluster,
                progress=_status(as_json),
            )  # fmt: skip
            _show(report, as_json, training.describe_sweep)
            _exit(not report["failed"])
            return
        summary = training.train(
            config, out_folder, overrides=set_ or [], resume=resume, progress=not as_json
        )
        _show(summary, as_json, training.describe_run)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`, or a .nir or .net file.")],
    target: Annotated[str, typer.Option(help="loihi, loihi1, loihi2, lava or nir.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Bundle folder to write.")] = Path(
        "bundle"
    ),
    vectors: Annotated[
        int, typer.Option(help="Test images kept as test vectors; 0 keeps the whole test set.")
    ] = 64,
    dt_s: Annotated[float | None, _other("Seconds a step.", "--dt")] = None,
    steps: Annotated[int | None, _other("Steps a sample.")] = None,
    rule: Annotated[str | None, _other("Decay of a step: euler (default) or exact.")] = None,
    reset: Annotated[str | None, _other("What a spike does: zero or subtract.")] = None,
    start: Annotated[str | None, _other("Where potentials start: zero (default) or leak.")] = None,
    readout: Annotated[str | None, _other("count, first_spike, last_v or sum_v.")] = None,
    round_delays: Annotated[bool | None, _other("Round delays to whole steps.")] = None,
    payload_bits: Annotated[int | None, _other("Bits of graded input; spikes if none.")] = None,
    input_scale: Annotated[float | None, _other("Integers per unit of graded input.")] = None,
    weight_bits: Annotated[int | None, _other("Bits a weight, 1 to 8 (default).")] = None,
    objective: Annotated[str | None, _other("Rounding aims at: rounding, weight, spikes.")] = None,
    calibration: Annotated[Path | None, _other("Samples for --objective spikes, .npy.")] = None,
    exponents: Annotated[int | None, _other("Exponents a dense layer, 1 (default) to 4.")] = None,
    for_netx: Annotated[bool | None, _other("Choose integers that a NetX file holds.")] = None,
    allow_overflow: Annotated[bool | None, _other("Export what some input can overflow.")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a trained run, a NIR or a NetX file into a bundle of chip integers with test vectors."""
    with sentences():
        from spikeport import bundling, exporting
        from spikeport.foreign import Reading

        reading = Reading(
            dt_s=dt_s, steps=steps, rule=rule, reset=reset, start=start, readout=readout,
            round_delays=round_delays, payload_bits=payload_bits, input_scale=input_scale,
            weight_bits=weight_bits, objective=objective, calibration=calibration,
            exponents=exponents, for_netx=for_netx, allow_overflow=allow_overflow,
        )  # fmt: skip
        result = exporting.export(run, out_folder, target=target, vectors=vectors, reading=reading)
        _show(result, as_json, bundling.describe_export)
    _exit(result["passed"])


@app.command()
def simulate(
    bundle: BundlePath,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="engine, reference, twin, lava-inprocess, lava; repeatable. All if none."
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Spikes recorded elsewhere from the bundle's vectors, .npz.")
    ] = None,
    lava_samples: Annotated[int, typer.Option(help="Samples shown to multi-process Lava.")] = 64,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
) -> None:
    """Run the bundle's test vectors on every backend and compare them bit for bit."""
    with sentences():
        from spikeport import simulating

        report = simulating.simulate(
            bundle, backend or [], against=against, lava_samples=lava_samples, timeout_s=timeout,
            progress=_status(as_json),
        )  # fmt: skip
        _show(report, as_json, simulating.describe_report)
    _exit(report["passed"])


@app.command()
def attack(
    bundle: BundlePath,
    attacks: Annotated[
        list[str] | None,
        typer.Option("--attack", help="noise, fgsm, bim, pgd, apgd, square; repeatable, or all."),
    ] = None,
    eps: Annotated[
        str, typer.Option(help="Largest change of a pixel in [0, 1]: 0.03 or 8/255.")
    ] = "8/255",
    steps: Annotated[int, typer.Option(help="Steps of the iterative attacks.")] = 40,
    restarts: Annotated[int, typer.Option(help="Random starts of PGD.")] = 1,
    queries: Annotated[int, typer.Option(help="Queries of the Square attack.")] = 500,
    samples: Annotated[int, typer.Option(help="Test images to attack; 0 attacks all.")] = 128,
    replay: Annotated[
        str, typer.Option(help="Where adversarial images are replayed: lava-inprocess, lava, none.")
    ] = "lava-inprocess",
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    checks: Annotated[bool, typer.Option(help="Also run the gradient-masking checks.")] = True,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
) -> None:
    """Attack float, quantised and integer network side by side; replay the worst on Lava."""
    with sentences():
        from spikeport import attacking

        settings = attacking.Settings(
            attacks=tuple(attacks or ()), eps=attacking.radius(eps), steps=steps,
            restarts=restarts, queries=queries, samples=samples, replay=replay, seed=seed,
            checks=checks, timeout_s=timeout,
        )  # fmt: skip
        result = attacking.attack(bundle, settings, progress=_status(as_json))
        _show(result, as_json, attacking.describe_attack)
    _exit(result["passed"])


@app.command()
def deploy(
    bundle: BundlePath,
    board: Annotated[str, typer.Option(help="Board name, for example oheo-gulch.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Deployment folder to write.")] = Path(
        "deployment"
    ),
    as_json: AsJson = False,
) -> None:
    """Check the chip's rules and write a deployment folder; run it where a board is there."""
    with sentences():
        from spikeport import deploying

        result = deploying.deploy(bundle, out_folder, board=board)
        _show(result, as_json, deploying.describe_deployment)
    _exit(result["passed"])


@app.command()
def demo(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for everything.")] = Path(
        "demo-run"
    ),
    as_json: AsJson = False,
) -> None:
    """The whole way on real digits: train, export, prove on Lava, attack the chip, one table."""
    with sentences():
        from spikeport import demo as story

        result = story.demo(out_folder, progress=_status(as_json), bars=not as_json)
        _show(result, as_json, story.describe_demo)
    _exit(result["passed"])


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed and what works here."""
    with sentences():
        from spikeport import diagnosing

        result = diagnosing.doctor()
        _show(result, as_json, diagnosing.describe_doctor)
    _exit(result["passed"])


@contextmanager
def sentences() -> Iterator[None]:
    """Turn bad input into one sentence and exit code 2; everything unexpected keeps its trace."""
    try:
        yield
    except (ValueError, OSError, OverflowError) as problem:
        code = getattr(problem, "errno", None)
        if code in DISK:
            where = getattr(problem, "filename", None) or "a file"
            _fail(f"{where}: {os.strerror(code)}; name another place, or mend this one")
        if not _raised_by_us(problem):
            raise
        _fail(str(problem))
    except RuntimeError as problem:
        from spikeport.hw.lava_run import LavaError

        if not isinstance(problem, LavaError):
            raise
        _fail(str(problem))
    except KeyboardInterrupt:
        _fail("stopped by the user; what was already written is whole")


def _raised_by_us(problem: BaseException) -> bool:
    """Whether the sentence is ours; an error out of a library's depths is a defect to be seen."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals["__name__"].startswith("spikeport")


def _fail(sentence: str) -> None:
    err.print(f"spikeport: {' '.join(sentence.split())}", soft_wrap=True, markup=False)
    raise typer.Exit(2)


def _show(result: Any, as_json: bool, describe: Any) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        out.print(describe(result), soft_wrap=True, markup=False)


def _status(quiet: bool) -> Any:
    """A callable that shows what is being done."""
    how: Any = {"style": "dim", "soft_wrap": True, "markup": False}
    return (lambda _: None) if quiet else (lambda text: err.print(f"  {text}", **how))


def _exit(passed: bool) -> None:
    if not passed:
        raise typer.Exit(1)


def main() -> None:
    """Entry point of the `spikeport` command."""
    app()
