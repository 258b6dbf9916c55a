"""Where a phase computes: Lightning Fabric set up for its devices, nodes and precision.

With several devices or nodes every one of them is a process of its own that runs the same command:
the first starts the others of its node. Between nodes a launcher such as torchrun, SLURM or the
user's own MASTER_ADDR and NODE_RANK says who is where.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from spikeport.train.config import TrainConfig
from spikeport.train.phase import Phase

if TYPE_CHECKING:
    from lightning_fabric import Fabric

OPTIMISERS = ("adamw", "sgd")
MOMENTUM = 0.9
"""Of stochastic gradient descent."""


PACE = "pace"
"""Key of a group of parameters: what the learning rate is multiplied by for them."""


@runtime_checkable
class Paced(Protocol):
    """A module with parameters that Adam, whose steps have the size of the learning rate, should
    move by more or less than that."""

    def paces(self) -> dict[str, float]:
        """Factors of the learning rate by the name of the parameter."""


def machine(*, device: str, devices: int = 1, nodes: int = 1, precision: str = "32") -> Fabric:
    """A launched Fabric. device: "cpu" or "cuda"; devices: per node. precision: "32", "bf16-mixed"
    or "16-mixed". In a process that was launched before it joins the others again."""
    # Imported here, because it takes a second that reading a run folder does not need.
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # says what it was told to do
    # Buffers are averaged after every epoch instead: sent before every forward pass, those of a
    # norm would change between the two passes of a loss that makes two.
    several = devices * nodes > 1
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        precision=precision,  # type: ignore[arg-type]
        strategy=DDPStrategy(broadcast_buffers=False) if several else "auto",
    )
    fabric.launch()
    return fabric


def launch(train: TrainConfig) -> None:
    """Start the other processes of a run on several devices; nothing happens with one."""
    if train.devices * train.nodes > 1:
        machine(device=train.device, devices=train.devices, nodes=train.nodes)


def is_first(train: TrainConfig) -> bool:
    """Whether this process is the one of its run that writes and speaks; before the launch too."""
    if train.devices * train.nodes == 1:
        return True
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0)) == 0


def optimiser_of(module: nn.Module, phase: Phase) -> torch.optim.Optimizer:
    """The optimiser of a phase; ValueError if its name is unknown."""
    if phase.optimiser not in OPTIMISERS:
        raise ValueError(f"optimiser is {phase.optimiser!r}; allowed are {', '.join(OPTIMISERS)}")
    lr, decay = phase.lr, phase.weight_decay
    if phase.optimiser == "sgd":
        return torch.optim.SGD(module.parameters(), lr=lr, weight_decay=decay, momentum=MOMENTUM)
    paces = module.paces() if isinstance(module, Paced) else {}
    named = dict(module.named_parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in named.items() if name not in paces]},
        *({"params": [named[name]], PACE: pace} for name, pace in paces.items()),
    ]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=decay)


def over_all(fabric: Fabric, x: Tensor, how: str) -> Tensor:
    """The "sum" or "mean" of x over all processes."""
    return cast(Tensor, fabric.all_reduce(x, reduce_op=how))


@torch.no_grad()
def average_buffers(fabric: Fabric, module: nn.Module) -> None:
    """Give the floating-point buffers of `module`, such as the statistics of norms, their mean over
    all processes, in place."""
    if fabric.world_size > 1:
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.copy_(over_all(fabric, buffer.clone(), "mean"))
