"""The README's block about placement."""

from __future__ import annotations

from readme_parts import load, made_by, table

LEAST = {"per cent of a limit": 0.01, "counts": 0.0}  # what a log rounds to


def placement() -> str:
    """Core counts against compile logs, and what placing costs."""
    r = load("place")
    rows = [
        [
            "compile log",
            "weight bits known from",
            "layers",
            "cores, log",
            "cores, placed",
            "layers that differ",
        ]
    ]
    for log in r["logs"]:
        least = LEAST[log["unit"]]
        differ = [
            row for row in log["layers"] if any(abs(x) > least for x in row["residual"].values())
        ]
        rows.append([
            f"{log['network']}, {log['target']}", log["bits_from"], str(len(log["layers"])),
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
