"""Refusals of files and settings that few users will ever have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from spikeport.train import checkpoint, epochs
from spikeport.train.data_files import read_bytes


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
    path, module = tmp_path / "c.safetensors", nn.Linear(2, 1)
    phase = epochs.Phase(
        name="float", epochs=3, batch=5, lr=0.1, weight_decay=0.0, seed=0, device="cpu",
        encoder="direct", shift=0.0, facts={},
    )  # fmt: skip
    optimiser = torch.optim.AdamW(module.parameters())
    checkpoint.save(path, module, optimiser=optimiser, facts={"epoch": epoch})
    with pytest.raises(
        ValueError,
        match=rf"c\.safetensors: epoch is {epoch!r}, allowed are 0\.\.3; start a new run folder$",
    ):
        epochs._resume(path, phase, module=module, optimiser=optimiser)
