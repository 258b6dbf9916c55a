"""One training run: float phase, then the quantisation-aware one, into a run folder.

run/config.toml             the resolved configuration
run/float.safetensors       network, optimiser, epoch of the float phase
run/quantised.safetensors   the same of the phase on the chip's integers
run/metrics.jsonl           one line an epoch
run/logs/                   the same as tables and for TensorBoard
run/summary.json            written last: test accuracies, seconds
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from spikeport.sim.files import write_text
from spikeport.sim.memory import keep_freed
from spikeport.train import machine
from spikeport.train.config import Config, to_toml
from spikeport.train.config import load as load_config
from spikeport.train.data import load_for
from spikeport.train.epochs import evaluate
from spikeport.train.floating import CONFIG, FLOAT, build, fit_float
from spikeport.train.journal import LOGS
from spikeport.train.quantised import fit_quantised

SUMMARY = "summary.json"
HALF = re.compile(
    r"\.(config|metrics|summary|result|float|quantised)(\.\w+)\.[a-z0-9_]{8}\2|\.tmp[A-Za-z0-9]{6}"
)
"""What the names of files are like before they are whole; nothing else may go."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run came to; accuracies 0..1, seconds of wall time (of this call, if resumed)."""

    folder: str
    float_test_accuracy: float
    quantised_test_accuracy: float
    test_images: int
    seconds: float


def fit(
    config: Config, run_folder: Path | str, *, resume: bool = False, progress: bool = True
) -> Summary:
    """Train `config` into `run_folder`, made if needed. The test set is looked at once, at the end.

    Raises ValueError, and leaves the folder as it was, if it already holds a run and `resume` is
    not set, if it holds a run of another configuration, if device or data cannot be had, or if not
    even the first epoch succeeds.
    """
    keep_freed()
    folder, started = Path(run_folder), time.perf_counter()
    is_new = not folder.exists()
    is_first = machine.is_first(config.train)
    if is_first:
        _check_folder(folder, config, resume=resume)
    if config.train.device == "cuda" and not torch.cuda.is_available():
        raise ValueError('train.device is "cuda", but torch sees no such device; use "cpu"')
    data = load_for(config)
    net = build(config, data.shape, classes=data.classes)
    if is_first:
        make(folder)
        _forget_halves(folder)
        write_text(folder / CONFIG, to_toml(config))
    machine.launch(config.train)
    try:
        fit_float(config, data, folder, net=net, resume=resume, progress=progress)
    except ValueError:
        if is_first and not (folder / FLOAT).exists():
            (folder / CONFIG).unlink()
            if is_new:
                folder.rmdir()
        raise
    tested = partial(
        evaluate, x=data.x_test, y=data.y_test, encoder=config.encode.name,
        seed=config.train.seed, device=config.train.device,
    )  # fmt: skip
    before = tested(net)
    model = fit_quantised(config, data, folder, net=net, resume=resume, progress=progress)
    after = tested(model)
    summary = Summary(
        folder=str(folder),
        float_test_accuracy=before,
        quantised_test_accuracy=after,
        test_images=len(data.y_test),
        seconds=round(time.perf_counter() - started, 1),
    )
    if is_first:
        write_text(folder / SUMMARY, json.dumps(asdict(summary), indent=1) + "\n")
    return summary


def make(folder: Path) -> None:
    """Make the folder of a run, or of many; ValueError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{folder}: cannot be made ({error.strerror}); name a folder where you may write"
        ) from error


def _forget_halves(folder: Path) -> None:
    """Remove the files that a killed run was writing: ours, and those of safetensors."""
    for half in (*folder.glob(".*"), *folder.glob(f"{LOGS}/.*")):
        if HALF.fullmatch(half.name) and half.is_file():
            half.unlink()


def _check_folder(folder: Path, config: Config, *, resume: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; name a folder for the run")
    if not (folder / CONFIG).exists():
        return
    if not resume:
        raise ValueError(f"{folder}: already holds a run; resume it or name another folder")
    if load_config(folder / CONFIG) != config:
        raise ValueError(
            f"{folder}: holds a run of another configuration; compare its {CONFIG}, or name "
            "another folder"
        )
