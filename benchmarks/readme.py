"""Put the figures of `benchmarks/results` into the README.

    python benchmarks/readme.py [--check]

Everything between `<!-- NAME: begin -->` and `<!-- NAME: end -->` is written by the function of
that name here, from JSON. With --check nothing is written; exit code 1 says that README and
results disagree (a test does the same).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

import readme_engine
import readme_hardware
import readme_robustness
import readme_training
from readme_parts import load, made_by, percent, table

from spikeport.sim.files import write_text

README = Path(__file__).parent.parent / "README.md"


def demo() -> str:
    """The demo's table."""
    r = load("demo")
    models, replay, accuracy = r["attack"]["models"], r["attack"]["replay"], r["accuracy"]
    names = ("float", "quantised", "integer")
    rungs = [rung for rung in r["rungs"] if rung["exact"]]
    images = max(rung["samples"] for rung in rungs)
    eps = round(255 * r["attack"]["budget"]["radius"])
    steps = r["attack"]["settings"]["steps"]
    clean = [accuracy.get(k) for k in ("float", "quantised", "reference", "lava-inprocess")]
    attacked = [*(models[n]["worst_accuracy"] for n in names), replay["worst_accuracy"]]
    rows = [
        ["digits, 8 steps", "float", "quantised", "integer", "Lava"],
        [f"clean, {images} test images", *map(percent, clean)],
        [
            f"PGD-{steps}, eps {eps}/255, first {r['attack']['samples']} test images",
            *map(percent, attacked),
        ],
    ]
    proof = [["compared bit for bit", "samples", "spikes", "differing", "u and v", "differing"]]
    for rung in rungs:
        proof.append([
            f"{rung['left']} : {rung['right']}", str(rung["samples"]), f"{rung['spikes']:,}",
            str(rung["differing"]), f"{rung['state']:,}", str(rung["differing_state"]),
        ])  # fmt: skip
    replayed = (
        f"{replay['images']} clean and {replay['images']} adversarial images replayed on Lava"
        f" ({replay['backend']}): {replay['disagreeing']} decided otherwise than by the twin,"
        f" {replay['differing']} of {replay['spikes']:,} spikes differ."
    )
    return "\n\n".join([table(rows), table(proof), replayed, made_by(r)])


def conformance() -> str:
    """Random networks, bit for bit, against three independent simulators."""
    r = load("conformance")
    rows = [["against", "random nets", "bits compared", "wraps", "clips", "differing bits"]]
    for name, found in r["emulators"].items():
        total = found["total"]
        rows.append([
            f"{name} {found['version']}", f"{total['nets']:,}", f"{total['bits']:,}",
            f"{total['wraps']:,}", f"{total['clips']:,}", str(total["differing_bits"]),
        ])  # fmt: skip
    return "\n\n".join([table(rows), made_by(r)])


def quantisation() -> str:
    """Accuracy lost to the chip's integers."""
    r = load("quantisation")
    ways = ("post-training, rounding", "post-training, spikes", "quantisation-aware")
    titles = ("rounded", "rounded, calibrated", "trained on integers")
    rows = [["test accuracy", "weight bits", "float", *titles, "spikes torch : chip", "differing"]]
    for name, found in r["results"].items():
        for bits, aware in found["quantisation-aware"].items():
            figures = [found[way][bits] for way in ways]
            each = [f"{100 * f['accuracy']:.2f} ({-f['lost_points']:+.2f})" for f in figures]
            rows.append([
                name, bits, f"{100 * found['float']:.2f}", *each, f"{aware['spikes_compared']:,}",
                str(aware["differing_spikes_torch_chip"]),
            ])  # fmt: skip
    return "\n\n".join([table(rows), made_by(r)])


def roundtrip() -> str:
    """snnTorch modules through a NIR file, against themselves."""
    r = load("roundtrip")
    rows = [["arithmetic of the module", "spikes compared", "ties", "other differences"]]
    for name, found in r["agreement"].items():
        rows.append([
            name.removeprefix("torch."), f"{found['spikes']:,}", str(found["ties"]),
            str(found["differences"]),
        ])  # fmt: skip
    about = (
        f"{r['modules']:,} random modules of every supported kind; a tie is a potential nearer than"
        f" {r['tie']:g} to the threshold."
    )
    return "\n\n".join([table(rows), about, made_by(r)])


def compiling() -> str:
    """Compile time and how it grows."""
    r = load("compile")
    rows = [["weights", "neurons", "seconds", "proven free of overflow"]]
    for row in r["rows"]:
        rows.append([
            f"{row['weights']:,}", f"{row['neurons']:,}", f"{row['seconds']:.1f}",
            "yes" if row["proven"] else "no",
        ])  # fmt: skip
    grows = ", ".join(f"{e:.2f}" for e in r["exponents"])
    about = f"Ten layers. Exponents of growth between neighbouring sizes: {grows}."
    return "\n\n".join([table(rows), about, made_by(r)])


def divergence() -> str:
    """How often the planted cause is named."""
    r = load("divergence")
    classes = list(next(iter(r["records"].values()))["found_by_class"])
    rows = [["recorded", "all", *classes]]
    for record, found in r["records"].items():
        each = [percent(found["found_by_class"][c]) for c in classes]
        rows.append([record, percent(found["found"]), *each])
    about = f"{r['plants']:,} faults planted in random networks; shares named with the right cause."
    return "\n\n".join([table(rows), about, made_by(r)])


BLOCKS: dict[str, Callable[[], str]] = {
    "demo": demo,
    "lab": readme_training.lab,
    "survives": readme_training.survives,
    "gains": readme_training.gains,
    "flips": readme_training.flips,
    "thresholds": readme_training.thresholds,
    "fused": readme_training.fused,
    "standard": readme_robustness.standard,
    "harder": readme_robustness.harder,
    "compared": readme_robustness.compared,
    "twin": readme_robustness.twin,
    "faults": readme_robustness.faults,
    "placement": readme_hardware.placement,
    "cost": readme_hardware.cost,
    "engine": readme_engine.engine,
    "conformance": conformance,
    "quantisation": quantisation,
    "roundtrip": roundtrip,
    "compiling": compiling,
    "divergence": divergence,
}


def filled(text: str) -> str:
    """`text` with every block written anew."""
    for name, block in BLOCKS.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"README: block {name!r} must begin and end exactly once")
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        content = f"{begin}\n{block()}\n{end}"
        text = pattern.sub(lambda _, content=content: content, text)  # type: ignore[misc]
    return text


def main() -> None:
    """Write the README, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    before = README.read_text("utf-8")
    after = filled(before)
    if parser.parse_args().check:
        sys.exit(before != after)
    write_text(README, after)


if __name__ == "__main__":
    main()
