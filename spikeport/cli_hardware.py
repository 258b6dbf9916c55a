"""The commands that ask what a network takes of a chip: `check`, `cost` and `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spikeport.console import AsJson, BundlePath, leave, sentences, show

Goal = Annotated[
    str, typer.Option("--target", help="Chip, board, or a .toml file of your own chip.")
]
Fewest = Annotated[
    bool, typer.Option(help="Place on the fewest cores that fit, not as Intel's compiler does.")
]
Samples = Annotated[int, typer.Option(help="Test vectors that run; 0 for all.")]
Runtime = Annotated[
    str | None,
    typer.Option(
        help="Constants of the max-affine model: scaled, or a .toml file of your own, each number"
        " with its source."
    ),
]
Inputs = Annotated[
    Path | None, typer.Option(help="Other inputs beside them, attacked ones perhaps, .npy.")
]
Eps = Annotated[
    str | None, typer.Option(help="Also the worst images of PGD-40 with this radius, 8/255.")
]
Sponge = Annotated[
    str | None,
    typer.Option(
        help="Also the images within this radius, 8/255, of the inputs or else the vectors that"
        " cost the most operations."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of those attacks.")]
Faults = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        help="Also under this fault, stuck:lif1:3 or weight:0:17:7; repeatable, all at once.",
    ),
]


def check(
    net: Annotated[
        Path, typer.Argument(help="Folder that `spikeport export` wrote, or its net.h5 or net.nir.")
    ],
    target: Annotated[
        str,
        typer.Option(help="Chip, board, a .toml of your own chip; speck, xylo, spinnaker2: NIR."),
    ],
    fewest: Fewest = False,
    as_json: AsJson = False,
) -> None:
    """Say before a board does whether a network fits a chip, and which core would hold what."""
    with sentences():
        from spikeport import checking

        result = checking.check(net, target=target, fewest=fewest)
        show(result, as_json, checking.describe_check)
    leave(result["passed"])


def cost(
    bundle: BundlePath,
    target: Goal,
    samples: Samples = 0,
    fewest: Fewest = False,
    runtime: Runtime = None,
    inputs: Inputs = None,
    eps: Eps = None,
    sponge: Sponge = None,
    seed: Seed = 0,
    faults: Faults = None,
    pictures: Annotated[Path | None, typer.Option(help="New folder for drawings.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what the test vectors cost on a chip: operations, energy and time between published sets
    of constants; and what attacked inputs or faults change about it."""
    with sentences():
        from spikeport import cost_report, costing

        result = costing.cost(
            bundle, target=target, samples=samples, fewest=fewest, runtime=runtime, inputs=inputs,
            eps=eps, sponge=sponge, seed=seed, faults=faults or (), pictures=pictures,
        )  # fmt: skip
        show(result, as_json, cost_report.describe_cost)


def report(
    bundle: BundlePath,
    target: Goal,
    out_file: Annotated[Path, typer.Option("--out", help="New HTML file.")],
    samples: Samples = 0,
    fewest: Fewest = False,
    runtime: Runtime = None,
    inputs: Inputs = None,
    eps: Eps = None,
    sponge: Sponge = None,
    seed: Seed = 0,
    faults: Faults = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML page about a bundle on a chip: network, rules, placement, cost with its
    sources, and what the export found."""
    with sentences():
        from spikeport import reporting

        result = reporting.report(
            bundle, out_file, target=target, samples=samples, fewest=fewest, runtime=runtime,
            inputs=inputs, eps=eps, sponge=sponge, seed=seed, faults=faults or (),
        )  # fmt: skip
        show(result, as_json, reporting.describe_page)
    leave(result["passed"])
