"""One training run: float phase, then the quantisation-aware one, into a run folder.

run/config.toml         the resolved configuration
run/float.safetensors   network, optimiser, epoch (one file a phase)
run/metrics.jsonl       one line an epoch
run/summary.json        written last: test accuracy, seconds
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from spikeport.sim.files import write_text
from spikeport.train import checkpoint
from spikeport.train.config import Config, to_toml
from spikeport.train.config import load as load_config
from spikeport.train.data import Dataset
from spikeport.train.data import load as load_data
from spikeport.train.encode import source
from spikeport.train.epochs import METRICS, Phase, evaluate, run_epochs
from spikeport.train.model import MODELS, SpikingNet

__all__ = [
    "METRICS",
    "Phase",
    "Summary",
    "evaluate",
    "fit",
    "fit_float",
    "load_float",
    "run_epochs",
]

CONFIG = "config.toml"
FLOAT = "float.safetensors"
SUMMARY = "summary.json"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run came to; accuracies 0..1, seconds of wall time (of this call, if resumed)."""

    folder: str
    float_test_accuracy: float
    test_images: int
    seconds: float


def fit(
    config: Config, run_folder: Path | str, *, resume: bool = False, progress: bool = True
) -> Summary:
    """Train `config` into `run_folder`, made if needed. The test set is looked at once, at the end.

    Raises ValueError, before anything is written, if the folder already holds a run and `resume`
    is not set, if it holds a run of another configuration, or if device or data cannot be had.
    """
    folder, started = Path(run_folder), time.perf_counter()
    _check_folder(folder, config, resume=resume)
    if config.train.device == "cuda" and not torch.cuda.is_available():
        raise ValueError('train.device is "cuda", but torch sees no such device; use "cpu"')
    data = load_data(
        config.data.name,
        config.data.folder,
        seed=config.train.seed,
        validation_share=config.data.validation_share,
    )
    net = build(config, data.shape, classes=data.classes)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CONFIG, to_toml(config))
    fit_float(config, data, folder, net=net, resume=resume, progress=progress)
    accuracy = evaluate(
        net,
        data.x_test,
        data.y_test,
        encoder=config.encode.name,
        seed=config.train.seed,
        device=config.train.device,
    )
    summary = Summary(
        folder=str(folder),
        float_test_accuracy=accuracy,
        test_images=len(data.y_test),
        seconds=round(time.perf_counter() - started, 1),
    )
    write_text(folder / SUMMARY, json.dumps(asdict(summary), indent=1) + "\n")
    return summary


def fit_float(
    config: Config,
    data: Dataset,
    folder: Path,
    *,
    net: SpikingNet | None = None,
    resume: bool = False,
    progress: bool = True,
) -> SpikingNet:
    """The float phase: train `net` (a fresh one by default) in place and return it."""
    if net is None:
        net = build(config, data.shape, classes=data.classes)
    run_epochs(
        net, data, float_phase(config, data), folder=folder, resume=resume, progress=progress
    )
    return net


def float_phase(config: Config, data: Dataset) -> Phase:
    """The settings of the float phase."""
    train = config.train
    return Phase(
        name="float",
        epochs=train.epochs,
        batch=train.batch,
        lr=train.lr,
        weight_decay=train.weight_decay,
        seed=train.seed,
        device=train.device,
        encoder=config.encode.name,
        loss=train.loss,
        eta=train.eta,
        gamma=train.gamma,
        stats=train.stats,
        warm_up=train.warm_up,
        shift=train.shift,
        rotate=train.rotate,
        facts={
            "config": config.model_dump(mode="json", exclude={"quantise"}),
            "shape": list(data.shape),
            "classes": data.classes,
        },
    )


def build(config: Config, shape: tuple[int, int, int], *, classes: int) -> SpikingNet:
    """The untrained network of `config` for images `shape` (C, H, W), weights by its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return MODELS[config.model.name](
            config.model,
            source(config.encode.name, shape),
            steps=config.encode.steps,
            classes=classes,
        )


def load_float(run_folder: Path | str) -> tuple[SpikingNet, Config]:
    """The trained float network of a run folder, in evaluation mode on the CPU, and its config."""
    folder = Path(run_folder)
    config = load_config(folder / CONFIG)
    known = checkpoint.facts(folder / FLOAT)
    channels, height, width = known["shape"]
    net = build(config, (channels, height, width), classes=known["classes"])
    checkpoint.load(folder / FLOAT, net)
    return net.eval(), config


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
