"""The `train` command: a TOML configuration becomes a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikeport.train import config as configs
from spikeport.train import loop


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
    config = configs.load(config_path or configs.DIGITS)
    config = configs.override(config, overrides)
    return asdict(loop.fit(config, folder, resume=resume, progress=progress))


def describe_run(summary: dict[str, Any]) -> str:
    """The summary for people."""
    return (
        f"trained into {summary['folder']} in {summary['seconds']:.0f} s: test accuracy"
        f" {summary['float_test_accuracy']:.2%} float, {summary['quantised_test_accuracy']:.2%} on"
        f" the chip's integers ({summary['test_images']} images)"
    )
