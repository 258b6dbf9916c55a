"""The float phase of a run: build the network of a configuration, train it, load it again.

run/float.safetensors   network, optimiser, epoch
"""

from __future__ import annotations

from pathlib import Path

import torch

from spikeport.train import checkpoint
from spikeport.train.config import Config
from spikeport.train.config import load as load_config
from spikeport.train.data import Dataset
from spikeport.train.encode import source
from spikeport.train.epochs import run_epochs
from spikeport.train.model import SpikingNet
from spikeport.train.networks import MODELS
from spikeport.train.phase import Phase, common

CONFIG = "config.toml"
FLOAT = "float.safetensors"


def fit_float(
    config: Config,
    data: Dataset,
    folder: Path,
    *,
    net: SpikingNet | None = None,
    resume: bool = False,
    progress: bool = True,
) -> SpikingNet:
    """The float phase: train `net` (a fresh one by default) in place and return it, settled."""
    if net is None:
        net = build(config, data.shape, classes=data.classes)
    run_epochs(
        net, data, float_phase(config, data), folder=folder, resume=resume, progress=progress
    )
    # Where it is loaded it settles on the processor, and no bit may differ.
    return settled(net.cpu(), config).to(config.train.device)


def float_phase(config: Config, data: Dataset) -> Phase:
    """The settings of the float phase."""
    train = config.train
    return Phase(
        name="float",
        epochs=train.epochs,
        lr=train.lr,
        weight_decay=train.weight_decay,
        precision=train.precision,
        encoder=config.encode.name,
        methods=config.methods.of_phase("float"),
        **common(train),
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
        net = MODELS[config.model.name](
            config.model,
            source(config.encode.name, shape, payload_bits=config.encode.payload_bits),
            steps=config.encode.steps,
            classes=classes,
        )
    for method in config.methods.active().values():
        method.prepare(net)
    return net


def settled(net: SpikingNet, config: Config) -> SpikingNet:
    """`net`, made plain in place by the methods that it was trained with."""
    for method in config.methods.active().values():
        method.settle(net)
    return net


def load_float(run_folder: Path | str) -> tuple[SpikingNet, Config]:
    """The trained float network of a run folder, settled, in evaluation mode on the CPU, and its
    config."""
    folder = Path(run_folder)
    config = load_config(folder / CONFIG)
    known = checkpoint.facts(folder / FLOAT)
    try:
        channels, height, width = map(int, known["shape"])
        net = build(config, (channels, height, width), classes=int(known["classes"]))
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{folder / FLOAT}: does not say what images it was trained on; train again"
        ) from None
    checkpoint.load(folder / FLOAT, net)
    return settled(net.eval(), config), config
