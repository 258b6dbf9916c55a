"""The README's block about the engine's speed."""

from __future__ import annotations

from typing import Any

from readme_parts import load, made_by, table

# Column: (head, key of the ratio, format).
COLUMNS = (
    ("engine / bare products", "engine_prepared_over_products", ".2f"),
    ("fresh / bare products", "engine_over_products", ".2f"),
    ("floats only / bare products", "engine_floats_over_products", ".2f"),
    ("snnTorch / engine", "snntorch_over_engine_prepared", ".1f"),
    ("lava-dl / engine", "lava_dl_over_engine_prepared", ".0f"),
    ("Lava in process / engine", "lava_inprocess_over_engine_prepared", ".0f"),
    ("Lava's runtime / engine", "lava_runtime_over_engine_prepared", ".0f"),
)
AXES = {"steps": "steps T", "batch": "samples B", "synapses": "synapses"}
LINEAR = 0.25  # how far from 1 the exponent of a linear cost may lie


def engine() -> str:
    """Speed as ratios, and where time grows linearly."""
    r = load("engine")
    rows = [["network, input rate", "µs", *(head for head, _, _ in COLUMNS)]]
    for case in r["cases"]:
        own = case["seconds_per_sample_step"]["engine_prepared"]["min"]
        cells = [cell(case["ratios"][key], how) for _, key, how in COLUMNS]
        rows.append([f"{case['net']}, {100 * case['rate']:.0f} %", f"{1e6 * own:.2f}", *cells])
    sizes = {case["net"]: (case["steps"], case["batch"]) for case in r["cases"]}
    shapes = "; ".join(f"{net}: T = {t}, B = {b}" for net, (t, b) in sizes.items())
    about = (
        f"Time per sample-step, one thread; {shapes}. µs: of a prepared engine, as all others are;"
        " fresh: with the weights laid out anew in each run; floats only: without sums by events"
        " and torch's products. Bare products: float32, by numpy or torch, the faster of them."
    )
    growth = [["grows with", "from .. to", "seconds", "exponent", "linear from"]]
    growth += [[head, *grown(r["scaling"][axis]["points"])] for axis, head in AXES.items()]
    scaled = (
        f"Prepared engine at a rate of {100 * r['scaling']['rate']:.0f} %; exponent: of the time,"
        f" from each size to the next; linear from: where it stays within {LINEAR} of 1."
    )
    return "\n\n".join([table(rows), about, table(growth), scaled, made_by(r)])


def cell(ratio: float | None, how: str) -> str:
    """A ratio, or that it was not measured."""
    return "not run" if ratio is None else format(ratio, how)


def grown(points: list[dict[str, Any]]) -> list[str]:
    """Sizes, seconds and exponents of one axis."""
    exponents = [p["exponent"] for p in points[1:]]
    off = [i for i, e in enumerate(exponents) if abs(e - 1) > LINEAR]
    start = off[-1] + 1 if off else 0
    return [
        f"{points[0]['size']:,} .. {points[-1]['size']:,}",
        f"{points[0]['seconds']:.2g} .. {points[-1]['seconds']:.2g}",
        ", ".join(f"{e:.2f}" for e in exponents),
        "nowhere" if start == len(exponents) else f"{points[start]['size']:,}",
    ]
