"""Modules with a forward of their own: what is read from a run of theirs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import snntorch
import torch
from snntorch import utils
from torch import Tensor, nn
from torch.nn import functional as F

from spikeport.export import Compiled
from spikeport.export import compile as compile_net
from spikeport.sim import floating
from spikeport.sim.net import Input

Run = Callable[[Any, Tensor], Any]
STEPS = 6
STATIC, TIMED = torch.rand(3, 4), torch.rand(STEPS, 3, 4)
IMAGE = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(3))


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
    layers = {"fc": nn.Linear(4, 5), "lif": leaky(), "rec": nn.Linear(5, 5), "out": nn.Linear(5, 2)}
    return Net(run, **{**layers, "last": leaky(), **more})


def compiled(module: nn.Module, sample: Any = STATIC, **options: Any) -> Compiled:
    return compile_net(module, sample, target="nir", **options)


def wiring(done: Compiled) -> set[tuple[str, str, int]]:
    return {(p.source, p.target, p.delay) for p in done.float_net.projections}


def loop(step: Callable[..., Any]) -> Run:
    """A forward that runs `step(self, x, spikes of the last step)` and stacks what it returns."""

    def run(self: Any, x: Tensor) -> Any:
        for layer in self.children():
            if isinstance(layer, snntorch.SpikingNeuron):
                layer.reset_mem()
        before: Any = torch.zeros(len(x), 5)
        kept = []
        for _ in range(STEPS):
            result = step(self, x, before)
            before = result[0] if isinstance(result, tuple) else before
            kept.append(result[-1] if isinstance(result, tuple) else result)
        return torch.stack(kept)

    return run


def tutorial(self: Any, x: Tensor) -> Any:
    mem1, mem2 = self.lif.init_leaky(), self.last.init_leaky()
    recorded, potentials = [], []
    for _ in range(STEPS):
        spk1, mem1 = self.lif(self.fc(x.flatten(1)), mem1)
        spk2, mem2 = self.last(self.out(spk1), mem2)
        recorded.append(spk2)
        potentials.append(mem2)
    return torch.stack(recorded, dim=0), torch.stack(potentials, dim=0)


def test_the_style_of_the_tutorials() -> None:
    done = compiled(net(tutorial))
    assert [p.name for p in done.float_net.populations] == ["lif", "last"]
    assert wiring(done) == {("input", "lif", 0), ("lif", "last", 0)}
    assert (done.float_net.readout.population, done.float_net.readout.kind) == ("last", "count")
    assert (done.float_net.steps, done.float_net.input.shape) == (STEPS, (4,))
    assert compiled(net(tutorial), readout="first_spike").float_net.readout.kind == "first_spike"


def test_the_module_is_left_as_it_was() -> None:
    module = net(tutorial)
    module(torch.rand(2, 4))  # leaves states with a graph, which cannot be copied
    module.train()
    held, count = module.lif.mem, len(snntorch.SpikingNeuron.instances)
    compiled(module)
    assert module.training
    assert module.lif.mem is held
    assert module.fc.weight.dtype == torch.float32
    assert len(snntorch.SpikingNeuron.instances) == count
    assert torch.get_default_dtype() == torch.float32
    assert not module.lif._forward_hooks


def test_no_other_module_and_no_random_state_is_touched() -> None:
    def run(self: Any, x: Tensor) -> Any:
        utils.reset(self)  # of all neurons in the process
        return torch.stack([self.lif(self.norm(self.fc(x))) for _ in range(STEPS)])

    module = Net(run, fc=nn.Linear(4, 5), norm=nn.BatchNorm1d(5), lif=leaky(init_hidden=True))
    with torch.no_grad():
        module(torch.rand(2, 4))
    other = leaky(init_hidden=True)
    other(torch.ones(1, 3) / 4)
    held, random = module.lif.mem, torch.get_rng_state()
    compiled(module)
    assert module.lif.mem is held
    assert other.mem.tolist() == [[0.25] * 3]
    assert torch.equal(torch.get_rng_state(), random)


def test_recurrence_by_hand_feedback_and_skips() -> None:
    def step(self: Any, x: Tensor, before: Tensor) -> Any:
        spikes, _ = self.lif(self.fc(x) + self.rec(before))
        return spikes, self.last(self.out(spikes) + self.skip(x) - 0.5 * self.out(before))[0]

    done = compiled(net(loop(step), skip=nn.Linear(4, 2, bias=False)))
    assert wiring(done) == {
        ("input", "lif", 0), ("lif", "lif", 1), ("lif", "last", 0), ("input", "last", 0),
        ("lif", "last", 1),
    }  # fmt: skip


def test_a_delay_of_two_steps() -> None:
    def run(self: Any, x: Tensor) -> Any:
        mem, last = self.lif.reset_mem(), self.last.reset_mem()
        spikes = [torch.zeros(3, 5)] * 2
        kept = 0
        for step in x:
            now, mem = self.lif(self.fc(step), mem)
            spikes.append(now)
            out, last = self.last(self.out(spikes[-3]), last)
            kept = kept + out
        return kept

    done = compiled(net(run), TIMED)
    assert wiring(done) == {("input", "lif", 0), ("lif", "last", 2)}


def test_spikes_from_the_step_before_may_be_missing_at_first() -> None:
    def run(self: Any, x: Tensor) -> Any:
        mem, spikes, kept = self.lif.reset_mem(), None, []
        for step in range(STEPS):
            current = self.fc(x[step])
            if spikes is not None:
                current = current + self.free(spikes)
            spikes, mem = self.lif(current, mem)
            kept.append(spikes)
        return torch.stack(kept).mean(0)

    done = compiled(Net(run, fc=nn.Linear(4, 5), free=nn.Linear(5, 5, bias=False), lif=leaky()),
                    TIMED)  # fmt: skip
    assert wiring(done) == {("input", "lif", 0), ("lif", "lif", 1)}
    biased = Net(run, fc=nn.Linear(4, 5), free=nn.Linear(5, 5), lif=leaky())
    with pytest.raises(ValueError, match=r"^layer 'lif' .*: in step 0 forward feeds it in another"):
        compiled(biased, TIMED)


def test_time_behind_the_samples() -> None:
    def run(self: Any, x: Tensor) -> Any:
        mem, kept = self.lif.reset_mem(), []
        for step in range(x.size(1)):
            spikes, mem = self.lif(self.fc(x[:, step]), mem)
            kept.append(spikes)
        return torch.stack(kept, dim=1).sum(dim=1)

    torch.manual_seed(1)
    done = compiled(Net(run, fc=nn.Linear(4, 5), lif=leaky()), torch.rand(3, STEPS, 4))
    assert (done.float_net.steps, done.float_net.input.shape) == (STEPS, (4,))


def test_samples_that_forward_turns_or_repeats() -> None:
    def turned(self: Any, x: Tensor) -> Any:
        kept = [self.lif(self.fc(now))[0] for now in x.permute(1, 0, 2)]
        return torch.stack(kept).transpose(0, 1)

    def repeated(self: Any, x: Tensor) -> Any:
        every = x.repeat(STEPS, 1, 1)
        return torch.stack([self.lif(self.fc(every[step]))[0] for step in range(STEPS)])

    def widened(self: Any, x: Tensor) -> Any:
        every = x.unsqueeze(0).expand(STEPS, -1, -1)
        return torch.stack([self.lif(self.fc(every[step]))[0] for step in range(STEPS)])

    torch.manual_seed(1)
    for run, sample in (
        (turned, torch.rand(3, STEPS, 4)), (turned, torch.rand(STEPS, STEPS, 4)),
        (repeated, STATIC), (widened, STATIC),
    ):  # fmt: skip
        done = compiled(Net(run, fc=nn.Linear(4, 5), lif=leaky()), sample)
        assert (done.float_net.steps, done.float_net.input.shape) == (STEPS, (4,))
        assert wiring(done) == {("input", "lif", 0)}


@pytest.mark.parametrize(
    ("what", "kind"),
    [(lambda v: v[-1].squeeze(1), "last_v"), (lambda v: v.squeeze(-1)[-1], "last_v"),
     (lambda v: v.squeeze(-1).mean(0), "sum_v"), (lambda v: v.flatten(1)[-1], "last_v")],
)  # fmt: skip
def test_regression_that_drops_the_one_neuron(what: Callable[[Tensor], Any], kind: str) -> None:
    def run(self: Any, x: Tensor) -> Any:
        return what(torch.stack([self.last(self.out(self.lif(self.fc(x))[0]))[1] for _ in "abc"]))

    layers = {"fc": nn.Linear(4, 5), "lif": leaky(), "out": nn.Linear(5, 1)}
    done = compiled(Net(run, **layers, last=leaky(reset_mechanism="none")))
    assert (done.float_net.readout.population, done.float_net.readout.kind) == ("last", kind)


def test_types_of_weights_samples_and_zeros() -> None:
    def run(self: Any, x: Tensor) -> Any:
        before, kept = torch.zeros(len(x), 5, dtype=torch.float32), []
        for _ in range(STEPS):
            before, _m = self.lif(self.fc(x) + self.rec(before))
            kept.append(before)
        return torch.stack(kept)

    layers = {"fc": nn.Linear(4, 5), "rec": nn.Linear(5, 5), "lif": leaky()}
    assert wiring(compiled(Net(run, **layers))) == {("input", "lif", 0), ("lif", "lif", 1)}
    short = Net(run, **layers).bfloat16()
    assert compiled(short, STATIC.bfloat16()).float_net.steps == STEPS
    chain = nn.Sequential(nn.Linear(4, 5), leaky()).bfloat16()
    w = compiled(chain, STATIC[0], steps=2).float_net.projections[0].synapse.w
    assert np.array_equal(w, chain[0].weight.detach().double().numpy())


def test_layers_before_and_after_the_loop() -> None:
    def run(self: Any, x: Tensor) -> Any:
        mem, currents, kept = self.lif.reset_mem(), self.fc(x * 2.0), []
        for current in currents:
            kept.append(self.lif(current, mem)[0])
            mem = self.lif.mem
        mem, out = self.last.reset_mem(), []
        for spikes in torch.stack(kept):
            _, mem = self.last(self.out(spikes), mem)
            out.append(mem)
        return torch.stack(out).sum(0)

    module = net(run, last=leaky(reset_mechanism="none"))
    done = compiled(module, TIMED)
    assert (done.float_net.readout.kind, done.float_net.steps) == ("sum_v", STEPS)
    found = floating.run(done.float_net, TIMED.double().numpy()).logits(done.float_net.readout)
    assert found == pytest.approx(module(TIMED).detach().numpy(), abs=1e-5)


def test_neurons_that_hold_their_states_and_a_forward_of_one_step() -> None:
    hidden = {"lif": leaky(init_hidden=True), "last": leaky(init_hidden=True, output=True)}

    def step(self: Any, x: Tensor) -> Any:
        return self.last(self.out(self.lif(self.fc(x))))

    done = compiled(net(step, **hidden), steps=7)
    assert (done.float_net.steps, done.float_net.readout.kind) == (7, "count")

    def window(self: Any, x: Tensor) -> Any:
        utils.reset(self)
        return torch.stack([step(self, x)[0] for _ in range(STEPS)])

    assert compiled(net(window, **hidden)).float_net.steps == STEPS
    with pytest.raises(ValueError, match=r"^steps is 9, but forward runs 6 steps; leave the"):
        compiled(net(window, **hidden), steps=9)


def test_images_pools_norms_and_batches() -> None:
    def run(self: Any, x: Tensor) -> Any:
        kept = []
        self.first.reset_mem()
        self.lif.reset_mem()
        for _ in range(STEPS):
            spikes, _m = self.first(self.norm(self.conv(x)))
            pooled = F.dropout(F.avg_pool2d(spikes, 2), 0.3, training=self.training)
            kept.append(self.lif(self.fc(pooled.view(x.size(0), -1)))[0])
        return torch.stack(kept)

    layers = {"conv": nn.Conv2d(1, 3, 3, padding=1), "norm": nn.BatchNorm2d(3), "first": leaky()}
    done = compiled(Net(run, **layers, fc=nn.Linear(12, 5), lif=leaky()), IMAGE)
    assert [p.shape for p in done.float_net.populations] == [(3, 4, 4), (5,)]
    assert done.float_net.input.shape == (1, 4, 4)


def test_signals_over_one_dimension() -> None:
    def run(self: Any, x: Tensor) -> Any:
        return self.last(self.out(self.pool(self.lif(self.conv(x))[0]).flatten(1)))[0]

    torch.manual_seed(0)
    module = Net(
        run, conv=nn.Conv1d(2, 3, 3, stride=2, padding=1), lif=leaky(v_th=0.1),
        pool=nn.AvgPool1d(2), out=nn.Linear(6, 4), last=leaky(v_th=0.1),
    )  # fmt: skip
    done = compiled(module, torch.rand(5, 2, 8), steps=4)
    assert [p.shape for p in done.float_net.populations] == [(3, 1, 4), (4,)]


def test_readout_of_the_last_potential() -> None:
    module = net(lambda self, x: tutorial(self, x)[1][-1], last=leaky(v_th=1e9))
    done = compiled(module)
    assert done.float_net.readout.kind == "last_v"
    x = np.repeat(STATIC.double().numpy()[None], STEPS, 0)
    found = floating.run(done.float_net, x).logits(done.float_net.readout)
    assert found == pytest.approx(module(STATIC).detach().numpy(), abs=1e-5)
    both = net(tutorial, last=leaky(reset_mechanism="none"))
    assert compiled(both, readout="sum_v").float_net.readout.kind == "sum_v"
    with pytest.raises(ValueError, match=r"^layer 'last': readout 'count' does not fit it: 'last"):
        compiled(both)


def test_kind_of_input() -> None:
    assert compiled(net(tutorial), STATIC > 0.5).float_net.input == Input(shape=(4,))
    given = Input(shape=(4,), kind="graded", payload_bits=4, scale=15.0)
    assert compiled(net(tutorial), STATIC * 3, input=given).float_net.input == given
    with pytest.raises(ValueError, match=r"^the sample has values -1..2; pixels must lie in 0..1"):
        compiled(net(tutorial), torch.tensor([[-1.0, 2, 0, 0]]))
    flat = Net(lambda self, x: self.lif(self.fc(x))[0], fc=nn.Flatten(), lif=leaky())
    with pytest.raises(ValueError, match=r"^the sample has shape \(2, 3, 4, 1, 4\); behind its fi"):
        compiled(flat, torch.rand(2, 3, 4, 1, 4), steps=2)


def test_targets_choose_the_reset() -> None:
    module = net(tutorial, last=leaky(reset_mechanism="subtract"))
    net_ = compile_net(module, STATIC, target="lava").net
    assert [p.reset for p in net_.populations] == ["zero", "subtract"]
    message = (
        r"^layer 'last' \(Leaky\): reset_mechanism is \"subtract\", but neurons of target 'loihi1'"
        r" reset to zero; set reset_mechanism=\"zero\" and retrain \(a few epochs from"
    )
    with pytest.raises(ValueError, match=message):
        compile_net(module, STATIC > 0.5, target="loihi1")


RECORDS: list[Callable[[list[Tensor]], Any]] = [
    lambda kept: kept,
    lambda kept: {"spikes": torch.stack(kept), "rate": sum(kept) / STEPS},
    lambda kept: torch.cat([s.unsqueeze(0) for s in kept], dim=0).sum(dim=0),
    lambda kept: filled(kept),
    lambda kept: added_up(kept),
    lambda kept: 0 - torch.stack(kept).mean(0).neg(),
]  # fmt: skip


def filled(kept: list[Tensor]) -> Tensor:
    record = torch.zeros(len(kept), *kept[0].shape)
    for step, spikes in enumerate(kept):
        record[step, :] = spikes
    return record


def added_up(kept: list[Tensor]) -> Tensor:
    record = torch.zeros_like(kept[0])
    for spikes in kept:
        record += spikes
    return record


@pytest.mark.parametrize("record", RECORDS)
def test_ways_to_record_spikes(record: Callable[[list[Tensor]], Any]) -> None:
    def run(self: Any, x: Tensor) -> Any:
        self.lif.reset_mem()
        return record([self.lif(self.fc(x))[0] for _ in range(STEPS)])

    done = compiled(Net(run, fc=nn.Linear(4, 5), lif=leaky()))
    assert (done.float_net.readout.kind, done.float_net.steps) == ("count", STEPS)
