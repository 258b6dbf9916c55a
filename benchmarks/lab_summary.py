"""From the figures of single runs to the lab's result: means and spreads, comparisons, a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lab_plan import SHORT_STEPS, TARGETS
from spreads import over

from spikeport.sim.text import aligned

Run = dict[str, Any]
NETWORKS = ("float", "integer")
PAPER_ATTACKS = ("fgsm", "pgd-7")
WITHOUT = {
    "mpd_sgr": "plain", "mpd_sgr_hinge": "plain", "at_mpd_sgr": "at", "sgd_mpd_sgr": "sgd",
}  # fmt: skip
"""Recipes with MPD-SGR, and what each is without it."""


def over_runs(parts: Sequence[Any]) -> Any:
    """Nested dictionaries of numbers, one a run, as one of means and deviations; other values, and
    those that a run lacks, are left out."""
    if all(isinstance(part, dict) for part in parts):
        keys = [key for key in parts[0] if all(key in part for part in parts)]
        merged = {key: over_runs([part[key] for part in parts]) for key in keys}
        return {key: value for key, value in merged.items() if value is not None}
    if all(isinstance(p, (int, float)) and not isinstance(p, bool) for p in parts):
        return over(parts)
    return None


def results(runs: Sequence[Run]) -> dict[str, Any]:
    """set -> recipe -> steps ("T4") -> figures over the seeds."""
    found: dict[str, Any] = {}
    for run in runs:
        place = found.setdefault(run["set"], {}).setdefault(run["recipe"], {})
        place.setdefault(f"T{run['steps']}", []).append(run)
    for by_recipe in found.values():
        for by_steps in by_recipe.values():
            for steps, group in by_steps.items():
                by_steps[steps] = of_group(group)
    return found


def of_group(group: Sequence[Run]) -> dict[str, Any]:
    """The figures of runs that differ in their seeds only."""
    keys = ("test_accuracy", "training", "robust", "paper", "paper_attacks_at_eps", "seconds")
    attacked = [run["attacked_images"] for run in group if "attacked_images" in run]
    return {
        "seeds": sorted(run["seed"] for run in group),
        "test_images": group[0]["test_images"],
        "attacked_images": attacked[0] if attacked else 0,
        **{key: over_runs([run[key] for run in group]) for key in keys if key in group[0]},
        "differing_spikes_torch_chip": sum(run["differing_spikes_torch_chip"] for run in group),
        "spikes_compared": sum(run["spikes_compared"] for run in group),
    }


def gains(
    runs: Sequence[Run], figure: Callable[[Run], float], *, of: str, over_recipe: str = "plain"
) -> dict[str, float] | None:
    """How much `figure` rises from one recipe to another, over the seeds that have both."""
    one, two = (
        {run["seed"]: figure(run) for run in runs if run["recipe"] == recipe}
        for recipe in (over_recipe, of)
    )
    shared = sorted(one.keys() & two.keys())
    return over(two[seed] - one[seed] for seed in shared) if shared else None


def survival(runs: Sequence[Run]) -> dict[str, Any]:
    """How much of what MPD-SGR gains under the paper's attacks, at the set's radius, is left under
    the worst case of all ours: set -> recipe -> network; and over which recipe."""
    found: dict[str, Any] = {}
    attacked = [run for run in runs if "robust" in run]
    for name in dict.fromkeys(run["set"] for run in attacked):
        mine = [run for run in attacked if run["set"] == name]
        for recipe in dict.fromkeys(run["recipe"] for run in mine):
            if recipe in WITHOUT:
                each = {network: _surviving(mine, recipe, network) for network in NETWORKS}
                if all(each.values()):
                    found.setdefault(name, {})[recipe] = {"over": WITHOUT[recipe], **each}
    return found


def _surviving(runs: Sequence[Run], recipe: str, network: str) -> dict[str, Any] | None:
    def gain(key: str, attack: str) -> dict[str, float] | None:
        return gains(
            runs, lambda run: run[key][network][attack], of=recipe, over_recipe=WITHOUT[recipe]
        )

    paper = {attack: gain("paper_attacks_at_eps", attack) for attack in PAPER_ATTACKS}
    worst = gain("robust", "worst case")
    if worst is None:
        return None
    left = {
        attack: worst["mean"] / found["mean"] if found and found["mean"] > 0 else None
        for attack, found in paper.items()
    }
    return {
        "clean": gain("robust", "clean"),
        "at_8_255": {attack: gain("paper", attack) for attack in PAPER_ATTACKS},
        "at_eps": paper,
        "worst_case": worst,
        "share_left": left,
    }


def tested(run: Run, *, network: str) -> float:
    """Accuracy on the whole test set; the integers decide as the network trained on them does."""
    figure: float = run["test_accuracy"]["float" if network == "float" else "quantised"]
    return figure


def clean_gains(runs: Sequence[Run], recipes: Sequence[str]) -> dict[str, Any]:
    """Clean test accuracy against plain with few and usual steps: recipe -> set -> steps ->
    network -> gain, and whether the mean gain is above zero."""
    found: dict[str, Any] = {}
    for recipe in recipes:
        for name, steps in dict.fromkeys((run["set"], run["steps"]) for run in runs):
            mine = [r for r in runs if (r["set"], r["steps"]) == (name, steps)]
            for network in NETWORKS:
                gain = gains(mine, partial(tested, network=network), of=recipe)
                if gain:
                    place = found.setdefault(recipe, {}).setdefault(name, {})
                    place.setdefault(f"T{steps}", {})[network] = {
                        **gain, "better": gain["mean"] > 0,
                    }  # fmt: skip
    return found


def beats_plain(gained: dict[str, Any]) -> dict[str, Any]:
    """Per recipe and network the sets on which it beats plain at every number of steps tested."""
    return {
        recipe: {
            network: [
                name
                for name, by_steps in by_set.items()
                if len(by_steps) > 1
                and all(found[network]["better"] for found in by_steps.values())
            ]
            for network in NETWORKS
        }
        for recipe, by_set in gained.items()
    }


def paper_targets(runs: Sequence[Run]) -> dict[str, Any]:
    """CIFAR-10 runs beside the figures that the paper reports: measured on the float network."""
    found = {}
    for recipe, target in TARGETS.items():
        mine = [r for r in runs if r["set"] == "cifar10" and r["recipe"] == recipe and "paper" in r]
        if mine:
            found[recipe] = {
                "published": target,
                "measured": over_runs([r["paper"]["float"] for r in mine]),
                "model": mine[0]["model"],
                "steps": mine[0]["steps"],
            }
    return found


def compared(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything that is computed from the runs."""
    gained = clean_gains(runs, ("mp_init_trsg", "mpd_agl"))
    return {
        "results": results(runs),
        "mpd_sgr_survives": survival(runs),
        "clean_gains": gained,
        "beats_plain": beats_plain(gained),
        "paper_targets": paper_targets(runs),
    }


def described(found: dict[str, Any]) -> str:
    """The tables for people: per set one row a recipe and network, in per cent."""
    parts = []
    for name, by_recipe in found["results"].items():
        rows: list[list[str]] = []
        for recipe, by_steps in by_recipe.items():
            for steps, figures in by_steps.items():
                for network in NETWORKS:
                    robust = figures.get("robust", figures.get("paper", {})).get(network, {})
                    test = figures["test_accuracy"].get(
                        "float" if network == "float" else "quantised"
                    )
                    if robust and not rows:
                        rows.append(["recipe", "network", "seeds", "test", *robust])
                    cells = [_spread(figure) for figure in robust.values()]
                    label = recipe if steps != f"T{SHORT_STEPS}" else f"{recipe}, {steps}"
                    seeds = str(len(figures["seeds"]))
                    rows.append([label, network, seeds, _spread(test), *cells])
        width = max(map(len, rows))
        parts.append(f"{name}\n" + aligned([r + [""] * (width - len(r)) for r in rows]))
    return "\n\n".join(parts)


def _spread(figure: dict[str, float] | None) -> str:
    if figure is None:
        return ""
    return f"{100 * figure['mean']:.1f} ± {100 * figure['std']:.1f}"
