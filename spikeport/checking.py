"""The `check` command: whether a chip holds a network, and which core would hold what."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikeport import fitting, handover
from spikeport.hw import rules_place
from spikeport.hw.place import DoesNotFitError, Placement, place
from spikeport.hw.target import Target
from spikeport.hw.target import target as target_of
from spikeport.sim import bundle as bundles
from spikeport.sim.net import FixedNet
from spikeport.sim.net_file import read_net
from spikeport.sim.text import aligned


def check(source: Path, *, target: str, fewest: bool = False) -> dict[str, Any]:
    """Every broken rule of the network in `source`, a bundle or its net.h5, on `target`, and its
    placement; a JSON summary. "placement" is None where not even one neuron fits.

    Where `target` is one of `handover.READERS`, what that reader makes of a NIR file instead.
    Raises ValueError in one sentence for what cannot be read.
    """
    if target in handover.READERS:
        if fewest:
            raise ValueError(f"--fewest places a network on cores, target {target} does not")
        return handover.check(source, target=target)
    return checked(_net(source), target_of(target), fewest=fewest)


def checked(net: FixedNet, goal: Target, *, fewest: bool) -> dict[str, Any]:
    """`check` of `net` on `goal`."""
    issues = fitting.issues(net, goal.whole)
    placement = None
    try:
        placement = place(net, goal, way="fewest" if fewest else "compiled")
    except DoesNotFitError as refusal:
        issues += refusal.issues
    else:
        issues += rules_place.cores(len(placement.cores), goal)
    return {
        "passed": all(issue.severity != "error" for issue in issues),
        "target": goal.name,
        "digest": net.digest(),
        "issues": [{**asdict(issue), "text": str(issue)} for issue in issues],
        "placement": placement and _placement(placement),
    }


def _net(source: Path) -> FixedNet:
    if source.suffix == ".nir" and not source.is_dir():
        raise ValueError(
            f"{source}: a NIR file is checked for {', '.join(handover.READERS)}; for a chip of"
            " Loihi's kind export it and check the bundle"
        )
    return read_net(source) if source.suffix == ".h5" else bundles.read(source).net


def _placement(placement: Placement) -> dict[str, Any]:
    """A placement as JSON: cores by the populations that they hold, and the table."""
    return {
        "cores": len(placement.cores),
        "of": placement.target.cores,
        "busiest": placement.busiest,
        "limits": placement.target.limits._asdict(),
        "layers": [
            {
                "populations": list(row["populations"]),
                "most": row["most"]._asdict(),
                "cores": row["cores"],
            }
            for row in placement.rows()
        ],
        "rows": placement.table(),
    }


def describe_check(result: dict[str, Any]) -> str:
    """The summary for people."""
    if "reader" in result:
        return handover.describe(result)
    lines = [f"{issue['severity']}: {issue['text']}" for issue in result["issues"]]
    if result["placement"]:
        lines.append(aligned(result["placement"]["rows"]))
    verdict = "fits" if result["passed"] else "does not fit"
    return "\n".join([*lines, f"the network {verdict} {result['target']}"])
