"""The README's blocks about attacks and faults."""

from __future__ import annotations

from typing import Any

from readme_parts import load, made_by, percent, table
from spreads import over, points, spread

LAB, SA_PGD = "lab's worst case", "SA-PGD + ASSG"


def compared() -> str:
    """What every white-box attack leaves standing, a column a network."""
    r = load("robustness")
    rows = [n for n in r["networks"] if "compare" in n]
    names = list(rows[0]["compare"]["found"])
    head = ["attack, rule of the gradient"]
    head += [f"{n['set']}, {n['recipe']}, eps {round(255 * n['eps'])}/255" for n in rows]
    body = []
    for name in names:
        shares = [n["compare"]["found"][name] for n in rows]
        least = [min(n["compare"]["found"].values()) for n in rows]
        cells = [
            f"**{percent(s)}**" if s == low else percent(s)
            for s, low in zip(shares, least, strict=True)
        ]
        body.append([name, *cells])
    strongest = r["sa_pgd_with_assg_is_strongest"]
    images = rows[0]["compare"]["images"]
    about = (
        f"Accuracy of the integer network on its first {images} test images under one attack each,"
        " triangle 1 where no rule is named; the least in bold. SA-PGD through ASSG leaves the"
        f" least on {strongest['on']} of {strongest['networks']} networks."
    )
    return "\n\n".join([table([head, *body]), about, made_by(r)])


def standard() -> str:
    """The lab's networks on the chip under the minimum standard, a row a radius."""
    r = load("robustness")
    models = ("float", "quantised", "integer")
    rows = [["set", "recipe", "eps", "clean", *models, "Lava", "float's images", "failed checks"]]
    attacked = disagreeing = spikes = differing = 0
    for network in r["networks"]:
        found = network["standard"]["found"]
        for radius in found["radii"]:
            told, lava = radius["models"], radius["replay"]
            worst = [percent(told[model]["worst"]) for model in models]
            worst[-1] = f"**{worst[-1]}**"
            rows.append([
                network["set"], network["recipe"], f"{round(255 * radius['eps'])}/255",
                percent(told["integer"]["clean"]), *worst, percent(lava["worst_accuracy"]),
                percent(_on_floats_images(radius)), ", ".join(found["failed_checks"]) or "-",
            ])  # fmt: skip
            attacked += lava["images"]
            # Of as many attacked images as clean ones, which are replayed once for all radii.
            disagreeing += lava["disagreeing"]
            differing += lava["differing"]
            spikes += lava["spikes"] // 2
        spikes += lava["spikes"] // 2
    images = r["networks"][0]["standard"]["images"]
    clean = images * len(r["networks"])
    about = (
        f"Worst case on the first {images} test images, one seed; float's images: what the worst"
        f" images of the float network alone leave the integer one. {attacked:,} attacked images"
        f" were replayed on Lava, and {clean:,} clean ones, {images} for each network:"
        f" {disagreeing} of {attacked + clean:,} decided otherwise than by the twin, of"
        f" {spikes:,} spikes {differing} differ."
    )
    return "\n\n".join([table(rows), about, _timed(r), made_by(r)])


def _on_floats_images(radius: dict[str, Any]) -> float:
    """Accuracy of the integer network on the worst images of the float one."""
    (found,) = [
        t for t in radius["transfers"] if (t["source"], t["target"]) == ("float", "integer")
    ]
    share: float = found["robust_accuracy"]
    return share


def _timed(r: dict[str, Any]) -> str:
    """How long the whole command takes."""
    each = [
        f"{n['recipe']}, {n['timed']['images']:,} images, {n['timed']['found']['seconds'] / 60:.1f}"
        f" min (leaves {percent(n['timed']['found']['models']['integer']['worst'])})"
        for n in r["timed"]
    ]
    found = r["timed"][0]["timed"]["found"]
    return (
        f"The whole command on {r['timed'][0]['set']} with T = {found['steps']}, one radius, three"
        f" networks, checks and replay included, on {found['processes']} processes:"
        f" {'; '.join(each)}."
    )


def harder() -> str:
    """Every network of the lab under SA-PGD through ASSG, beside what the lab's attacks left."""
    lab, r = load("lab"), load("harder")
    left: dict[tuple[str, str], dict[int, float]] = {}
    for row in r["rows"]:
        left.setdefault((row["set"], row["recipe"]), {})[row["seed"]] = row["left"]
    sets = [name for name in lab["results"] if any(name == key[0] for key in left)]
    whole = sum(
        len(by_steps["T4"]["seeds"])
        for found in lab["results"].values()
        for by_steps in found.values()
    )
    rows = [["integer network", *(f"{name}, {what}" for name in sets for what in (LAB, SA_PGD))]]
    for recipe in lab["results"][sets[0]]:
        cells = []
        for name in sets:
            known = lab["results"][name].get(recipe, {}).get("T4")
            mine = left.get((name, recipe))
            cells.append(spread(known["robust"]["integer"]["worst case"]) if known else "")
            cells.append(f"**{spread(over(mine.values()))}**" if mine else "")
        rows.append([recipe, *cells])
    gained = []
    for name in sets:
        for recipe, networks in lab["mpd_sgr_survives"][name].items():
            mine, other = left.get((name, recipe), {}), left.get((name, networks["over"]), {})
            if both := sorted(set(mine) & set(other)):
                gains = [mine[seed] - other[seed] for seed in both]
                gained.append(f"{name} {recipe} over {networks['over']} {points(over(gains))}")
    about = (
        f"Per cent of {r['rows'][0]['images']} images that are left, mean and standard deviation"
        f" over the seeds where they differ; {len(r['rows'])} of the lab's {whole}"
        f" networks. What MPD-SGR gains, in points, seed by seed: {'; '.join(gained)}."
    )
    return "\n\n".join([table(rows), about, made_by(r)])


def twin() -> str:
    """What a gradient costs."""
    r = load("twin")
    names = {
        "stepped": "layers over all steps at once, snnTorch's neurons",
        "float": "float twin", "twin": "integer twin", "assg": "integer twin through ASSG",
        "forward": "integer twin, logits alone",
    }  # fmt: skip
    rows = [["logits and gradient at the images", "time over plain snnTorch's"]]
    rows += [[words, f"{r['ratios'][name]:.2f}"] for name, words in names.items()]
    about = (
        f"The MNIST conv net, T = {r['steps']}, {r['batch']} images, {r['threads']} thread, in one"
        " run by turns."
    )
    return "\n\n".join([table(rows), about, made_by(r)])


def faults() -> str:
    """How fast, and what hurts."""
    r = load("faults")
    rows = [["kind of fault", "trials", "mean accuracy, 95 % interval"]]
    for kind in r["critical"]["kinds"]:
        interval = f"{100 * kind['low']:.1f} to {100 * kind['high']:.1f}"
        about = f"{percent(kind['accuracy'])} ({interval})"
        rows.append([kind["label"], f"{kind['trials']:,}", about])
    about = (
        f"{r['trials']:,} single faults in {r['seconds']:.0f} s on {r['processes']} processes,"
        f" {r['images']} images each, T = {r['steps']}, {r['neurons']:,} neurons ({r['net']});"
        f" without faults {percent(r['accuracy'])}."
    )
    return "\n\n".join([table(rows), about, made_by(r)])
