"""Several attacks on several models: the arithmetic of the figures, and what is recorded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeport.sim.attack import Bim, Budget, Evaluation, Fgsm, Noise, Pgd, Square, attack, evaluate
from spikeport.sim.attack.losses import margin
from spikeport.sim.attack.search import Aimed, Search, joined
from spikeport.sim.attack.spec import Attack
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.twin import Twin

SPECS: dict[str, Any] = {
    "noise": Noise(draws=9),
    "pgd-ce": Pgd(steps=6),
    "pgd-dlr": Pgd(steps=6, loss="dlr", restarts=2),
    "square": Square(queries=40),
}
BUDGET = Budget(eps=20 / 255)


@pytest.fixture
def models(twin: Any, twin_with: Callable[[Surrogate], Twin]) -> dict[str, nn.Module]:
    return {"wide": twin.model, "narrow": twin_with(Surrogate("triangle", 1.0))}


@pytest.fixture
def evaluation(twin: Any, models: Any) -> Evaluation:
    y = twin.y.clone()
    y[0] = 3  # one sample that no model gets right
    return evaluate(models, twin.x, y, specs=SPECS, budget=BUDGET, seed=4, batch=7)


def test_figures_are_those_of_the_single_attacks(
    twin: Any, models: Any, evaluation: Evaluation
) -> None:
    y = twin.y.clone()
    y[0] = 3
    for name, model in models.items():
        figures = evaluation.models[name]
        results = {
            label: attack(model, twin.x, y, spec, budget=BUDGET, seed=4)
            for label, spec in SPECS.items()
        }
        fooled = torch.stack([r.fooled for r in results.values()]).any(0)
        right = margin(model(twin.x), y) > 0
        assert figures.right == tuple(right.tolist())
        assert figures.fooled == tuple(fooled.tolist())
        assert figures.clean_accuracy == pytest.approx(float(right.float().mean()))
        assert figures.clean_accuracy < 1
        assert figures.own_accuracy == pytest.approx(float((~fooled).float().mean()))
        assert figures.success_rate == pytest.approx(float(fooled[right].float().mean()))
        for label, r in results.items():
            row = figures.attacks[label]
            assert row.robust_accuracy == r.robust_accuracy >= figures.own_accuracy
            assert row.success_rate == pytest.approx(float(r.fooled[right].float().mean()))
            assert row.queries_mean == pytest.approx(float(r.queries.float().mean()))
        least = torch.stack([r.margin for r in results.values()]).amin(0)
        assert torch.equal(margin(model(evaluation.images[name]), y), least)


def test_transfer_between_equal_decisions_follows_completely(evaluation: Evaluation) -> None:
    # Both twins run the same integers, so what fools one fools the other.
    pairs = {(t.source, t.target): t for t in evaluation.transfers}
    assert set(pairs) == {("wide", "narrow"), ("narrow", "wide")}
    wide, narrow = evaluation.models["wide"], evaluation.models["narrow"]
    forth = pairs["wide", "narrow"]
    assert forth.disagreement == 0
    assert forth.followed == 1
    lost = [f and r for f, r in zip(wide.fooled, wide.right, strict=True)]
    assert forth.candidates == sum(lost) < sum(wide.fooled)
    assert forth.robust_accuracy == wide.own_accuracy
    assert forth.gap == pytest.approx(wide.own_accuracy - narrow.own_accuracy)
    union = [a or b for a, b in zip(wide.fooled, narrow.fooled, strict=True)]
    assert wide.worst_accuracy == narrow.worst_accuracy == pytest.approx(1 - sum(union) / 24)


class Shifted(nn.Module):
    """A model that sees a darker image, and so decides differently at times."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the inner model on 0.6 x."""
        logits: Tensor = self.inner(0.6 * x)
        return logits


def test_transfer_between_different_models(linear: Any) -> None:
    models = {"a": linear.model, "b": Shifted(linear.model)}
    budget = Budget(eps=50 / 255)
    found = evaluate(models, linear.x, linear.y, specs={"bim": Bim(steps=8)}, budget=budget, seed=0)
    forth = next(t for t in found.transfers if t.source == "a")
    with torch.no_grad():
        on_a, on_b = (m(found.images["a"]) for m in models.values())
        right = models["b"](linear.x).argmax(1) == linear.y
    holds = (on_b.argmax(1) == linear.y) & right
    assert forth.robust_accuracy == pytest.approx(float(holds.float().mean()))
    assert forth.disagreement == pytest.approx(
        float((on_a.argmax(1) != on_b.argmax(1)).float().mean())
    )
    lost_on_a = (margin(on_a, linear.y) <= 0) & right
    assert forth.candidates == int(lost_on_a.sum()) > 0
    assert forth.followed == pytest.approx(float((~holds)[lost_on_a].float().mean()))


def test_json_holds_every_number_of_the_settings(evaluation: Evaluation) -> None:
    data = json.loads(evaluation.to_json())
    assert data["samples"] == 24
    assert data["seed"] == 4
    assert data["budget"] == {
        "eps": 20 / 255, "norm": "linf", "levels": 255, "radius": 20 / 255
    }  # fmt: skip
    assert data["policy"]["ties"] == "misclassified"
    assert "images" not in data
    wide = data["models"]["wide"]
    assert wide["settings"]["views"][0]["surrogate"] == {"name": "atan", "width": 1.0}
    assert wide["settings"]["views"][0]["steps"] == 12
    assert wide["settings"]["views"][0]["detach_reset"] is True
    assert wide["settings"]["views"][0]["mode"] == "eval"
    assert wide["attacks"]["pgd-dlr"]["settings"] == {
        "attack": "pgd", "steps": 6, "step_size": 2.5 * 20 / 255 / 6, "restarts": 2, "loss": "dlr"
    }  # fmt: skip
    assert wide["settings"]["views"][0]["integers_per_logit"] == 1
    assert "seconds" not in wide["attacks"]["square"]  # the same in every run
    assert evaluation.seconds["wide"]["square"] > 0


def test_progress_notes_and_nothing_right(linear: Any) -> None:
    seen: list[tuple[str, int, int]] = []
    found = evaluate(
        {"m": linear.model},
        linear.x,
        (linear.y + 1) % 4,
        specs={"n": Noise(draws=2), "b": Bim(steps=2)},
        budget=BUDGET,
        seed=0,
        notes={"m": {"encoder": "direct", "mode": "eval, running statistics"}},
        progress=lambda *step: seen.append(step),
    )
    assert seen == [("n on m", 0, 2), ("b on m", 1, 2), ("transfer", 2, 2)]
    figures = found.models["m"]
    assert [view["encoder"] for view in figures.settings["views"]] == ["direct"]
    assert [view["mode"] for view in figures.settings["views"]] == ["eval, running statistics"]
    assert figures.success_rate is None
    assert figures.clean_accuracy == figures.worst_accuracy == 0
    assert json.loads(found.to_json())["models"]["m"]["success_rate"] is None
    assert found.transfers == ()


class Reversed(torch.autograd.Function):
    """The same values, the wrong gradient: a view that an attacker gains nothing from."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return -grads[0]


def test_the_worst_view_of_a_network_counts(linear: Any) -> None:
    def misled(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = linear.model(Reversed.apply(x))
        return result

    specs: dict[str, Attack] = {"fgsm": Fgsm(), "noise": Noise(draws=3)}
    found = evaluate(
        {"good": linear.model, "misled": misled, "both": (misled, linear.model)},
        linear.x, linear.y, specs=specs, budget=BUDGET, seed=0,
    )  # fmt: skip
    good, bad, both = (found.models[name] for name in ("good", "misled", "both"))
    assert both.attacks["fgsm"].robust_accuracy == good.attacks["fgsm"].robust_accuracy
    assert both.attacks["fgsm"].robust_accuracy < bad.attacks["fgsm"].robust_accuracy
    assert len(both.settings["views"]) == 2
    # Noise takes no gradient, so the second view is not asked again.
    assert both.attacks["noise"].queries_mean == good.attacks["noise"].queries_mean
    # The misled network's worst images are those found on the others: same logits, same harm.
    assert torch.equal(
        linear.model(found.worst_images["misled"]).argmax(1),
        linear.model(found.worst_images["good"]).argmax(1),
    )
    assert bad.worst_accuracy == good.worst_accuracy < bad.own_accuracy


def test_an_evaluation_is_frozen(evaluation: Evaluation) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        evaluation.seed = 5  # type: ignore[misc]


def test_bad_arguments_are_refused(linear: Any) -> None:
    with pytest.raises(ValueError, match=r"^evaluate: models and specs must each name at least"):
        evaluate({}, linear.x, linear.y, specs=SPECS, budget=BUDGET, seed=0)
    with pytest.raises(ValueError, match=r"^evaluate: notes name \['z'\], which are not among"):
        evaluate(
            {"m": linear.model}, linear.x, linear.y,
            specs=SPECS, budget=BUDGET, seed=0, notes={"z": {}},
        )  # fmt: skip


def test_quantiles_of_margins(linear: Any) -> None:
    found = evaluate(
        {"m": linear.model}, linear.x, linear.y, specs={"f": Fgsm()}, budget=BUDGET, seed=0
    )
    clean = margin(linear.model(linear.x), linear.y).detach()
    figures = found.models["m"].margins
    assert figures["clean"][0] == pytest.approx(float(clean.min()))
    assert figures["clean"][-1] == pytest.approx(float(clean.max()))
    assert figures["worst"][3] < figures["clean"][3]


def test_a_cascade_finds_the_same_worst_case_with_fewer_queries(twin: Any, models: Any) -> None:
    full, cascade = (
        evaluate(models, twin.x, twin.y, specs=SPECS, budget=BUDGET, seed=4, cascade=flag)
        for flag in (False, True)
    )
    for name in models:
        one, other = full.models[name], cascade.models[name]
        assert one.fooled == other.fooled
        assert one.own_accuracy == other.own_accuracy
        left = [row.robust_accuracy for row in other.attacks.values()]
        assert left == sorted(left, reverse=True)
        assert left[-1] == other.own_accuracy
        assert other.attacks["square"].queries_mean < one.attacks["square"].queries_mean
    assert "attacks" in json.loads(cascade.to_json())["policy"]


def test_attacks_can_be_aimed_at_views(linear: Any) -> None:
    def misled(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = linear.model(Reversed.apply(x))
        return result

    both = {"misled": misled, "good": linear.model}
    specs = {
        "f": Aimed(attack=Fgsm(), views=("misled",)), "g": Aimed(attack=Fgsm(), views=("good",)),
    }  # fmt: skip
    found = evaluate({"m": both}, linear.x, linear.y, specs=specs, budget=BUDGET, seed=0)
    figures = found.models["m"].attacks
    assert figures["g"].robust_accuracy < figures["f"].robust_accuracy
    assert figures["g"].settings["views"] == ["good"]
    with pytest.raises(ValueError, match=r"^evaluate: an attack aims at views \['x'\]; there"):
        evaluate(
            {"m": both}, linear.x, linear.y, specs={"f": Aimed(attack=Fgsm(), views=("x",))},
            budget=BUDGET, seed=0,
        )  # fmt: skip


def test_shares_join_to_the_whole(twin: Any, models: Any) -> None:
    search = Search(
        models={name: {"only": m} for name, m in models.items()}, specs=SPECS, budget=BUDGET,
        seed=4, cascade=True,
    )  # fmt: skip
    whole = search.run(twin.x, twin.y)
    parts = joined([search.run(twin.x[i : i + 9], twin.y[i : i + 9]) for i in (0, 9, 18)])
    assert set(whole) == set(parts)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_what_was_lost_at_a_smaller_radius_is_lost_at_a_larger_one(twin: Any, models: Any) -> None:
    search = Search(
        models={"m": {"only": models["wide"]}}, specs={"p": Pgd(steps=4)}, budget=Budget(eps=0.1),
        seed=4, cascade=True,
    )  # fmt: skip
    small = search.run(twin.x, twin.y)
    search.specs, search.budget = {"noise": Noise(draws=1)}, Budget(eps=0.2)
    large = search.run(twin.x, twin.y, earlier=small)
    lost = small["m/worst/margin"] <= 0
    assert 0 < lost.sum() < len(lost)
    assert torch.equal(large["m/worst/images"][lost], small["m/worst/images"][lost])
    assert (large["m/worst/margin"] <= small["m/worst/margin"]).all()
    assert (large["m/noise/queries"] == 0).equal(lost)
