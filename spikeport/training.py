"""The `train` command: a TOML configuration becomes a run folder, or a folder of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikeport.train import config as configs
from spikeport.train import loop, machine
from spikeport.train import sweep as sweeps


def train(
    config_path: Path | None,
    folder: Path,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a TOML configuration (None: the packaged digits) into `folder`; a JSON-able summary.

    Raises ValueError in one sentence for bad configurations, data or folders.
    """
    config = configs.override(configs.load(config_path or configs.DIGITS), overrides)
    summary = loop.fit(config, folder, resume=resume, progress=progress)
    if not machine.is_first(config.train):
        raise SystemExit(0)  # of the processes of a run on several devices one speaks
    return asdict(summary)


def sweep(
    config_path: Path | None,
    folder: Path,
    axes: Sequence[str],
    *,
    overrides: Sequence[str] = (),
    jobs: int = 1,
    cluster: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a TOML configuration (None: the packaged digits) with every combination of values on
    `axes`, such as "train.seed=0,1,2", into `folder`; see `spikeport.train.sweep`.

    Raises ValueError in one sentence for bad configurations, axes or folders.
    """
    config = configs.override(configs.load(config_path or configs.DIGITS), overrides)
    return sweeps.sweep(
        config, sweeps.axes_of(axes), folder, jobs=jobs, cluster=cluster, progress=progress
    )


def describe_sweep(report: dict[str, Any]) -> str:
    """The runs of a sweep for people."""
    runs = report["runs"]
    count = f"{len(runs)} runs in {report['folder']}, {report['failed']} failed"
    return "\n".join([*map(sweeps.describe, runs), count])


def describe_run(summary: dict[str, Any]) -> str:
    """The summary for people."""
    return (
        f"trained into {summary['folder']} in {summary['seconds']:.0f} s: test accuracy"
        f" {summary['float_test_accuracy']:.2%} float, {summary['quantised_test_accuracy']:.2%} on"
        f" the chip's integers ({summary['test_images']} images)"
    )
