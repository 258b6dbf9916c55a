"""What the `attack` command attacks with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spikeport.attack_settings import EPS, Settings, measured, radius
from spikeport.sim.attack import Apgd
from spikeport.sim.attack.events import FlipBudget, RandomFlips, RetimingBudget
from spikeport.sim.attack.events.sda import rounds_within


def test_every_attack_is_labelled_with_its_effort() -> None:
    settings = Settings(steps=7, restarts=2, queries=9)
    labels = [
        "noise-100", "fgsm", "bim-7", "pgd-7", "pgd-7-dlr", "apgd-7", "apgd-7-dlr", "square-9",
        "rfgsm", "mi-fgsm-7", "sa-pgd-7", "apgd-t-7",
    ]  # fmt: skip
    assert list(settings.specs(10)) == labels
    assert settings.specs(10)["apgd-7-dlr"] == Apgd(steps=7, restarts=2, loss="dlr")
    # The ratio of logits needs a third class, the targeted one a fourth.
    few = [label for label in labels if "dlr" not in label and label != "apgd-t-7"]
    assert list(settings.specs(2)) == few
    assert "sparse-rs-9" in Settings(norm="l0", eps=(4,), queries=9).specs(10)


def test_apgd_can_be_asked_for_alone() -> None:
    assert list(Settings(attacks=("apgd",), steps=3).specs(2)) == ["apgd-3"]
    with pytest.raises(ValueError, match="attack is 'cw'; allowed on images are noise, fgsm, bim"):
        Settings(attacks=("cw",))


def test_an_attack_that_needs_more_classes_is_refused_by_name() -> None:
    settings = Settings(attacks=("fgsm", "apgd-t"), steps=3)
    assert list(settings.specs(4)) == ["fgsm", "apgd-t-3"]
    for classes in (2, 3):
        with pytest.raises(
            ValueError,
            match=f"^apgd-t: needs 4 classes or more; the network has {classes}, so choose another",
        ):
            settings.specs(classes)
        assert "apgd-t-3" not in Settings(steps=3).specs(classes)


def test_the_header_tells_the_effort_that_is_made() -> None:
    """`to_json` is what stands there; the labels say what runs."""
    for standard, steps, queries in ((False, 40, 500), (True, 100, 1000)):
        settings = Settings(standard=standard)
        told = settings.to_json()
        assert (told["steps"], told["restarts"], told["queries"]) == (steps, 1, queries)
        assert {f"apgd-t-{steps}", f"square-{queries}"} <= set(settings.specs(10))
        assert Settings.of(told) == settings
    more = Settings(standard=True, steps=150, queries=2000).specs(10)
    assert list(more)[-3:] == ["apgd-ce-150", "apgd-t-150", "square-2000"]


@pytest.mark.parametrize(
    ("effort", "message"),
    [
        ({"steps": 99}, "steps is 99; the standard takes 100 at least"),
        ({"queries": 999}, "queries is 999; the standard takes 1000 at least"),
        ({"restarts": 2}, "restarts is 2; the attacks of the standard begin once, so leave it"),
    ],
)
def test_the_standard_refuses_other_effort(effort: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Settings(standard=True, **effort)
    Settings(**effort)


def test_a_radius_is_a_finite_number() -> None:
    assert [radius(text) for text in ("8/255", "0.03", "3", "1e-2")] == [8 / 255, 0.03, 3.0, 0.01]
    huge = f"1{'0' * 400}"
    for text in ("x", "1/0", "1e400", f"{huge}/1", "nan", "inf", "-inf", "1/2/3", "0.5/2", ""):
        with pytest.raises(
            ValueError, match=f"^eps is {text}; write a number such as 0.03 or 8/255$"
        ):
            radius(text)


def test_trains_without_maps_are_shown_no_patterns() -> None:
    settings = Settings(norm="flips", eps=(4,), steps=7, queries=100)
    flat = ["random-flips-100", "random-flips-100-kept", "flips-7", "sda-4", "spikefool-7"]
    assert list(settings.specs(10, maps=False)) == flat
    assert list(settings.specs(10)) == [*flat, "frame", "corner", "dash"]
    with pytest.raises(
        ValueError,
        match=r"^dash: draws on maps \(C, H, W\); the input has none, so choose another attack$",
    ):
        replace(settings, attacks=("flips", "dash")).specs(10, maps=False)
    assert settings.specs(10)["random-flips-100-kept"] == RandomFlips(draws=100, keep=0.8)


def test_budgets_of_events() -> None:
    flips = Settings(norm="flips", eps=(4, 9), per_step=2)
    assert flips.budgets(3) == tuple(FlipBudget(flips=n, per_step=2, largest=3) for n in (4, 9))
    assert Settings.of(flips.to_json()) == flips
    moves = Settings(norm="moves", eps=(4,), steps=7)
    assert moves.budgets(1) == (RetimingBudget(eps=4, norm="moves"),)
    assert list(moves.specs(10)) == ["random-retiming-100", "retiming-7"]


@pytest.mark.parametrize("queries", [1, 10, 29, 30, 59, 60, 4649, 4650])
def test_rounds_of_sda_try_no_more_flips_than_asked(queries: int) -> None:
    tried = 10 * sum(range(1, rounds_within(queries) + 1))
    assert tried <= max(queries, 10)
    assert tried + 10 * (rounds_within(queries) + 1) > queries


def test_options_say_how_a_change_is_measured() -> None:
    assert measured((), None, (), ()) == {"norm": "linf", "eps": EPS}
    assert measured(("1/4", "2"), "l2", (), ()) == {"norm": "l2", "eps": (0.25, 2.0)}
    assert measured((), None, (3, 5), ()) == {"norm": "flips", "eps": (3, 5)}
    retimed = measured((), None, (), ("total_shift=1", "total_shift=12"))
    assert retimed == {"norm": "total_shift", "eps": (1, 12)}


@pytest.mark.parametrize("given", [(("1",), None, (3,), ()), ((), "l2", (), ("moves=1",)),
                                   ((), None, (3,), ("moves=1",))])  # fmt: skip
def test_two_measures_are_refused(given: tuple[Any, ...]) -> None:
    with pytest.raises(
        ValueError,
        match=r"^--eps and --norm, --flips, and --retime are three ways to measure a change; give",
    ):
        measured(*given)


@pytest.mark.parametrize(
    "texts", [("shift",), ("shift=1.5",), ("jitter=2",), ("shift=1", "moves=2")]
)
def test_bad_retimings_are_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(
        ValueError,
        match=f"^--retime is {' and '.join(texts)}; write shift=N, total_shift=N, moves=N with a"
        " whole N, and one of the names only$",
    ):
        measured((), None, (), texts)
