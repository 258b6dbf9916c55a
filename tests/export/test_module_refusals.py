"""What a forward cannot be compiled for: every sentence, and that it names the place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import snntorch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeport.export import compile as compile_net
from spikeport.train.neuron import Lif

Run = Callable[[Any, Tensor], Any]
STATIC = torch.rand(3, 4, generator=torch.Generator().manual_seed(3))


class Net(nn.Module):
    """Layers by name and a forward."""

    def __init__(self, run: Run, **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def leaky(keep: Any = 0.8, v_th: Any = 0.3, **rest: Any) -> snntorch.Leaky:
    return snntorch.Leaky(keep, threshold=v_th, **{"reset_mechanism": "zero", **rest})


def net(run: Run, **more: nn.Module) -> Net:
    torch.manual_seed(5)
    layers = {"fc": nn.Linear(4, 5), "lif": leaky(), "out": nn.Linear(5, 2), "last": leaky()}
    return Net(run, **{**layers, **more})


def between(change: Callable[[Any, Tensor], Any]) -> Run:
    """A window of three steps in which `change(self, spikes)` happens between the layers."""

    def run(self: Any, x: Tensor) -> Any:
        kept = []
        for _ in range(3):
            spikes, _m = self.lif(self.fc(x))
            kept.append(self.last(self.out(change(self, spikes)))[0])
        return torch.stack(kept)

    return run


def returning(what: Callable[[Tensor, Tensor], Any]) -> Run:
    """A window of three steps that returns `what(spikes, potentials)` of them."""

    def run(self: Any, x: Tensor) -> Any:
        spikes, potentials = [], []
        for _ in range(3):
            s, v = self.last(self.out(self.lif(self.fc(x))[0]))
            spikes.append(s)
            potentials.append(v)
        return what(torch.stack(spikes), torch.stack(potentials))

    return run


def doubled(spikes: Tensor) -> Tensor:
    view = spikes.view(3, 5)
    view *= 2
    return view


def put(spikes: Tensor) -> Tensor:
    target = torch.ones(3, 5)
    target[:, :] = spikes
    return target


def hidden_change(spikes: Tensor) -> Tensor:
    spikes.data.fill_(1.0)
    return spikes


ADVICE = "keep to layers, sums, constant factors and flattening"
PICKS = "picks samples or channels; only steps can be picked, as x[step] or x[:, step]"
OF_LIF = "to the spikes of layer 'lif', which"
BETWEEN: list[tuple[Callable[[Any, Tensor], Any], str]] = [
    (lambda m, s: s.softmax(1), f"'softmax' {OF_LIF} no synapse can do; {ADVICE}"),
    (lambda m, s: s * s, f"'mul' {OF_LIF} multiplies tensors, which no chip does; use a layer with"
     " weights or a number"),
    (lambda m, s: s / s, f"'div' {OF_LIF} divides by a tensor, which no chip does; divide by a"
     " number"),
    (lambda m, s: s + 1, f"'add' {OF_LIF} adds a constant; put it into the bias of a layer"),
    (lambda m, s: s + torch.ones(5), f"'add' {OF_LIF} adds a constant; put it into the bias of a"
     " layer"),
    (lambda m, s: s.add(s, alpha=2), f"'add' {OF_LIF} scales by alpha; multiply by a number"
     " instead"),
    (lambda m, s: m.one(s) + s, "'add' to the output of layer 'one', which repeats values to fit a"
     " larger shape; add tensors of one shape"),
    (lambda m, s: s if s.sum() > 0 else s * 2, f"'sum' {OF_LIF} adds up neurons or samples; sum"
     " recorded steps along their dimension"),
    (lambda m, s: s if bool(s[0, 0]) else -s, f"'__getitem__' {OF_LIF} picks more than one step"
     " or a part of a sample; pick x[step] or x[:, step]"),
    (lambda m, s: s.clone() * s.max().item(), f"'max' {OF_LIF} no synapse can do; {ADVICE}"),
    (lambda m, s: torch.tensor(s.tolist()), f"'tolist' {OF_LIF} makes forward depend on values;"
     " chips run the same in every case"),
    (lambda m, s: s.view(5, 3).view(3, 5), f"'view' {OF_LIF} mixes steps or samples; flatten each"
     " sample only, for instance flatten(1)"),
    (lambda m, s: doubled(s), f"'mul_' {OF_LIF} changes a view in place; write the result to a new"
     " variable"),
    (lambda m, s: F.dropout(s, 0.5), f"'dropout' {OF_LIF} draws random numbers even in eval(); pass"
     " training=self.training"),
    (lambda m, s: torch.stack([s, s], 2)[:, :, 0], f"'stack' {OF_LIF} stacks behind the samples;"
     " put time into the first dimension or the second"),
    (lambda m, s: s.select(1, 0), f"'select' {OF_LIF} {PICKS}"),
    (lambda m, s: s.unbind(1)[0], f"'unbind' {OF_LIF} {PICKS}"),
    (lambda m, s: m.fc(STATIC.double()) + (torch.stack([s, s]) + 0)[0], f"'add' {OF_LIF} adds whole"
     " windows; add the two in every step"),
    (lambda m, s: torch.stack([s, s]) - torch.stack([s, s]), f"'sub' {OF_LIF} subtracts whole"
     " windows; subtract in every step"),
    (lambda m, s: torch.cat([s, s], 1), f"'cat' {OF_LIF} joins neurons or samples; stack steps, and"
     " add branches up"),
    (lambda m, s: put(s), f"'__setitem__' {OF_LIF} writes into a tensor; collect steps in a list,"
     " or as kept[step] = spikes"),
    (lambda m, s: F.max_pool1d(s.view(3, 1, 5), 1), f"'max_pool1d' {OF_LIF} cannot be exported: max"
     " pooling is no sum of spikes and no chip synapse can do it; use AvgPool2d or a strided"
     " Conv2d and retrain"),
    (lambda m, s: m.bn(s)[0], "'__getitem__' to the output of layer 'bn', which"
     f" {PICKS}"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BETWEEN, ids=lambda value: str(value)[:18])
def test_a_function_that_no_chip_has(change: Callable[[Any, Tensor], Any], message: str) -> None:
    module = net(between(change), one=nn.Linear(5, 1), bn=nn.BatchNorm1d(5))
    with pytest.raises(ValueError, match=r"^forward applies ") as error:
        compile_net(module, STATIC, target="nir")
    assert str(error.value) == f"forward applies {message}"


def uneven(self: Any, x: Tensor) -> Any:
    return torch.stack([self.last(self.out(self.lif(self.fc(x))[0]))[0] for _ in range(3)]
                       + [self.last(self.out(self.lif.mem))[0]])  # fmt: skip


def restarted(self: Any, x: Tensor) -> Any:
    return torch.stack([self.lif(self.fc(x), self.lif.reset_mem())[0] for _ in range(3)])


def halved(self: Any, x: Tensor) -> Any:
    mem, kept = self.lif.reset_mem(), []
    for _ in range(3):
        spikes, mem = self.lif(self.fc(x), mem * 0.5)
        kept.append(spikes)
    return torch.stack(kept)


def alternating(self: Any, x: Tensor) -> Any:
    return torch.stack([self.lif(self.fc(x) * (-1) ** step)[0] for step in range(3)])


def moving(self: Any, x: Tensor) -> Any:
    kept = []
    for _ in range(3):
        kept.append(self.last(self.out(self.lif(self.fc(x))[0]))[0])
        self.lif.threshold = self.lif.threshold + 0.2
    return torch.stack(kept)


FORWARDS: list[tuple[Run, dict[str, nn.Module], str]] = [
    (uneven, {}, "layer 'lif' (Leaky): it is called 3 times in a window of 4 steps; call every"
     " layer of neurons once a step"),
    (restarted, {}, "layer 'lif' (Leaky): it gets another 'mem' in step 1 than it gave in the step"
     " before; reset it once before the loop and pass its states on"),
    (halved, {}, "layer 'lif' (Leaky): it gets another 'mem' in step 1 than it gave in the step"
     " before; reset it once before the loop and pass its states on"),
    (lambda m, x: m.lif(m.fc(x), torch.ones(3, 5)), {}, "layer 'lif' (Leaky): it starts from a"
     " state that is not zero; reset it once before the loop and pass its states on"),
    (alternating, {}, "layer 'lif' (Leaky): in step 1 forward feeds it in another way than in the"
     " last step; chips do the same in every step"),
    (lambda m, x: m.lif(torch.ones(3, 5)), {}, "layer 'lif' (Leaky): it is fed by a constant that"
     " does not come from the input"),
    (lambda m, x: m.lif(torch.zeros(3, 5)), {}, "layer 'lif' (Leaky): it receives nothing but"
     " zeros; connect or remove it"),
    (lambda m, x: m.lif(m.fc(x) + m.fix(torch.zeros(3, 4))), {"fix": nn.Linear(4, 5)},
     "layer 'fix' (Linear): it is fed zeros in every step; remove it"),
    (lambda m, x: m.last(m.out(m.lif(m.fc(x))[1])), {}, "layer 'lif' (Leaky): its 'mem' feeds other"
     " layers, but chips send spikes only; use its spikes"),
    (lambda m, x: m.last(m.out(m.lif(m.fc(x))[0])), {"gone": leaky()}, "layer 'gone' (Leaky):"
     " forward never calls it; remove it"),
    (lambda m, x: (m.lif(m.fc(x)), m.last(m.odd(x)))[0], {"odd": nn.Linear(4, 2)},
     "layer 'last' (Leaky): nothing reads its spikes; remove it or return its spikes"),
    (lambda m, x: m.fc(x), {}, "forward calls no layer of spiking neurons; there is nothing to"
     " compile"),
    (lambda m, x: m.lif(m.odd(m.fc(x))), {"odd": nn.GELU()}, "layer 'odd' (GELU): this layer cannot"
     " be exported; supported are Linear, Conv1d, Conv2d, AvgPool1d, AvgPool2d, Flatten,"
     " BatchNorm1d, BatchNorm2d, Dropout, Identity, Leaky, Synaptic, RLeaky, RSynaptic, Lapicque,"
     " Lif, Integrator"),
    (lambda m, x: m.odd(m.fc(x)), {"odd": snntorch.Alpha(0.9, 0.8)}, "layer 'odd' (Alpha): this"
     " layer cannot be exported; supported are Linear, Conv1d, Conv2d, AvgPool1d, AvgPool2d,"
     " Flatten, BatchNorm1d, BatchNorm2d, Dropout, Identity, Leaky, Synaptic, RLeaky, RSynaptic,"
     " Lapicque, Lif, Integrator"),
    (lambda m, x: m.odd(m.fc(x)[None])[0], {"odd": nn.Linear(5, 5)}, "forward "),
    (lambda m, x: m.odd(m.fc(x))[0], {"odd": nn.LSTM(5, 5)}, "layer 'odd' (LSTM): this layer cannot"
     " be exported; supported are Linear, Conv1d, Conv2d, AvgPool1d, AvgPool2d, Flatten,"
     " BatchNorm1d, BatchNorm2d, Dropout, Identity, Leaky, Synaptic, RLeaky, RSynaptic, Lapicque,"
     " Lif, Integrator"),
    (lambda m, x: m.odd(m.fc(x)[0:3].reshape(1, 3, 5)), {"odd": Lif(0.5)}, "forward applies"
     " 'reshape' to the output of layer 'fc', which mixes steps or samples; flatten each sample"
     " only, for instance flatten(1)"),
    (lambda m, x: m.odd(m.fc(x)), {"odd": Lif(0.5)}, "layer 'odd' (Lif): it takes whole windows;"
     " put it into a SpikingNet, or use Leaky"),
    (lambda m, x: m.lif(x.unsqueeze(1).unsqueeze(1)), {}, "forward reshapes what 'input' gives from"
     " (4,) to (1, 1, 4); only flattening is possible, so give the sample and the layers their"
     " final shape"),
    (lambda m, x: m.lif(m.fc(x))[5], {}, "Net.forward could not be run on the sample of shape"
     " (3, 4): IndexError: tuple index out of range; it must take the sample as its only argument"),
    (lambda m, x: m.lif(m.fc(x.round())), {}, "forward applies 'round' to the input, which no"
     " synapse can do; keep to layers, sums, constant factors and flattening, and prepare samples"
     " before forward"),
    (lambda m, x: m.lif(m.fc(x.to(torch.int64).float())), {}, "forward applies 'to' to the input,"
     " which rounds to whole numbers; keep floats"),
    (lambda m, x: m.lif(m.fc(x.repeat(1, 1))), {"fc": nn.Linear(4, 5)}, "forward applies 'repeat'"
     " to the input, which repeats values; repeat whole samples over time only"),
    (lambda m, x: m.lif(m.fc(m.conv(x.unsqueeze(1)).permute(0, 2, 1).flatten(1))),
     {"conv": nn.Conv1d(1, 1, 1)}, "forward applies 'permute' to the output of layer 'conv', which"
     " moves more than time and samples; swap these two only, as x.transpose(0, 1)"),
    (lambda m, x: [m.last(m.odd(x[step]))[0] for step in (1, 2)], {"odd": nn.Linear(4, 2)},
     "layer 'last' (Leaky): in step 0 it is fed by step 1 of the sample, but chips see every step"
     " as it comes; give a sample that begins with the first step that is used"),
    (between(lambda m, s: hidden_change(s)), {}, "forward applies 'data' to the spikes of layer"
     " 'lif', which no synapse can do; keep to layers, sums, constant factors and flattening"),
    (lambda m, x: m.lif(torch.stack([m.fc(x)] * 2)), {}, "forward feeds a whole window of steps to"
     " neurons at once; call them once a step"),
]  # fmt: skip


@pytest.mark.parametrize(("run", "layers", "message"), FORWARDS)
def test_a_forward_that_no_chip_runs(run: Run, layers: dict[str, nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as error:
        compile_net(net(run, **layers), STATIC, target="nir")
    assert str(error.value)[: len(message)] == message
    assert "\n" not in str(error.value)


def doubling(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output * 2


def test_a_change_that_forward_hides_is_found_by_its_spikes() -> None:
    module = net(returning(lambda s, v: s))
    module.get_submodule("fc").register_forward_hook(doubling)
    message = (
        r"^layer 'lif': neuron \d fires in another way than the module in step \d of sample \d,"
        r" with its potential [\d.]+ from the threshold; forward does something that it does not"
    )
    with pytest.raises(ValueError, match=message):
        compile_net(module, STATIC, target="nir")


def decayed(self: Any, x: Tensor) -> Any:
    kept = []
    for _ in range(3):
        kept.append(self.last(self.out(self.lif(self.fc(x))[0]))[0])
        self.fc.weight.data *= 0.9999
    return torch.stack(kept)


def and_back(self: Any, x: Tensor) -> Any:
    self.lif.threshold.fill_(0.4)
    kept = torch.stack([self.last(self.out(self.lif(self.fc(x))[0]))[0] for _ in range(3)])
    self.lif.threshold.fill_(0.3)
    return kept


@pytest.mark.parametrize(
    ("run", "layer", "key"),
    [(moving, "'lif' (Leaky)", "threshold"), (decayed, "'fc' (Linear)", "weight"),
     (and_back, "'lif' (Leaky)", "threshold")],
)  # fmt: skip
def test_a_forward_that_changes_its_layers(run: Run, layer: str, key: str) -> None:
    with pytest.raises(ValueError, match=r"^layer ") as error:
        compile_net(net(run), STATIC, target="nir")
    assert str(error.value) == (
        f"layer {layer}: forward changes its {key!r}, but chips keep it; set it before forward"
    )


def test_a_potential_that_forward_changes_is_found() -> None:
    def run(self: Any, x: Tensor) -> Any:
        for _ in range(3):
            potential = self.lif(self.fc(x))[1]
        return potential

    module = Net(run, fc=nn.Linear(4, 5), lif=leaky(reset_mechanism="none"))
    module.get_submodule("fc").register_forward_hook(doubling)
    with pytest.raises(ValueError, match=r"^layer 'lif': its potential differs from the module's by"
                       r" \d\.\d+; forward does something that"):  # fmt: skip
        compile_net(module, STATIC, target="nir")


def test_the_sample_is_used_in_one_way_only() -> None:
    def run(self: Any, x: Tensor) -> Any:
        self.lif(self.fc(x))
        return self.last(self.odd(x[0]))[0]

    with pytest.raises(
        ValueError, match=r"^forward uses the sample in several ways; use it as a who"
    ):
        compile_net(net(run, odd=nn.Linear(4, 2)), torch.rand(3, 3, 4), target="nir")


RETURNED: list[tuple[Callable[[Tensor, Tensor], Any], str]] = [
    (lambda s, v: v, "forward returns the membrane of layer 'last' in every step; say which of it"
     " is read, readout='last_v' or readout='sum_v'"),
    (lambda s, v: s[-1], "forward returns the spikes of layer 'last' of other steps than all 3;"
     " return them stacked or summed over all steps"),
    (lambda s, v: s[0] + s[1], "forward returns the spikes of layer 'last' of other steps than all"
     " 3; return them stacked or summed over all steps"),
    (lambda s, v: None, "forward returns no spikes of a layer of neurons; collect those of the last"
     " one in a list and return them stacked or summed"),
    (lambda s, v: s.sum(0).argmax(1), "forward applies 'argmax' to a sum of the spikes of layer"
     " 'last', which no synapse can do; keep to layers, sums, constant factors and flattening"),
    (lambda s, v: s.sum((0, 2)), "forward applies 'sum' to the spikes of layer 'last', which adds"
     " up neurons or samples; sum recorded steps along their dimension"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "message"), RETURNED)
def test_what_forward_returns(what: Callable[[Tensor, Tensor], Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^forward ") as error:
        compile_net(net(returning(what)), STATIC, target="nir")
    assert str(error.value) == message


def test_spikes_that_forward_writes_into() -> None:
    def run(self: Any, x: Tensor) -> Any:
        kept = [self.lif(self.fc(x)) for _ in range(3)]
        kept[-1][0][1] = 0.0  # older torch does not report this
        return torch.stack([spikes for spikes, _ in kept])

    with pytest.raises(ValueError, match=r"writes into") as error:
        compile_net(Net(run, fc=nn.Linear(4, 5), lif=leaky()), STATIC, target="nir")
    assert "of layer 'lif'" in str(error.value)
    assert "collect steps in a list" in str(error.value)


def test_random_numbers() -> None:
    def run(self: Any, x: Tensor) -> Any:
        gain = 1.0 if torch.rand(1).item() < 2 else 0.0
        return torch.stack([self.lif(self.fc(x) * gain)[0] for _ in range(3)])

    with pytest.raises(
        ValueError, match=r"^forward draws random numbers even in eval\(\), and chi"
    ):
        compile_net(Net(run, fc=nn.Linear(4, 5), lif=leaky()), STATIC, target="nir")


def test_two_layers_that_end_the_network() -> None:
    def run(self: Any, x: Tensor) -> Any:
        pairs = [(self.lif(self.fc(x))[0], self.last(self.odd(x))[0]) for _ in range(3)]
        return [torch.stack(spikes) for spikes in zip(*pairs, strict=True)]

    with pytest.raises(
        ValueError, match=r"^forward returns the spikes of 'lif', 'last'; return th"
    ):
        compile_net(net(run, odd=nn.Linear(4, 2)), STATIC, target="nir")


def test_currents_behind_the_last_neurons() -> None:
    def run(self: Any, x: Tensor) -> Any:
        return sum(self.out(self.lif(self.fc(x))[0]) for _ in range(3))

    module = Net(run, fc=nn.Linear(4, 5), lif=leaky(), out=nn.Linear(5, 2))
    message = (
        r"^forward returns the output of layer 'out', which has no neurons; end with spiking"
        r" neurons \(readout \"count\"\) or ones with reset_mechanism=\"none\" \(readout \"last_v"
    )
    with pytest.raises(ValueError, match=message):
        compile_net(module, STATIC, target="nir")


def test_samples_that_no_forward_takes() -> None:
    module = net(returning(lambda s, v: s))
    with pytest.raises(ValueError, match=r"^a Net has a forward of its own; give the sample that it"
                       r" takes, \[B, \.\.\.\] or \[T, B"):  # fmt: skip
        compile_net(module, target="nir")
    with pytest.raises(
        ValueError, match=r"^the sample has shape \(4,\); a Net needs what its forw"
    ):
        compile_net(module, torch.rand(4), target="nir")


def test_a_module_that_cannot_be_copied() -> None:
    module: Any = net(returning(lambda s, v: s))
    module.lock = threading.Lock()
    message = (
        r"^Net cannot be copied, which running it on the sample needs: TypeError: cannot pickle"
        r" '_thread.lock' object; keep what cannot be copied outside the module$"
    )
    with pytest.raises(ValueError, match=message):
        compile_net(module, STATIC, target="nir")
