"""A twin that lives its segments again gives the logits and gradients of one that keeps its life,
in far less memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import Dense
from spikeport.sim.twin import Twin
from spikeport.sim.twin_rules import RULES, Assg, Rule

RandomNet = Callable[..., Any]
KINDS = (None, "dense", "conv", "delay", "recurrent")
ROUNDING = 2e-6
"""Torch's products may round a row otherwise where there are fewer rows."""


def drawn(random_net: RandomNet, seed: int, kind: str | None) -> tuple[FixedNet, Tensor]:
    """A net with some readout, and images [B, ...] or a train [T, B, ...] in float units."""
    net, x = random_net(seed, kind=kind, lava=False)
    readout = Readout(
        population=net.populations[-1].name, kind=("count", "last_v", "sum_v")[seed % 3]
    )
    shown = torch.tensor(x).float() / net.input.scale
    return replace(net, readout=readout, steps=len(x)), shown if seed % 2 else shown[0]


def looked_at(twin: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient at x of their sum by fixed weights."""
    x = x.clone().requires_grad_()
    logits = twin(x)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    (logits * weights).sum().backward()
    assert x.grad is not None
    return logits.detach(), x.grad


def far(left: Tensor, right: Tensor) -> float:
    """Largest difference over the largest value."""
    return float((left - right).abs().max() / right.abs().max().clamp_min(1e-30))


def differing(twin: Callable[..., Any], random_net: RandomNet, *, nets: int) -> int:
    """Runs on random nets that are not those of a life in one piece."""
    found = 0
    for kind in KINDS:
        for seed in range(nets):
            net, x = drawn(random_net, seed, kind)
            settings: Any = {"surrogate": Surrogate("atan", 1.0), "detach_reset": seed % 3 > 0}
            logits, g = looked_at(Twin(net, **settings), x)
            for every in (1, 2, 5):
                again, g_again = looked_at(twin(net, **settings, checkpoint=every), x)
                found += not torch.equal(again, logits) or far(g_again, g) > ROUNDING
    return found


def test_cuts_change_nothing(random_net: RandomNet) -> None:
    """Loops, delays longer than a segment, skip paths, static input and trains, all readouts."""
    assert differing(Twin, random_net, nets=12) == 0


FAULTS = {
    "u is not carried": ('self.begin["u", name], self.b', '0 * self.begin["u", name], self.b'),
    "delays end at cuts": ("before=self.begin.get((i,))", "before=None"),
    "loops end at cuts": ("if (name,) in self.begin else []", "if False else []"),
    "a static input is seen last": ("else ctx.later + g[-1:]", "else g[-1:]"),
    "steps are left out": ("reversed(range(len(g) - 1))", "reversed(range(len(g) - 2))"),
    "every segment is read": (
        'read = grads[0] if span == last or plan.twin.net.readout.kind != "last_v" else None',
        "read = grads[0]",
    ),
    "gradients end at cuts": ("for key, g in later.items()]", "for key, g in {}.items()]"),
    "segments backwards": ("torch.cat(g_s[::-1])", "torch.cat(g_s)"),
    "only the last is read": (
        ' if plan.twin.net.readout.kind == "last_v" else torch.stack(parts).sum(0)',
        "",
    ),
}


def test_cuts_change_nothing_where_torch_steps(
    planted: Callable[..., ModuleType], random_net: RandomNet
) -> None:
    """As on devices other than the CPU."""
    stepped = ('return a.device.type == "cpu" and', "return False and")
    names = ("twin_adjoint", "twin_lif", "twin_segments", "twin_base", "twin")
    module = planted(tuple(f"sim.{name}" for name in names), stepped)
    assert differing(vars(module)["Twin"], random_net, nets=2) == 0


def test_without_a_fault_they_do_not(
    planted: Callable[..., ModuleType], random_net: RandomNet
) -> None:
    same = planted(("sim.twin_segments", "sim.twin_base", "sim.twin"))
    assert differing(vars(same)["Twin"], random_net, nets=2) == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_differ(
    fault: str, planted: Callable[..., ModuleType], random_net: RandomNet
) -> None:
    wrong = planted(("sim.twin_segments", "sim.twin_base", "sim.twin"), FAULTS[fault])
    assert differing(vars(wrong)["Twin"], random_net, nets=4) > 0


def test_rules_that_remember_remember_the_same(random_net: RandomNet) -> None:
    """Also of samples that are looked at again, in other portions, and not when told not to."""
    net, x = drawn(random_net, 3, "dense")
    x = torch.cat([x] * 40, 1)
    assert x.shape[1] > 32  # portions
    samples = torch.arange(x.shape[1])
    cut, whole = (Twin(net, surrogate=Assg(), checkpoint=every) for every in (2, None))
    seen = []
    for learn in (True, True, False, True):
        for twin in (cut, whole):
            twin.attend(samples, samples=len(samples), learn=learn)
        (logits, g), (wanted, g_wanted) = looked_at(cut, x), looked_at(whole, x)
        assert torch.equal(logits, wanted)
        assert far(g, g_wanted) < ROUNDING
        seen.append(g)
    assert not torch.equal(seen[0], seen[1])
    cut.forget()
    cut.attend(samples, samples=len(samples))
    assert torch.equal(looked_at(cut, x)[1], seen[0])


def test_who_was_announced_counts_until_the_gradient(random_net: RandomNet) -> None:
    """The next samples may be announced, or all forgotten, before the gradient is asked for."""
    net, x = drawn(random_net, 3, "dense")
    rows = torch.arange(x.shape[1])
    wanted, found = list[Tensor](), list[Tensor]()
    for disturbed, into in ((False, wanted), (True, found)):
        twin = Twin(net, surrogate=Assg(), checkpoint=2)
        twin.attend(rows, samples=2 * len(rows))
        image = x.clone().requires_grad_()
        logits = twin(image)
        if disturbed:
            twin.attend(rows + len(rows), samples=2 * len(rows), learn=False)
        logits.sum().backward()
        if disturbed:
            twin(x)  # who was announced meanwhile is still expected
        twin.attend(rows, samples=2 * len(rows))
        assert image.grad is not None
        into += [image.grad, looked_at(twin, x)[1]]
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


@dataclass
class Kept:
    """Bytes that passes keep for their gradients, each memory counted once."""

    now: int = 0
    peak: int = 0
    holders: dict[int, int] = field(default_factory=dict)

    def during(self, twin: Twin, x: Tensor) -> int:
        """The most at any time of a forward and a backward pass."""
        with torch.autograd.graph.saved_tensors_hooks(lambda t: _Held(self, t), lambda h: h.tensor):
            looked_at(twin, x)
        assert not self.holders
        return self.peak

    def count(self, memory: Any, change: int) -> None:
        at = memory.data_ptr()
        before, after = self.holders.get(at, 0), self.holders.get(at, 0) + change
        self.holders[at] = after
        if not after:
            del self.holders[at]
        self.now += memory.nbytes() * (bool(after) - bool(before))
        self.peak = max(self.peak, self.now)


class _Held:
    def __init__(self, kept: Kept, tensor: Tensor) -> None:
        self.kept, self.tensor = kept, tensor
        kept.count(tensor.untyped_storage(), 1)

    def __del__(self) -> None:
        self.kept.count(self.tensor.untyped_storage(), -1)


def chain(steps: int) -> FixedNet:
    """20 pixels -> 200 -> 100 -> 4 neurons."""
    rng, sizes = np.random.default_rng(4), (20, 200, 100, 4)
    names = ("input", "a", "b", "c")
    return FixedNet(
        input=Input(shape=(20,), kind="graded", payload_bits=8, scale=255.0),
        populations=tuple(
            Population(name=name, shape=(n,), v_th=np.array(300), dv=np.array(400))
            for name, n in zip(names[1:], sizes[1:], strict=True)
        ),
        projections=tuple(
            Projection(
                source=names[i], target=names[i + 1],
                synapse=Dense(w=2 * rng.integers(-30, 40, (sizes[i + 1], sizes[i]))),
            )
            for i in range(3)
        ),
        readout=Readout(population="c"),
        steps=steps,
    )  # fmt: skip


def test_memory_grows_with_the_root_of_the_steps() -> None:
    x = torch.rand((4, 20), generator=torch.Generator().manual_seed(1))
    whole, cut = {}, {}
    for steps in (16, 64, 256):
        net = chain(steps)
        whole[steps] = Kept().during(Twin(net), x)
        cut[steps] = Kept().during(Twin(net, checkpoint=int(steps**0.5)), x)
    # v before the reset of 304 neurons of 4 samples, 4 bytes each, is the least of a whole life.
    each_step = (whole[64] - whole[16]) / 48
    assert each_step >= 4 * 4 * 304
    assert whole[256] - whole[64] == 192 * each_step
    # Of 16 times the steps, 4 times the states and segments are kept.
    assert cut[256] - cut[64] == 2 * (cut[64] - cut[16])
    assert cut[256] < whole[256] / 3


def test_settings_that_cannot_be_are_refused() -> None:
    for every, why in (
        (0, "allowed are 1..1048576"), (2.5, "it must be a whole number"),
        ("3", "it must be a whole number"), (True, "it must be a whole number"),
    ):  # fmt: skip
        bad: Any = every
        with pytest.raises(
            ValueError, match=rf"^twin: checkpoint \(steps, or None\) is {every!r}; {why}$"
        ):
            Twin(chain(3), checkpoint=bad)
    whole = [rule for rule in RULES.values() if rule.whole]
    assert len(whole) == 4
    for kind in whole:
        rule: Rule = kind()
        message = (
            f"^twin: gradient rule {rule.name!r} needs whole lives, but checkpoint cuts them; use a"
            " Surrogate or Assg$"
        )
        with pytest.raises(ValueError, match=message):
            Twin(chain(3), surrogate=rule, checkpoint=2)
        with pytest.raises(ValueError, match=message):
            Twin(chain(3), checkpoint=2).through(rule, detach_reset=True)
