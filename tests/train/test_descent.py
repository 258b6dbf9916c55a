"""What the settings of a phase do: rates, hooks, clipping, precision, patience, which weights stay,
several devices; and what the logs say."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from spikeport.train import checkpoint
from spikeport.train.config import DIGITS, ModelConfig, load, override, to_toml
from spikeport.train.data import Dataset
from spikeport.train.data import load as load_data
from spikeport.train.encode import source
from spikeport.train.epochs import evaluate, run_epochs
from spikeport.train.machine import optimiser_of
from spikeport.train.methods.base import Method, Step
from spikeport.train.model import SpikingNet
from spikeport.train.networks import MODELS
from spikeport.train.phase import Phase

ROOT = Path(__file__).resolve().parent.parent.parent
PHASE = Phase(
    name="float", epochs=2, batch=50, lr=0.02, weight_decay=0.0, seed=4, device="cpu",
    encoder="direct",
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = load_data("digits", seed=0)
    small = {
        key: getattr(data, key)[:n].copy()
        for part, n in (("train", 150), ("val", 40), ("test", 40))
        for key in (f"x_{part}", f"y_{part}")
    }
    return dataclasses.replace(data, **small)


def fresh() -> SpikingNet:
    torch.manual_seed(11)
    config = ModelConfig(name="dense", hidden=16)
    return MODELS["dense"](config, source("direct", (1, 8, 8)), steps=3, classes=10)


def train(data: Dataset, folder: Path, **settings: Any) -> tuple[SpikingNet, list[dict[str, Any]]]:
    """A fresh network trained as `PHASE` with other `settings`, and its metrics."""
    net = fresh()
    phase = dataclasses.replace(PHASE, **settings)
    run_epochs(net, data, phase, folder=folder, progress=False)
    text = (folder / "metrics.jsonl").read_text()
    return net, [json.loads(line) for line in text.splitlines()]


def test_the_rate_rises_and_falls() -> None:
    phase = dataclasses.replace(PHASE, lr=0.4, warm_up=0.2)
    assert phase.rate(0.0, after=0.05) == pytest.approx(0.1)
    assert phase.rate(0.15, after=0.2) == pytest.approx(0.4)
    assert phase.rate(0.2, after=0.25) == pytest.approx(0.4)
    assert phase.rate(0.6, after=0.65) == pytest.approx(0.2)
    assert phase.rate(0.8, after=0.85) == pytest.approx(0.2 * (1 - 0.5**0.5))
    assert phase.rate(1.0, after=1.0) == pytest.approx(0.0)
    at_once = dataclasses.replace(PHASE, lr=0.4)
    assert [at_once.rate(d, after=d) for d in (0.0, 0.5)] == pytest.approx([0.4, 0.2])


def test_streams_differ_by_epoch_phase_seed_and_part() -> None:
    others = [dataclasses.replace(PHASE, seed=5), dataclasses.replace(PHASE, name="quantised")]
    seeds = {PHASE.stream(0), PHASE.stream(1), PHASE.stream(0, "/1")} | {
        p.stream(0) for p in others
    }
    assert len(seeds) == 5
    assert PHASE.stream(3, "/1") == dataclasses.replace(PHASE, lr=9.0).stream(3, "/1")


class Probe(Method):
    """Notes when its hooks are called, and the norms of the gradients there."""

    seen: ClassVar[list[tuple[str, float]]] = []

    def inputs(self, step: Step) -> Tensor:
        with pytest.raises(ValueError, match=r"^Step\.record: the forward pass has not happened"):
            _ = step.record
        self.seen.append(("inputs", step.progress))
        return step.x * 0.5

    def task_loss(self, step: Step) -> Tensor:
        self.seen.append(("task_loss", float(step.x.max())))
        return nn.functional.cross_entropy(step.record.logits, step.y) * 3

    def penalty(self, step: Step) -> Tensor:
        self.seen.append(("penalty", 0.0))
        return step.record.logits.square().mean() * 0 + 7

    def gradients(self, module: nn.Module, generator: torch.Generator) -> None:
        for p in module.parameters():
            if p.grad is not None:
                p.grad *= 2
        self.seen.append(("gradients", norm_of(module)))

    def weights(self, module: nn.Module, generator: torch.Generator) -> None:
        self.seen.append(("weights", norm_of(module)))


def norm_of(module: nn.Module) -> float:
    squares = [p.grad.square().sum() for p in module.parameters() if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt())


def test_hooks_come_in_their_order_around_clipping(digits: Dataset, tmp_path: Path) -> None:
    Probe.seen.clear()
    _, (line, *_) = train(digits, tmp_path, methods=(Probe(),), clip=0.05)
    names = [name for name, _ in Probe.seen]
    assert names == ["inputs", "task_loss", "penalty", "gradients", "weights"] * 6
    values = [dict(Probe.seen[i : i + 5]) for i in range(0, 30, 5)]
    assert [v["inputs"] for v in values] == pytest.approx([i / 6 for i in range(6)])
    assert values[0]["task_loss"] == 0.5
    assert all(v["gradients"] > 0.06 for v in values)
    assert [v["weights"] for v in values] == pytest.approx([0.05] * 6, rel=1e-4)
    assert line["gradient_norm"] == pytest.approx(sum(v["gradients"] for v in values[:3]) / 3)
    assert line["loss"] == pytest.approx(line["task_loss"] + 7)


def test_without_clipping_gradients_stay(digits: Dataset, tmp_path: Path) -> None:
    Probe.seen.clear()
    train(digits, tmp_path, methods=(Probe(),), epochs=1)
    norms = [value for name, value in Probe.seen if name in ("gradients", "weights")]
    assert norms[0::2] == norms[1::2]


def test_patience_ends_a_phase_and_it_is_not_resumed(digits: Dataset, tmp_path: Path) -> None:
    settings = {"epochs": 9, "lr": 1e-9, "patience": 2}
    net, lines = train(digits, tmp_path, **settings)
    assert len(lines) == 3
    facts = checkpoint.facts(tmp_path / "float.safetensors")
    assert (facts["epoch"], facts["finished"]) == (3, True)
    phase = dataclasses.replace(PHASE, epochs=9, lr=1e-9, patience=2)
    again = fresh()
    run_epochs(again, digits, phase, folder=tmp_path, resume=True, progress=False)
    assert torch.equal(again.layers.fc1.weight, net.layers.fc1.weight)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


class Ruin(Method):
    """Spoils the network after so many steps."""

    taken: ClassVar[list[int]] = []

    def weights(self, module: nn.Module, generator: torch.Generator) -> None:
        self.taken.append(1)
        if len(self.taken) > 9:
            for p in module.parameters():
                p.data.zero_()


@pytest.mark.parametrize("keep", ["last", "best"])
def test_which_weights_are_kept(keep: str, digits: Dataset, tmp_path: Path) -> None:
    Ruin.taken.clear()
    net, lines = train(
        digits, tmp_path, epochs=4, lr=2.0, keep=keep, optimiser="sgd", methods=(Ruin(),)
    )
    accuracies = [line["val_accuracy"] for line in lines]
    assert max(accuracies) > accuracies[-1]  # or the test would show nothing
    found = evaluate(net, digits.x_val, digits.y_val, encoder="direct", seed=4)
    assert found == (max(accuracies) if keep == "best" else accuracies[-1])
    stored = fresh()
    checkpoint.load(tmp_path / "float.safetensors", stored)
    assert torch.equal(stored.layers.fc1.weight, net.layers.fc1.weight)
    assert checkpoint.best(tmp_path / "float.safetensors") == {}


def test_mixed_precision_trains_other_weights_of_full_precision(
    digits: Dataset, tmp_path: Path
) -> None:
    full, _ = train(digits, tmp_path, epochs=6)
    mixed, lines = train(digits, tmp_path, epochs=6, precision="bf16-mixed")
    assert lines[-1]["train_accuracy"] > lines[0]["train_accuracy"] + 0.2
    assert mixed.layers.fc1.weight.dtype == torch.float32
    assert not torch.equal(mixed.layers.fc1.weight, full.layers.fc1.weight)


def test_processors_do_not_compute_in_16_bits() -> None:
    with pytest.raises(
        ValueError,
        match=r'^--set: train\.precision is "16-mixed", which processors do not compute in; write '
        r'"bf16-mixed" or "32", or train on device "cuda"$',
    ):
        override(load(DIGITS), ["train.precision=16-mixed"])


def test_optimisers_by_name() -> None:
    module = nn.Linear(2, 1)
    adam = optimiser_of(module, dataclasses.replace(PHASE, weight_decay=0.3))
    assert (type(adam), adam.param_groups[0]["weight_decay"]) == (torch.optim.AdamW, 0.3)
    sgd = optimiser_of(module, dataclasses.replace(PHASE, optimiser="sgd"))
    assert (type(sgd), sgd.param_groups[0]["momentum"]) == (torch.optim.SGD, 0.9)
    with pytest.raises(ValueError, match=r"^optimiser is 'lion'; allowed are adamw, sgd$"):
        optimiser_of(module, dataclasses.replace(PHASE, optimiser="lion"))


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """Tag, step: value of every scalar in the TensorBoard files of `folder`."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[tuple[str, int], float] = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:  # records: length uint64, its checksum uint32, the event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
            data = data[16 + length :]
    return found


def test_logs_say_what_the_metrics_say(digits: Dataset, tmp_path: Path) -> None:
    _, lines = train(digits, tmp_path)
    assert sorted(p.name for p in (tmp_path / "logs").iterdir()) == ["float", "float.csv"]
    with (tmp_path / "logs" / "float.csv").open() as file:
        rows = list(csv.DictReader(file))
    shown = scalars(tmp_path / "logs" / "float")
    for line, row in zip(lines, rows, strict=True):
        for key in ("val_accuracy", "task_loss", "omega", "lr", "gradient_norm"):
            assert float(row[key]) == line[key]
            assert shown[key, line["epoch"]] == pytest.approx(line[key])
        for key in ("occupancy", "rate", "dead", "saturated"):
            assert float(row[f"{key}/lif1"]) == line[key]["lif1"]
            assert shown[f"{key}/lif1", line["epoch"]] == pytest.approx(line[key]["lif1"])


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """Both phases, on two processes of this machine; only the first one speaks and writes."""
    settings = [
        "train.devices=2", "train.epochs=3", "model.name=dense", "model.hidden=24",
        "encode.steps=3", "quantise.epochs=1",
    ]  # fmt: skip
    (tmp_path / "c.toml").write_text(to_toml(override(load(DIGITS), settings)))
    done = subprocess.run(
        [sys.executable, "-m", "spikeport", "train", "c.toml", "--out", "r", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["quantised_test_accuracy"] > 0.7
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.toml", "r"]
    lines = (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 1]


class Blow(Method):
    """Makes the weights infinite, behind the only loss of an epoch."""

    def weights(self, module: nn.Module, generator: torch.Generator) -> None:
        for p in module.parameters():
            p.data.fill_(torch.inf)


def test_an_epoch_that_ends_with_infinite_weights_is_not_kept(
    digits: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError,
        match=r"^float training diverged: a weight of epoch 1 is NaN or infinite; choose a smaller",
    ):
        train(digits, tmp_path, batch=150, methods=(Blow(),))
    assert list(tmp_path.iterdir()) == []
