"""One phase on its way down: the steps of an epoch, and what a checkpoint holds between epochs.

The hooks of the methods are called here, and none of them by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from spikeport.train import checkpoint
from spikeport.train.augment import moved
from spikeport.train.data import Dataset
from spikeport.train.encode import ENCODERS, stored
from spikeport.train.journal import Line
from spikeport.train.losses import LOSSES
from spikeport.train.machine import PACE, average_buffers, optimiser_of, over_all
from spikeport.train.methods.base import Step, Trainable
from spikeport.train.phase import Phase

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SUMMED = ("loss", "task_loss", "train_accuracy")
"""What a step reports, each a mean over its images."""


class Descent:
    """One phase on its way: model, optimiser, the lines of the epochs that are done, and the best
    weights so far if these are to be kept."""

    def __init__(self, model: Trainable, phase: Phase, *, fabric: Fabric, path: Path) -> None:
        self.model, self.phase, self.fabric, self.path = model, phase, fabric, path
        self.module = module_of(model).to(fabric.device)
        self.optimiser = optimiser_of(self.module, phase)
        self.objective, self.stepper = fabric.setup(Objective(model, phase), self.optimiser)
        self.lines: list[Line] = []
        self.best: dict[str, Tensor] = {}

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if not self.path.is_file():
            return
        found = checkpoint.facts(self.path)
        for key, value in self.phase.facts.items():
            if found.get(key) != value:
                raise ValueError(
                    f"{self.path}: was trained with another {key}; resume with the same one or "
                    "start a new run folder"
                )
        epoch, lines = found.get("epoch"), found.get("lines")
        if not isinstance(epoch, int) or not 0 <= epoch <= self.phase.epochs:
            raise ValueError(
                f"{self.path}: epoch is {epoch!r}, allowed are 0..{self.phase.epochs}; start a new "
                "run folder"
            )
        if not isinstance(lines, list) or len(lines) != epoch:
            raise ValueError(f"{self.path}: holds no figures of its epochs; start a new run folder")
        checkpoint.load(self.path, self.module, optimiser=self.optimiser)
        self.fabric.strategy.precision.load_state_dict(found.get("precision", {}))
        self.lines, self.best = lines, checkpoint.best(self.path)

    def is_over(self) -> bool:
        """Whether all epochs are done, or `patience` of them came without a better validation
        accuracy."""
        waited = len(self.lines) - self._best_epoch()
        return len(self.lines) == self.phase.epochs or 0 < self.phase.patience <= waited

    def _best_epoch(self) -> int:
        """The first epoch, 1-based, of the best validation accuracy; 0 before any."""
        accuracies = [line["val_accuracy"] for line in self.lines]
        return 1 + accuracies.index(max(accuracies)) if accuracies else 0

    def take(self, line: Line, *, save: bool) -> None:
        """Take in the figures of an epoch and replace the checkpoint, which holds the kept weights
        once the phase is over."""
        self.lines.append(line)
        if self.phase.keep == "best":
            if self._best_epoch() == len(self.lines):
                self.best = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
            if self.is_over():
                self.module.load_state_dict(self.best)
                self.best = {}
        if save:
            facts = {
                "epoch": len(self.lines), "finished": self.is_over(), "lines": self.lines,
                "precision": self.fabric.strategy.precision.state_dict(), **self.phase.facts,
            }  # fmt: skip
            checkpoint.save(
                self.path, self.module, optimiser=self.optimiser, best=self.best, facts=facts
            )

    def epoch(self, data: Dataset, *, tick: Callable[[float], None]) -> Line:
        """Train one epoch. Every process draws the same order and takes its share of each batch."""
        phase, epoch, rank = self.phase, len(self.lines), self.fabric.global_rank
        device = self.fabric.device
        seed = phase.stream(epoch)
        generator = torch.Generator(device).manual_seed(seed)
        order = torch.randperm(len(data.y_train), generator=generator, device=device).cpu().numpy()
        if rank:
            seed = phase.stream(epoch, f"/{rank}")
            generator.manual_seed(seed)
        torch.manual_seed(seed)  # dropout and the like
        # What changes gradients and weights must do the same to those of all processes.
        alike = torch.Generator(device).manual_seed(phase.stream(epoch, "/alike"))
        # A last batch of one image would have no spread to normalise by.
        batches = np.array_split(order, math.ceil(len(order) / phase.batch))
        sums = torch.zeros(len(SUMMED) + 2, dtype=torch.float64, device=device)
        self.objective.train()
        for i, batch in enumerate(batches):
            done, after = ((epoch + n / len(batches)) / phase.epochs for n in (i, i + 1))
            for group in self.optimiser.param_groups:
                group["lr"] = phase.rate(done, after=after) * group.get(PACE, 1.0)
            batch = batch[rank :: self.fabric.world_size]
            x = stored(data.x_train[batch], phase.encoder, device=str(device))
            y = torch.tensor(data.y_train[batch], device=device)
            x = moved(
                x, shift=phase.shift, rotate=phase.rotate, flip=phase.flip, crop=phase.crop,
                generator=generator,
            )  # fmt: skip
            figures = self.objective(x, y, progress=done, generator=generator)
            norm = self._update(figures[0], generator=alike)
            sums += len(batch) * torch.cat(
                (figures.detach(), norm[None], torch.ones_like(norm)[None])
            )
            tick(epoch + (i + 1) / len(batches))
        average_buffers(self.fabric, self.module)
        return self._line(over_all(self.fabric, sums, "sum"))

    def _update(self, loss: Tensor, *, generator: torch.Generator) -> Tensor:
        """One step of the optimiser; the norm of the gradient before it is clipped, a scalar."""
        self.optimiser.zero_grad()
        self.fabric.backward(loss)
        self.fabric.strategy.precision.unscale_gradients(self.optimiser)
        for method in self.phase.methods:
            method.gradients(self.module, generator)
        norm: Tensor = nn.utils.clip_grad_norm_(
            self.module.parameters(), self.phase.clip or math.inf
        )
        self.stepper.step()
        for method in self.phase.methods:
            method.weights(self.module, generator)
        # A step that mixed precision skips, because it overflowed, has no norm.
        return norm.double().nan_to_num(0, 0, 0)

    def _line(self, sums: Tensor) -> Line:
        *means, norm, images = sums.tolist()
        line = {name: mean / images for name, mean in zip(SUMMED, means, strict=True)}
        epoch = len(self.lines) + 1
        finite = all(bool(p.isfinite().all()) for p in self.module.state_dict().values())
        if not (finite and math.isfinite(line["loss"])):
            what = "a weight" if math.isfinite(line["loss"]) else "the loss"
            raise ValueError(
                f"{self.phase.name} training diverged: {what} of epoch {epoch} is NaN or infinite;"
                " choose a smaller lr or weaker methods"
            )
        line |= {"lr": self.optimiser.param_groups[0]["lr"], "gradient_norm": norm / images}
        return {"phase": self.phase.name, "epoch": epoch, **line}


class Objective(nn.Module):
    """From a mini-batch to its loss, as one module: what Fabric computes in the chosen precision
    and synchronises, however many forward passes the methods make in it."""

    def __init__(self, model: Trainable, phase: Phase) -> None:
        super().__init__()
        self.model, self.phase = model, phase

    def forward(
        self, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> Tensor:
        """`SUMMED`, float64 with the graph of the loss, of images x [B, ...], labels y [B]."""
        phase, model = self.phase, self.model
        step = Step(
            model=model, x=x, y=y, progress=progress, phase=phase.name, generator=generator,
            encode=lambda images: ENCODERS[phase.encoder](images, model.steps, generator),
        )  # fmt: skip
        for method in phase.methods:
            step = replace(step, x=method.inputs(step))
        step = replace(step, made=step.forward(step.x))
        own = [loss for m in phase.methods if (loss := m.task_loss(step)) is not None]
        task_loss = own[0] if own else LOSSES[phase.loss](step.record.logits, y)
        penalties = [p for m in phase.methods if (p := m.penalty(step)) is not None]
        correct = (step.record.logits.argmax(1) == y).double().mean()
        found = (sum(penalties, start=task_loss), task_loss.detach(), correct)
        return torch.stack([figure.double() for figure in found])


def module_of(model: Trainable) -> nn.Module:
    """`model` as the torch module that it must be; ValueError if it is none."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"the loop trains torch modules, but got a {type(model).__name__}")
    return model
