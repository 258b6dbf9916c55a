"""Refusals of files and settings that few users will ever have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from spikeport.train import checkpoint
from spikeport.train.data_files import read_bytes
from spikeport.train.epochs import run_epochs
from spikeport.train.phase import Phase


def test_a_checkpoint_that_finds_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    path = tmp_path / "c.safetensors"
    with pytest.raises(
        ValueError,
        match=r"c\.safetensors: cannot be written \(No space left on device\); make room there$",
    ):
        checkpoint.save(path, nn.Linear(2, 1), facts={})
    assert list(tmp_path.iterdir()) == []


def test_a_data_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r": cannot read it \(Is a directory\)$"):
        read_bytes(tmp_path)


@pytest.mark.parametrize("epoch", ["two", -1, 4, None])
def test_an_impossible_epoch_in_a_checkpoint(tmp_path: Path, epoch: object) -> None:
    with pytest.raises(
        ValueError,
        match=rf"float\.safetensors: epoch is {epoch!r}, allowed are 0\.\.3; start a new run folde",
    ):
        resumed(tmp_path, {"epoch": epoch})


def test_a_checkpoint_without_the_figures_of_its_epochs(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"float\.safetensors: holds no figures of its epochs; start a new run folder$",
    ):
        resumed(tmp_path, {"epoch": 2, "lines": [{}]})


def resumed(folder: Path, facts: dict[str, Any]) -> None:
    """Go on from a checkpoint of `facts` for three epochs."""
    module: Any = nn.Linear(2, 1)
    data: Any = None
    optimiser = torch.optim.AdamW(module.parameters())
    checkpoint.save(folder / "float.safetensors", module, optimiser=optimiser, facts=facts)
    phase = Phase(
        name="float", epochs=3, batch=5, lr=0.1, weight_decay=0.0, seed=0, device="cpu",
        encoder="direct",
    )  # fmt: skip
    run_epochs(module, data, phase, folder=folder, resume=True, progress=False)
