"""What an attack found, for people."""

from __future__ import annotations

from typing import Any

from spikeport import tables
from spikeport.attack_settings import Settings
from spikeport.attack_shares import INTEGER
from spikeport.sim.attack.evaluate import MIDDLE
from spikeport.sim.attack.events import RETIMINGS
from spikeport.sim.text import aligned

PUBLISHED = {
    "images": "a figure to be published needs --standard",
    "trains": "trains have no --standard: publish a figure with the attacks and efforts above",
}


def describe_attack(result: dict[str, Any]) -> str:
    """For each radius a table, one row a network, one column an attack, the worst case last; then
    the checks that failed, and what is missing for a figure to be published."""
    settings = Settings.of(result["header"]["settings"])
    lines = [part for radius in result["radii"] for part in _radius(radius, settings.victims)]
    if settings.checks and result["checks"] is None:
        lines.append(f"no gradient-masking checks: they are made for linf, not {settings.norm}")
    for check in result["checks"] or []:
        if not check["passed"]:
            lines.append(
                f"warning, {check['name']}: {check['sentence']}; likely cause: {check['cause']}"
            )
    if not settings.standard:
        lines.append(PUBLISHED[settings.victims])
    if "differing" in result:
        parts = ", ".join(result["differing"])
        lines.append(f"made again: {f'{parts} differ' if parts else 'the same, bit for bit'}")
    return "\n".join(lines)


def _radius(radius: dict[str, Any], victims: str) -> list[str]:
    evaluation, replayed = radius["evaluation"], radius["replay"]
    labels = list(next(iter(evaluation["models"].values()))["attacks"])
    rows = [["network", "clean", *labels, "worst case"]]
    for name, model in evaluation["models"].items():
        rows.append([
            name, tables.percent(model["clean_accuracy"]),
            *(tables.percent(model["attacks"][label]["robust_accuracy"]) for label in labels),
            tables.percent(model["worst_accuracy"]),
        ])  # fmt: skip
    clean, worst = (tables.percent(replayed[k]) for k in ("clean_accuracy", "worst_accuracy"))
    rows.append([f"Lava ({replayed['backend']})", clean, *[""] * len(labels), worst])
    lines = [
        f"accuracy on {evaluation['samples']} {victims}, {describe_budget(evaluation['budget'])};"
        " worst case over all attacks and transfers",
        aligned(rows),
        describe_replay(replayed, victims),
    ]
    lines += [_transfer(t, victims) for t in evaluation["transfers"] if t["target"] == INTEGER]
    lines += [
        f"{pair}: {f['differing']:,} of {f['spikes']:,} spikes differ,"
        f" {f['decided_otherwise']} decided otherwise"
        for pair, f in radius["fidelity"].items()
    ]
    if "changes" in radius:
        each = ", ".join(f"{mean:.2f} {how}" for how, mean in radius["changes"].items())
        lines.append(f"the worst trains of {INTEGER} have, in the mean, {each} events")
    return [*lines, _margins(evaluation["models"][INTEGER])]


def describe_budget(budget: dict[str, Any]) -> str:
    """The radius in words."""
    norm = budget["norm"]
    if norm == "linf":
        levels = round(budget["radius"] * budget["levels"])
        return f"eps = {budget['eps']:.4f} ({levels} grey levels)"
    if norm == "flips":
        limit = f", {budget['per_step']} a step" if budget["per_step"] else ""
        return f"flips = {budget['flips']}{limit}"
    if norm in RETIMINGS:
        return f"{norm} = {budget['eps']}"
    return f"eps = {budget['eps']:g} {'pixels' if norm == 'l0' else 'in l2'}"


def _transfer(found: dict[str, Any], victims: str) -> str:
    return (
        f"{victims} found on {found['source']} leave {found['target']}"
        f" {tables.percent(found['robust_accuracy'])}: {100 * found['gap']:+.1f} points against"
        " attacking it directly"
    )


def _margins(model: dict[str, Any]) -> str:
    unit = model["settings"]["views"][0]["integers_per_logit"]
    clean, worst = (round(unit * model["margins"][k][MIDDLE]) for k in ("clean", "worst"))
    return f"median margin of {INTEGER}: {clean:,} LSB clean, {worst:,} under attack"


def describe_replay(replayed: dict[str, Any], victims: str = "images") -> str:
    """What the replay on Lava came to, as a line."""
    if replayed["reason"]:
        return f"not replayed on Lava: {replayed['reason']}"
    return (
        f"replayed on {replayed['backend']}: {replayed['images']} {victims},"
        f" {replayed['disagreeing']} decided otherwise, {replayed['differing']:,} of"
        f" {replayed['spikes']:,} spikes differ"
    )
