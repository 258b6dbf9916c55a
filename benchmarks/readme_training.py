"""The README's blocks about training, from the JSON of `lab`, `flips`, `thresholds` and `fused`."""

from __future__ import annotations

from typing import Any

from readme_parts import load, made_by, table
from spreads import points, spread

NETWORKS = ("float", "integer")
WORST = "worst case"


def lab() -> str:
    """Every recipe that was attacked, per data set: test accuracy, attacks and the worst case."""
    r = load("lab")
    parts = []
    for name, by_recipe in r["results"].items():
        rows: list[list[str]] = []
        for recipe, by_steps in by_recipe.items():
            for found in by_steps.values():
                if "robust" in found:
                    rows += _attacked(rows, recipe, found, r)
        eps = round(255 * r["settings"]["sets"][name]["eps"])
        config = r["settings"]["sets"][name]["config"]
        parts += [
            f"**{name}**, {config['model']['name']}, T = {config['encode']['steps']}, eps"
            f" {eps}/255:",
            table(rows),
        ]
    return "\n\n".join([*parts, _about_lab(r), made_by(r)])


def _attacked(
    rows: list[list[str]], recipe: str, found: dict[str, Any], r: dict[str, Any]
) -> list[list[str]]:
    attacks = [k for k in found["robust"]["integer"] if k not in ("own worst", WORST)]
    new = [] if rows else [["recipe", "seeds", "network", "test", *attacks, f"**{WORST}**"]]
    for network in NETWORKS:
        robust = found["robust"][network]
        test = found["test_accuracy"]["float" if network == "float" else "quantised"]
        cells = [spread(robust[k]) for k in attacks]
        worst = f"**{spread(robust[WORST])}**"
        first = [recipe, str(len(found["seeds"]))] if network == "float" else ["", ""]
        new.append([*first, network, spread(test), *cells, worst])
    return new


def _about_lab(r: dict[str, Any]) -> str:
    groups = [g for recipes in r["results"].values() for s in recipes.values() for g in s.values()]
    compared = sum(g["spikes_compared"] for g in groups)
    differing = sum(g["differing_spikes_torch_chip"] for g in groups)
    settings = r["settings"]
    return (
        "Per cent, mean and standard deviation over the seeds. Test: the whole test set. Clean and"
        f" attacks: {settings['attacked_images']} fixed test images. Gradient attacks through"
        f" {' and '.join(settings['surrogates'])}; worst case per sample, over attacks and over"
        f" images found on the other network. {r['finished']} of {r['wanted']} runs are in."
        " Networks trained on integers against the chip's:"
        f" {differing} of {compared:,} spikes differ."
    )


def survives() -> str:
    """What MPD-SGR gains under the paper's attacks, and what the worst case leaves."""
    r = load("lab")
    rows = [["set", "recipe", "network", "clean", "FGSM", "PGD-7", WORST, "share left of PGD-7"]]
    for name, recipes in r["mpd_sgr_survives"].items():
        for recipe, networks in recipes.items():
            for network in NETWORKS:
                found = networks[network]
                left = found["share_left"]["pgd-7"]
                paper = found["at_eps"]
                gained = (found["clean"], paper["fgsm"], paper["pgd-7"], found["worst_case"])
                rows.append([
                    name, f"{recipe} over {networks['over']}", network, *map(points, gained),
                    "no gain" if left is None else f"{max(left, 0):.2f}",
                ])  # fmt: skip
    about = (
        "Points gained, mean and standard deviation over the seeds that both have (one"
        " seed where there is no deviation). FGSM"
        " and PGD-7 as that paper attacks (training surrogate only), at the set's eps."
    )
    return "\n\n".join([table(rows), about])


def gains() -> str:
    """Clean accuracy of MP-Init + TrSG and MPD-AGL over plain, at few and more steps."""
    r = load("lab")
    rows = [["recipe", "set", "T", *NETWORKS]]
    for recipe, sets in r["clean_gains"].items():
        for name, by_steps in sets.items():
            for steps, found in by_steps.items():
                each = [points(found[network]) for network in NETWORKS]
                rows.append([recipe, name, steps.removeprefix("T"), *each])
    told = "; ".join(
        f"{recipe} beats plain at every T on {', '.join(found['float']) or 'no set'} (float) and"
        f" {', '.join(found['integer']) or 'no set'} (integer)"
        for recipe, found in r["beats_plain"].items()
    )
    about = f"Points of test accuracy over plain, whole test set, mean over the seeds: {told}."
    return "\n\n".join([table(rows), about])


def flips() -> str:
    """Spikes that rounding flips, with and without MPD-SGR."""
    r = load("flips")
    bits = list(map(str, r["settings"]["bits"]))
    rows = [["set", "recipe", "occupancy", "density at the threshold",
             *(f"flipped, {b} bits" for b in bits)]]  # fmt: skip
    for name, found in r["summary"].items():
        for recipe, f in found["recipes"].items():
            rows.append([
                name, recipe, _mean(f["occupancy"]), _mean(f["density"]),
                *(_mean(f["flips"][b], digits=2) for b in bits),
            ])  # fmt: skip
    return "\n\n".join([table(rows), "Per cent, means over layers and seeds. " + " ".join(
        f"{s[0].upper()}{s[1:]}" for s in r["sentences"]), made_by(r)])  # fmt: skip


def thresholds() -> str:
    """Learned scales against fixed ones."""
    r = load("thresholds")
    variants = ["rounded, calibrated", *r["variants"]]
    rows = [["set", "bits", "float", *variants]]
    for name, found in r["summary"].items():
        for bits in (k for k in found if k != "float"):
            rows.append([
                name, bits, spread(found["float"]),
                *(_judged(found[bits][v], v == r["baseline"]) for v in variants),
            ])  # fmt: skip
    about = (
        "Test accuracy in per cent, mean and standard deviation over"
        f" {len(r['seeds'])} seeds. + or -: better or worse than {r['baseline']} for every seed and"
        " by more than the spread; others tie."
    )
    return "\n\n".join([table(rows), about, made_by(r)])


def fused() -> str:
    """Seconds of a training step against snnTorch's loops."""
    r = load("fused")
    kinds = ("float32", "float64")
    rows = [["training step, one thread", "loop / fused", "stepped / fused",
             *(f"gradients apart, {kind}" for kind in kinds)]]  # fmt: skip
    for key, title in (("without_norm", "without batch norm"), ("with_norm", "with batch norm")):
        f = r[key]
        ratios = [f"{f['ratios'][k]:.1f}" for k in ("loop", "stepped")]
        apart = [f"{max(f['gradient_difference'][kind].values()):.0e}" for kind in kinds]
        rows.append([title, *ratios, *apart])
    about = (
        f"MNIST conv net, T = {r['steps']}, B = {r['batch']}. loop: every layer and snnTorch's"
        " Leaky called once per step. stepped: only Leaky is. Differences as a share of the"
        " largest entry; with batch norm, whose sums are added in another order, a few spikes in"
        " millions fall the other way in float32."
    )
    return "\n\n".join([table(rows), about, made_by(r)])


def _judged(found: dict[str, Any], baseline: bool) -> str:
    mark = {"better": " +", "worse": " -", "tie": ""}["tie" if baseline else found["verdict"]]
    return spread(found["accuracy"]) + mark


def _mean(by_layer: dict[str, dict[str, float]], *, digits: int = 1) -> str:
    values = [figure["mean"] for figure in by_layer.values()]
    return f"{100 * sum(values) / len(values):.{digits}f}"
