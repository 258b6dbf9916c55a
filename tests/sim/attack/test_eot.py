"""Randomly coded inputs: what is drawn, who judges, and whose mean the gradient is."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.attack import Apgd, Averaged, Budget, Noise, Pgd, PoissonCoding, SaPgd, attack
from spikeport.sim.attack.losses import margin
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense
from spikeport.sim.twin import Twin
from spikeport.train.encode import poisson


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_sample_is_coded_as_in_training() -> None:
    x = torch.rand(1, 2, 5, 7, generator=source(1))
    assert torch.equal(PoissonCoding(steps=9)(x, source(4)), poisson(x, 9, source(4)))


def test_spikes_come_with_the_probability_of_the_pixel_and_are_shared() -> None:
    x = torch.linspace(0, 1, 11).repeat(3, 1)
    spikes = PoissonCoding(steps=20_000)(x, source())
    assert spikes.shape == (20_000, 3, 11)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    # 5 standard deviations of a mean of 20 000.
    assert ((spikes.mean(0) - x).abs() <= 5 * (x * (1 - x) / 20_000).sqrt()).all()
    assert torch.equal(spikes[:, 0], spikes[:, 2])
    rising = PoissonCoding(steps=50)(torch.tensor([[0.3], [0.7]]), source())
    assert (rising[:, 0] <= rising[:, 1]).all()


def test_a_spike_passes_its_gradient_to_the_pixel() -> None:
    x = torch.full((2, 3), 0.4, requires_grad=True)
    weight = torch.randn(6, 2, 3, generator=source(2))
    (g,) = torch.autograd.grad((PoissonCoding(steps=6)(x, source()) * weight).sum(), x)
    assert torch.allclose(g, weight.sum(0))


class Curved(nn.Module):
    """Logits [B, 3] of a train, not linear in it, so that draws differ in their gradients; keeps
    the trains, and who was announced."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.randn(4, 3, generator=source(8), dtype=torch.float64)
        self.shown: list[Tensor] = []
        self.log: list[Any] = []

    def forward(self, s: Tensor) -> Tensor:
        """Of s [T, B, 4]."""
        self.shown.append(s.detach().clone())
        self.log.append("shown")
        logits: Tensor = (s.cumsum(0).square() @ self.w).sum(0).tanh()
        return logits

    def attend(self, rows: Tensor, *, samples: int, learn: bool = True) -> None:
        """Note who comes."""
        self.log.append((rows.tolist(), samples, learn))

    def forget(self) -> None:
        """Note it."""
        self.log.append("forgotten")

    def gradient(self, s: Tensor, weight: Tensor) -> Tensor:
        """Of (logits * weight).sum() with respect to the pixels, by the chain rule. [B, 4]."""
        total = s.cumsum(0)
        outer = 1 - (total.square() @ self.w).sum(0).tanh() ** 2  # [B, 3]
        inner = (weight * outer) @ self.w.T  # [B, 4], of the summed squares
        # Each spike is in all later sums.
        later: Tensor = (2 * total * inner).flip(0).cumsum(0).flip(0)
        return later.sum(0)


DRAWS, JUDGES = 4, 6
X = torch.rand(5, 4, generator=source(3), dtype=torch.float64)


def averaged(kind: Any = Averaged, seed: int = 7, **changed: Any) -> tuple[Any, Curved]:
    model = Curved()
    code = PoissonCoding(steps=5)
    fields = {"code": code, "draws": DRAWS, "judges": JUDGES, "seed": seed, **changed}
    return kind(model, **fields), model


def gradient_of(model: Any, x: Tensor, weight: Tensor) -> Tensor:
    image = x.clone().requires_grad_()
    (g,) = torch.autograd.grad((model(image) * weight).sum(), image)
    return g


def keeps_its_word(kind: Any) -> bool:
    """Whether logits are means over the judges, gradients means over other draws, new each time,
    and the model is told of who comes, to learn from the first draw alone."""
    weight = torch.randn(5, 3, generator=source(6), dtype=torch.float64)
    model, inner = averaged(kind)
    model.forget()
    judged, seen, right = None, set(), True
    for _ in range(3):
        inner.shown.clear()
        inner.log.clear()
        model.attend(torch.arange(5), samples=9)
        found = gradient_of(model, X, weight)
        judges, climbed = inner.shown[:JUDGES], inner.shown[JUDGES:]
        right &= len(climbed) == DRAWS
        expected = sum(inner.gradient(s, weight) for s in climbed) / DRAWS
        right &= bool(torch.allclose(found, torch.as_tensor(expected)))
        drawn = {s.numpy().tobytes() for s in climbed}
        right &= len(drawn) == DRAWS
        seen |= {s.numpy().tobytes() for s in judges}
        right &= not drawn & seen
        seen |= drawn
        told = [(([0, 1, 2, 3, 4], 9, draw == 0), "shown") for draw in range(DRAWS)]
        right &= inner.log == ["shown"] * JUDGES + [entry for pair in told for entry in pair]
        inner.shown.clear()
        mean = sum(inner(s) for s in judges) / JUDGES
        logits = model(X)
        right &= bool(torch.allclose(logits, torch.as_tensor(mean)))
        right &= judged is None or bool(torch.equal(logits, judged))
        judged = logits
    return right


def test_it_keeps_its_word() -> None:
    assert keeps_its_word(Averaged)


MUTANTS = {
    "the last draw overwrites the others": (
        "total += torch.autograd.grad",
        "total = torch.autograd.grad",
    ),
    "the last draw left out": ("CLIMBED, call, self.draws)", "CLIMBED, call, self.draws - 1)"),
    "sum instead of mean": ("return total / self.draws", "return total"),
    "the judges' draws are climbed": ("JUDGED, CLIMBED = 0, 1", "JUDGED, CLIMBED = 0, 0"),
    "the same draws every time": ("self._gradients + 1", "self._gradients"),
    "other judges every time": (
        "self._sources(JUDGED, 0,",
        "self._sources(JUDGED, self._gradients,",
    ),
    "learns from every draw": ("learn=draw == 0", "learn=True"),
    "never told": ("if self._rows is not None and attend is not None:", "if False:"),
    "judges are not averaged": ("for source in sources]).mean(0)", "for source in sources])[0]"),
    "one draw for all": ("[self.seed, purpose, call, draw]", "[self.seed, purpose, call, 0]"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_caught(planted: Callable[..., ModuleType], mutant: str) -> None:
    assert not keeps_its_word(planted(("sim.attack.eot",), MUTANTS[mutant]).Averaged)


def test_logits_belong_to_the_sample_and_the_seed() -> None:
    model, _ = averaged()
    together = model(X)
    assert torch.equal(model(X[2:3]), together[2:3])
    assert torch.equal(model(X.flip(0)).flip(0), together)
    image = X.clone().requires_grad_()
    assert torch.equal(model(image).detach(), together), "with gradients the verdict is the same"
    assert torch.equal(averaged(seed=7)[0](X), together)
    assert not torch.equal(averaged(seed=8)[0](X), together)


def test_forgetting_begins_the_draws_anew() -> None:
    model, inner = averaged()
    weight = torch.ones(5, 3, dtype=torch.float64)
    first, second = gradient_of(model, X, weight), gradient_of(model, X, weight)
    assert not torch.allclose(first, second)
    model.forget()
    assert inner.log[-1] == "forgotten"
    assert torch.equal(gradient_of(model, X, weight), first)


def test_a_plain_function_that_remembers_nothing_will_do() -> None:
    w = torch.randn(4, 3, generator=source(8), dtype=torch.float64)
    model = Averaged(
        lambda s: s.mean(0) @ w, code=PoissonCoding(steps=4), draws=2, judges=2, seed=0
    )
    model.forget()
    model.attend(torch.arange(5), samples=5)
    weight = torch.ones(5, 3, dtype=torch.float64)
    assert torch.allclose(gradient_of(model, X, weight), w.sum(1).expand(5, 4))


def test_the_gradient_tends_to_that_of_the_expectation() -> None:
    """For a product of two pixels' spikes in one step the expected logit is x0 x1."""
    model = Averaged(
        lambda s: torch.stack([s[0, :, 0] * s[0, :, 1], 0 * s[0, :, 0]], 1),
        code=PoissonCoding(steps=1), draws=1500, judges=1500, seed=0,
    )  # fmt: skip
    x = torch.tensor([[0.3, 0.8]])
    assert float(model(x)[0, 0]) == pytest.approx(0.24, abs=0.06)
    found = gradient_of(model, x, torch.tensor([[1.0, 0.0]]))
    assert found[0].tolist() == pytest.approx([0.8, 0.3], abs=0.06)


def spiking_net(steps: int) -> FixedNet:
    """16 rate coded pixels -> 20 -> 4 integer neurons."""
    rng = np.random.default_rng(2)
    templates = rng.choice([-1, 1], size=(4, 16))
    hidden = 16 * np.repeat(templates, 5, axis=0) + 2 * rng.integers(-2, 3, size=(20, 16))
    out = np.where(np.repeat(np.eye(4, dtype=bool), 5, axis=1), 40, -14)

    def whole(value: int) -> Any:
        return np.array(value, dtype=np.int32)

    return FixedNet(
        input=Input(shape=(16,), kind="spike"),
        populations=(
            Population(name="hidden", shape=(20,), v_th=whole(40), dv=whole(400)),
            Population(name="out", shape=(4,), v_th=whole(60), dv=whole(200), bias=whole(20)),
        ),
        projections=(
            Projection(source="input", target="hidden", synapse=Dense(w=hidden)),
            Projection(source="hidden", target="out", synapse=Dense(w=out)),
        ),
        readout=Readout(population="out"),
        steps=steps,
    )


@pytest.fixture
def coded() -> tuple[Averaged, Tensor, Tensor]:
    """A rate coded spiking network with images that it gets right."""
    twin = Twin(spiking_net(8))
    model = Averaged(twin, code=PoissonCoding(steps=8), draws=3, judges=5, seed=1)
    x = torch.randint(0, 256, (60, 16), generator=source(5)) / 255
    y = model(x).argmax(1)
    sure = (margin(model(x), y) > 0).nonzero().squeeze(1)[:16]
    assert len(sure) == 16
    return model, x[sure], y[sure]


EPS = Budget(eps=40 / 255)


@pytest.mark.parametrize("spec", [Pgd(steps=4, restarts=2), SaPgd(steps=4), Noise(draws=4)])
def test_attacks_on_it_repeat_and_do_not_mind_the_order(coded: Any, spec: Any) -> None:
    model, x, y = coded
    one, again = (attack(model, x, y, spec, budget=EPS, seed=0) for _ in range(2))
    assert torch.equal(one.x_adv, again.x_adv)
    order = torch.randperm(16, generator=source())
    for batch in (256, 5):
        other = attack(model, x[order], y[order], spec, budget=EPS, seed=0, batch=batch)
        assert torch.equal(other.x_adv, one.x_adv[order])
    assert torch.allclose(margin(model(one.x_adv), y), one.margin)
    assert one.fooled.any()


def test_its_gradients_beat_noise(coded: Any) -> None:
    model, x, y = coded
    noise = attack(model, x, y, Noise(draws=30), budget=EPS, seed=0)
    apgd = attack(model, x, y, Apgd(steps=10), budget=EPS, seed=0)
    assert apgd.robust_accuracy <= noise.robust_accuracy - 0.1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"draws": 0}, "^eot: draws is 0; allowed are 1"),
        ({"judges": 0}, "^eot: judges is 0; allowed are 1"),
        ({"seed": -1}, "^eot: seed is -1; allowed are 0"),
    ],
)
def test_bad_settings_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        averaged(**changed)


def test_no_steps_and_no_gradient_are_refused(coded: Any) -> None:
    with pytest.raises(ValueError, match=r"^poisson coding: steps is 0; allowed are 1"):
        PoissonCoding(steps=0)
    model = Averaged(
        lambda s: s.detach().mean(0)[:, :4], code=PoissonCoding(steps=2), draws=1, judges=1, seed=0
    )
    with pytest.raises(
        ValueError, match=r"^eot: the model passes no gradient to its input; use 'n"
    ):
        attack(model, coded[1], model(coded[1]).argmax(1), Pgd(), budget=EPS, seed=0)
