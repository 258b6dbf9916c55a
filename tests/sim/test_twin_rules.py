"""Rules that send gradients back through spikes: slopes by hand, memory, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport.sim.attack import Budget, Pgd, attack
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import Dense
from spikeport.sim.twin import Twin
from spikeport.sim.twin_memory import Memory
from spikeport.sim.twin_rules import PLAIN, RULES, Assg, Bptr, Hart, Pdsg, Rga, Rule, Seen
from spikeport.sim.twin_rules_kernel import sharpen

every_rule = pytest.mark.parametrize("rule", [kind() for kind in RULES.values()], ids=list(RULES))


def seen(
    fired: Any, *, keep_v: float = 0.5, v_init: float = 0.0, reset: str = "zero",
    shape: tuple[int, ...] = (1,), threshold: float = 1.0,
) -> Seen:  # fmt: skip
    """Lives `fired` [T, B, n] of neurons with that threshold."""
    th = torch.tensor(threshold)
    return Seen(
        fired=torch.as_tensor(fired, dtype=torch.float32), threshold=th, unit=th,
        keep_v=torch.tensor(keep_v), v_init=torch.tensor(v_init), reset=reset, shape=shape,
    )  # fmt: skip


def one_neuron(potentials: list[float], **settings: Any) -> Seen:
    """The life of one neuron of one sample."""
    return seen([[[v]] for v in potentials], **settings)


def with_memory(life: Seen, rule: Rule) -> Seen:
    """`life` as a rule that remembers sees it for the first time."""
    begun = tuple(torch.full_like(life.fired, value) for value in rule.begin)
    return replace(life, past=rule.learn(replace(life, past=begun)))


def test_what_is_seen_is_in_thresholds() -> None:
    life = one_neuron([1.0, 3.0, 2.0, 4.0], threshold=2.0, v_init=0.5)
    assert life.d.flatten().tolist() == [-0.5, 0.5, 0.0, 1.0]
    assert life.spikes.flatten().tolist() == [0, 1, 0, 1]  # at the threshold is not above it
    # Drives: 1 - .5 * .5, 3 - .5 * 1, 2 - .5 * 0 (reset), 4 - .5 * 2; over 2.
    assert life.drive.flatten().tolist() == [0.375, 1.25, 1.0, 1.5]
    kept = one_neuron([1.0, 3.0, 2.0, 4.0], threshold=2.0, v_init=0.5, reset="subtract")
    assert kept.drive.flatten().tolist() == [0.375, 1.25, 0.75, 1.5]


def test_bptr_passes_what_fired_at_all() -> None:
    life = seen([[[0.2, 0.2]], [[1.5, 0.9]], [[0.1, 1.0]]])
    assert Bptr().slopes(life).tolist() == [[[1.0, 0.0]]]


@pytest.mark.parametrize(
    ("drive", "slope"), [(0.25, 0.2), (0.75, 0.6), (2.1, 0.0), (-0.1, 0.0), (0.5, 0.6), (2.0, 0.6)]
)
def test_rga_as_published(drive: float, slope: float) -> None:
    life = one_neuron([drive])
    assert float(Rga().slopes(life)) == pytest.approx(slope)


def test_rga_takes_the_mean_drive_of_all_steps() -> None:
    life = one_neuron([0.1, 1.0, 0.6])  # drives 0.1, 0.95, 0.1
    assert float(life.drive.mean()) == pytest.approx(1.15 / 3)
    assert Rga().slopes(life).flatten().tolist() == pytest.approx([0.2])


def test_hart_is_a_triangle() -> None:
    life = one_neuron([1.0, 1.25, 0.5])
    assert Hart(width=0.5).slopes(life).flatten().tolist() == pytest.approx([2.0, 1.0, 0.0])


def test_pdsg_is_a_bell_as_wide_as_the_potentials_so_far() -> None:
    d = torch.tensor([[0.5, -0.5, 1.0, 3.0], [0.0, 2.0, 1.0, 1.0]])  # two channels of two
    slopes = Pdsg().slopes(seen(1 + d[:, None], shape=(2, 1, 2)))
    for t in range(2):
        for channel in range(2):
            part = d[: t + 1, 2 * channel : 2 * channel + 2]
            spread = part.std(correction=0)
            for i in (0, 1):
                at = d[t, 2 * channel + i]
                z = (at - 0.5 * spread) / spread
                bell = math.exp(-(float(z) ** 2) / 2) / float(spread) / math.sqrt(2 * math.pi)
                assert float(slopes[t, 0, 2 * channel + i]) == pytest.approx(bell, rel=1e-4)


def test_pdsg_without_spread_has_width_one() -> None:
    slopes = Pdsg().slopes(seen(torch.full((1, 1, 3), 1.5), shape=(3,)))
    assert slopes.flatten().tolist() == pytest.approx([1 / math.sqrt(2 * math.pi)] * 3)


@pytest.mark.parametrize(
    ("area", "omega"),
    [(0.35, 1.24944), (0.41, 2.19126), (0.425, 2.65171), (0.435, 3.07412), (0.45, 4.01946)],
)
def test_sharpness_as_published(area: float, omega: float) -> None:
    assert Assg(area=area).omega == pytest.approx(omega, rel=1e-5)


def test_assg_by_hand() -> None:
    rule, life = Assg(memory=0.9, rho=1.5), one_neuron([3.0])  # d = 2
    (mean, spread) = with_memory(life, rule).past
    assert float(mean) == pytest.approx(0.9 * 1 + 0.1 * 2)  # 1.1
    assert float(spread) == pytest.approx(0.1 * 0.9)
    slope = rule.omega / (1.1 + 1.5 * 0.09 + 1e-4)
    expected = slope / 2 / (1 + (math.pi * slope * 2 / 2) ** 2)
    assert float(rule.slopes(with_memory(life, rule))) == pytest.approx(expected, rel=1e-5)


def test_the_mean_area_is_what_was_asked_for_once_it_has_learned() -> None:
    """With rho = 0 and constant |d| the area between -d and d tends to 2 `area`."""
    rule, life = Assg(memory=0.5, rho=0.0, area=0.4), one_neuron([1.7])
    past = tuple(torch.full_like(life.fired, value) for value in rule.begin)
    for _ in range(40):
        past = rule.learn(replace(life, past=past))
    slope = rule.omega / (float(past[0]) + 1e-4)
    assert 2 * math.atan(math.pi * slope * 0.7 / 2) / math.pi == pytest.approx(0.8, rel=1e-3)


def test_memory_keeps_samples_apart() -> None:
    memory = Memory(samples=4)

    def recalled(rows: list[int] | None) -> Tensor:
        memory.rows = None if rows is None else torch.tensor(rows)
        like = torch.zeros(1, len(rows or [0, 1]), 1)
        (found,) = memory.slot("hidden", (1,)).recall(like, (1.0,))
        return found

    def kept(rows: list[int], values: list[float]) -> None:
        memory.rows = torch.tensor(rows)
        memory.slot("hidden", (1,)).keep((torch.tensor(values).reshape(-1, 1, 1),))

    assert recalled([0, 1, 2, 3]).flatten().tolist() == [1.0] * 4
    kept([0, 2], [5.0, 7.0])
    assert recalled([2, 1]).flatten().tolist() == [7.0, 1.0]
    assert recalled(None).flatten().tolist() == [1.0, 1.0]
    recalled([1, 2])[:] = 9.0  # neighbours: the memory itself
    assert recalled([0, 1, 2, 3]).flatten().tolist() == [5.0, 9.0, 9.0, 1.0]
    recalled([0, 3])[:] = 4.0  # others: a copy
    kept([0, 3], [2.0, 3.0])
    assert recalled([0, 1, 2, 3]).flatten().tolist() == [2.0, 9.0, 9.0, 3.0]
    memory.learns = False
    kept([0, 1], [0.0, 0.0])
    assert recalled([0, 1, 2, 3]).flatten().tolist() == [2.0, 9.0, 9.0, 3.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("memory", [0.9, 0.0])
def test_the_compiled_assg_is_the_formula(dtype: torch.dtype, memory: float) -> None:
    g = torch.Generator().manual_seed(2)
    rule = Assg(memory=memory)
    threshold, batch, n = torch.rand(5000, generator=g) + 0.5, 3, 5000
    for passes in (1, 3):
        past = tuple(torch.full((2, batch, n), value, dtype=dtype) for value in rule.begin)
        mean, spread = (x.transpose(0, 1).contiguous().numpy() for x in past)
        for _ in range(passes):
            fired = torch.randn(2, batch, n, generator=g).to(dtype)
            life = Seen(
                fired=fired, threshold=threshold.to(dtype), unit=2 * threshold.to(dtype),
                keep_v=torch.tensor(0.5), v_init=torch.tensor(0.0), reset="zero", shape=(n,),
                past=past,
            )  # fmt: skip
            past = rule.learn(life)
            slopes = np.empty(fired.shape, fired.numpy().dtype)
            kind = slopes.dtype.type
            sharpen(
                fired.numpy(), life.threshold.numpy(), life.unit.numpy(), mean, spread,
                kind(rule.memory), kind(rule.rho), kind(rule.omega), slopes,
            )  # fmt: skip
        wanted = rule.slopes(replace(life, past=past)) / life.unit
        assert torch.allclose(torch.from_numpy(slopes), wanted, rtol=1e-4)
        for mine, theirs in zip((mean, spread), past, strict=True):
            turned = torch.from_numpy(mine).transpose(0, 1)
            assert torch.allclose(turned, theirs, rtol=1e-5, atol=1e-6)


def net(*, loop: bool = False, readout: str = "count", steps: int = 5) -> FixedNet:
    """6 pixels -> 8 -> 3 neurons."""
    rng = np.random.default_rng(1)
    projections = [
        Projection(source="input", target="hidden", synapse=Dense(w=rng.integers(-90, 91, (8, 6)))),
        Projection(source="hidden", target="out", synapse=Dense(w=rng.integers(-99, 100, (3, 8)))),
    ]
    if loop:
        w = rng.integers(-60, 61, (8, 8))
        again = Projection(source="hidden", target="hidden", synapse=Dense(w=w), delay=1)
        projections.append(again)
    return FixedNet(
        input=Input(shape=(6,), kind="graded", payload_bits=8, scale=255.0),
        populations=(
            Population(
                name="hidden", shape=(8,), v_th=np.array(6000, np.int32), dv=np.array(900, np.int32)
            ),
            Population(
                name="out", shape=(3,), v_th=np.array(60, np.int32), dv=np.array(300, np.int32)
            ),
        ),
        projections=tuple(projections), readout=Readout(population="out", kind=readout),
        steps=steps,
    )  # fmt: skip


def images(count: int) -> Tensor:
    """On the 8-bit grid."""
    g = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 6), generator=g) / 255


def gradient(twin: Twin, x: Tensor) -> Tensor:
    """Of the first logit."""
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(twin(x)[:, 0].sum(), x)
    return found


@every_rule
@pytest.mark.parametrize("readout", ["count", "sum_v"])
def test_rules_change_the_gradient_and_nothing_else(rule: Rule, readout: str) -> None:
    plain, ruled = Twin(net(readout=readout)), Twin(net(readout=readout), surrogate=rule)
    x = images(12)
    assert torch.equal(ruled(x), plain(x))
    found = gradient(ruled, x)
    assert found.isfinite().all()
    assert found.abs().sum() > 0
    assert not torch.allclose(found, gradient(plain, x))


@every_rule
def test_the_gradient_of_a_sample_does_not_depend_on_its_neighbours(rule: Rule) -> None:
    twin, x = Twin(net(), surrogate=rule), images(12)
    together = gradient(twin, x)
    apart = torch.cat([gradient(twin, row[None]) for row in x])
    assert torch.allclose(together, apart, rtol=1e-4, atol=1e-7)


def test_rules_of_rates_do_not_go_through_time() -> None:
    """Two steps: a drive of the first reaches the spike of the second only through v."""
    rules = ((Bptr(), False), (Rga(), False), (Hart(width=9.0), False), (Assg(), True))
    for rule, through in rules:
        twin = Twin(net(steps=2), surrogate=rule)
        x = images(4).expand(2, 4, 6).clone().requires_grad_()
        lives = twin._live(x * 255, steps=2)
        (found,) = torch.autograd.grad(lives["hidden"][0].spikes[1].sum(), x)
        reaches_back = bool(found[0].abs().sum() > 0)
        assert reaches_back == (through or rule.averaged)


def test_averaging_gives_every_step_the_mean() -> None:
    twin = Twin(net(steps=4), surrogate=Hart(width=9.0))
    x = images(3).expand(4, 3, 6).clone().requires_grad_()
    (found,) = torch.autograd.grad(twin(x)[:, 1].sum(), x)
    assert found.abs().sum() > 0
    assert torch.allclose(found, found[:1].expand_as(found))


def test_populations_read_by_potential_keep_a_fixed_window() -> None:
    twin = Twin(net(readout="sum_v"), surrogate=Bptr())
    assert (twin._passing("hidden"), twin._passing("out")) == (Bptr(), PLAIN)
    assert Twin(net(), surrogate=Bptr())._passing("out") == Bptr()
    assert Twin(net(readout="sum_v"), surrogate=Surrogate("gauss", 2.0))._passing("out").name == (
        "gauss"
    )


def climbed(twin: Twin, x: Tensor, rows: list[list[int]]) -> list[Tensor]:
    """Gradients at batches of those rows, announced one after the other."""
    found = []
    for batch in rows:
        twin.attend(torch.tensor(batch), samples=len(x))
        found.append(gradient(twin, x[batch]))
    return found


@pytest.mark.parametrize("loop", [False, True])
def test_assg_remembers_samples_while_others_leave(loop: bool) -> None:
    x = images(5)
    together = climbed(Twin(net(loop=loop), surrogate=Assg()), x, [[0, 1, 2, 3, 4], [1, 3, 4], [4]])
    alone = climbed(Twin(net(loop=loop), surrogate=Assg()), x, [[4], [4], [4]])
    for batch, one in zip(together, alone, strict=True):
        assert torch.allclose(batch[-1], one[0], rtol=1e-5, atol=1e-8)
    assert not torch.allclose(alone[0], alone[1])  # it did learn
    other = Twin(net(loop=loop), surrogate=Assg())
    climbed(other, x, [[4], [4]])
    other.forget()
    assert torch.allclose(climbed(other, x, [[4]])[0], alone[0])


def test_assg_can_use_what_it_knows_without_learning() -> None:
    twin, x, everyone = Twin(net(), surrogate=Assg()), images(3), torch.arange(3)
    climbed(twin, x, [[0, 1, 2]] * 2)
    found = []
    for learn in (False, False, True):
        twin.attend(everyone, samples=3, learn=learn)
        found.append(gradient(twin, x))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])  # slopes follow what is learned in the same pass


def test_strangers_are_met_as_if_for_the_first_time() -> None:
    twin, x = Twin(net(), surrogate=Assg()), images(3)
    first = gradient(twin, x)
    climbed(twin, x, [[0, 1, 2]] * 3)
    assert torch.equal(gradient(twin, x), first)


def test_assg_remembers_portion_by_portion(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(7)
    whole = climbed(Twin(net(), surrogate=Assg()), x, [[0, 1, 2, 3, 4, 5, 6], [1, 2, 4, 5, 6]])
    monkeypatch.setattr(Twin, "_portion", lambda *_: 2)
    parts = climbed(Twin(net(), surrogate=Assg()), x, [[0, 1, 2, 3, 4, 5, 6], [1, 2, 4, 5, 6]])
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-8)


def test_attacks_announce_samples_and_begin_anew_at_restarts() -> None:
    x = images(8)
    y = Twin(net())(x).argmax(1)
    calls: list[Any] = []

    class Watched(Twin):
        def attend(self, rows: Tensor, *, samples: int, learn: bool = True) -> None:
            """Note who is shown."""
            calls.append((rows.tolist(), samples))
            super().attend(rows, samples=samples, learn=learn)

        def forget(self) -> None:
            """Note it."""
            calls.append("forget")
            super().forget()

    twin, budget = Watched(net(), surrogate=Assg()), Budget(eps=10 / 255)
    found = attack(twin, x, y, Pgd(steps=3, restarts=2), budget=budget, seed=0, batch=5)
    assert calls.count("forget") >= 2 + 2 * 1  # each batch: once, and once a restart
    assert {samples for _, samples in (c for c in calls if c != "forget")} == {5, 3}
    alone = attack(twin, x[6:7], y[6:7], Pgd(steps=3, restarts=2), budget=budget, seed=0)
    assert torch.equal(alone.x_adv, found.x_adv[6:7])


@pytest.mark.parametrize("rule", [Bptr(), Rga(), Hart(), Pdsg()])
def test_loops_are_refused_by_rules_of_whole_lives(rule: Rule) -> None:
    message = rf"^twin: gradient rule '{rule.name}' needs whole lives, but this network has loops;"
    with pytest.raises(ValueError, match=message):
        Twin(net(loop=True), surrogate=rule)


def test_bad_settings_and_announcements_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^hart: width is 0; it must be positive, in thresholds$"):
        Hart(width=0)
    with pytest.raises(ValueError, match=r"^assg: area is 0.5; allowed are 0..0.5, both excluded$"):
        Assg(area=0.5)
    with pytest.raises(ValueError, match=r"^assg: memory is 1.0; allowed are 0..1, below 1$"):
        Assg(memory=1.0)
    twin = Twin(net(), surrogate=Assg())
    twin.attend(torch.tensor([0, 1]), samples=3)
    with pytest.raises(ValueError, match=r"^twin: attend named 2 samples, 3 are shown; name each$"):
        twin(images(3))


def test_views_share_weights_and_remember_apart() -> None:
    twin, x = Twin(net()), images(4)
    other = twin.through(Assg(), detach_reset=False)
    assert (other.surrogate, other.detach_reset) == (Assg(), False)
    assert (twin.surrogate, twin.detach_reset) == (Surrogate("triangle", 1.0), True)
    assert other.w0 is twin.w0
    assert type(other) is Twin
    assert torch.equal(other(x), twin(x))
    once = twin.through(Assg(), detach_reset=True)
    again = once.through(Assg(), detach_reset=True)
    climbed(once, x, [[0, 1, 2, 3]])
    assert again._memory is not once._memory
    assert torch.equal(climbed(again, x, [[0]])[0], gradient(once, x[:1]))


def test_a_rule_must_say_its_slopes() -> None:
    class Nothing(Rule):
        name = "nothing"

    with pytest.raises(NotImplementedError, match=r"^rule 'nothing' has no slopes; write them"):
        Nothing().slopes(one_neuron([1.0]))
