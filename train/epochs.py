"""The epoch loop, the same for the float and the quantisation-aware phase, and evaluation.

Epoch e of a phase draws its order, augmentation and spikes from (seed, e, phase) alone, so a run
that was resumed between epochs equals one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from spikeport.sim.files import write_text
from spikeport.train import checkpoint
from spikeport.train.augment import moved
from spikeport.train.data import Dataset
from spikeport.train.encode import ENCODERS
from spikeport.train.losses import LOSSES
from spikeport.train.methods.base import Method, Step, Trainable
from spikeport.train.regularisers import activity, mpd_sgr, occupancy

METRICS = "metrics.jsonl"
WATCHED = 256
"""Validation images whose full record is kept for the figures of an epoch."""
WINDOW = 1.0
"""Half width, thresholds, of the window whose occupancy and Omega every epoch reports."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """How one phase trains; units as in `spikeport.train.config.TrainConfig`. `name` names its
    checkpoint, NAME.safetensors, and its lines in the metrics."""

    name: str
    epochs: int
    batch: int
    lr: float
    weight_decay: float
    seed: int
    device: str
    encoder: str
    loss: str = "cross_entropy"
    methods: tuple[Method, ...] = ()
    shift: float = 0.0
    rotate: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able; kept in the checkpoint, and a run resumes only if they are the same."""


def run_epochs(
    model: Trainable,
    data: Dataset,
    phase: Phase,
    *,
    folder: Path,
    resume: bool = False,
    progress: bool = True,
) -> None:
    """Train `model` in place with Adam and a cosine to zero.

    After every epoch writes `folder`/NAME.safetensors and a line of `folder`/metrics.jsonl. With
    `resume` goes on from the checkpoint if there is one. The caller's random state is not touched.
    """
    module = _module(model).to(phase.device)
    optimiser = torch.optim.AdamW(module.parameters(), lr=phase.lr, weight_decay=phase.weight_decay)
    path = folder / f"{phase.name}.safetensors"
    first = _resume(path, phase, module=module, optimiser=optimiser) if resume else 0
    _forget_metrics(folder / METRICS, phase.name, first=first)
    with (
        torch.random.fork_rng(devices=[0] if phase.device == "cuda" else []),
        _bar(progress) as bar,
    ):
        task = bar.add_task(phase.name, total=phase.epochs, completed=first, note="")
        for epoch in range(first, phase.epochs):
            started = time.perf_counter()
            torch.manual_seed(_stream(phase, epoch))  # dropout and the like
            line = _train_epoch(model, data, phase, epoch=epoch, optimiser=optimiser)
            line |= watch(model, data, phase)
            line["seconds"] = round(time.perf_counter() - started, 3)
            checkpoint.save(
                path, module, optimiser=optimiser, facts={"epoch": epoch + 1, **phase.facts}
            )
            with (folder / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            bar.update(task, advance=1, note=f"validation {line['val_accuracy']:.2%}")
    module.eval()


def _train_epoch(
    model: Trainable,
    data: Dataset,
    phase: Phase,
    *,
    epoch: int,
    optimiser: torch.optim.Optimizer,
) -> dict[str, Any]:
    generator = torch.Generator(phase.device).manual_seed(_stream(phase, epoch))
    order = (
        torch.randperm(len(data.y_train), generator=generator, device=phase.device).cpu().numpy()
    )
    # A last batch of one image would have no spread to normalise by.
    batches = np.array_split(order, math.ceil(len(order) / phase.batch))
    sums = dict.fromkeys(("loss", "task_loss", "omega", "train_accuracy"), 0.0)
    module = _module(model).train()
    for i, batch in enumerate(batches):
        done = (epoch + i / len(batches)) / phase.epochs
        for group in optimiser.param_groups:
            group["lr"] = phase.lr * 0.5 * (1 + math.cos(math.pi * done))
        x, y = _tensors(data.x_train[batch], data.y_train[batch], phase.device)
        x = moved(x, shift=phase.shift, rotate=phase.rotate, generator=generator)
        step = _forward(model, phase, x, y, progress=done, generator=generator)
        task_loss, loss = _losses(step, phase)
        optimiser.zero_grad()
        loss.backward()
        for method in phase.methods:
            method.gradients(module, generator)
        optimiser.step()
        for method in phase.methods:
            method.weights(module, generator)
        with torch.no_grad():
            omega = mpd_sgr(step.record.membranes, model.thresholds(), gamma=WINDOW)
        correct = (step.record.logits.argmax(1) == y).double().mean()
        for name, value in zip(sums, (loss, task_loss, omega, correct), strict=True):
            sums[name] += float(value.detach()) * len(batch)
    means = {name: total / len(order) for name, total in sums.items()}
    if not math.isfinite(means["loss"]):
        raise ValueError(
            f"{phase.name} training diverged: the loss of epoch {epoch + 1} is {means['loss']};"
            " choose a smaller lr or eta"
        )
    return {"phase": phase.name, "epoch": epoch + 1, **means}


def _forward(
    model: Trainable, phase: Phase, x: Tensor, y: Tensor, *, progress: float,
    generator: torch.Generator,
) -> Step:  # fmt: skip
    """The step of one mini-batch, its inputs chosen by the methods and its record made."""
    step = Step(
        model=model, x=x, y=y, progress=progress, phase=phase.name, generator=generator,
        encode=lambda images: ENCODERS[phase.encoder](images, model.steps, generator),
    )  # fmt: skip
    for method in phase.methods:
        step = replace(step, x=method.inputs(step))
    return replace(step, made=step.forward(step.x))


def _losses(step: Step, phase: Phase) -> tuple[Tensor, Tensor]:
    """The task loss, and the sum of it and every penalty."""
    own = [loss for m in phase.methods if (loss := m.task_loss(step)) is not None]
    task_loss = own[0] if own else LOSSES[phase.loss](step.record.logits, step.y)
    penalties = [p for m in phase.methods if (p := m.penalty(step)) is not None]
    return task_loss, sum(penalties, start=task_loss)


@torch.no_grad()
def watch(model: Trainable, data: Dataset, phase: Phase) -> dict[str, Any]:
    """Validation accuracy, and of the first `WATCHED` validation images the exact occupancy and
    the activity per layer, in evaluation mode."""
    accuracy = evaluate(
        model, data.x_val, data.y_val, encoder=phase.encoder, seed=phase.seed, device=phase.device
    )
    x, _ = _tensors(data.x_val[:WATCHED], data.y_val[:WATCHED], phase.device)
    generator = torch.Generator(phase.device).manual_seed(phase.seed)
    record = model(ENCODERS[phase.encoder](x, model.steps, generator))
    layers = {name: asdict(found) for name, found in activity(record.spikes).items()}
    return {
        "val_accuracy": accuracy,
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
    """Accuracy, 0..1, on images x uint8 [n, C, H, W]; leaves `model` in evaluation mode."""
    _module(model).eval()
    generator = torch.Generator(device).manual_seed(seed)
    correct = 0
    for start in range(0, len(y), batch):
        images, labels = _tensors(x[start : start + batch], y[start : start + batch], device)
        record = model(ENCODERS[encoder](images, model.steps, generator))
        correct += int((record.logits.argmax(1) == labels).sum())
    return correct / len(y)


def _tensors(x: NDArray[np.uint8], y: NDArray[np.int64], device: str) -> tuple[Tensor, Tensor]:
    pixels = torch.tensor(x, device=device).float() / 255
    return pixels, torch.tensor(y, device=device)


def _module(model: Trainable) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ValueError(f"the loop trains torch modules, but got a {type(model).__name__}")
    return model


def _stream(phase: Phase, epoch: int) -> int:
    """A seed for one epoch; hashed, so that neighbouring runs and phases share no stream."""
    entropy = (phase.seed, epoch, *phase.name.encode())
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _resume(
    path: Path, phase: Phase, *, module: nn.Module, optimiser: torch.optim.Optimizer
) -> int:
    """Epochs already done; 0 without a checkpoint."""
    if not path.is_file():
        return 0
    found = checkpoint.facts(path)
    for key, value in phase.facts.items():
        if found.get(key) != value:
            raise ValueError(
                f"{path}: was trained with another {key}; resume with the same one or start a "
                "new run folder"
            )
    epoch = found.get("epoch")
    if not isinstance(epoch, int) or not 0 <= epoch <= phase.epochs:
        raise ValueError(
            f"{path}: epoch is {epoch!r}, allowed are 0..{phase.epochs}; start a new run folder"
        )
    checkpoint.load(path, module, optimiser=optimiser)
    return epoch


def _forget_metrics(path: Path, phase: str, *, first: int) -> None:
    """Drop lines of epochs that will be trained again: a killed run may have written one more."""
    if path.is_file():
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            kept = [m for m in lines if m["phase"] != phase or m["epoch"] <= first]
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{path}: is damaged; move it away and resume again") from None
        write_text(path, "".join(json.dumps(m) + "\n" for m in kept))


def _bar(enabled: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} epochs {task.fields[note]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, disable=not enabled)
