"""Networks are cut into populations with the paths that lead there, or refused by name."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from spikeport.sim.net import Input
from spikeport.train.blocks import Recurrent, Residual
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Lif
from spikeport.train.norm import TdBatchNorm2d, fold
from spikeport.train.stages import stages


def cut(**layers: nn.Module) -> list[Any]:
    net = SpikingNet(
        nn.Sequential(OrderedDict(layers)), input=Input(shape=(2, 8, 8)), steps=3, readout="count"
    )
    return stages(net)


def conv() -> nn.Conv2d:
    return nn.Conv2d(2, 2, 3, padding=1)


def block(**layers: nn.Module) -> OrderedDict[str, nn.Module]:
    return OrderedDict(layers)


def test_paths_of_a_residual_network() -> None:
    down = nn.Sequential(block(conv=nn.Conv2d(2, 3, 1), lif=Lif(0.5)))
    norm = TdBatchNorm2d(3)
    norm.running_mean = torch.tensor([1.0, 2.0, 3.0])
    wide = nn.Conv2d(2, 3, 3, padding=1)
    found = cut(
        conv1=conv(), lif1=Lif(0.5),
        a=Residual(block(drop=nn.Dropout(0.5), conv=conv(), lif=Lif(0.5))),
        b=Residual(block(conv=wide, norm=norm, lif=Lif(0.5)), down),
        pool=nn.AvgPool2d(2), sums=nn.AvgPool2d((2, 1), divisor_override=1),
        flat=nn.Flatten(), fc=nn.Linear(24, 5), rec=Recurrent(nn.Linear(5, 5, False), Lif(0.5)),
    )  # fmt: skip
    wiring = {s.name: [(p.layer, p.norm, p.sources) for p in s.synapses] for s in found}
    assert wiring == {
        "lif1": [("conv1", None, ("input",))],
        "a.lif": [("a.conv", None, ("lif1",))],
        "b.lif": [("b.conv", "b.norm", ("a.lif", "lif1"))],
        "b.shortcut.lif": [("b.shortcut.conv", None, ("a.lif", "lif1"))],
        "rec.lif": [("fc", None, ("b.lif", "b.shortcut.lif")), ("rec.loop", None, ("rec.lif",))],
    }
    read = found[-1]
    assert read.loop is read.synapses[1]
    assert read.paths[0].pool_gain == 0.25
    assert read.paths[0].flatten
    weight, bias = fold(wide, norm)
    assert torch.equal(found[2].paths[0].weight, weight)
    assert torch.equal(found[2].paths[0].bias, bias)


def test_currents_that_add_up_are_two_paths() -> None:
    both = Residual(
        block(conv=conv(), lif=Lif(0.5), conv2=conv()), nn.Sequential(block(conv=conv()))
    )
    found = cut(conv1=conv(), lif1=Lif(0.5), both=both, lif2=Lif(0.5))
    assert [s.name for s in found] == ["lif1", "both.lif", "lif2"]
    assert [p.sources for p in found[2].paths] == [("both.lif",), ("lif1",)]


def pooled() -> nn.Sequential:
    return nn.Sequential(block(pool=nn.AvgPool2d(2)))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            {"a": Residual(block(conv=conv(), lif=Lif(0.5))), "fc": conv(), "l": Lif(0.5)},
            r"^layer 'fc' adds up the input and spikes, which come in different units; begin with a"
            r" layer of neurons$",
        ),
        (
            {"conv": conv(), "lif": Lif(0.5),
             "a": Residual(block(c=nn.Conv2d(2, 2, 2, stride=2), l=Lif(0.5)), pooled()),
             "fc": conv(), "l": Lif(0.5)},
            r"^layer 'fc' adds up the spikes of a\.l, lif behind different pools; pool behind the"
            r" sum, or end the shortcut with neurons$",
        ),
        (
            {"conv": conv(), "lif": Lif(0.5),
             "a": Residual(block(c=conv()), nn.Sequential(block(c=conv()))), "l": Lif(0.5)},
            r"^layer 'l' receives the spikes of 'lif' in two ways, which have no room on one grid"
            r" of weights; put neurons into the shortcut$",
        ),
        (
            {"conv": conv(), "lif": Lif(0.5), "a": Residual(block(c=conv())), "l": Lif(0.5)},
            r"^layer 'l' \(Lif\) cannot be trained on the chip's integers at this place; use pool",
        ),
    ],
)  # fmt: skip
def test_refuses_sums(layers: dict[str, nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut(**layers)
