"""The second phase of a run: the trained network goes on learning on the chip's integers.

run/quantised.safetensors   weights, scales and thresholds of the `QuantNet`, and its optimiser
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from spikeport.sim.chip import TARGETS
from spikeport.train import checkpoint, machine
from spikeport.train.config import Config
from spikeport.train.data import Dataset
from spikeport.train.encode import ENCODERS, stored
from spikeport.train.epochs import run_epochs
from spikeport.train.floating import CONFIG, load_float
from spikeport.train.model import SpikingNet
from spikeport.train.phase import Phase, common
from spikeport.train.quant import QuantNet
from spikeport.train.start import choose_scales

QUANTISED = "quantised.safetensors"


def fit_quantised(
    config: Config,
    data: Dataset,
    folder: Path,
    *,
    net: SpikingNet,
    resume: bool = False,
    progress: bool = True,
) -> QuantNet:
    """Train the integers of `net` for config.quantise.target; same losses as the float phase."""
    model, settings = build(config, net.cpu().eval()), phase(config)
    if config.quantise.start_images:
        choose_scales(model, net, _shown(config, data, model.steps))
    if config.quantise.epochs:
        run_epochs(model, data, settings, folder=folder, resume=resume, progress=progress)
    elif machine.is_first(config.train):
        facts = {"epoch": 0, "finished": True, **settings.facts}
        checkpoint.save(folder / QUANTISED, model, facts=facts)
    return model.to(config.train.device).eval()


def _shown(config: Config, data: Dataset, steps: int) -> Tensor:
    """The window [T, B, *shape] of the images that the scales start from."""
    name = config.encode.name
    x = stored(data.x_train[: config.quantise.start_images], name)
    return ENCODERS[name](x, steps, torch.Generator().manual_seed(config.train.seed))


def build(config: Config, net: SpikingNet) -> QuantNet:
    """The integers of `net` before any training on them."""
    q = config.quantise
    return QuantNet(
        net,
        TARGETS[q.target],
        weight_bits=q.weight_bits,
        learn=q.learn,
        netx_bias=q.netx_bias,
    )


def phase(config: Config) -> Phase:
    """Settings of the quantised phase, which is exact, hence in full precision."""
    train, q = config.train, config.quantise
    return Phase(
        name="quantised",
        epochs=q.epochs,
        lr=q.lr,
        weight_decay=0.0,
        encoder=config.encode.name,
        methods=config.methods.of_phase("quantised"),
        **common(train),
        facts={"config": config.model_dump(mode="json")},
    )


def load_quantised(run_folder: Path | str) -> tuple[QuantNet, Config]:
    """The trained integers of a run folder, in evaluation mode on the CPU, and its config.

    Raises ValueError in one sentence when the run is missing, unfinished, damaged, or of another
    configuration.
    """
    net, config = load_float(run_folder)
    model = build(config, net)
    path, wanted = Path(run_folder) / QUANTISED, config.quantise.epochs
    found = checkpoint.load(path, model)
    if not found.get("finished"):
        raise ValueError(
            f"{path}: holds epoch {found.get('epoch')} of {wanted}; resume the training first"
        )
    _check_config(found.get("config"), config, Path(run_folder) / CONFIG)
    return model.eval(), config


def _check_config(trained: Any, config: Config, path: Path) -> None:
    """Refuse a configuration that was edited after training, where that changes the network; data
    may have moved, and devices may be others."""
    try:
        before = Config.model_validate(trained)
    except ValidationError:
        before = None
    for section in ("encode", "model", "methods", "quantise"):
        if getattr(before, section, None) != getattr(config, section):
            raise ValueError(
                f"{path}: [{section}] is not what the weights were trained with; put it back, or"
                " train again into another folder"
            )
