"""The epoch loop, the same for the float and the quantisation-aware phase, and evaluation.

Epoch e of a phase draws its order, augmentation and spikes from (seed, e, phase) alone, and a
checkpoint is one file that is replaced in one step. So a run that was killed at any moment and
resumed equals one that was not.

Devices, nodes and precision are Lightning Fabric's, the loop is ours. Lightning's Trainer would own
the loop, but knows a run by its own checkpoints, which are pickles, wants data as loaders, and
takes 0.2 to 0.3 ms a step, as much as a small layer; Fabric takes 0.03 ms.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spikeport.train.data import Dataset
from spikeport.train.descent import Descent, module_of
from spikeport.train.encode import ENCODERS, stored
from spikeport.train.journal import Journal, Line
from spikeport.train.machine import machine
from spikeport.train.methods.base import Trainable
from spikeport.train.phase import Phase
from spikeport.train.regularisers import activity, mpd_sgr, occupancy

WATCHED = 256
"""Validation images whose full record is kept for the figures of an epoch."""
WINDOW = 1.0
"""Half width, thresholds, of the window whose occupancy and Omega every epoch reports."""


def run_epochs(
    model: Trainable,
    data: Dataset,
    phase: Phase,
    *,
    folder: Path,
    resume: bool = False,
    progress: bool = True,
) -> None:
    """Train `model` in place, on phase.device; it ends in evaluation mode.

    After every epoch replaces `folder`/NAME.safetensors and the logs, see
    `spikeport.train.journal`. With `resume` goes on from the checkpoint if there is one. The
    caller's random state is not touched. Raises ValueError when the loss diverges or the checkpoint
    is of another run.
    """
    fabric = machine(
        device=phase.device, devices=phase.devices, nodes=phase.nodes, precision=phase.precision
    )
    descent = Descent(model, phase, fabric=fabric, path=folder / f"{phase.name}.safetensors")
    if resume:
        descent.resume()
    is_first = fabric.global_rank == 0
    with (
        torch.random.fork_rng(devices=[fabric.device] if phase.device == "cuda" else []),
        Journal(
            folder, phase.name, lines=descent.lines, epochs=phase.epochs, progress=progress,
            silent=not is_first,
        ) as journal,
    ):  # fmt: skip
        while not descent.is_over():
            started = time.perf_counter()
            line = descent.epoch(data, tick=journal.advance) | watch(model, data, phase)
            line["seconds"] = round(time.perf_counter() - started, 3)
            descent.take(line, save=is_first)
            journal.add(line)
    descent.module.eval()


@torch.no_grad()
def watch(model: Trainable, data: Dataset, phase: Phase) -> Line:
    """Validation accuracy, and of the first `WATCHED` validation images Omega, the exact occupancy
    and the activity per layer, in evaluation mode."""
    accuracy = evaluate(
        model, data.x_val, data.y_val, encoder=phase.encoder, seed=phase.seed, device=phase.device
    )
    x = stored(data.x_val[:WATCHED], phase.encoder, device=phase.device)
    generator = torch.Generator(phase.device).manual_seed(phase.seed)
    record = model(ENCODERS[phase.encoder](x, model.steps, generator))
    layers = {name: asdict(found) for name, found in activity(record.spikes).items()}
    return {
        "val_accuracy": accuracy,
        "omega": float(mpd_sgr(record.membranes, model.thresholds(), gamma=WINDOW)),
        "occupancy": occupancy(record.membranes, model.thresholds(), WINDOW),
        **{k: {n: of[k] for n, of in layers.items()} for k in ("rate", "dead", "saturated")},
    }


@torch.no_grad()
def evaluate(
    model: Trainable,
    x: NDArray[np.uint8],
    y: NDArray[np.int64],
    *,
    encoder: str,
    seed: int,
    device: str = "cpu",
    batch: int = 256,
) -> float:
    """Accuracy, 0..1, on images x uint8 [n, C, H, W] or event frames [n, T, C, H, W]; leaves
    `model` in evaluation mode."""
    module_of(model).eval()
    generator = torch.Generator(device).manual_seed(seed)
    correct = 0
    for start in range(0, len(y), batch):
        images = stored(x[start : start + batch], encoder, device=device)
        labels = torch.tensor(y[start : start + batch], device=device)
        record = model(ENCODERS[encoder](images, model.steps, generator))
        correct += int((record.logits.argmax(1) == labels).sum())
    return correct / len(y)
