"""What a training method is: a section of the configuration with hooks into training.

The loop calls every hook of every method and knows none by name; methods combine by being listed
together. What only one of them can have, such as the surrogate window, they claim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from spikeport.train.regularisers import Drive

if TYPE_CHECKING:
    from spikeport.train.model import SpikingNet


class Section(BaseModel):
    """A table of the configuration: frozen, nothing unknown, no NaN, no conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RecordLike(Protocol):
    """What a model returns; see `spikeport.train.model.Record`."""

    @property
    def logits(self) -> Tensor: ...
    @property
    def outputs(self) -> Tensor: ...
    @property
    def spikes(self) -> Mapping[str, Tensor]: ...
    @property
    def membranes(self) -> Mapping[str, Tensor]: ...


class Trainable(Protocol):
    """A torch module that the loop can train: float or quantisation-aware."""

    steps: int

    def __call__(self, x: Tensor, /) -> RecordLike: ...
    def thresholds(self) -> Mapping[str, Tensor]: ...
    def drives(self) -> Mapping[str, Drive]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One mini-batch on its way.

    x: images [B, C, H, W] in [0, 1] or event frames [B, T, ...]; y: labels [B]. encode: x -> the
    window [T, B, ...]. record: of the forward pass of what `inputs` made of x. progress: share of
    the phase that is done, 0..1. phase: "float" or "quantised".
    """

    model: Trainable
    x: Tensor
    y: Tensor
    encode: Callable[[Tensor], Tensor]
    progress: float
    phase: str
    generator: torch.Generator
    made: RecordLike | None = None

    @property
    def record(self) -> RecordLike:
        """The forward pass of this step."""
        if self.made is None:
            raise ValueError("Step.record: the forward pass has not happened yet; use forward()")
        return self.made

    def forward(self, x: Tensor) -> RecordLike:
        """Another forward pass, of images `x`, in whatever mode the model is in."""
        return self.model(self.encode(x))


class Method(Section):
    """A method that changes nothing; subclasses override what they change.

    phases: where `inputs`, `task_loss`, `penalty`, `gradients` and `weights` act. claims: what no
    other method of a run may claim too.
    """

    phases: ClassVar[tuple[str, ...]] = ("float", "quantised")
    claims: ClassVar[frozenset[str]] = frozenset()

    def prepare(self, net: SpikingNet) -> None:
        """Change the untrained float network in place."""

    def inputs(self, step: Step) -> Tensor:
        """What to train on instead of step.x, of its shape."""
        return step.x

    def task_loss(self, step: Step) -> Tensor | None:
        """A scalar instead of the configured loss; who overrides this claims "task loss"."""
        return None

    def penalty(self, step: Step) -> Tensor | None:
        """A scalar to be added to the loss, already weighted; None while it weighs nothing."""
        return None

    def gradients(self, module: nn.Module, generator: torch.Generator) -> None:
        """Change the gradients of `module` in place, before they are clipped and used."""

    def weights(self, module: nn.Module, generator: torch.Generator) -> None:
        """Change the parameters in place after the optimiser has."""

    def settle(self, net: SpikingNet) -> None:
        """Make the trained float network plain, in place: what this method trained with, in the
        terms of the chip (amplitudes in the weights, one threshold a layer)."""
