"""The README's blocks about placement and cost."""

from __future__ import annotations

from readme_parts import load, made_by, percent, table


def placement() -> str:
    """Core counts against compile logs, and what placing costs."""
    r = load("place")
    rows = [
        [
            "compile log",
            "rule",
            "weight bits known from",
            "layers",
            "cores, log",
            "cores, placed",
            "layers that differ",
        ]
    ]
    for log in r["logs"]:
        differ = [row for row in log["layers"] if any(row["residual"].values())]
        rows.append([
            f"{log['network']}, {log['target']}", "fitted" if log["fitted"] else "held out",
            log["bits_from"], str(len(log["layers"])),
            str(log["cores_logged"]), str(log["cores_placed"]), str(len(differ)),
        ])  # fmt: skip
    sizes = [f"{n:,}" for n in r["synapses"]]
    costs = [["seconds to place, by synapses", *sizes, "exponent"]]
    for t in r["times"]:
        seconds = [f"{s:.4f}" for s in t["seconds"]]
        name = f"{t['kind']}, {t['way']}, {t['target']}"
        costs.append([name, *seconds, f"{t['exponent']:.2f}"])
    about = (
        "Cores, neurons, axons and synapse words of every layer are compared; the exponent is that"
        " of the last decade."
    )
    return "\n\n".join([table(rows), table(costs), about, made_by(r)])


def cost() -> str:
    """Energy and time between published sets of constants."""
    r = load("cost")
    titles = ["cores", "spike rate", "synaptic operations", "uJ a sample", "us a sample"]
    rows = [["network, chip", *titles, "at least, us", "uJ, input never silent"]]
    for row in r["rows"]:
        usual, loud = row["usual"], row["never_silent"]
        bound = "" if usual["bound"] is None else f"{1e6 * usual['bound']:,.1f}"
        rows.append([
            f"{row['network']}, {row['target']}", str(row["cores"]), percent(usual["rate"]),
            f"{usual['synapses']:,.0f}", _between(usual["joules"]), _between(usual["seconds"]),
            bound, _between(loud["joules"]),
        ])  # fmt: skip
    labels = dict.fromkeys(
        label for row in r["rows"] if row["target"] == "loihi1" for label in row["usual"]["labels"]
    )
    about = (
        f"Random weights, {r['steps']} steps, {percent(r['input_rate'])} of the inputs spike in a"
        f" step; dynamic energy only. Bands lie between {'; and '.join(labels)}; for loihi2 both"
        f" are a proxy. At least: max-affine model, constants {r['bound']}."
    )
    return "\n\n".join([table(rows), about, made_by(r)])


def _between(ends: list[float]) -> str:
    """A band in millionths."""
    return " to ".join(f"{1e6 * end:,.1f}" for end in ends)
