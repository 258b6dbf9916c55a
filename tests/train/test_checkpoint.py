"""Checkpoints restore everything, and damaged ones change nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from spikeport.train import checkpoint
from spikeport.train.neuron import Lif

FACTS = {"epoch": 3, "config": {"lr": 0.1, "names": ["a", "ß"]}, "none": None}


def make(seed: int, width: int = 4) -> tuple[nn.Sequential, torch.optim.AdamW]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), Lif(0.5, learn_v_th=True))
    return model, torch.optim.AdamW(model.parameters(), lr=0.05, betas=(0.8, 0.9))


def step(model: nn.Sequential, optimiser: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    optimiser.zero_grad()
    spikes = model[2](model[:2](x)[None])
    (spikes.sum() + model[0].weight.square().sum()).backward()
    optimiser.step()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    model, optimiser = make(0)
    for i in range(3):
        step(model, optimiser, i)
    checkpoint.save(tmp_path / "c.safetensors", model, optimiser=optimiser, facts=FACTS)
    other, other_optimiser = make(99)
    found = checkpoint.load(tmp_path / "c.safetensors", other, optimiser=other_optimiser)
    assert found == FACTS == checkpoint.facts(tmp_path / "c.safetensors")
    assert other_optimiser.param_groups[0]["betas"] == [0.8, 0.9]
    assert same(state(model), state(other))
    for i in range(3, 6):
        step(model, optimiser, i)
        step(other, other_optimiser, i)
    assert same(state(model), state(other))


def test_without_moments_it_would_not(tmp_path: Path) -> None:
    """The check above can fail: dropping the optimiser's state shows."""
    model, optimiser = make(0)
    for i in range(3):
        step(model, optimiser, i)
    checkpoint.save(tmp_path / "c.safetensors", model, facts={})
    other, fresh = make(99)
    checkpoint.load(tmp_path / "c.safetensors", other)
    step(model, optimiser, 3)
    step(other, fresh, 3)
    assert not same(state(model), state(other))


def test_tied_and_transposed_tensors_are_stored(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    model[0].weight.data = torch.arange(9.0).view(3, 3).T
    checkpoint.save(tmp_path / "c.safetensors", model, facts={})
    other = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    checkpoint.load(tmp_path / "c.safetensors", other)
    assert torch.equal(other[1].weight, torch.arange(9.0).view(3, 3).T)


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path) -> None:
    model, _ = make(0)
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, model, facts={"epoch": 1})
    with pytest.raises(TypeError):
        checkpoint.save(path, model, facts={"epoch": object()})
    assert checkpoint.facts(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def junk(path: Path) -> None:
    path.write_bytes(b"\x80\x04cos\nsystem\n" + bytes(50))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def bad_json(path: Path) -> None:
    header = {"format": checkpoint.FORMAT, "facts": "{", "optimiser": json.dumps({})}
    save_file({"model.x": torch.zeros(1)}, path, metadata=header)


@pytest.mark.parametrize("damage", [cut, junk, empty, bad_json])
def test_damage_is_one_sentence_and_changes_nothing(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    model, optimiser = make(0)
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, model, optimiser=optimiser, facts=FACTS)
    damage(path)
    other, _ = make(1)
    before = state(other)
    with pytest.raises(ValueError, match=r"c\.safetensors: truncated or no checkpoint of ours \("):
        checkpoint.load(path, other)
    assert same(before, state(other))


def test_other_refusals(tmp_path: Path) -> None:
    model, optimiser = make(0)
    path = tmp_path / "c.safetensors"
    with pytest.raises(ValueError, match=r"c\.safetensors: no such checkpoint; train first or "):
        checkpoint.load(path, model)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(
        ValueError, match=r": format is None, readable is 'spikeport checkpoint 1'$"
    ):
        checkpoint.load(path, model)
    header = {"format": "spikeport checkpoint 1", "facts": "3", "optimiser": "{}"}
    save_file({"x": torch.zeros(1)}, path, metadata=header)
    with pytest.raises(
        ValueError, match=r"c\.safetensors: its facts are damaged; go back to an older one$"
    ):
        checkpoint.load(path, model)
    checkpoint.save(path, model, facts={})
    with pytest.raises(ValueError, match=r": saved without optimiser, so training cannot resume "):
        checkpoint.load(path, model, optimiser=optimiser)
    wide, _ = make(0, width=6)
    before = state(wide)
    with pytest.raises(
        ValueError,
        match=r": saved from another network: '0\.bias' is of shape \(4,\) in the file and of "
        r"shape \(6,\) in the model$",
    ):
        checkpoint.load(path, wide)
    assert same(before, state(wide))
    with pytest.raises(
        ValueError, match=r"'0\.bias' is of shape \(4,\) in the file and absent in "
    ):
        checkpoint.load(path, nn.Sequential(nn.Linear(3, 4, bias=False)))


def test_another_optimiser_is_refused(tmp_path: Path) -> None:
    model, optimiser = make(0)
    step(model, optimiser, 0)
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, model, optimiser=optimiser, facts={})
    part = torch.optim.AdamW(model[0].parameters())
    with pytest.raises(ValueError, match=r"c\.safetensors: saved with another optimiser \("):
        checkpoint.load(path, model, optimiser=part)
