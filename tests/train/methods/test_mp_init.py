"""MP-Init: where windows start, which neurons count, what is kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.net import Input
from spikeport.train import checkpoint
from spikeport.train.blocks import Recurrent
from spikeport.train.config import DIGITS, load, override
from spikeport.train.methods.mp_init import MpInit
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Lif

CURRENT = torch.tensor([[[0.9, 0.3, 1.2, 0.1]], [[0.9, 0.6, 0.2, 0.2]], [[0.1, 0.2, 1.1, 0.1]]])
"""[3, 1, 4]; with keep_v 0.5 and v_th 1 neuron 0 fires in step 1, neuron 2 in steps 0 and 2."""


def net_of(layer: nn.Module, n: int = 4, steps: int = 3) -> SpikingNet:
    linear = nn.Linear(n, n, bias=False)
    nn.init.eye_(linear.weight)
    layers = nn.Sequential(linear, layer)
    return SpikingNet(layers, input=Input(shape=(n,)), steps=steps, readout="count").train()


@pytest.mark.parametrize(
    ("reset", "first", "second"),
    [
        # V(3) is 0.1 of neuron 0, and neuron 2 has just fired: (0.1 + 0) / 2.
        ("zero", 0.05, None),
        # Neuron 0: 1.35 - 1 = 0.35, V(3) = 0.275. Neuron 2: 0.2, 0.3, 1.25 - 1: V(3) = 0.25.
        ("subtract", (0.275 + 0.25) / 2, None),
    ],
)
def test_the_mean_is_over_neurons_that_fired(reset: str, first: float, second: None) -> None:
    lif = Lif(0.5)
    lif.reset_mechanism = reset
    net = net_of(lif)
    MpInit(momentum=0.25).prepare(net)
    record = net(CURRENT)
    assert record.spikes["1"][:, 0].sum(0).tolist() == [1, 0, 2, 0]
    assert float(lif.v_init) == pytest.approx(0.25 * first)


def test_windows_start_there_and_the_mean_moves_on() -> None:
    lif = Lif(0.5, v_init=0.4)
    net = net_of(lif)
    MpInit().prepare(net)
    record = net(CURRENT)
    assert record.membranes["1"][0, 0].tolist() == pytest.approx([1.1, 0.5, 1.4, 0.3])
    # Fired: 0 in step 0, then 0.9 and 0.55; 2 in steps 0 and 2. Neuron 1: 0.5, 0.85, 0.625, never.
    assert float(lif.v_init) == pytest.approx(0.9 * 0.4 + 0.1 * (0.55 + 0) / 2)
    net.eval()
    before = lif.v_init
    again = net(CURRENT)
    assert lif.v_init is before
    assert float(again.membranes["1"][0, 0, 3].detach()) == pytest.approx(0.1 + 0.5 * float(before))


def test_silence_pulls_to_zero_and_no_gradient_reaches_the_mean() -> None:
    lif = Lif(0.5, v_init=0.4)
    net = net_of(lif)
    MpInit().prepare(net)
    net(0.1 * CURRENT).logits.sum().backward()  # the graph needs the old value
    assert float(lif.v_init) == pytest.approx(0.36)
    assert not lif.v_init.requires_grad
    assert {name for name, _ in net.named_parameters()} == {"layers.0.weight"}
    net(CURRENT).logits.sum().backward()


def test_a_recurrent_population_counts_its_whole_window() -> None:
    loop = nn.Linear(4, 4, bias=False)
    nn.init.zeros_(loop.weight)
    lif = Lif(0.5)
    net = net_of(Recurrent(loop, lif))
    MpInit(momentum=1.0).prepare(net)
    net(CURRENT)
    assert float(lif.v_init) == pytest.approx(0.05)


def test_the_mean_is_saved_with_the_weights(tmp_path: Path) -> None:
    net = net_of(Lif(0.5))
    MpInit(momentum=1.0).prepare(net)
    net(CURRENT)
    checkpoint.save(tmp_path / "a.safetensors", net, facts={})
    other = net_of(Lif(0.5))
    MpInit(momentum=1.0).prepare(other)
    checkpoint.load(tmp_path / "a.safetensors", other)
    assert float(other.layers[1].v_init) == pytest.approx(0.05)
    assert torch.equal(net.eval()(CURRENT).membranes["1"], other.eval()(CURRENT).membranes["1"])


def test_settled_neurons_stay_where_they_are() -> None:
    net = net_of(Lif(0.5))
    MpInit(momentum=1.0).prepare(net)
    net(CURRENT)
    MpInit(momentum=1.0).settle(net)
    net.train()(3 * CURRENT)
    assert float(net.layers[1].v_init) == pytest.approx(0.05)


def test_no_chip_subtracts() -> None:
    config = override(load(DIGITS), ["methods.mp_init.momentum=0.2"])
    with pytest.raises(
        ValueError, match=r'model\.reset is "subtract"|model\.reset is \'subtract\''
    ):
        override(config, ["model.reset=subtract"])


RANK = """
import os, sys, torch, torch.distributed as dist
from torch import nn
from spikeport.sim.net import Input
from spikeport.train.methods.mp_init import MpInit
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Lif
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
torch.manual_seed(0)
net = SpikingNet(nn.Sequential(nn.Linear(5, 5), Lif(0.5, v_th=0.3)), input=Input(shape=(5,)),
                 steps=3, readout="count").train()
MpInit(momentum=1.0).prepare(net)
x = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(1))
net(x[:, :2] if rank == 0 else x[:, 2:])
print(float(net.layers[1].v_init), flush=True)
dist.barrier()
os._exit(0)  # the file that ranks meet at would have the first to leave wait for the last
"""


@pytest.mark.slow  # two more processes that import torch
def test_ranks_agree_on_the_mean_of_the_whole_batch(tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", RANK, str(rank), (tmp_path / "store").as_uri()],
            stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    found = [float(rank.communicate(timeout=120)[0]) for rank in ranks]
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(5, 5), Lif(0.5, v_th=0.3))
    net = SpikingNet(layers, input=Input(shape=(5,)), steps=3, readout="count").train()
    MpInit(momentum=1.0).prepare(net)
    x: Tensor = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(1))
    net(x)
    assert found[0] == found[1]
    assert found[0] == pytest.approx(float(layers[1].v_init), rel=1e-6)
    assert found[0] != 0
