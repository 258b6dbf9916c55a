"""Chains of layers: what cannot be said is refused by name, and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import snntorch
import torch
from torch import nn

from spikeport.export import compile as compile_net
from spikeport.export.nir_read import read
from spikeport.export.nir_write import write
from spikeport.sim.net import FloatNet, Input
from spikeport.train.neuron import Integrator, Lif

GRADED = Input(shape=(2, 8, 8), kind="graded", payload_bits=8, scale=255.0)


def leaky(keep: Any, v_th: Any = 1.0, **rest: Any) -> snntorch.Leaky:
    return snntorch.Leaky(keep, threshold=v_th, reset_mechanism="zero", **rest)


REFUSALS: list[tuple[nn.Module, str]] = [
    (nn.MaxPool2d(2), "max pooling is no sum of spikes and no chip synapse can do it; use"
     " AvgPool2d or a strided Conv2d and retrain"),
    (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "padding_mode is 'reflect', chips pad"
     ' with silence only; use padding_mode="zeros" and retrain'),
    (nn.Conv2d(2, 2, 2, padding="same", dilation=3), "padding 'same' of an even, dilated kernel is"
     " not symmetric, which chips cannot do; use an odd kernel"),
    (nn.AvgPool2d(2, padding=1, count_include_pad=False), "with count_include_pad=False borders"
     " have weights of their own; use count_include_pad=True or padding=0"),
    (nn.AvgPool2d(3, ceil_mode=True), "ceil_mode adds windows that reach beyond a map of (8, 8);"
     " use ceil_mode=False or a map size that the stride divides"),
    (nn.AvgPool2d(2, divisor_override=3), "divisor_override is 3, average pooling divides by 4"
     " and a sum by 1; drop it and scale the weights of the next layer"),
    (nn.Flatten(2), "start_dim=2, end_dim=-1 flattens a part of the map only; use Flatten() as it"
     " is"),
    (nn.BatchNorm2d(2), "batch norm can be folded only into a Linear or Conv2d right before it;"
     " move it there and retrain"),
    (nn.Linear(8, 3), "it would act on rows of a map of shape (2, 8, 8); put a Flatten before it"),
    (leaky(0.5, inhibition=True), "inhibition lets one neuron silence the others; set"
     " inhibition=False"),
    (leaky(0.5, state_quant=lambda v: v), "state_quant rounds the membrane in a way of its own; set"
     " state_quant=False and let the quantisation-aware phase do it"),
    (leaky(0.5, spike_grad=lambda d: d.sigmoid()), "its spike_grad does not fire exactly when the"
     " membrane exceeds the threshold; use a surrogate with a hard forward step"),
    (nn.BatchNorm1d(4), "batch norm can be folded only into a Linear or Conv2d right before it;"
     " move it there and retrain"),
    (nn.MaxPool1d(2), "max pooling is no sum of spikes and no chip synapse can do it; use"
     " AvgPool2d or a strided Conv2d and retrain"),
    (snntorch.Leaky(0.5, reset_mechanism="none"), "it never resets or never fires, but other layers"
     ' are fed by its spikes; use reset_mechanism="zero" and a threshold in reach, and retrain'),
    (leaky(0.5, graded_spikes_factor=torch.rand(2, 8, 8)), "graded_spikes_factor is 0 or differs"
     " between neurons; use one value a layer"),
    (leaky(0.5, graded_spikes_factor=0.0), "graded_spikes_factor is 0 or differs between neurons;"
     " use one value a layer"),
    (leaky(torch.rand(3)), "a parameter of shape (3,) does not fit neurons of shape (2, 8, 8)"),
    (nn.ReLU(), "this layer cannot be exported; supported are Linear, Conv1d, Conv2d, AvgPool1d,"
     " AvgPool2d, Flatten, BatchNorm1d, BatchNorm2d, Dropout, Identity, Leaky, Synaptic, RLeaky,"
     " RSynaptic, Lapicque, Lif, Integrator"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Inhibition is an unstable")
@pytest.mark.parametrize(("layer", "reason"), REFUSALS, ids=lambda value: type(value).__name__)
def test_a_layer_that_cannot_be_said_is_named(
    tmp_path: Path, layer: nn.Module, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = nn.Sequential()
    module.add_module("odd", layer)
    module.add_module("last", leaky(0.5))
    with pytest.raises(ValueError, match=r"^layer ") as error:
        write(module, tmp_path / "net.nir", input=GRADED, steps=3, dt_s=1e-3)
    assert str(error.value) == f"layer 'odd' ({type(layer).__name__}): {reason}"
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def written(
    module: nn.Module, folder: Path, *, shape: tuple[int, ...] = (3,), **options: Any
) -> FloatNet:
    write(module, folder / "n.nir", input=Input(shape=shape), steps=3, dt_s=1e-3, **options)
    return read(folder / "n.nir")


def test_an_amplitude_needs_somewhere_to_go(tmp_path: Path) -> None:
    half = leaky(0.5, graded_spikes_factor=0.5)
    net = written(nn.Sequential(half, nn.Flatten(), leaky(0.5)), tmp_path)
    assert net.projections[1].synapse.w == pytest.approx(0.5 * torch.eye(3).numpy())
    with pytest.raises(ValueError, match=r"^layer '1' .Leaky.: a graded_spikes_factor of 0.5 has no"
                       r" Linear or Conv2d behind it to fold into; set it to 1$"):  # fmt: skip
        written(nn.Sequential(nn.Linear(3, 2), half), tmp_path)


def test_readouts_fit_their_neurons(tmp_path: Path) -> None:
    chain = nn.Sequential(nn.Linear(3, 2), snntorch.Leaky(0.5, reset_mechanism="none"))
    net = written(chain, tmp_path, readout="sum_v")
    assert (net.readout.kind, net.populations[0].keep_v) == ("sum_v", 0.5)
    synaptic = nn.Sequential(nn.Linear(3, 2), snntorch.Synaptic(0.25, 0.5, reset_mechanism="none"))
    net = written(synaptic, tmp_path, readout="last_v")
    assert net.population("1").keep_u == 0.25
    message = (
        r"^layer '1': readout 'count' does not fit it: 'last_v' and 'sum_v' need an Integrator or"
        r" reset_mechanism=\"none\" in the last layer, 'count' and 'first_spike' need neurons that"
    )
    with pytest.raises(ValueError, match=message):
        written(chain, tmp_path)
    with pytest.raises(ValueError, match=r"^readout is 'loudest'; allowed are 'count', 'last_v', "):
        written(chain, tmp_path, readout="loudest")


def test_names_that_files_use_themselves(tmp_path: Path) -> None:
    for name in ("input", "output", "a/b"):
        module = nn.Sequential()
        module._modules[name] = nn.Linear(3, 2)
        module.add_module("last", leaky(0.5))
        with pytest.raises(
            ValueError, match=r"^layer '.*' .Linear.: this name is reserved in netw"
        ):
            written(module, tmp_path)


def test_never_leaking_beside_leaking(tmp_path: Path) -> None:
    keep = torch.tensor([1.0, 0.5])
    net = written(nn.Sequential(nn.Linear(3, 2), leaky(keep)), tmp_path)
    assert net.populations[0].keep_v.tolist() == [1.0, 0.5]
    lasting = snntorch.Synaptic(1.0, 1.0, reset_mechanism="zero", reset_delay=False)
    net = written(nn.Sequential(nn.Linear(3, 2, bias=False), lasting), tmp_path)
    assert (net.populations[0].keep_u, net.populations[0].keep_v) == (1.0, 1.0)


def test_a_spikingnet_keeps_what_it_was_built_with(tmp_path: Path) -> None:
    from spikeport.train.model import SpikingNet

    layers = nn.Sequential(nn.Linear(3, 2), Lif(0.5), nn.Linear(2, 2), Integrator())
    model = SpikingNet(layers, input=Input(shape=(3,)), steps=4, readout="last_v")
    assert compile_net(model, target="nir").float_net.steps == 4
    with pytest.raises(
        ValueError, match=r"^steps is 3, but the network was built with 4; leave th"
    ):
        write(model, tmp_path / "n.nir", dt_s=1e-3, steps=3)
    with pytest.raises(
        ValueError, match=r"^a plain Sequential does not know its input and steps; g"
    ):
        write(layers, tmp_path / "n.nir", dt_s=1e-3)
    with pytest.raises(ValueError, match=r"^dt_s is -1; it must be a positive number of seconds$"):
        write(model, tmp_path / "n.nir", dt_s=-1)
