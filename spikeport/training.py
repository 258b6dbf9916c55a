"""The `train` command: float phase, quantised phase, summary."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikeport.sim.files import write_text
from spikeport.train import config as configs
from spikeport.train import loop
from spikeport.train.data import load as load_data
from spikeport.train.epochs import evaluate
from spikeport.train.quantised import fit_quantised


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
    started = time.perf_counter()
    config = configs.load(config_path or configs.DIGITS)
    config = configs.override(config, overrides)
    summary = asdict(loop.fit(config, folder, resume=resume, progress=progress))
    net, config = loop.load_float(folder)
    data = load_data(
        config.data.name, config.data.folder, seed=config.train.seed,
        validation_share=config.data.validation_share,
    )  # fmt: skip
    model = fit_quantised(config, data, folder, net=net, resume=resume, progress=progress)
    summary["quantised_test_accuracy"] = evaluate(
        model, data.x_test, data.y_test,
        encoder=config.encode.name, seed=config.train.seed, device=config.train.device,
    )  # fmt: skip
    summary["seconds"] = round(time.perf_counter() - started, 1)
    write_text(folder / loop.SUMMARY, json.dumps(summary, indent=1) + "\n")
    return summary


def describe_run(summary: dict[str, Any]) -> str:
    """The summary for people."""
    return (
        f"trained into {summary['folder']} in {summary['seconds']:.0f} s: test accuracy"
        f" {summary['float_test_accuracy']:.2%} float, {summary['quantised_test_accuracy']:.2%} on"
        f" the chip's integers ({summary['test_images']} images)"
    )
