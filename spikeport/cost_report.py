"""What `spikeport cost` found, for people: figures of all runs side by side, then run by run."""

from __future__ import annotations

from typing import Any

from spikeport.sim.text import aligned

TITLES = {
    "updates": "neuron updates", "active": "  of active neurons", "spikes": "spikes",
    "synapses": "synaptic operations", "effective": "  of weights that are not 0",
    "words": "words of synapse memory read", "sent": "messages between cores",
    "hops": "hops from tile to tile", "left": "messages to other chips",
}  # fmt: skip


def figures(run: dict[str, Any]) -> dict[str, tuple[str, float]]:
    """The means of a sample of one run, each with its title, by names such as "synapses",
    "joules:SANA-FE", "joules:SANA-FE:hops" and "bound:scaled"; every run of a result has the same.
    """
    found = {key: (title, run["operations"][key]) for key, title in TITLES.items()}
    for e in run["estimates"]:
        name = e["name"]
        found[f"joules:{name}"] = f"joules, {name}", e["joules"]
        for part, joules in e["parts"].items():
            found[f"joules:{name}:{part}"] = f"  {part}, {name}", joules
        found[f"seconds:{name}"] = f"seconds, {name}", e["seconds"]
    if bound := run["bound"]:
        name = bound["constants"]
        found[f"bound:{name}"] = f"seconds at least, {name}", bound["seconds"]
    return found


def cost_table(result: dict[str, Any]) -> list[list[str]]:
    """The figures of all runs as rows, each other run followed by its change."""
    runs, changes = result["runs"], result["changes"]
    rows = [["mean of a sample"], ["samples"]]
    named = {name: figures(run) for name, run in runs.items()}
    usual = next(iter(named.values()))
    rows += [[title] for title, _ in usual.values()]
    for name, run in runs.items():
        rows[0].append(name)
        rows[1].append(str(run["samples"]))
        for row, (key, (_, number)) in zip(rows[2:], named[name].items(), strict=True):
            row.append(f"{number:,.1f}" if key in TITLES else f"{number:.3g}")
        if name in changes:
            against = run["against"]
            rows[0].append("change" if against == next(iter(runs)) else f"change from {against}")
            rows[1].append("")
            for row, key in zip(rows[2:], usual, strict=True):
                change = changes[name][key]
                row.append("from 0" if change is None else f"{change:+.1%}")
    return rows


def layer_table(layers: list[dict[str, Any]]) -> list[list[str]]:
    """What every layer does and takes a sample, as rows for people."""
    rows = [["layer", "cores", "neurons", "spikes", "synaptic operations", "messages", "joules"]]
    for row in layers:
        low, high = row["joules"]
        rows.append([
            " + ".join(row["populations"]), str(row["cores"]), f"{row['neurons']:,}",
            *(f"{row[key]:,.1f}" for key in ("spikes", "synapses", "sent")),
            f"{low:.3g} to {high:.3g}",
        ])  # fmt: skip
    return rows


def describe_cost(result: dict[str, Any]) -> str:
    """The summary for people."""
    lines = list(result["issues"])
    lines.append(f"{result['cores']} of {result['of']} cores of {result['target']}")
    lines += ["", aligned(cost_table(result))]
    for name, run in result["runs"].items():
        (low, high), (soon, late) = run["joules"], run["seconds"]
        lines += [
            "",
            f"{name}: {run['shown']}, {run['samples']} samples of {run['chip_steps']} chip steps",
            aligned(layer_table(run["layers"])),
            f"between {low:.3g} and {high:.3g} J, {soon:.3g} and {late:.3g} s a sample",
        ]
    lines += ["", *labels(next(iter(result["runs"].values())))]
    lines += [f"wrote {path}" for path in result["pictures"]]
    return "\n".join(lines)


def labels(run: dict[str, Any]) -> list[str]:
    """What the constants of a run stand for, a line a set, and what the bound leaves out."""
    lines = ["energy is dynamic only; constants:", *(f"  {e['label']}" for e in run["estimates"])]
    if run["bound"]:
        missing = ", ".join(run["bound"]["missing"]) or "nothing"
        lines.append(f"at least: max-affine model, {run['bound']['label']}; not known: {missing}")
    return lines
