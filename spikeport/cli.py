"""The commands: parse, call, print. Results come from the functions they call.

Nothing heavy is imported before a command needs it, so `spikeport --help` answers at once. What
commands share, exit codes too, is in `spikeport.console`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from spikeport import cli_hardware, cli_robustness, console
from spikeport.console import AsJson, BundlePath, Timeout, leave, sentences, show, status

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train spiking networks, export them to Loihi-class chips, prove the export on Lava, and"
    " attack the chip's own arithmetic.",
)


def _for_board(text: str) -> Any:
    """An option of the deployment folder's script that only a board takes."""
    return typer.Option(help=text, rich_help_panel="Beside a board (else only with --no-run)")


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
                progress=status(as_json),
            )  # fmt: skip
            show(report, as_json, training.describe_sweep)
            leave(not report["failed"])
            return
        summary = training.train(
            config, out_folder, overrides=set_ or [], resume=resume, progress=not as_json
        )
        show(summary, as_json, training.describe_run)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`, or a .nir or .net file.")],
    target: Annotated[
        str, typer.Option(help="loihi, loihi1, loihi2, lava; nir, speck, xylo, spinnaker2: a file.")
    ],
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
        show(result, as_json, bundling.describe_export)
    leave(result["passed"])


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
            progress=status(as_json),
        )  # fmt: skip
        show(report, as_json, simulating.describe_report)
    leave(report["passed"])


app.command()(cli_robustness.attack)
app.command()(cli_robustness.faults)


app.command()(cli_hardware.check)
app.command()(cli_hardware.cost)
app.command()(cli_hardware.report)


@app.command()
def deploy(
    bundle: BundlePath,
    board: Annotated[str, typer.Option(help="Board name, for example oheo-gulch.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Deployment folder to write.")] = Path(
        "deployment"
    ),
    run: Annotated[bool, typer.Option(help="Run the folder's own script.")] = True,
    samples: Annotated[
        int | None, typer.Option(help="Test vectors that it plays; the first 64 if not said.")
    ] = None,
    timeout: Timeout = 600.0,
    host: Annotated[str | None, _for_board("slurm or ethernet; else the environment says.")] = None,
    partition: Annotated[str | None, _for_board("SLURM partition.")] = None,
    node: Annotated[str | None, _for_board("SLURM node, a board.")] = None,
    address: Annotated[str | None, _for_board("Ethernet host, for Lava's NXSDKHOST.")] = None,
    binary: Annotated[str | None, _for_board("The ethernet host's nxcore binary.")] = None,
    generation: Annotated[str | None, _for_board("LOIHI_GEN; --host needs it: N3B3 ...")] = None,
    profile: Annotated[bool, _for_board("Measure power and time.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the board's rules, write a deployment folder and run it: on a board, or simulated."""
    with sentences():
        from spikeport import deploying

        result = deploying.deploy(
            bundle, out_folder, board=board, run=run, samples=samples, timeout_s=timeout,
            for_board={
                "host": host, "partition": partition, "node": node, "address": address,
                "binary": binary, "generation": generation, "profile": profile,
            },
        )  # fmt: skip
        show(result, as_json, deploying.describe_deployment)
    leave(result["passed"])


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

        result = story.demo(out_folder, progress=status(as_json), bars=not as_json)
        show(result, as_json, story.describe_demo)
    leave(result["passed"])


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed and what works here."""
    with sentences():
        from spikeport import diagnosing

        result = diagnosing.doctor()
        show(result, as_json, diagnosing.describe_doctor)
    leave(result["passed"])


def main() -> None:
    """Entry point of the `spikeport` command."""
    with sentences():
        console.refuse_empty(sys.argv[1:])
    app()
